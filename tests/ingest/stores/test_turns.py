"""Turns: one at a time, those in a hurry first, nobody waits for one who has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ingest.stores.turns import Turns


def waiting(turns: Turns, name: str, urgent: bool, log: list[str]) -> threading.Thread:
    """A thread that waits for its turn, and writes its name when it has it."""

    def take() -> None:
        with turns.turn(urgent):
            log.append(name)

    before = waiters(turns)
    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    until(lambda: waiters(turns) > before)
    return thread


def waiters(turns: Turns) -> int:
    return len(turns._free._waiters)  # type: ignore[attr-defined]


def until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        done.wait(0.001)
    raise AssertionError("it did not come to hold")


def test_whoever_is_in_a_hurry_is_next() -> None:
    turns, log = Turns(), list[str]()
    with turns.turn():
        threads = [
            waiting(turns, name, urgent, log)
            for name, urgent in (("history", False), ("history", False), ("live", True))
        ]
        assert log == []
    for thread in threads:
        thread.join(10)
    assert log == ["live", "history", "history"]


def test_one_at_a_time() -> None:
    turns, at_once, most, count = Turns(), 0, 0, 0

    def work(urgent: bool) -> None:
        nonlocal at_once, most, count
        for _ in range(500):
            with turns.turn(urgent):
                at_once += 1
                most = max(most, at_once)
                count += 1
                at_once -= 1

    threads = [threading.Thread(target=work, args=(n == 0,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, count) == (1, 2000)


def test_a_turn_ends_with_its_error_and_a_wait_with_its_interruption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, log = Turns(), list[str]()
    with pytest.raises(ValueError, match="inside"), turns.turn():
        raise ValueError("inside")
    with turns.turn():
        thread = waiting(turns, "history", False, log)

        def interrupted(condition: Callable[[], bool]) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(turns._free, "wait_for", interrupted)
            with pytest.raises(KeyboardInterrupt), turns.turn(urgent=True):
                raise AssertionError("it has no turn")
    thread.join(10)
    assert log == ["history"]
