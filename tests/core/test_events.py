from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from afina.core.events import (
    KINDS,
    Event,
    Events,
    Metric,
    Notice,
    Progress,
    Sample,
    StageFinished,
    StageSkipped,
    StageStarted,
    read_events,
)

ALL: tuple[Event, ...] = (
    StageStarted("train", "10 steps"),
    Progress("train", "steps", 1, 10, "steps", "loss 1.23"),
    Metric("train", 1, {"loss": 1.5}),
    Notice("train", "warning", "¡ojo!"),
    Sample("train", 1, "¿Qué cuesta?", "10 €", "10"),
    StageFinished("train", 1.5, "done"),
    StageSkipped("prepare", "nothing changed"),
)


def test_what_is_emitted_is_read_again_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run" / "events.jsonl"
    with Events(path) as events:
        for event in ALL:
            events.emit(event)
    assert tuple(event for _time, event in read_events(path)) == ALL
    assert {type(event) for event in ALL} == set(KINDS.values())


def test_listeners_hear_each_event_with_and_without_a_file(tmp_path: Path) -> None:
    heard: list[Event] = []
    with Events(None, (heard.append,)) as events:
        events.info("train", "one")
        events.warn("train", "two")
    assert heard == [Notice("train", "info", "one"), Notice("train", "warning", "two")]


def test_a_second_process_goes_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for event in ALL[:2]:
        with Events(path) as events:
            events.emit(event)
    assert [event for _time, event in read_events(path)] == list(ALL[:2])


def test_a_line_that_a_killed_process_left_unfinished_is_passed_over_and_then_mended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Events(path) as events:
        events.emit(ALL[0])
    with path.open("a") as file:
        file.write('{"time": 1, "kind": "Prog')
    assert [event for _time, event in read_events(path)] == [ALL[0]]
    with Events(path) as events:
        events.emit(ALL[1])
    assert [event for _time, event in read_events(path)] == list(ALL[:2])


@pytest.mark.parametrize("event", ALL)
def test_events_cannot_be_changed(event: Event) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.stage = "other"  # type: ignore[misc]


def test_a_listener_may_join_for_a_while() -> None:
    always: list[Event] = []
    sometimes: list[Event] = []
    with Events(listeners=(always.append,)) as events:
        events.info("train", "one")
        with events.heard_by(sometimes.append):
            events.info("train", "two")
        events.info("train", "three")
    assert always == [Notice("train", "info", text) for text in ("one", "two", "three")]
    assert sometimes == [Notice("train", "info", "two")]
