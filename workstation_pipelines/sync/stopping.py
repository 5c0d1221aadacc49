"""How a run is told from outside to end before its work does, and how it waits without being deaf to that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from workstation_pipelines.db.sync_jobs import Asked
from workstation_pipelines.errors import CancelledError, FencedError, PausedError
from workstation_pipelines.model import SyncJobId

GRACE_S = 10.0
"""How long a run that was told to stop may go on with what it has fetched; then that is fetched once more some day."""

StopError = CancelledError | PausedError | FencedError
_T = TypeVar("_T")


def stop_asked(asked: Asked, job_id: SyncJobId) -> CancelledError | PausedError | None:
    """Return the error that a job is to end with because someone asked for it; a cancel counts more than a pause."""
    if asked.cancel:
        return CancelledError("cancelled on request; what is committed stays")
    if asked.pause:
        return PausedError(f"paused on request: `workstation jobs resume {job_id}` lets it go on from there")
    return None


class StopSignal:
    """Set once, by any thread, with the error that the run is to end with; the first one counts."""

    def __init__(self, *, grace_s: float = GRACE_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lock = Lock()
        self._told: Future[None] = Future()
        self._error: StopError | None = None
        self._grace_s = grace_s
        self._monotonic = monotonic
        self._deadline_s = 0.0

    def request(self, error: StopError) -> None:
        """Tell the run to end. One that lost its lease has no time left, whatever it was told before."""
        with self._lock:
            if isinstance(error, FencedError):
                self._error, self._deadline_s = error, self._monotonic()
            elif self._error is None:
                self._error, self._deadline_s = error, self._monotonic() + self._grace_s
            if not self._told.done():
                self._told.set_result(None)

    @property
    def is_set(self) -> bool:
        return self._told.done()

    def raise_if_set(self) -> None:
        """Call between items and between pages. Raises CancelledError, PausedError, FencedError."""
        if self._told.done() and self._error is not None:
            raise self._error

    def raise_if_overdue(self) -> None:
        """Call between the steps of what should rather be finished. Raises what raise_if_set() does, a while later."""
        if self._told.done() and self._monotonic() >= self._deadline_s:
            self.raise_if_set()

    def wait_for(self, future: Future[Any] | None, timeout_s: float) -> None:
        """Wait until a future is done, the run is told to stop, or the time is over; without a future for the others."""
        either: tuple[Future[Any], ...] = (self._told,) if future is None else (self._told, future)
        wait(either, timeout=max(0.0, timeout_s), return_when=FIRST_COMPLETED)

    def result_of(self, future: Future[_T], *, is_finished_first: bool = False) -> _T:
        """Return what another thread makes, or stop waiting for it: at once, or with `is_finished_first` after the grace.

        Raises what the other thread raised, and what raise_if_set() does; then nobody waits for that thread.
        """
        if not future.done():
            either: tuple[Future[Any], ...] = (future, self._told)
            wait(either, return_when=FIRST_COMPLETED)
        if is_finished_first and not future.done():
            wait((future,), timeout=max(0.0, self._deadline_s - self._monotonic()))
        if future.done():
            self.raise_if_overdue()
            return future.result()
        self.raise_if_set()
        raise AssertionError("neither done nor told to stop")


@contextmanager
def threads(count: int, *, name: str, stop: StopSignal) -> Iterator[ThreadPoolExecutor]:
    """Open threads; at the end they are waited for, unless the run was told to stop: they may be in the middle of anything."""
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield executor
    finally:
        executor.shutdown(wait=not stop.is_set, cancel_futures=True)
