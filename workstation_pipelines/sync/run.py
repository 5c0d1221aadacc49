"""One sync of one data source: the page loop. It knows no vendor and no scheduler.

The page is the unit of work; a batch (a page, or a part of a large one) is the unit of commit. While one batch is being
committed the next page is listed, fetched, cut and embedded. The resume point moves with the last batch of its page, the
feed position of the data source only in the transaction that ends the job.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import data_sources, sync_containers, sync_failures, sync_items, sync_jobs
from workstation_pipelines.db.data_sources import DataSource, Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import (
    CancelledError,
    CursorExpiredError,
    FencedError,
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    WorkstationError,
)
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Counts,
    Cursor,
    Delta,
    ItemFailure,
    JobResult,
    JobStatus,
    JobType,
    NewId,
    Page,
    Progress,
    StoredItem,
    SyncJobId,
    SyncStatus,
)
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync.batch import Batch, BatchWriter
from workstation_pipelines.sync.delta import collapse, decide, is_mass_delete, windows
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.intake import UNSTORABLE, accepted, storable
from workstation_pipelines.sync.known import StoredKnown
from workstation_pipelines.sync.prepare import MOST_UNAVAILABLE, BatchBuilder
from workstation_pipelines.sync.vectorize import Vectorizer

BATCH_ITEMS = 250
BATCH_BYTES = 16 * 1024 * 1024
EXTRACTION_THREADS = 2


@dataclass(frozen=True, slots=True)
class SyncParts:
    """What a sync works with; everything that differs between production, tests and benchmarks."""

    database: Database
    source: Source
    extractor: Extractor
    vectorizer: Vectorizer
    new_id: NewId
    faults: Faults = field(default_factory=Faults)


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One wish to sync. `job_id` names a pending job to start; without it a new job is written."""

    job_type: JobType = JobType.MANUAL
    job_id: SyncJobId | None = None
    dagster_run_id: str | None = None
    confirm_deletes: bool = False
    idempotency_key: str | None = None


def run_sync(parts: SyncParts, data_source: DataSource, request: SyncRequest) -> Generator[Progress, None, JobResult]:
    """Sync once; yields after every commit and returns how the job ended.

    Raises BusyError and FencedError without a trace in the database, and RetryableError, ReauthorizeError or a bug after
    the job has been recorded as failed. A long wait asked for by the vendor, a cancel request and a suspected mass
    deletion are not errors: they are the status of the result.
    """
    with ExitStack() as stack:
        stack.callback(parts.source.close)
        lease = stack.enter_context(data_sources.leased(parts.database, data_source))
        parts.faults.reach("lease_taken")
        run = _Run(parts, data_source, request, lease)
        run.start()
        parts.faults.reach("job_started")
        try:
            yield from run.work()
            return run.finish()
        except FencedError:
            raise
        except (CancelledError, RateLimitedError) as stop:
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


class _Run:
    """The state of one job between its lease and its end."""

    def __init__(self, parts: SyncParts, data_source: DataSource, request: SyncRequest, lease: Lease) -> None:
        self._parts = parts
        self._source = parts.source
        self._data_source = data_source
        self._request = request
        self._lease = lease
        self._job_id = request.job_id or SyncJobId(parts.new_id())
        self._counts = Counts()
        self._pages = 0
        self._progress: Mapping[str, Any] = {"v": 1}
        self._committed_progress: Mapping[str, Any] = {}
        self._is_complete = False
        self._in_flight: tuple[Batch, Future[bool]] | None = None
        self._awaiting: str = ""
        self._live_before = 0
        self._was_settled = False
        self._calls_counted = 0
        self._status_before = ("connected", "")

    def start(self) -> None:
        """Write the job row; where to begin comes from rows alone, so that whatever the source says later is recorded."""
        parts, lease = self._parts, self._lease
        with parts.database.transaction_with_rls(lease.user_id) as connection:
            # Read again under the lease: another run may have moved the cursor meanwhile.
            self._data_source = data_sources.get(connection, user_id=lease.user_id, data_source_id=lease.data_source_id)
            previous = sync_jobs.bury_interrupted(connection, lease, successor=self._job_id)
            previous = previous or sync_jobs.resumable(connection, lease)
            self._live_before = sync_items.count_live(connection, lease)
            is_confirmed = self._request.confirm_deletes and sync_jobs.awaits_confirmation(connection, lease)
            every = self._source.reconcile_every
            is_listing_due = every is not None and data_sources.is_listing_due(connection, lease, every=every)
            progress = previous.progress if previous else {}
            self._progress = {} if is_confirmed else self._resume_point(progress, is_listing_due=is_listing_due)
            self._committed_progress = self._progress
            self._set_syncing(connection)
            self._counts, self._pages = sync_jobs.start(
                connection,
                lease,
                job_id=self._job_id,
                job_type=self._request.job_type,
                progress=self._progress,
                dagster_run_id=self._request.dagster_run_id,
                idempotency_key=self._request.idempotency_key,
            )

    def _set_syncing(self, connection: Connection) -> None:
        stored = self._data_source
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

    def _resume_point(self, previous: Mapping[str, Any], *, is_listing_due: bool) -> dict[str, Any]:
        """Return where to begin: an unfinished listing or feed goes on, else the stored feed position, else nowhere yet."""
        is_full = self._request.job_type is JobType.FULL_SYNC
        is_begun = previous.get("v") == 1 and previous.get("cursor") is not None
        is_ours = is_begun and previous.get("scope") == self._source.scope
        if is_ours and (previous.get("mode") == "listing" or not is_full):
            # That a cursor expired once is no reason for this job to give up when the listing's own does.
            return {key: value for key, value in previous.items() if key not in ("escalated", "expired")}
        if self._source.delta is Delta.NONE or self._data_source.cursor is None or is_full:
            return {}
        if self._is_rescoped() or is_listing_due:
            return {}
        cursor = dict(self._data_source.cursor)
        return {"v": 1, "mode": "feed", "cursor": cursor, "scope": self._source.scope}

    def _is_rescoped(self) -> bool:
        """Return whether the settings choose something else than what was synced last."""
        return self._data_source.synced_scope not in (None, self._source.scope)

    def _begin_listing(self, **more: Any) -> None:
        pending = self._source.start_cursor()
        sweep_id = None if self._source.proves_absence else str(self._parts.new_id())
        self._progress = self._committed_progress = {
            "v": 1,
            "mode": "listing",
            "cursor": None,
            "pending_cursor": dict(pending) if pending is not None else None,
            "sweep_id": sweep_id,
            "scope": self._source.scope,
            "is_rescoped": self._is_rescoped(),
            **more,
        }

    def work(self) -> Iterator[Progress]:
        if not self._progress:
            self._begin_listing()
        workers = max(self._source.fetch_threads, EXTRACTION_THREADS)
        with (
            ThreadPoolExecutor(workers, thread_name_prefix="fetch") as fetchers,
            ThreadPoolExecutor(1, thread_name_prefix="commit") as committer,
        ):
            self._builder = BatchBuilder(
                database=self._parts.database,
                lease=self._lease,
                source=self._source,
                extractor=self._parts.extractor,
                vectorizer=self._parts.vectorizer,
                executor=fetchers,
                new_id=self._parts.new_id,
                faults=self._parts.faults,
            )
            self._writer = BatchWriter(
                database=self._parts.database,
                lease=self._lease,
                job_id=self._job_id,
                project_id=self._data_source.project_id,
                new_id=self._parts.new_id,
                faults=self._parts.faults,
            )
            self._committer = committer
            try:
                yield from self._retry_failed()
                yield from self._all_pages()
            finally:
                self._settle()
            if not self._awaiting:  # held back deletes are work that no stage has done
                yield self._told("items")
                yield self._told("documents")
                yield self._told("embeddings")

    def _all_pages(self) -> Iterator[Progress]:
        try:
            yield from self._pages_from_here()
        except CursorExpiredError as expired:
            if self._progress.get("escalated"):
                raise
            self._settle()
            # The lost interval may hold deletions, and only a complete listing shows them.
            self._begin_listing(escalated=True, expired=storable(expired.message[:200]))
            yield from self._pages_from_here()

    def _pages_from_here(self) -> Iterator[Progress]:
        is_listing = self._progress["mode"] == "listing"
        # In a feed nothing else remembers them: what is said once is not said again after a crash.
        absent = dict.fromkeys(self._progress.get("absent", ()))
        job_type = JobType.FULL_SYNC if self._request.job_type is JobType.FULL_SYNC else JobType.DELTA
        self._is_complete = bool(self._progress.get("complete"))  # it died after the last page of its listing
        for listed in (
            () if self._is_complete else self._source.pages(self._progress["cursor"], self._known(), job_type)
        ):
            page = accepted(listed)
            self._parts.faults.reach("page_listed")
            named = [change.external_id for change in page.changes if change.kind is ChangeKind.ABSENT]
            absent |= dict.fromkeys(named)
            if named and not is_listing:
                self._progress = {**self._progress, "absent": list(absent)}
            self._is_complete = self._is_complete or page.complete
            if page.cursor_after is not None:
                self._progress = {**self._progress, "cursor": dict(page.cursor_after)}
            if page.complete and is_listing:
                self._progress = {**self._progress, "complete": True}
            if is_listing and page.failures and self._is_anybodys(page.failures):
                self._progress = {**self._progress, "is_blind": True}
            yield from self._work_page(page)
        self._settle()
        if self._is_complete if is_listing else absent:
            yield from self._remove_absent(absent)

    def _is_anybodys(self, failures: Sequence[ItemFailure]) -> bool:
        """Return whether something could not be read of which nothing is known: it may be any of the items that are missing."""
        ids = [failure.external_id for failure in failures if not failure.external_id.startswith(UNSTORABLE)]
        with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
            known = sync_items.known(connection, self._lease, external_ids=ids)
        return any(external_id not in known for external_id in ids)

    def _known(self) -> StoredKnown:
        sweep_id = self._progress.get("sweep_id")
        return StoredKnown(
            self._parts.database,
            self._data_source,
            settle=self._settle_quietly,
            sweep_id=UUID(sweep_id) if sweep_id is not None else None,
        )

    def _settle_quietly(self) -> None:
        """Commit what is in flight because the source wants to see it; the page after is the boundary to stop at."""
        self._was_settled = self._settle() or self._was_settled

    def _work_page(self, page: Page) -> Iterator[Progress]:
        changes = collapse(change for change in page.changes if change.kind is not ChangeKind.ABSENT)
        if self._in_flight is not None and self._in_flight[0].external_ids & changes.keys():
            self._settle()  # the same item on two pages: the second must see what the first stored
        stored, children = self._stored(list(changes))
        steps = decide(changes, stored, self._source.same_content, reconsidered=self._reconsidered())
        extra = Counts(found=page.unchanged + len(page.failures), unchanged=page.unchanged, failed=len(page.failures))
        cuts = list(windows(steps, most_items=BATCH_ITEMS, most_bytes=BATCH_BYTES))
        for number, window in enumerate(cuts, 1):
            batch = self._build(window, children)
            if batch.ended_by is not None:
                yield from self._commit(batch, pages=0, progress=self._progress_before_page(page))
                self._settle()
                raise batch.ended_by
            if number < len(cuts):
                yield from self._commit(batch, pages=0, progress=self._progress_before_page(page))
                continue
            yield from self._commit(_with(batch, extra, page), pages=1, progress=self._progress)
        if not cuts and (extra.found or page.cursor_after is not None or page.containers):
            yield from self._commit(_with(Batch(), extra, page), pages=1, progress=self._progress)

    def _reconsidered(self) -> Collection[str]:
        return ("too_large",) if self._progress.get("is_rescoped") else ()

    def _progress_before_page(self, page: Page) -> Mapping[str, Any]:
        return self._progress if page.cursor_after is None else self._committed_progress

    def _retry_failed(self) -> Iterator[Progress]:
        """Take up what failed before and is due. Sources that list everything show it again by themselves."""
        if self._progress["mode"] != "feed":
            return
        with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
            due = sync_items.due_for_retry(connection, self._lease, limit=BATCH_ITEMS)
        for at in range(0, len(due), MOST_UNAVAILABLE):
            some = due[at : at + MOST_UNAVAILABLE]
            yield from self._work_page(Page([Change(ChangeKind.UPSERT, item.external_id, item) for item in some]))
            self._settle()
            # These failed before, so that they fail again says nothing about the source; the rest can wait all the same.
            if self._builder.forget_unavailable() >= MOST_UNAVAILABLE:
                return

    def _remove_absent(self, from_source: Iterable[str]) -> Iterator[Progress]:
        """Delete what a complete listing did not show, unless it is so much that someone should look first."""
        sweep_id = self._progress.get("sweep_id")
        absent = list(from_source)
        with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
            # Of what a source names, only what is there counts.
            absent = [
                external_id
                for external_id, stored in sync_items.known(connection, self._lease, external_ids=absent).items()
                if stored.sync_status is not SyncStatus.DELETED
            ]
            if sweep_id is not None and not self._progress.get("is_blind"):
                unseen = sync_items.unseen(connection, self._lease, sweep_id=UUID(sweep_id))
                absent = list(dict.fromkeys([*absent, *unseen]))
        # Whoever narrows the scope wants the rest gone; a listing without any item is never taken for that.
        is_wanted = self._request.confirm_deletes or (self._progress.get("is_rescoped") and self._counts.found > 0)
        if is_mass_delete(len(absent), self._live_before) and not is_wanted:
            self._awaiting = (
                f"{len(absent)} of {self._live_before} items are gone from the source, so nothing was deleted here."
                " If that is right, sync again and confirm the deletes; if not, look at the source first"
            )
            return
        for at in range(0, len(absent), BATCH_ITEMS):
            changes = collapse(Change(ChangeKind.DELETED, external_id) for external_id in absent[at : at + BATCH_ITEMS])
            stored, children = self._stored(list(changes))
            steps = decide(changes, stored, self._source.same_content)
            if steps:
                batch = self._build(steps, children)
                self._parts.faults.reach("deletes_before_commit")
                yield from self._commit(batch, pages=0, progress=self._progress)
                self._settle()
                self._parts.faults.reach("deletes_committed")

    def _stored(self, ids: Sequence[str]) -> tuple[dict[str, StoredItem], dict[str, list[StoredItem]]]:
        """Return what is stored of these items, and of everything found inside them by the parent's id."""
        if not ids:
            return {}, {}
        with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
            rows = sync_items.known(connection, self._lease, external_ids=ids, children_of=ids)
            deeper = [key for key, row in rows.items() if row.parent_external_id is not None]
            while deeper:
                below = sync_items.known(connection, self._lease, external_ids=(), children_of=deeper)
                deeper = [key for key in below if key not in rows]
                rows.update(below)
        wanted = set(ids)
        children: dict[str, list[StoredItem]] = {}
        for row in rows.values():
            parent = row.parent_external_id
            while parent is not None:  # an attachment of an attachment belongs to the outermost one
                if parent in wanted:
                    children.setdefault(parent, []).append(row)
                parent = rows[parent].parent_external_id if parent in rows else None
        return {key: row for key, row in rows.items() if key in wanted}, children

    def _build(self, steps: Sequence[Any], children: Mapping[str, Sequence[StoredItem]]) -> Batch:
        in_flight = self._in_flight[0].fresh_vectors if self._in_flight is not None else {}
        batch = self._builder.build(steps, children, in_flight)
        self._parts.faults.reach("page_prepared")
        return batch

    def _commit(self, batch: Batch, *, pages: int, progress: Mapping[str, Any]) -> Iterator[Progress]:
        """Hand a batch to the committer and report the one before, which is now done."""
        told = self._settle() or self._was_settled
        self._was_settled = False
        calls = self._source.provider_calls
        batch = replace(batch, counts=batch.counts.plus(Counts(provider_calls=calls - self._calls_counted)))
        self._calls_counted = calls
        self._in_flight = (batch, self._committer.submit(self._writer.write, batch, pages=pages, progress=progress))
        self._pages += pages
        self._committed_progress = progress
        if told:
            yield self._told(None)

    def _settle(self) -> bool:
        """Wait for the batch in flight; return whether there was one. Raises CancelledError after a cancel request."""
        if self._in_flight is None:
            return False
        batch, future = self._in_flight
        self._in_flight = None
        cancel = future.result()
        self._counts = self._counts.plus(batch.counts)
        if cancel:
            raise CancelledError("cancelled on request; what is committed stays")
        return True

    def _told(self, finished_stage: str | None) -> Progress:
        return Progress(self._job_id, self._pages, self._counts, finished_stage)

    def finish(self) -> JobResult:
        if self._awaiting:
            self.end(JobStatus.NEEDS_CONFIRMATION, self._awaiting)
            return self._result(JobStatus.NEEDS_CONFIRMATION, self._awaiting)
        failed = self._counts.failed
        status = JobStatus.COMPLETED_WITH_ERRORS if failed else JobStatus.COMPLETED
        message = f"{failed} items failed: `workstation jobs show {self._job_id}` names them" if failed else ""
        with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
            data_sources.prove_lease(connection, self._lease)
            sync_jobs.end(
                connection,
                user_id=self._lease.user_id,
                job_id=self._job_id,
                status=status,
                message=message,
                provider_calls=self._source.provider_calls - self._calls_counted,
            )
            data_sources.promote(
                connection,
                self._lease,
                cursor=self._cursor_to_promote(),
                scope=self._source.scope,
                is_listed=self._is_complete,
                status=status.value,
                items_synced=self._counts.created + self._counts.updated,
            )
            if self._is_complete:
                sync_jobs.supersede_unconfirmed(connection, self._lease)
                sweep_id = self._progress.get("sweep_id")
                if sweep_id is not None:
                    sync_containers.forget_unseen(connection, self._lease, sweep_id=UUID(sweep_id))
                sync_failures.resolve_unlisted(connection, self._lease, job_id=self._job_id)
            self._parts.faults.reach("end_before_commit")
        self._parts.faults.reach("end_committed")
        return self._result(status, message)

    def _cursor_to_promote(self) -> Cursor | None:
        # A listing promotes the position taken before it began; a vendor whose listing ends in a feed cursor took none.
        return self._progress.get("pending_cursor") or self._progress.get("cursor")

    def stop_early(self, stop: CancelledError | RateLimitedError) -> JobResult:
        if isinstance(stop, CancelledError):
            self.end(JobStatus.CANCELLED, stop.message)
            return self._result(JobStatus.CANCELLED, stop.message)
        self.end(JobStatus.PAUSED, stop.message, wait_s=stop.wait_s)
        return self._result(JobStatus.PAUSED, stop.message)

    def fail(self, error: WorkstationError) -> None:
        wait_s = error.wait_s if isinstance(error, RetryableError) else None
        status = "error" if isinstance(error, ReauthorizeError) else None
        self.end(JobStatus.FAILED, error.message, wait_s=wait_s, connection_status=status)

    def end(
        self, status: JobStatus, message: str, *, wait_s: float | None = None, connection_status: str | None = None
    ) -> None:
        """Close the job row. If even that fails, the next run finds the job unfinished and buries it."""
        try:
            with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
                was_running = sync_jobs.end(
                    connection,
                    user_id=self._lease.user_id,
                    job_id=self._job_id,
                    status=status,
                    message=storable(message),
                    wait_s=wait_s,
                    provider_calls=self._source.provider_calls - self._calls_counted,
                )
                if was_running:  # else a newer run has taken over, and knows better
                    if connection_status is None:
                        self._set_status(connection, *self._status_before)
                    else:  # only a grant that is gone says anything new of the connection
                        self._set_status(connection, connection_status, storable(message), needs_reauth=True)
        except RetryableError:
            return

    def _result(self, status: JobStatus, message: str) -> JobResult:
        return JobResult(self._job_id, status, self._counts, self._pages, message)


def _with(batch: Batch, extra: Counts, page: Page) -> Batch:
    # An item that was seen but could not be described is not absent.
    seen = [*batch.seen, *(failure.external_id for failure in page.failures)]
    failures = [*batch.failures, *page.failures]
    return replace(batch, counts=batch.counts.plus(extra), failures=failures, seen=seen, containers=page.containers)


def drive(syncing: Generator[Progress, None, JobResult]) -> JobResult:
    """Run a sync to its end without watching it."""
    while True:
        try:
            next(syncing)
        except StopIteration as end:
            result: JobResult = end.value
            return result
