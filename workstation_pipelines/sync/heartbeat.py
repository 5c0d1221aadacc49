"""The sign of life of a running job: a thread that tells the database every few seconds, and hears what was asked meanwhile."""

from __future__ import annotations

from threading import Event, Thread
from types import TracebackType
from typing import Self

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from workstation_pipelines.db import sync_jobs
from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import FencedError, RetryableError
from workstation_pipelines.model import SyncJobId
from workstation_pipelines.sync.stopping import StopError, StopSignal, stop_asked

BEAT_EVERY_S = 5.0


class Heartbeat:
    """Beats from `with` to its end. A beat that fails is left out: the run itself will notice what is wrong."""

    def __init__(
        self, database: Database, lease: Lease, job_id: SyncJobId, stop: StopSignal, *, every_s: float = BEAT_EVERY_S
    ) -> None:
        self._database = database
        self._lease = lease
        self._job_id = job_id
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
                self._beat()
            except (RetryableError, PoolTimeoutError):
                continue

    def _beat(self) -> None:
        with self._database.transaction_with_rls(self._lease.user_id) as connection:
            asked = sync_jobs.heartbeat(connection, self._lease, job_id=self._job_id)
        if self._is_over.is_set():
            return  # it ended meanwhile, of itself
        stop: StopError | None = (
            FencedError(f"sync job {self._job_id} was ended, or taken over, by someone else")
            if asked is None
            else stop_asked(asked, self._job_id)
        )
        if stop is not None:
            self._stop.request(stop)
