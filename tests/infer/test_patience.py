"""Patience with servers, and several requests at once: against one that tells by a barrier that they were there together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from afina.core.errors import AfinaError, ServiceError
from afina.data.conversation import Message
from afina.infer.ollama import Ollama
from afina.infer.openai import OpenAI
from afina.infer.patience import Reply, Turnstile, persist
from afina.infer.several import AT_ONCE, AT_ONCE_HERE, at_once, several
from tests.fakes.clock import Clock
from tests.fakes.endpoint import Server, serving
from tests.fakes.http import Request, Response, answering

HELLO = [Message("user", "¿Qué?")]
Chat = Callable[[Server], str]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited."""
    clock = Clock()
    monkeypatch.setattr("afina.infer.patience.time", clock)
    return clock.waits


def by_openai(server: Server) -> str:
    return OpenAI(server.address, timeout_s=5).chat("m", HELLO).text


def by_ollama(server: Server) -> str:
    return Ollama(server.root, timeout_s=5).chat("m", HELLO).text


@pytest.fixture(params=[by_openai, by_ollama], ids=["openai", "ollama"])
def chat(request: pytest.FixtureRequest) -> Chat:
    chosen: Chat = request.param
    return chosen


# ── asked again ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        (("429", "well"), [7.0]),
        (("500", "500", "well"), [2.0, 4.0]),
        (("half", "half", "half", "well"), [2.0, 4.0, 8.0]),
    ],
    ids=["busy", "failing", "breaking off"],
)
def test_either_interface_is_asked_again_and_answers(
    ways: tuple[str, ...], expected: list[float], chat: Chat, waits: list[float]
) -> None:
    with serving(lambda _messages: "Hola.", *ways) as server:
        server.pause = "7"
        assert chat(server) == "Hola."
    assert len(server.requests) == len(ways)
    assert waits == expected


def test_an_answer_of_ollama_that_is_not_done_is_one_that_broke_off(waits: list[float]) -> None:
    with serving(lambda _messages: "Hola.", "undone", "well") as server:
        assert by_ollama(server) == "Hola."
    assert waits == [2.0]


@pytest.mark.parametrize(("way", "told"), [("429", "wait"), ("500", "oh"), ("half", "breaks off its answer, 4 times")])
def test_either_interface_gives_up_after_four_times(way: str, told: str, chat: Chat, waits: list[float]) -> None:
    with serving(lambda _messages: "Hola.", way) as server:
        server.pause = "7"
        with pytest.raises(ServiceError, match=told):
            chat(server)
    assert (len(server.requests), len(waits)) == (4, 3)


def test_nobody_there_is_told_at_once(chat: Chat, waits: list[float]) -> None:
    with serving(lambda _messages: "Hola.") as server:
        pass
    with pytest.raises(ServiceError, match="answer"):
        chat(server)
    assert waits == []


def test_a_pause_is_kept_by_all_who_ask_and_then_fewer_ask_at_once() -> None:
    """Four ask at once, are all refused, and none asks again until the pause is over; then no more than two are there."""
    together, inside, most, lock = threading.Barrier(4, timeout=20), 0, 0, threading.Lock()
    times: list[float] = []
    refused_until = 0.0

    def limited(request: Request) -> Response:
        nonlocal inside, most, refused_until
        with lock:
            times.append(time.monotonic())
            first = len(times) <= 4
        if first:
            together.wait()
            with lock:
                refused_until = time.monotonic() + 1
            return Response(b"wait", 429, {"Retry-After": "1"})
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.05)
        with lock:
            inside -= 1
        return Response({"choices": [{"message": {"content": request.body["messages"][0]["content"]}}]})

    with answering(limited) as address:
        client = OpenAI(f"{address}/v1")
        texts = [str(number) for number in range(6)]
        found = list(several(lambda text: client.chat("m", [Message("user", text)]).text, texts, 4))
    assert found == texts
    assert min(times[4:]) >= refused_until
    assert most <= 2


def test_the_turnstile_lets_one_through_however_often_it_is_closed() -> None:
    turnstile = Turnstile()
    replies = iter([Reply(429, 0.0, b"")] * 3 + [Reply(200, None, b"ok")] * 2)
    assert persist(turnstile, lambda: next(replies)).content == b"ok"
    assert persist(turnstile, lambda: next(replies)).content == b"ok"


# ── several at once ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_requests_are_there_at_the_same_time_and_answers_in_their_order() -> None:
    """The server answers nobody before so many are there as shall be asked at once, and the last of them first."""
    together = threading.Barrier(AT_ONCE, timeout=20)
    turns = [threading.Event() for _number in range(AT_ONCE)]
    turns[-1].set()

    def answer(request: Request) -> Response:
        number = int(request.body["messages"][0]["content"])
        together.wait()
        turns[number % AT_ONCE].wait(20)
        turns[number % AT_ONCE - 1].set()
        return Response({"choices": [{"message": {"content": f"answer {number}"}}]})

    with answering(answer) as address:
        client = OpenAI(f"{address}/v1")
        found = several(lambda number: client.chat("m", [Message("user", str(number))]).text, range(2 * AT_ONCE), AT_ONCE)
        assert list(found) == [f"answer {number}" for number in range(2 * AT_ONCE)]


def test_after_a_failure_nothing_is_begun_and_what_is_under_way_ends() -> None:
    begun: list[int] = []
    ended: list[int] = []
    third_fails = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 2:
            third_fails.set()
            raise AfinaError("no", fix="none")
        if number == 1:
            third_fails.wait(20)
        ended.append(number)
        return number

    found = several(work, range(50), 2)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(AfinaError, match="no"):
        next(found)
    assert set(begun) - set(ended) == {2}
    assert len(begun) <= 4


def test_no_more_than_so_many_work_at_once_and_nothing_is_begun_for_nobody() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.005)
        with lock:
            inside -= 1
        return number

    assert list(several(work, range(12), 3)) == list(range(12))
    assert most <= 3
    assert list(several(work, [], 3)) == []


def test_a_server_on_this_machine_gets_fewer_than_a_provider() -> None:
    assert at_once("http://127.0.0.1:11434") == at_once("http://localhost:8090/v1") == AT_ONCE_HERE < AT_ONCE
    assert at_once("https://api.example.com/v1") == AT_ONCE
