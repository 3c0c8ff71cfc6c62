from __future__ import annotations

import os
import signal
import threading

import pytest

from afina.core.interrupt import StopWish, stop_wish


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_and_the_second_stops(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_wish() as wish:
        assert not wish
        os.kill(os.getpid(), number)
        assert wish
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_outside_the_main_thread_nothing_is_taken_over() -> None:
    seen: list[tuple[bool, object]] = []

    def work() -> None:
        with stop_wish() as wish:
            seen.append((bool(wish), signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_a_wish_can_be_made_by_the_program_itself() -> None:
    wish = StopWish()
    wish.ask()
    assert wish
