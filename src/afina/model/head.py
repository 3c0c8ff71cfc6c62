"""What the output layer can tell apart: a token that the base never learned looks like every other such token."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from afina.model.base import Base
from afina.model.weights import Checkpoint

_ROWS = 8192  # read at once
_ALIKE = 0.9999  # cosine; rows of tokens that were trained are far below


def twins(base: Base, token: int) -> int:
    """How many other tokens have the same row in the output layer as ``token``.

    Above zero the base never saw the token in training, and an adapter on the linear layers cannot teach it: whatever it does to
    the hidden state raises those other tokens as much.
    """
    return _twins(base.folder, token)


@lru_cache(maxsize=32)
def _twins(folder: Path, token: int) -> int:
    checkpoint = Checkpoint(folder)
    name = "lm_head.weight" if "lm_head.weight" in checkpoint.names() else "model.embed_tokens.weight"
    rows = checkpoint.shape(name)[0]
    own = checkpoint.read(name, token, token + 1)[0]
    size = float(np.linalg.norm(own))
    alike = 0
    for start in range(0, rows, _ROWS):
        part = checkpoint.read(name, start, min(rows, start + _ROWS))  # (rows, D)
        sizes = np.linalg.norm(part, axis=1)
        alike += int(np.count_nonzero(part @ own >= _ALIKE * np.maximum(sizes * size, 1e-12)))
    return alike - 1
