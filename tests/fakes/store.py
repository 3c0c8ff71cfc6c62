"""A prepare stage's files from conversations, each with a row of made-up ids."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from afina.data.conversation import Conversation
from afina.data.render import Rendered, Row
from afina.data.store import SIDES, Kept, Writer, portion, save_sides


def write_store(folder: Path, sides: Mapping[str, Sequence[Conversation]]) -> list[Path]:
    """Writes the conversations of each side (a side that is not named is empty) and returns the files."""
    numbers: dict[str, list[int]] = {side: [] for side in SIDES}
    with Writer(folder) as writer:
        for side in SIDES:
            for talk in sides.get(side, ()):
                numbers[side].append(writer.conversations)
                rendered = Rendered(talk, (Row(array("i", (5, 6, 7)), ((1, 3),), talk.source),))
                writer.write(portion([Kept(rendered, 0, "", ())]))
    save_sides(folder, {side: np.array(places, np.int64) for side, places in numbers.items()})
    return sorted(path for path in folder.iterdir() if path.suffix in (".arrow", ".safetensors"))
