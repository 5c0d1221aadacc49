"""The page loop: what the source lists or feeds, page by page, and what a complete listing did not show."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from workstation_pipelines.db import sync_items
from workstation_pipelines.errors import CursorExpiredError
from workstation_pipelines.model import Change, ChangeKind, ItemFailure, JobType, Page, Progress
from workstation_pipelines.sync.absence import remove_absent
from workstation_pipelines.sync.budget import Allowance
from workstation_pipelines.sync.checkpoint import listing_from_start, sweep_of
from workstation_pipelines.sync.committing import Committer
from workstation_pipelines.sync.intake import UNSTORABLE, accepted, storable
from workstation_pipelines.sync.job import Job
from workstation_pipelines.sync.known import StoredKnown
from workstation_pipelines.sync.page import PageWorker
from workstation_pipelines.sync.prepare import BatchBuilder
from workstation_pipelines.sync.reading import MOST_UNAVAILABLE
from workstation_pipelines.sync.reapply import Reapplier

_T = TypeVar("_T")


class PageLoop:
    """Everything that one job lists, from its resume point to the end.

    A source that may wait is asked in `aside`, one question at a time, so that the run is never deaf.
    """

    def __init__(
        self,
        job: Job,
        builder: BatchBuilder,
        committer: Committer,
        allowance: Allowance,
        aside: Executor,
        *,
        batch_items: int,
    ) -> None:
        self._job = job
        self._allowance = allowance
        self._source = job.parts.source
        self._builder = builder
        self._committer = committer
        self._aside = aside
        self._worker = PageWorker(job, builder, committer, batch_items=batch_items)
        self._batch_items = batch_items

    def run(self) -> Iterator[Progress]:
        """Bring what is stored under the rules, work what failed before and is due, then all pages; yields after each commit."""
        if not self._job.progress:
            self._begin_listing()
        self._apply_rules()
        yield from self._retry_failed()
        yield from self._all_pages()
        if not self._job.awaiting:
            # Once more, for what was renamed meanwhile; and what nothing is kept of is fetched, shown by the source or not.
            self._apply_rules()
            yield from self._refetch()

    def _begin_listing(self, **more: Any) -> None:
        job = self._job
        pending = self._answer(self._source.start_cursor)
        job.progress = job.committed_progress = listing_from_start(
            pending, data_source=job.data_source, source=self._source, sweep_id=job.parts.new_id(), **more
        )

    def _retry_failed(self) -> Iterator[Progress]:
        """Take up what failed before and is due. Sources that list everything show it again by themselves."""
        if self._job.is_listing:
            return
        with self._job.parts.database.transaction_with_rls(self._job.lease.user_id) as connection:
            due = sync_items.due_for_retry(connection, self._job.lease, limit=self._batch_items)
        for at in range(0, len(due), MOST_UNAVAILABLE):
            some = due[at : at + MOST_UNAVAILABLE]
            yield from self._worker.work(Page([Change(ChangeKind.UPSERT, item.external_id, item) for item in some]))
            self._committer.settle()
            # These failed before, so that they fail again says nothing about the source; the rest can wait all the same.
            if self._builder.forget_unavailable() >= MOST_UNAVAILABLE:
                return

    def _apply_rules(self) -> None:
        job = self._job
        reapplier = Reapplier(
            job.parts.database,
            job.parts.vectorizer,
            self._allowance,
            job.rules,
            job.data_source,
            new_id=job.parts.new_id,
            job_id=job.id,
        )
        self._committer.settle()
        for done in reapplier.run(within=self._committer.advance):
            self._committer.count(done.counts)
            job.stop.raise_if_set()

    def _refetch(self) -> Iterator[Progress]:
        after = ""
        while True:
            with self._job.parts.database.transaction_with_rls(self._job.lease.user_id) as connection:
                due = sync_items.due_for_refetch(connection, self._job.lease, after=after, limit=self._batch_items)
            if not due:
                return
            after = due[-1].external_id
            yield from self._worker.work(Page([Change(ChangeKind.UPSERT, item.external_id, item) for item in due]))
            self._committer.settle()

    def _all_pages(self) -> Iterator[Progress]:
        try:
            yield from self._pages_from_here()
        except CursorExpiredError as expired:
            if self._job.progress.get("escalated"):
                raise
            self._committer.settle()
            # The lost interval may hold deletions, and only a complete listing shows them.
            self._begin_listing(escalated=True, expired=storable(expired.message[:200]))
            yield from self._pages_from_here()

    def _pages_from_here(self) -> Iterator[Progress]:
        job = self._job
        # In a feed nothing else remembers them: what is said once is not said again after a crash.
        absent = dict.fromkeys(job.progress.get("absent", ()))
        job.is_complete = bool(job.progress.get("complete"))  # it died after the last page of its listing
        for page in () if job.is_complete else self._listed():
            named = [change.external_id for change in page.changes if change.kind is ChangeKind.ABSENT]
            absent |= dict.fromkeys(named)
            if named and not job.is_listing:
                job.note(absent=list(absent))
            job.is_complete = job.is_complete or page.complete
            if page.cursor_after is not None:
                job.note(cursor=dict(page.cursor_after))
            if page.complete and job.is_listing:
                job.note(complete=True)
            if job.is_listing and page.failures and self._is_anybodys(page.failures):
                job.note(is_blind=True)
            yield from self._worker.work(page)
        self._committer.settle()
        if job.is_complete if job.is_listing else absent:
            yield from remove_absent(job, self._worker, absent)

    def _listed(self) -> Iterator[Page]:
        job_type = JobType.FULL_SYNC if self._job.request.job_type is JobType.FULL_SYNC else JobType.DELTA
        pages = iter(self._source.pages(self._job.progress["cursor"], self._known(), job_type))
        while True:
            begun_s, calls = time.perf_counter(), self._source.provider_calls
            try:
                listed = self._answer(lambda: next(pages, None))
            finally:
                self._job.measures.add("list", "duration_s", time.perf_counter() - begun_s)
                if self._source.provider_calls > calls:
                    self._job.measures.add("list", "calls", self._source.provider_calls - calls)
            if listed is None:
                return
            page = accepted(listed)
            self._job.parts.faults.reach("page_listed")
            yield page

    def _answer(self, ask: Callable[[], _T]) -> _T:
        self._job.stop.raise_if_set()
        if self._source.fetch_threads == 1:
            return ask()
        return self._job.stop.result_of(self._aside.submit(ask))

    def _is_anybodys(self, failures: Sequence[ItemFailure]) -> bool:
        """Return whether something could not be read of which nothing is known: it may be any of the items that are missing."""
        ids = [failure.external_id for failure in failures if not failure.external_id.startswith(UNSTORABLE)]
        with self._job.parts.database.transaction_with_rls(self._job.lease.user_id) as connection:
            known = sync_items.known(connection, self._job.lease, external_ids=ids)
        return any(external_id not in known for external_id in ids)

    def _known(self) -> StoredKnown:
        return StoredKnown(
            self._job.parts.database,
            self._job.data_source,
            settle=self._settle_for_source,
            sweep_id=sweep_of(self._job.progress),
        )

    def _settle_for_source(self) -> None:
        self._job.stop.raise_if_set()  # nobody waits for this answer any more
        self._committer.settle_quietly()
