"""The end of a call that does not end by itself: its node's time, its run's time, or a stop that its run was told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from workstation_pipelines.errors import CancelledError, InvalidRequestError, RetryableError, WorkstationError
from workstation_pipelines.sync.stopping import StopSignal
from workstation_pipelines.workflows import calling
from workstation_pipelines.workflows.calling import NodeStop, called


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "GRACE_S", 0.02)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("now_s", "left_s", "error"),
    [(104.0, 1.0, None), (105.0, 0.0, RetryableError), (107.0, 0.0, InvalidRequestError)],
)
def test_node_s_time_is_worth_another_attempt_and_the_run_s_is_not(
    now_s: float, left_s: float, error: type[WorkstationError] | None
) -> None:
    clock = Clock()
    stop = NodeStop(StopSignal(grace_s=0), timeout_s=5, run_ends_s=106, monotonic=clock)
    clock.now_s = now_s
    assert stop.left_s == left_s
    if error is None:
        stop.check()
    else:
        with pytest.raises(error):
            stop.check()


def test_stop_wakes_a_block_that_sleeps() -> None:
    signal = StopSignal(grace_s=0)
    stop = NodeStop(signal, timeout_s=60)

    def sleep() -> None:
        signal.request(CancelledError("cancelled on request"))
        stop.wait(60)

    with pytest.raises(CancelledError):
        called(sleep, stop, name="a")


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_deaf_block_is_left_behind(is_cancelled: bool) -> None:
    signal, over = StopSignal(grace_s=0), threading.Event()
    stop = NodeStop(signal, timeout_s=60 if is_cancelled else 0.02)
    deaf: Callable[[], bool] = lambda: over.wait(timeout=20)  # noqa: E731
    if is_cancelled:
        signal.request(CancelledError("cancelled on request"))
    with pytest.raises(CancelledError if is_cancelled else RetryableError):
        called(deaf, stop, name="a")
    over.set()


def test_result_that_comes_within_the_grace_counts() -> None:
    signal = StopSignal(grace_s=0)
    signal.request(CancelledError("cancelled on request"))
    assert called(lambda: "paid for", NodeStop(signal, timeout_s=60), name="a") == "paid for"


def test_error_of_a_block_is_raised_where_it_was_called() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        called(broken, NodeStop(StopSignal(), timeout_s=60), name="a")
