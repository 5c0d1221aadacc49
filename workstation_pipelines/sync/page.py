"""One page of changes: compared with what is stored, cut into batches, built and handed over to be committed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from workstation_pipelines.db import sync_items
from workstation_pipelines.model import Change, ChangeKind, Counts, Page, Progress, StoredItem
from workstation_pipelines.sync.batch import Batch
from workstation_pipelines.sync.committing import Committer
from workstation_pipelines.sync.delta import Step, collapse, decide, windows
from workstation_pipelines.sync.job import Job
from workstation_pipelines.sync.prepare import BatchBuilder

BATCH_BYTES = 16 * 1024 * 1024


class PageWorker:
    """Works the pages of one job, in order. `batch_items` is the most that one transaction stores."""

    def __init__(self, job: Job, builder: BatchBuilder, committer: Committer, *, batch_items: int) -> None:
        self._job = job
        self._builder = builder
        self._committer = committer
        self._batch_items = batch_items

    def work(self, page: Page) -> Iterator[Progress]:
        """Work a page; the job's resume point moves with its last batch. Raises what ends the job in the midst of it."""
        changes = collapse(change for change in page.changes if change.kind is not ChangeKind.ABSENT)
        in_flight = self._committer.batch_in_flight
        if in_flight is not None and in_flight.external_ids & changes.keys():
            self._committer.settle()  # the same item on two pages: the second must see what the first stored
        stored, children = self._stored(list(changes))
        steps = decide(
            changes,
            stored,
            self._job.parts.source.same_content,
            reconsidered=self._reconsidered(),
            shown=self._job.rules.shown,
        )
        extra = Counts(found=page.unchanged + len(page.failures), unchanged=page.unchanged, failed=len(page.failures))
        cuts = list(windows(steps, most_items=self._batch_items, most_bytes=BATCH_BYTES))
        for number, window in enumerate(cuts, 1):
            batch = self._build(window, children)
            if batch.ended_by is not None:
                yield from self._committer.commit(batch, pages=0, progress=self._progress_before(page))
                self._committer.settle()
                raise batch.ended_by
            if number < len(cuts):
                yield from self._committer.commit(batch, pages=0, progress=self._progress_before(page))
                continue
            yield from self._committer.commit(self._with(batch, extra, page), pages=1, progress=self._job.progress)
        if not cuts and (extra.found or page.cursor_after is not None or page.containers):
            yield from self._committer.commit(self._with(Batch(), extra, page), pages=1, progress=self._job.progress)

    def delete(self, external_ids: Sequence[str]) -> Iterator[Progress]:
        """Delete items, a batch at a time, of which each is committed before the next is begun."""
        for at in range(0, len(external_ids), self._batch_items):
            self._job.stop.raise_if_set()
            some = external_ids[at : at + self._batch_items]
            changes = collapse(Change(ChangeKind.DELETED, external_id) for external_id in some)
            stored, children = self._stored(list(changes))
            steps = decide(changes, stored, self._job.parts.source.same_content)
            if steps:
                batch = self._build(steps, children)
                self._job.parts.faults.reach("deletes_before_commit")
                yield from self._committer.commit(batch, pages=0, progress=self._job.progress)
                self._committer.settle()
                self._job.parts.faults.reach("deletes_committed")

    def _reconsidered(self) -> Collection[str]:
        return ("too_large",) if self._job.progress.get("is_rescoped") else ()

    def _progress_before(self, page: Page) -> Mapping[str, Any]:
        return self._job.progress if page.cursor_after is None else self._job.committed_progress

    def _stored(self, ids: Sequence[str]) -> tuple[dict[str, StoredItem], dict[str, list[StoredItem]]]:
        """Return what is stored of these items, and of everything found inside them by the parent's id."""
        if not ids:
            return {}, {}
        lease = self._job.lease
        with self._job.parts.database.transaction_with_rls(lease.user_id) as connection:
            rows = sync_items.known(connection, lease, external_ids=ids, children_of=ids)
            deeper = [key for key, row in rows.items() if row.parent_external_id is not None]
            while deeper:
                below = sync_items.known(connection, lease, external_ids=(), children_of=deeper)
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

    def _build(self, steps: Sequence[Step], children: Mapping[str, Sequence[StoredItem]]) -> Batch:
        in_flight = self._committer.batch_in_flight
        batch = self._builder.build(steps, children, in_flight.fresh_vectors if in_flight is not None else {})
        self._job.parts.faults.reach("page_prepared")
        return batch

    def _with(self, batch: Batch, extra: Counts, page: Page) -> Batch:
        # An item that was seen but could not be described is not absent.
        seen = [*batch.seen, *(failure.external_id for failure in page.failures)]
        failures = [*batch.failures, *(self._job.rules.shown_failure(failure) for failure in page.failures)]
        return replace(batch, counts=batch.counts.plus(extra), failures=failures, seen=seen, containers=page.containers)
