"""The sign of life of a running job: a thread that tells the database every few seconds, and hears what was asked meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Self

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from workstation_pipelines.db import processing, sync_jobs
from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.processing import Attempt
from workstation_pipelines.errors import CancelledError, FencedError, RetryableError
from workstation_pipelines.model import SyncJobId
from workstation_pipelines.sync.stopping import StopError, StopSignal, stop_asked

BEAT_EVERY_S = 5.0

Beat = Callable[[], StopError | None]
"""Tells the database that a job lives; returns the error that it is to end with, if any."""


class Heartbeat:
    """Beats from `with` to its end. A beat that fails is left out: the run itself will notice what is wrong."""

    def __init__(self, beat: Beat, stop: StopSignal, *, every_s: float = BEAT_EVERY_S) -> None:
        self._beat = beat
        self._stop = stop
        self._every_s = every_s
        self._is_over = Event()
        self._thread = Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _beat_on(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                stop = self._beat()
            except (RetryableError, PoolTimeoutError):
                continue
            # What ended meanwhile, of itself, is not told anything any more.
            if stop is not None and not self._is_over.is_set():
                self._stop.request(stop)


def of_sync(database: Database, lease: Lease, job_id: SyncJobId) -> Beat:
    """Return the beat of a sync job."""

    def beat() -> StopError | None:
        with database.transaction_with_rls(lease.user_id) as connection:
            asked = sync_jobs.heartbeat(connection, lease, job_id=job_id)
        if asked is None:
            return FencedError(f"sync job {job_id} was ended, or taken over, by someone else")
        return stop_asked(asked, job_id)

    return beat


def of_processing(database: Database, attempt: Attempt) -> Beat:
    """Return the beat of an attempt at a processing job."""

    def beat() -> StopError | None:
        try:
            with database.transaction_with_rls(attempt.user_id) as connection:
                is_cancelled = processing.beat(connection, attempt)
        except FencedError as error:
            return error
        return CancelledError("cancelled; what is committed stays") if is_cancelled else None

    return beat
