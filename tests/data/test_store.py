"""What the prepare stage leaves on disk: what is written is read back, row by row, and torn files are told."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data import store as store_module
from afina.data.conversation import Conversation, Finding, Message, Source, ToolCall
from afina.data.render import Rendered, Row
from afina.data.store import CONVERSATIONS, Kept, Store, Writer, load_conversations, load_rows, portion, save_sides

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


@st.composite
def kept(draw: st.DrawFn, number: int = 0) -> Kept:
    source = Source(draw(st.sampled_from(["a.jsonl", "b.xlsx[Hoja 1]", "ñ.csv"])), draw(st.integers(1, 10**9)))
    messages = (
        Message("user", draw(TEXT)),
        Message("assistant", draw(TEXT), calls=(ToolCall("f", '{"a": 1.50}'),), trained=False),
        Message("tool", draw(TEXT), name="f"),
        Message("assistant", draw(TEXT)),
    )
    talk = Conversation(messages[: draw(st.sampled_from([2, 4]))], source, draw(st.sampled_from(["", "[{}]"])), draw(TEXT))
    rows = []
    for _row in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, 20))
        borders = sorted(set(draw(st.lists(st.integers(0, length), max_size=6))))
        spans = tuple(zip(borders[::2], borders[1::2], strict=False))
        rows.append(Row(array("i", draw(st.lists(st.integers(0, 2**31 - 1), min_size=length, max_size=length))), spans, source))
    findings = draw(st.sampled_from([(), (Finding(source, "email", "an e-mail", "kept", "a•••"),)]))
    return Kept(Rendered(talk, tuple(rows)), draw(st.integers(0, 2**64 - 1)), draw(st.sampled_from(["es", "en", ""])), findings)


@settings(max_examples=40)
@given(batches=st.lists(st.lists(kept(), max_size=4), min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Kept]]) -> None:
    folder = tmp_path_factory.mktemp("store")
    with Writer(folder) as writer:
        for batch in batches:
            writer.write(portion(batch))
    written = [kept for batch in batches for kept in batch]
    numbers = np.arange(len(written), dtype=np.int64)
    save_sides(folder, {"train": numbers, "val": numbers[:0], "test": numbers[::-1]})
    talks, rows = load_conversations(folder, "train"), load_rows(folder, "train")
    assert list(talks) == [kept.rendered.conversation for kept in written]
    assert list(rows) == [row for kept in written for row in kept.rendered.rows]
    assert list(load_conversations(folder, "test")) == [kept.rendered.conversation for kept in written[::-1]]
    assert list(load_rows(folder, "val")) == []
    store = Store(folder)
    assert store.column("key").tolist() == [kept.key for kept in written]
    assert store.words("language") == [kept.language for kept in written]
    assert [store.findings(number) for number in range(len(store))] == [kept.findings for kept in written]
    assert store.lengths().tolist() == [len(row.ids) for row in rows]
    assert store.trained().tolist() == [row.trained_tokens for row in rows]
    assert talks[:2] == list(talks)[:2]


def test_a_torn_or_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*conversations\.arrow"):
        Store(tmp_path)
    with pytest.raises(DataError, match="there is no file"):
        load_rows(tmp_path, "train")
    with Writer(tmp_path):
        pass
    Store(tmp_path)
    (tmp_path / CONVERSATIONS).write_bytes((tmp_path / CONVERSATIONS).read_bytes()[:-20])
    with pytest.raises(DataError, match="torn") as caught:
        Store(tmp_path)
    assert "afina prepare" in caught.value.fix


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the pages of a file are told by Linux")
def test_pages_that_were_read_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_READS", 50)
    long = "x" * 60_000
    with Writer(tmp_path) as writer:
        for start in range(0, 1500, 50):
            sources = [Source("a.jsonl", number) for number in range(start, start + 50)]
            rows = [Row(array("i", range(3)), ((1, 3),), source) for source in sources]
            talks = [Conversation((Message("user", long), Message("assistant", "y")), source) for source in sources]
            found = [(Finding(source, "email", long, "kept"),) for source in sources]
            kept = [Kept(Rendered(talk, (row,)), 1, long, told) for talk, row, told in zip(talks, rows, found, strict=True)]
            writer.write(portion(kept))
    store = Store(tmp_path)
    size = (tmp_path / CONVERSATIONS).stat().st_size
    reads: dict[str, Callable[[], Sequence[object]]] = {
        "records": lambda: [store.conversation(number) for number in range(len(store))],
        "values": lambda: [store.findings(number) for number in range(len(store))],
        "a column": lambda: store.words("language"),
    }
    for name, read in reads.items():
        assert len(read()) == len(store)
        assert _resident(tmp_path / CONVERSATIONS) < size / 4, name


def _resident(path: Path) -> int:
    """Bytes of the file that lie in this process' memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            inside = line.endswith(str(path))
        elif inside and name == "Rss:":
            found += 1024 * int(values[0])
    return found
