"""A run that waits hears at once that it is to stop, and may finish what it should rather not lose."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Timer

import pytest

from workstation_pipelines.errors import CancelledError, FencedError, PausedError
from workstation_pipelines.sync.stopping import StopSignal, threads


def _done(value: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(value)
    return future


def test_nothing_is_raised_before_a_stop_is_asked_for() -> None:
    stop = StopSignal()
    stop.raise_if_set()
    stop.raise_if_overdue()
    assert stop.result_of(_done(3)) == 3
    assert not stop.is_set


def test_waiting_ends_when_a_stop_is_asked_for_by_another_thread() -> None:
    stop = StopSignal()
    Timer(0.02, stop.request, [PausedError("hold")]).start()
    with pytest.raises(PausedError, match="hold"):
        stop.result_of(Future())


def test_what_is_there_already_is_taken_within_the_grace_and_not_after() -> None:
    now_s = 0.0
    stop = StopSignal(grace_s=10, monotonic=lambda: now_s)
    stop.request(CancelledError("enough"))
    now_s = 9.0
    stop.raise_if_overdue()
    assert stop.result_of(_done(3)) == 3
    now_s = 10.0
    for wait in (stop.raise_if_overdue, lambda: stop.result_of(_done(3))):
        with pytest.raises(CancelledError, match="enough"):
            wait()


def test_work_that_is_finished_first_is_waited_for_as_long_as_the_grace() -> None:
    stop = StopSignal(grace_s=30)
    stop.request(CancelledError("enough"))
    slow: Future[int] = Future()
    Timer(0.02, slow.set_result, [4]).start()
    assert stop.result_of(slow, is_finished_first=True) == 4
    hasty = StopSignal(grace_s=0.02)
    hasty.request(CancelledError("enough"))
    with pytest.raises(CancelledError):
        hasty.result_of(Future(), is_finished_first=True)


def test_the_first_reason_counts_but_for_a_lost_lease() -> None:
    stop = StopSignal(grace_s=30)
    stop.request(CancelledError("first"))
    stop.request(PausedError("second"))
    with pytest.raises(CancelledError, match="first"):
        stop.raise_if_set()
    stop.request(FencedError("lost"))
    with pytest.raises(FencedError):
        stop.raise_if_overdue()


def test_threads_are_left_alone_once_a_stop_is_asked_for() -> None:
    stop, gate = StopSignal(), Future[None]()
    with threads(1, name="test", stop=stop) as executor:
        executor.submit(gate.result)
        queued = executor.submit(int)
        stop.request(CancelledError("enough"))
    assert queued.cancelled()
    gate.set_result(None)
