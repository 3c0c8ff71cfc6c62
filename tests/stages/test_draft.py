"""Drafts from documents, end to end: a teacher behind HTTP, a file that grows, and nothing trained on unread."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from afina.cli import draft as command
from afina.core.errors import AfinaError, DataError, RecipeError, ServiceError
from afina.core.events import Event, Events, Notice, StageStarted
from afina.data.conversation import Conversation, Finding, Message
from afina.data.read.examples import Reader
from afina.infer.llama import LlamaServer
from afina.recipe.recipe import Data
from afina.stages.draft import Drafted, Wanted, draft, find_teacher
from tests.fakes.chain import write_chain_gguf
from tests.fakes.http import Request, Response, answering

TEXTS = {
    "hours.md": "# Hours\n\nThe garden shop opens on weekdays from 9:00 to 14:00. On Saturdays the garden shop opens at 10:30. "
    "In August the whole garden shop stays closed because everybody is on holiday.",
    "prices.txt": "The red hammer costs 12 euros and the blue drill costs 89 euros. Customers with a card of the house pay "
    "the drill in three parts. Whoever brings an old drill gets back 15 euros for it.",
}


@dataclass
class Teacher:
    """An OpenAI-compatible server that writes a question for each sentence of the passage that it is sent."""

    reply: Callable[[str], str]
    asked: list[list[dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def respond(self, request: Request) -> Response:
        if request.method == "GET":
            return Response({"data": [{"id": "fake"}]})
        self.asked.append(request.body["messages"])
        passage = re.search(r"<passage>\n(.*?)\n</passage>", request.body["messages"][1]["content"], re.DOTALL)
        assert passage is not None
        text = self.reply(passage[1])
        return Response({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})


def sentences(passage: str) -> list[str]:
    return re.findall(r"[A-Z][^.!?#]*\.", passage)


def good(passage: str) -> str:
    rows = [{"question": f"What is known of this: {one.split(' ', 3)[-1][:40]}?", "answer": one} for one in sentences(passage)]
    return "```json\n" + json.dumps(rows) + "\n```"


@pytest.fixture
def teacher() -> Iterator[Teacher]:
    fake = Teacher(good)
    with answering(fake.respond) as fake.address:
        yield fake


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@dataclass
class Seen:
    events: list[Event] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]

    @property
    def plan(self) -> str:
        return next(event.plan for event in self.events if isinstance(event, StageStarted))


def run(teacher: Teacher, docs: Path, out: Path, seen: Seen | None = None, **wanted: Any) -> Drafted:
    listeners = () if seen is None else (seen.events.append,)
    return draft([str(docs)], find_teacher(None, teacher.address), out, Wanted(**wanted), Events(listeners=listeners))


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_draft_has_its_status_its_source_and_its_passage(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    seen = Seen()
    drafted = run(teacher, docs, tmp_path / "out.jsonl", seen)
    found = rows(tmp_path / "out.jsonl")
    assert (drafted.documents, drafted.passages, drafted.asked, drafted.kept) == (2, 2, 2, 6)
    assert [list(row) for row in found] == [["status", "prompt", "answer", "source", "passage"]] * 6
    assert {row["status"] for row in found} == {"draft"}
    assert {row["source"] for row in found} == {f"{docs / 'hours.md'}, § Hours", f"{docs / 'prices.txt'}, line 1"}
    assert all(row["answer"] in row["passage"] for row in found)
    assert seen.plan == f"2 passages of 2 documents, up to 3 questions each, by fake at {teacher.address}/v1"


def test_no_more_questions_are_taken_than_wanted(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    assert run(teacher, docs, tmp_path / "out.jsonl", count=1).kept == 2


def test_the_same_command_asks_only_about_what_is_new(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(teacher, docs, out)
    before = out.read_bytes()
    (docs / "returns.md").write_text(
        "Whatever was bought can be returned within 30 days, and " * 3 + "that is all.", encoding="utf-8"
    )
    again = run(teacher, docs, out)
    assert (again.earlier, again.asked) == (2, 1)
    assert out.read_bytes().startswith(before)
    assert len(teacher.asked) == 3


def test_rows_that_a_person_deleted_are_not_proposed_again(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(teacher, docs, out)
    out.write_text("", encoding="utf-8")
    assert run(teacher, docs, out).asked == 0
    assert out.read_text(encoding="utf-8") == ""


def test_after_a_crash_it_goes_on_where_it_was(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    ask = find_teacher(None, teacher.address)

    def stopped_at_prices(messages: Sequence[Message]) -> str:
        if "hammer" in messages[1].content:
            raise KeyboardInterrupt
        return ask.ask(messages)

    broken = replace(ask, ask=stopped_at_prices)
    with pytest.raises(KeyboardInterrupt):
        draft([str(docs)], broken, out, Wanted(), Events())
    assert len(rows(out)) == 3
    assert run(teacher, docs, out).asked == 1
    assert len(rows(out)) == 6


def test_a_reply_that_is_no_list_is_asked_for_once_more_with_the_reason(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    garden = iter(["Sure! Here they are."])
    teacher.reply = lambda passage: next(garden, good(passage)) if "garden" in passage else good(passage)
    drafted = run(teacher, docs, tmp_path / "out.jsonl")
    assert drafted.kept == 6
    (again,) = [messages for messages in teacher.asked if len(messages) > 2]
    assert again[2] == {"role": "assistant", "content": "Sure! Here they are."}
    assert "That cannot be used: not JSON" in again[3]["content"]


def test_refused_drafts_are_counted_by_reason(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    invented = [
        {"question": "How much is the red hammer?", "answer": "The red hammer costs 13 euros."},
        {"question": "Where is the shop?", "answer": "Behind the town hall, near the central market."},
    ]
    teacher.reply = lambda passage: "no" if "garden" in passage else json.dumps(invented)
    drafted = run(teacher, docs, tmp_path / "out.jsonl")
    assert drafted.kept == 0
    assert drafted.refused == {
        "a reply that is not the list asked for": 1,
        "a number is not in the passage": 1,
        "the answer is not in the passage": 1,
    }


def test_the_same_question_is_not_kept_twice(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    teacher.reply = lambda passage: json.dumps([{"question": "What does the shop say?", "answer": sentences(passage)[0]}])
    drafted = run(teacher, docs, tmp_path / "out.jsonl")
    assert (drafted.kept, drafted.refused) == (1, {"the same question is there already": 1})


def test_questions_of_the_examples_are_not_asked_again(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    first = run(teacher, docs, tmp_path / "out.jsonl")
    known = tmp_path / "known.jsonl"
    known.write_text(
        "".join(json.dumps({"prompt": row["prompt"], "answer": "x"}) + "\n" for row in rows(tmp_path / "out.jsonl")),
        encoding="utf-8",
    )
    second = run(teacher, docs, tmp_path / "other.jsonl", examples=(str(known),))
    assert (second.kept, second.refused) == (0, {"the same question is there already": first.kept})


def test_one_broken_document_does_not_stop_the_others(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (docs / "table.csv").write_text("a,b\n", encoding="utf-8")
    seen = Seen()
    drafted = run(teacher, docs, tmp_path / "out.jsonl", seen)
    assert drafted.kept == 6
    assert list(drafted.unreadable) == [str(docs / "broken.pdf")]
    assert any("broken.pdf is broken" in text for text in seen.texts)
    assert any("table.csv" in text for text in seen.texts)


def test_where_no_document_can_be_read_all_reasons_are_told(teacher: Teacher, tmp_path: Path) -> None:
    for name in ("a.pdf", "b.pdf"):
        (tmp_path / name).write_bytes(b"%PDF-1.4 broken")
    with pytest.raises(DataError) as error:
        run(teacher, tmp_path, tmp_path / "out.jsonl")
    assert len(error.value.what.split("\n")) == 2


def test_a_file_that_is_no_file_of_drafts_is_not_written_to(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("My notes.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"notes.txt:1 is not a row of drafts"):
        run(teacher, docs, out)
    assert out.read_text(encoding="utf-8") == "My notes.\n"
    assert teacher.asked == []


def test_a_last_line_that_an_editor_left_open_is_closed_first(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text('{"status": "ok", "prompt": "¿Y?", "answer": "Eso."}', encoding="utf-8")
    run(teacher, docs, out)
    assert len(rows(out)) == 7


def test_drafts_are_no_examples_until_a_person_says_so(teacher: Teacher, docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(teacher, docs, out)

    def read() -> list[Any]:
        return list(Reader((str(out),), Data(examples=(str(out),)), None, Events()).items())

    assert {item.check for item in read() if isinstance(item, Finding)} == {"draft"}
    assert len(read()) == 6
    out.write_text(out.read_text(encoding="utf-8").replace('"status": "draft"', '"status": "ok"', 1), encoding="utf-8")
    assert sum(isinstance(item, Conversation) for item in read()) == 1


def test_the_embedded_llama_serves_as_a_teacher(docs: Path, tmp_path: Path) -> None:
    gguf = write_chain_gguf(tmp_path / "chain.gguf")
    with LlamaServer(gguf, context=8192, name="chain") as llama:
        teacher = find_teacher(None, llama.address)
        assert (teacher.name, teacher.away) == ("chain", False)
        drafted = draft([str(docs)], teacher, tmp_path / "out.jsonl", Wanted(), Events())
    assert drafted.refused == {"a reply that is not the list asked for": 2}
    with LlamaServer(write_chain_gguf(tmp_path / "none.gguf", sentence="[]"), context=8192, name="none") as llama:
        drafted = draft([str(docs)], find_teacher("none", llama.address), tmp_path / "other.jsonl", Wanted(), Events())
    assert (drafted.asked, drafted.kept, drafted.refused) == (2, 0, {})


def test_a_passage_too_long_for_the_teacher_is_counted(docs: Path, tmp_path: Path) -> None:
    with LlamaServer(write_chain_gguf(tmp_path / "chain.gguf"), context=256, name="chain") as llama:
        drafted = draft([str(docs)], find_teacher(None, llama.address), tmp_path / "out.jsonl", Wanted(), Events())
    assert drafted.refused == {"the passage is too long for the teacher": 2}


# ── without a teacher ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_teacher_one_error_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    expected: list[tuple[str | None, type[AfinaError]]] = [(None, RecipeError), ("qwen3:8b", ServiceError)]
    for model, kind in expected:
        with pytest.raises(kind) as error:
            find_teacher(model, None)
        assert "ollama pull" in error.value.fix
        assert "--server" in error.value.fix


def test_a_model_that_ollama_has_not_is_told_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def ollama(request: Request) -> Response:
        return Response({"version": "0.32.0"} if request.path == "/api/version" else {"models": [{"name": "qwen3:8b"}]})

    with answering(ollama) as address:
        monkeypatch.setenv("OLLAMA_HOST", address)
        with pytest.raises(ServiceError, match="did you mean 'qwen3:8b'") as error:
            find_teacher("qwen3:8", None)
        assert error.value.fix == "ollama pull qwen3:8"
        assert find_teacher("qwen3:8b", None).name == "qwen3:8b"


def test_an_address_as_the_model_is_a_server(teacher: Teacher) -> None:
    assert find_teacher(teacher.address, None).place == f"{teacher.address}/v1"


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def typed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_the_command_writes_drafts_and_says_what_to_do_with_them(
    teacher: Teacher, docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert command.run(typed(str(docs), "--server", teacher.address, "--out", str(out), "--json")) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["kept"] == 6
    assert shown.err.splitlines()[-1] == (
        f'next: read {out}; change "draft" to "ok" where a row is right, delete the others, then name it in data.examples'
    )


@pytest.mark.parametrize("words", [("--count", "0"), ("--count", "21"), ("--chunk", "10")])
def test_settings_out_of_bounds_are_told_before_anything_is_done(teacher: Teacher, docs: Path, words: tuple[str, str]) -> None:
    with pytest.raises(RecipeError, match=words[0]):
        command.run(typed(str(docs), "--server", teacher.address, *words))
    assert teacher.asked == []
