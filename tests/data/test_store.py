from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.conversation import Conversation, Message, Source
from afina.data.store import load_conversations, save_conversations

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CONVERSATIONS = st.builds(
    Conversation,
    st.tuples(st.builds(Message, st.just("user"), TEXTS), st.builds(Message, st.just("assistant"), TEXTS)),
    st.builds(Source, TEXTS, st.integers(1, 10**9)),
)


@settings(deadline=None)
@given(st.lists(CONVERSATIONS, max_size=4))
def test_what_was_saved_is_loaded(conversations: list[Conversation]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        save_conversations(path, conversations)
        assert load_conversations(path) == conversations


def test_the_file_is_json_lines_that_a_person_can_read(tmp_path: Path) -> None:
    messages = (Message("user", "¿Qué tal?"), Message("assistant", "Bien"))
    save_conversations(tmp_path / "a.jsonl", [Conversation(messages, Source("faq.csv", 3))])
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == (
        '{"messages": [{"role": "user", "content": "¿Qué tal?"}, {"role": "assistant", "content": "Bien"}], '
        '"source": "faq.csv:3"}\n'
    )


BROKEN = ["{", "{}", "[]", "3", '{"messages": [{"role": "user"}], "source": "a:1"}', '{"messages": [], "source": "a"}']


@pytest.mark.parametrize("line", BROKEN)
def test_a_file_changed_by_hand_is_an_error_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    save_conversations(path, [Conversation((Message("user", "a"), Message("assistant", "b")), Source("x", 1))])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError) as caught:
        load_conversations(path)
    assert caught.value.what == f"{path}:2: this is no conversation that afina wrote"
    assert caught.value.fix == "delete the file and prepare the examples again: afina prepare"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_conversations(tmp_path / "a.jsonl")
    assert caught.value.what == f"there is no file {tmp_path / 'a.jsonl'}"
