"""The numbers of a training while it runs: speed, shares, memory, and the time that is left by the steps that were measured."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

import torch

from afina.core.translation import _
from afina.core.units import Displayed, format_bytes, format_duration, format_share, grouped
from afina.data.render import Row
from afina.train.memory import held_bytes, peak_bytes

_RECENT = 20  # steps whose median speed foretells the rest


class Live:
    """Measures as the training goes. ``steps``: the rows of every step of the run; a look follows every ``looks_every``."""

    def __init__(self, steps: Sequence[Sequence[Row]], looks_every: int, device: torch.device) -> None:
        self._device = device
        self._tokens = [sum(len(row.ids) for row in rows) for rows in steps]
        self._trained = [sum(row.trained_tokens for row in rows) for rows in steps]
        self._tokens_left = [0, *accumulate(reversed(self._tokens))][::-1]  # after each step
        self._looks_every = looks_every
        self._recent: deque[float] = deque(maxlen=_RECENT)  # seconds a token
        self._look_seconds: deque[float] = deque(maxlen=_RECENT)
        self._held_out: float | None = None

    def looked(self, seconds: float, held_out: float | None) -> None:
        self._look_seconds.append(seconds)
        self._held_out = held_out

    def values(self, step: int, seconds: float, loss: float, smoothed_loss: float) -> dict[str, float]:
        """The numbers of ``step`` (from 1), which took ``seconds``."""
        tokens, trained = self._tokens[step - 1], self._trained[step - 1]
        self._recent.append(seconds / tokens)
        return {
            "loss": loss,
            "smoothed_loss": smoothed_loss,
            "tokens": float(tokens),
            "trained_tokens": float(trained),
            "tokens_per_second": tokens / max(seconds, 1e-9),
            "trained_tokens_per_second": trained / max(seconds, 1e-9),
            "memory_bytes": float(held_bytes(self._device)),
            "peak_memory_bytes": float(peak_bytes(self._device)),
            "seconds_left": self._seconds_left(step),
        }

    def note(self, values: dict[str, float]) -> str:
        """``loss 1.234 (1.301) · held-out 1.41 · 5,120 tokens/s, 40 % trained · 912 MiB · 3 min 05 s left``."""
        text = _("loss {smoothed:.3f} (this step {loss:.3f})").format(
            smoothed=Displayed(values["smoothed_loss"]), loss=Displayed(values["loss"])
        )
        if self._held_out is not None:
            text += " · " + _("held-out {loss:.3f}").format(loss=Displayed(self._held_out))
        text += " · " + _("{rate} tokens/s, {share} of them trained").format(
            rate=grouped(values["tokens_per_second"]), share=format_share(values["trained_tokens"] / values["tokens"])
        )
        if values["memory_bytes"]:
            text += f" · {format_bytes(int(values['memory_bytes']))}"
        return text + " · " + _("{time} left").format(time=format_duration(values["seconds_left"]))

    def _seconds_left(self, step: int) -> float:
        looks = (len(self._tokens) - step) / self._looks_every
        a_look = statistics.fmean(self._look_seconds) if self._look_seconds else 0.0
        return self._tokens_left[step] * statistics.median(self._recent) + looks * a_look
