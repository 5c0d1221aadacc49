"""One call of a block, in a thread of its own: whoever waits for it hears of a cancel and of the end of its time meanwhile."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

from workstation_pipelines.errors import InvalidRequestError, RetryableError
from workstation_pipelines.sync.stopping import StopSignal

_T = TypeVar("_T")

GRACE_S = 3.0
"""How long a block that is to end may take to clean up behind it; then nobody waits for its thread."""


class NodeStop:
    """The Stop of one call: its run was told to stop, its node's time is over, or its run's."""

    def __init__(
        self,
        run: StopSignal,
        *,
        timeout_s: float,
        run_ends_s: float = float("inf"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`run_ends_s` is on the clock of `monotonic`."""
        self._run = run
        self._timeout_s = timeout_s
        self._run_ends_s = run_ends_s
        self._monotonic = monotonic
        self._ends_s = monotonic() + timeout_s

    def check(self) -> None:
        """Raises what the run was told to end with, RetryableError after the node's time, InvalidRequestError after the run's."""
        self._run.raise_if_set()
        now_s = self._monotonic()
        if now_s >= self._run_ends_s:
            raise InvalidRequestError("the workflow's time is over: raise its timeout_s, or let it do less")
        if now_s >= self._ends_s:
            raise RetryableError(f"the block took longer than the {self._timeout_s:g} s that its node has")

    def wait(self, seconds: float) -> None:
        self._run.wait_for(None, min(seconds, self.left_s))
        self.check()

    @property
    def left_s(self) -> float:
        return max(0.0, min(self._ends_s, self._run_ends_s) - self._monotonic())

    def wait_for(self, future: Future[_T]) -> None:
        self._run.wait_for(future, self.left_s)


def called(block: Callable[[], _T], stop: NodeStop, *, name: str) -> _T:
    """Return what a block returns, or raise what it raises; when it is to end and does not, what `stop` raises.

    Then its thread goes on without anybody listening, and ends with the process at the latest.
    """
    future: Future[_T] = Future()
    context = contextvars.copy_context()
    Thread(target=context.run, args=(_fulfil, future, block), name=f"block {name}", daemon=True).start()
    stop.wait_for(future)
    if not future.done():
        wait((future,), timeout=GRACE_S)
    if not future.done():
        stop.check()
    return future.result()


def _fulfil(future: Future[_T], block: Callable[[], _T]) -> None:
    try:
        future.set_result(block())
    except BaseException as error:  # noqa: BLE001 - the thread's rim: raised again where its result is asked for
        future.set_exception(error)
