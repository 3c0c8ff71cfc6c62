"""A prepare stage's files from conversations, each with its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from afina.data.conversation import Conversation
from afina.data.render import Limits, Renderer
from afina.data.store import SIDES, Kept, Writer, portion, save_sides


def write_store(folder: Path, sides: Mapping[str, Sequence[Conversation]], renderer: Renderer) -> list[Path]:
    """Writes the conversations of each side (a side that is not named is empty) and returns the files."""
    numbers: dict[str, list[int]] = {side: [] for side in SIDES}
    with Writer(folder) as writer:
        for side in SIDES:
            for talk in sides.get(side, ()):
                numbers[side].append(writer.conversations)
                (rendered,) = renderer.rows(talk, Limits(1024)).rendered
                writer.write(portion([Kept(rendered, 0, "", ())]))
    save_sides(folder, {side: np.array(places, np.int64) for side, places in numbers.items()})
    return sorted(path for path in folder.iterdir() if path.suffix in (".arrow", ".safetensors"))
