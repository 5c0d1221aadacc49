"""One batch is committed while the next is built: handing batches over, and knowing which are done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from decimal import Decimal
from threading import Lock
from typing import Any

from sqlalchemy import Connection

from workstation_pipelines.db import sync_jobs
from workstation_pipelines.db.data_sources import prove_lease
from workstation_pipelines.db.sync_jobs import Asked
from workstation_pipelines.errors import CancelledError, PausedError
from workstation_pipelines.model import Counts, Progress, Usage
from workstation_pipelines.sync.batch import Batch, BatchWriter
from workstation_pipelines.sync.job import Job
from workstation_pipelines.sync.stopping import stop_asked


class Committer:
    """Commits a job's batches in order, at most one at a time, in `executor`.

    Only the run hands batches over; the source may have the last one settled from the thread that lists.
    """

    def __init__(self, job: Job, writer: BatchWriter, executor: Executor) -> None:
        self._job = job
        self._writer = writer
        self._executor = executor
        self._in_flight: tuple[Batch, Future[Asked]] | None = None
        self._was_settled = False
        self._settling = Lock()

    @property
    def batch_in_flight(self) -> Batch | None:
        """The batch that is being committed."""
        return self._in_flight[0] if self._in_flight is not None else None

    def commit(self, batch: Batch, *, pages: int, progress: Mapping[str, Any]) -> Iterator[Progress]:
        """Hand a batch over and report the one before, which is now done.

        Raises what settle() raises; when the job was asked to stop, not before this batch is committed too.
        """
        job = self._job
        was_one, stop = self._settled()
        told = was_one or self._was_settled
        self._was_settled = False
        calls = job.uncounted_calls()
        measures = [*batch.measures, *job.measures.take()]
        batch = replace(batch, counts=batch.counts.plus(Counts(provider_calls=calls)), measures=measures)
        job.calls_counted += calls
        self._in_flight = (batch, self._executor.submit(self._writer.write, batch, pages=pages, progress=progress))
        job.pages += pages
        job.committed_progress = progress
        if stop is not None:
            self._settled()
            raise stop
        if told:
            yield self.told(None)

    def settle(self) -> bool:
        """Wait for the batch in flight; return whether there was one. Raises CancelledError and PausedError when asked to."""
        was_one, stop = self._settled()
        if stop is not None:
            raise stop
        return was_one

    def _settled(self) -> tuple[bool, CancelledError | PausedError | None]:
        with self._settling:
            in_flight, self._in_flight = self._in_flight, None
        if in_flight is None:
            return False, None
        batch, future = in_flight
        asked = future.result()
        self._job.counts = self._job.counts.plus(batch.counts)
        self._job.parts.after_commit()
        return True, stop_asked(asked, self._job.id)

    def settle_quietly(self) -> None:
        """Commit what is in flight because the source wants to see it; the page after is the boundary to stop at."""
        self._was_settled = self.settle() or self._was_settled

    def advance(self, connection: Connection, counts: Counts, usages: Sequence[Usage]) -> None:
        """Add to the job's row within someone else's transaction; a wish to stop is told to the job. Raises FencedError."""
        job = self._job
        prove_lease(connection, job.lease)
        asked = sync_jobs.advance(
            connection,
            job.lease,
            job_id=job.id,
            counts=counts,
            cost=sum((usage.cost for usage in usages), Decimal(0)),
            pages=0,
            progress=job.committed_progress,
        )
        stop = stop_asked(asked, job.id)
        if stop is not None:
            job.stop.request(stop)

    def count(self, counts: Counts) -> None:
        """Count what advance() has committed."""
        self._job.counts = self._job.counts.plus(counts)
        self._job.parts.after_commit()

    def told(self, finished_stage: str | None) -> Progress:
        return Progress(self._job.id, self._job.pages, self._job.counts, finished_stage)
