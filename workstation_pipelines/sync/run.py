"""One sync of one data source: the life of its job, from the lease to its end. It knows no vendor and no scheduler.

The page is the unit of work; a batch (a page, or a part of a large one) is the unit of commit. While one batch is being
committed the next page is listed, fetched, cut and embedded. The resume point moves with the last batch of its page, the
feed position of the data source only in the transaction that ends the job.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from sqlalchemy import Connection

from workstation_pipelines.db import (
    absent_items,
    data_sources,
    job_control,
    metering,
    sync_containers,
    sync_failures,
    sync_jobs,
)
from workstation_pipelines.db.data_sources import DataSource, Lease
from workstation_pipelines.db.job_control import AskedJob
from workstation_pipelines.errors import (
    BudgetReachedError,
    CancelledError,
    FencedError,
    PausedError,
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    WorkstationError,
)
from workstation_pipelines.model import JobResult, JobStatus, Progress, SyncJobId
from workstation_pipelines.sync import rules
from workstation_pipelines.sync.batch import BatchWriter
from workstation_pipelines.sync.budget import Allowance
from workstation_pipelines.sync.checkpoint import cursor_to_promote, resume_point, sweep_of
from workstation_pipelines.sync.committing import Committer
from workstation_pipelines.sync.heartbeat import Heartbeat, of_sync
from workstation_pipelines.sync.intake import storable
from workstation_pipelines.sync.job import Job, SyncParts, SyncRequest
from workstation_pipelines.sync.paging import PageLoop
from workstation_pipelines.sync.prepare import BatchBuilder
from workstation_pipelines.sync.stopping import threads

__all__ = ["SyncParts", "SyncRequest", "drive", "run_sync"]

BATCH_ITEMS = 250
EXTRACTION_THREADS = 2


def run_sync(parts: SyncParts, data_source: DataSource, request: SyncRequest) -> Generator[Progress, None, JobResult]:
    """Sync once; yields after every commit and returns how the job ended.

    Raises BusyError and FencedError without a trace in the database, and RetryableError, ReauthorizeError or a bug after
    the job has been recorded as failed. A long wait asked for by the vendor, a budget that is reached, a cancel or pause
    request, also one from before the start, and a suspected mass deletion are not errors: they are the status of the result.
    """
    with ExitStack() as stack:
        stack.callback(parts.source.close)
        stopped = _stopped_before(parts, data_source, request)
        if stopped is not None:
            return stopped
        lease = stack.enter_context(data_sources.leased(parts.database, data_source))
        parts.faults.reach("lease_taken")
        run = _Run(parts, data_source, request, lease)
        stopped = run.start()
        if stopped is not None:
            return stopped
        parts.faults.reach("job_started")
        try:
            yield from run.work()
            return run.finish()
        except FencedError:
            raise
        except (CancelledError, PausedError, RateLimitedError, BudgetReachedError) as stop:
            return run.stop_early(stop)
        except WorkstationError as error:
            run.fail(error)
            raise
        except Exception as bug:  # recorded, so that no job stays `running`, and raised again
            run.fail(WorkstationError(f"{type(bug).__name__}: this is a bug, the log has the details"))
            raise
        except BaseException:  # Ctrl-C, a closed generator, a scheduler's interrupt
            run.end(JobStatus.CANCELLED, "the process running it was told to stop; what is committed stays")
            raise


def _stopped_before(parts: SyncParts, data_source: DataSource, request: SyncRequest) -> JobResult | None:
    """Return how the requested job was ended, or held, before anybody started it."""
    if request.job_id is None:
        return None
    with parts.database.transaction_with_rls(data_source.user_id) as connection:
        asked = job_control.asked(connection, user_id=data_source.user_id, job_id=request.job_id)
    return asked.stopped_before() if asked is not None else None


class _Run:
    """The life of one job between its lease and its end."""

    def __init__(self, parts: SyncParts, data_source: DataSource, request: SyncRequest, lease: Lease) -> None:
        self._parts = parts
        self._source = parts.source
        self._lease = lease
        self._job = Job(request.job_id or SyncJobId(parts.new_id()), data_source, lease, request, parts)
        self._status_before = ("connected", "")

    def start(self) -> JobResult | None:
        """Write the job row, or return how the job has ended already.

        Where to begin comes from rows alone, so that whatever the source says later is recorded.
        """
        job, lease = self._job, self._lease
        with self._parts.database.transaction_with_rls(lease.user_id) as connection:
            # Read again under the lease: another run may have moved the cursor meanwhile.
            job.data_source = data_sources.get(connection, user_id=lease.user_id, data_source_id=lease.data_source_id)
            asked = job_control.asked(connection, user_id=lease.user_id, job_id=job.id, lock=True)
            if asked is not None:
                stopped = asked.stopped_before()
                if stopped is not None:
                    return stopped
                self._take_up(asked)
            request = job.request
            job.rules = rules.load(connection, user_id=lease.user_id, data_source_id=lease.data_source_id)
            previous = sync_jobs.bury_interrupted(connection, lease, successor=job.id)
            previous = previous or sync_jobs.resumable(connection, lease)
            job.live_before = absent_items.count_live(connection, lease)
            is_confirmed = request.confirm_deletes and sync_jobs.awaits_confirmation(connection, lease)
            every = self._source.reconcile_every
            is_listing_due = every is not None and data_sources.is_listing_due(connection, lease, every=every)
            progress = (
                {}  # what was confirmed is to be seen once more
                if is_confirmed
                else resume_point(
                    previous.progress if previous else {},
                    data_source=job.data_source,
                    source=self._source,
                    job_type=request.job_type,
                    is_listing_due=is_listing_due,
                )
            )
            job.progress = job.committed_progress = progress
            self._set_syncing(connection)
            job.counts, job.pages = sync_jobs.start(
                connection,
                lease,
                job_id=job.id,
                job_type=request.job_type,
                progress=job.progress,
                dagster_run_id=request.dagster_run_id,
                idempotency_key=request.idempotency_key,
            )
        return None

    def _take_up(self, asked: AskedJob) -> None:
        """Do what the job's row says. Of an attempt that died, or failed within this very run, another job is made."""
        job = self._job
        is_retry = asked.status is JobStatus.FAILED and asked.dagster_run_id == job.request.dagster_run_id is not None
        if asked.status is JobStatus.RUNNING or is_retry:
            job.id = SyncJobId(self._parts.new_id())
        confirm_deletes = job.request.confirm_deletes or asked.confirm_deletes
        job.request = replace(job.request, job_type=asked.job_type, confirm_deletes=confirm_deletes)

    def _set_syncing(self, connection: Connection) -> None:
        stored = self._job.data_source
        if stored.connection_status != "syncing":  # a run that was killed leaves it so
            self._status_before = (stored.connection_status, stored.status_message)
        self._set_status(connection, "syncing", "")

    def _set_status(
        self, connection: Connection, connection_status: str, message: str, *, needs_reauth: bool | None = None
    ) -> None:
        data_sources.set_status(
            connection,
            user_id=self._lease.user_id,
            data_source_id=self._lease.data_source_id,
            connection_status=connection_status,
            message=message,
            needs_reauth=needs_reauth,
        )

    def work(self) -> Iterator[Progress]:
        """Do all that the source lists; what is committed when it raises stays."""
        parts, job = self._parts, self._job
        workers = max(self._source.fetch_threads, EXTRACTION_THREADS)
        with (
            Heartbeat(of_sync(parts.database, self._lease, job.id), job.stop, every_s=parts.beat_every_s),
            threads(workers, name="fetch", stop=job.stop) as fetchers,
            threads(1, name="aside", stop=job.stop) as aside,
            ThreadPoolExecutor(1, thread_name_prefix="commit") as committing,
        ):
            writer = BatchWriter(
                database=parts.database,
                lease=self._lease,
                job_id=job.id,
                project_id=job.data_source.project_id,
                new_id=parts.new_id,
                faults=parts.faults,
            )
            committer = Committer(job, writer, committing)
            allowance = self._allowance(committer)
            builder = BatchBuilder(
                database=parts.database,
                lease=self._lease,
                job_id=job.id,
                source=self._source,
                extractor=parts.extractor,
                vectorizer=parts.vectorizer,
                executor=fetchers,
                aside=aside,
                allowance=allowance,
                new_id=parts.new_id,
                faults=parts.faults,
                stop=job.stop,
                rules=job.rules,
            )
            try:
                yield from PageLoop(job, builder, committer, allowance, aside, batch_items=BATCH_ITEMS).run()
            finally:
                committer.settle()
            if not job.awaiting:  # held back deletes are work that no stage has done
                yield committer.told("items")
                yield committer.told("documents")
                yield committer.told("embeddings")

    def _allowance(self, committer: Committer) -> Allowance:
        return Allowance(
            self._parts.database,
            user_id=self._lease.user_id,
            data_source_id=self._lease.data_source_id,
            token_price=self._parts.vectorizer.token_price,
            own=self._job.request.limits,
            settle=committer.settle_quietly,
        )

    def finish(self) -> JobResult:
        if self._job.awaiting:
            self.end(JobStatus.NEEDS_CONFIRMATION, self._job.awaiting)
            return self._result(JobStatus.NEEDS_CONFIRMATION, self._job.awaiting)
        failed = self._job.counts.failed
        status = JobStatus.COMPLETED_WITH_ERRORS if failed else JobStatus.COMPLETED
        message = f"{failed} items failed: `workstation jobs show {self._job.id}` names them" if failed else ""
        with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
            data_sources.prove_lease(connection, self._lease)
            sync_jobs.end(
                connection,
                user_id=self._lease.user_id,
                job_id=self._job.id,
                status=status,
                message=message,
                provider_calls=self._job.uncounted_calls(),
            )
            self._observe(connection)
            data_sources.promote(
                connection,
                self._lease,
                cursor=cursor_to_promote(self._job.progress),
                scope=self._source.scope,
                is_listed=self._job.is_complete,
                status=status.value,
                items_synced=self._job.counts.created + self._job.counts.updated,
            )
            if self._job.is_complete:
                sync_jobs.supersede_unconfirmed(connection, self._lease, successor=self._job.id)
                sweep_id = sweep_of(self._job.progress)
                if sweep_id is not None:
                    sync_containers.forget_unseen(connection, self._lease, sweep_id=sweep_id)
                sync_failures.resolve_unlisted(connection, self._lease, job_id=self._job.id)
            self._parts.faults.reach("end_before_commit")
        self._parts.faults.reach("end_committed")
        return self._result(status, message)

    def stop_early(self, stop: CancelledError | PausedError | RateLimitedError | BudgetReachedError) -> JobResult:
        if isinstance(stop, CancelledError):
            self.end(JobStatus.CANCELLED, stop.message)
            return self._result(JobStatus.CANCELLED, stop.message)
        if isinstance(stop, PausedError):
            self.end(JobStatus.PAUSED, stop.message, is_on_request=True)
        else:  # a run's budget ends with the run: nothing but its owner's wish begins another
            paused_by = "budget" if isinstance(stop, BudgetReachedError) else "vendor"
            is_held = stop.wait_s is None
            self.end(JobStatus.PAUSED, stop.message, wait_s=stop.wait_s, is_held=is_held, paused_by=paused_by)
        return self._result(JobStatus.PAUSED, stop.message)

    def fail(self, error: WorkstationError) -> None:
        wait_s = error.wait_s if isinstance(error, RetryableError) else None
        status = "error" if isinstance(error, ReauthorizeError) else None
        self.end(JobStatus.FAILED, error.message, wait_s=wait_s, connection_status=status)

    def end(
        self,
        status: JobStatus,
        message: str,
        *,
        wait_s: float | None = None,
        connection_status: str | None = None,
        is_on_request: bool = False,
        is_held: bool = False,
        paused_by: str | None = None,
    ) -> None:
        """Close the job row. If even that fails, the next run finds the job unfinished and buries it."""
        try:
            with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
                was_running = sync_jobs.end(
                    connection,
                    user_id=self._lease.user_id,
                    job_id=self._job.id,
                    status=status,
                    message=storable(message),
                    wait_s=wait_s,
                    provider_calls=self._job.uncounted_calls(),
                    fence=self._lease.fence,
                    is_on_request=is_on_request,
                    is_held=is_held,
                    paused_by=paused_by,
                )
                if was_running and status is JobStatus.NEEDS_CONFIRMATION:  # one question at a time
                    sync_jobs.supersede_unconfirmed(connection, self._lease, successor=self._job.id)
                if was_running:  # else a newer run has taken over, and knows better
                    self._observe(connection)
                    if connection_status is None:
                        self._set_status(connection, *self._status_before)
                    else:  # only a grant that is gone says anything new of the connection
                        self._set_status(connection, connection_status, storable(message), needs_reauth=True)
        except RetryableError:
            return

    def _observe(self, connection: Connection) -> None:
        """Write how the listing behind the last batch went."""
        metering.observe(
            connection,
            user_id=self._lease.user_id,
            data_source_id=self._lease.data_source_id,
            measures=self._job.measures.take(),
        )

    def _result(self, status: JobStatus, message: str) -> JobResult:
        return JobResult(self._job.id, status, self._job.counts, self._job.pages, message)


def drive(syncing: Generator[Progress, None, JobResult]) -> JobResult:
    """Run a sync to its end without watching it."""
    while True:
        try:
            next(syncing)
        except StopIteration as end:
            result: JobResult = end.value
            return result
