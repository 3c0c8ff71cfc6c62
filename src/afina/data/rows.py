"""Training rows on disk: flat arrays in one safetensors file a split.

``ids`` int32 (sum of T), ``trained`` uint8 (sum of T), ``starts`` int64 (rows + 1), ``conversation`` int32 (rows): the line of
the split's JSONL.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from afina.core.files import write_atomic
from afina.data.conversation import Conversation
from afina.data.render import Row


def save_rows(path: Path, rows: Sequence[Row], conversations: Sequence[Conversation]) -> None:
    """Writes ``rows``; each row's source is that of one of ``conversations``."""
    line_of = {conversation.source: line for line, conversation in enumerate(conversations)}
    lengths = [len(row.ids) for row in rows]
    arrays: dict[str, npt.NDArray[Any]] = {
        "ids": np.fromiter((token for row in rows for token in row.ids), np.int32, sum(lengths)),
        "trained": np.fromiter((on for row in rows for on in row.trained), np.uint8, sum(lengths)),
        "starts": np.cumsum([0, *lengths], dtype=np.int64),
        "conversation": np.array([line_of[row.source] for row in rows], np.int32),
    }
    write_atomic(path, save(arrays))


def load_rows(path: Path, conversations: Sequence[Conversation]) -> list[Row]:
    """The rows that ``save_rows`` wrote, with the sources of ``conversations``."""
    arrays = load_file(path)
    starts = arrays["starts"].tolist()
    return [
        Row(
            ids=tuple(arrays["ids"][start:stop].tolist()),
            trained=tuple(arrays["trained"][start:stop].astype(bool).tolist()),
            source=conversations[line].source,
        )
        for start, stop, line in zip(starts, starts[1:], arrays["conversation"].tolist(), strict=False)
    ]
