"""What a training left, for the stages after it: the base with an adapter, or a model of its own in the base's place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from afina.core.run import RunFolder
from afina.model.base import Base, open_folder
from afina.train.loop import STAGE
from afina.train.trainee import ADAPTER, FULL


@dataclass(frozen=True)
class Tuned:
    """The trained model: ``base`` with ``adapter`` on it, or ``base`` alone."""

    base: Base
    adapter: Path | None


def tuned_model(base: Base, run: RunFolder) -> Tuned:
    """What ``run``'s finished training made of ``base``."""
    whole = run.stage(STAGE) / FULL
    return Tuned(open_folder(whole, base.name), None) if whole.is_dir() else Tuned(base, run.stage(STAGE) / ADAPTER)
