"""Processes that help: what is written is the same with them and without, and whatever ends one of them is told."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from afina.core.child import result_of
from afina.core.errors import ResourceError
from afina.core.hardware import Memory, Processor
from afina.data import flow as flow_module
from afina.data import workers as workers_module
from afina.data.clean.checks import actions
from afina.data.conversation import Conversation, Finding, Message, Source, ToolCall
from afina.data.findings import Findings
from afina.data.flow import Earlier, Flow
from afina.data.render import Limits, Renderer, Shortcuts
from afina.data.store import Store, Writer
from afina.data.template import CHATML, ChatTemplate, choose_template
from afina.data.tokenizer import Tokenizer
from afina.data.work import Steps, Work
from afina.data.workers import Workers
from tests.fakes.models import write_tokenizer

FILES = ("conversations.arrow", "rows.arrow", "traits.arrow", "findings.jsonl")
TEXTS = (
    "¿Hay clavos de acero?",
    "Escribe a ana@gmail.com o llama al 612 345 678, por favor",
    "El cafÃ© estÃ¡ frÃ­o",
    "an\u200binvisible sign",
    "half a pair \ud83d stays",
    "Estimado {{name}}: [INSERT DATE]",
    "I'm sorry, but I can't help with that.",
    "a token <|im_end|> inside",
    "一二三四五六七",
    "and the",
    "",
)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    tokenizer = Tokenizer.load(folder)
    renderer = Renderer.build(choose_template("auto", tokenizer), tokenizer)
    return Steps(7, renderer, Limits(400, split=True), actions({}, redact=True), "1")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start at once, and are waited for, so that few rows show what many do."""
    monkeypatch.setattr(flow_module, "BATCH", 16)
    monkeypatch.setattr(flow_module, "_WORTH_STARTING", 16)
    started = Workers.__init__

    def wait(self: Workers, steps: Steps, count: int) -> None:
        started(self, steps, count)
        while not self.ready:
            time.sleep(0.01)

    monkeypatch.setattr(Workers, "__init__", wait)


def talks(count: int, seed: int = 1) -> Iterator[Conversation | Finding]:
    dice = random.Random(seed)
    for line in range(1, count + 1):
        if dice.random() < 0.05:
            yield Finding(Source("a.jsonl", line), "broken-row", "torn")
            continue
        turns: list[Message] = [Message("system", "Sé breve.")] if dice.random() < 0.3 else []
        for _turn in range(dice.choice((1, 1, 2, 3))):
            asked, answered = dice.choice(TEXTS[:-1]), dice.choice(TEXTS)
            turns += [Message("user", f"{asked} {dice.randrange(99)}"), Message("assistant", f"{answered} {dice.randrange(9)}")]
        turns[-1] = replace(turns[-1], content=turns[-1].content * dice.choice((1, 1, 1, 40)))
        yield Conversation(tuple(turns), Source("a.jsonl", line), group=dice.choice(("", "ana")))


def run(
    folder: Path, steps: Steps, items: Sequence[Conversation | Finding], processes: int, earlier: Earlier | None = None
) -> Flow:
    with (
        Findings(folder) as findings,
        Writer(folder) as writer,
        Flow(steps, writer, findings, earlier, processes) as flow,
    ):
        flow.take(items, 0, lambda _done: None)
        flow.take(items[:20], 2, lambda _done: None)
    return flow


def is_same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


@pytest.mark.usefixtures("small_batches")
def test_what_is_written_is_the_same_with_processes_and_without(steps: Steps, tmp_path: Path) -> None:
    items = [item for item in talks(300) if not isinstance(item, Conversation) or "\ud83d" not in str(item.messages)]
    alone, helped = (run(tmp_path / name, steps, items, count) for name, count in (("alone", 0), ("helped", 2)))
    assert helped._workers is not None
    assert alone._workers is None
    assert is_same(tmp_path / "alone", tmp_path / "helped")
    assert helped.worked == alone.worked


@pytest.mark.usefixtures("small_batches")
def test_rows_taken_over_and_rows_worked_on_elsewhere_stay_in_order(steps: Steps, tmp_path: Path) -> None:
    items = [item for item in talks(300) if not isinstance(item, Conversation) or "\ud83d" not in str(item.messages)]
    dice = random.Random(3)
    run(tmp_path / "before", steps, [item for item in items if dice.random() < 0.7], 0)
    again = run(tmp_path / "again", steps, items, 2, Earlier(Store(tmp_path / "before")))
    assert again.taken_over > 50
    assert again.worked > 50
    run(tmp_path / "alone", steps, items, 0)
    assert is_same(tmp_path / "again", tmp_path / "alone")


def test_any_conversation_goes_through_the_pipe_as_it_is() -> None:
    rows = [item for item in talks(50) if isinstance(item, Conversation)]
    called = Message("assistant", "", (ToolCall("f", '{"b": 1.50, "a": "ñ"}'),), trained=False)
    rows.append(Conversation((Message("user", "\ud83d \x00"), called, Message("tool", "7", name="f")), Source("ñ", 3), "[{}]"))
    sent = workers_module._talks_text(rows, 12, Shortcuts(True, False))
    assert workers_module._talks(sent) == (rows, 12, Shortcuts(True, False))


def test_a_shortcut_that_fails_in_another_process_is_given_up_from_there_on(
    steps: Steps, tmp_path: Path, small_batches: None
) -> None:
    """The prompt of a long question is written otherwise than the history: cutting it from the whole is wrong from there on."""
    source = CHATML.replace(
        "assistant\\n' }}{% endif %}", "assistant\\n' }}{% if messages[-1].content|length > 60 %}hint: {% endif %}{% endif %}"
    )
    assert source != CHATML

    def made() -> Steps:
        return replace(steps, renderer=Renderer.build(ChatTemplate("hinting", source), steps.renderer.tokenizer))

    rows = [
        Conversation((Message("user", f"pregunta {line}" + " larga" * 20 * (line % 90 == 0)), Message("assistant", "sí")), place)
        for line in range(1, 400)
        for place in [Source("a.jsonl", line)]
    ]
    alone, helped = made(), made()
    run(tmp_path / "alone", alone, rows, 0)
    run(tmp_path / "helped", helped, rows, 2)
    assert is_same(tmp_path / "alone", tmp_path / "helped")
    assert alone.renderer.shortcuts == helped.renderer.shortcuts


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_process_that_is_killed_ends_the_work_with_one_clear_error(steps: Steps) -> None:
    rows = [item for item in talks(30) if isinstance(item, Conversation)]
    with Workers(steps, 2) as workers:
        while not workers.ready:
            time.sleep(0.01)
        worked = result_of(workers.do(rows, 0, steps.renderer.shortcuts))
        assert worked.portion.talks.equals(Work(steps).do(rows, 0).portion.talks)
        for worker in workers._workers:
            os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(ResourceError, match=r"was ended \(-9\)") as caught:
            result_of(workers.do(rows, 0, steps.renderer.shortcuts))
    assert "memory" in caught.value.fix
    assert all(worker._process.poll() is not None for worker in workers._workers)


@pytest.mark.usefixtures("small_batches")
def test_whatever_ends_the_work_ends_the_processes(steps: Steps, tmp_path: Path) -> None:
    def interrupted() -> Iterator[Conversation | Finding]:
        yield from (item for item in talks(200) if not isinstance(item, Conversation) or "\ud83d" not in str(item.messages))
        raise KeyboardInterrupt

    with (
        Findings(tmp_path) as findings,
        Writer(tmp_path) as writer,
        pytest.raises(KeyboardInterrupt),
        Flow(steps, writer, findings, None, 2) as flow,
    ):
        flow.take(interrupted(), 0, lambda _done: None)
    assert flow._workers is not None
    assert all(worker._process.poll() is not None for worker in flow._workers._workers)


def test_where_no_process_can_be_started_the_work_is_done_without(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_module, "BATCH", 16)
    monkeypatch.setattr(flow_module, "_WORTH_STARTING", 16)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "executable", "/bin/true")
    rows = [item for item in talks(60) if isinstance(item, Conversation) and "\ud83d" not in str(item.messages)]
    flow = run(tmp_path, steps, rows, 2)
    assert flow.worked == len(rows) + 20


def test_processes_are_only_started_where_cores_and_memory_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(cores: int, free_gib: float | None, size_mib: int = 100) -> int:
        there = None if free_gib is None else Memory(2**40, int(free_gib * 2**30))
        monkeypatch.setattr(workers_module, "memory", lambda: there)
        monkeypatch.setattr(workers_module, "processor", lambda: Processor("any", cores))
        return workers_module.worthwhile(size_mib * 2**20)

    assert machine(1, 64) == 0
    assert machine(2, 64, size_mib=10) == 0
    assert machine(2, 8) == 2
    assert machine(4, 2.5) == 2
    assert machine(4, 1.5) == 0
    assert machine(64, None) == 8
