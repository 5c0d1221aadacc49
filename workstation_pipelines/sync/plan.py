"""What a sync would do, and what that would take: found out by listing, and by looking into a few items. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from workstation_pipelines.db import absent_items, data_sources, sync_items, sync_jobs
from workstation_pipelines.db.data_sources import DataSource, Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import CursorExpiredError, SkipItemError
from workstation_pipelines.model import Change, ChangeKind, Cursor, Item, JobType, Page, SyncStatus
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync import rules
from workstation_pipelines.sync.checkpoint import resume_point
from workstation_pipelines.sync.delta import Action, Step, collapse, decide, is_mass_delete
from workstation_pipelines.sync.estimate import Candidates, Estimate, estimate
from workstation_pipelines.sync.intake import accepted
from workstation_pipelines.sync.known import PlannedKnown
from workstation_pipelines.sync.sampling import Sampler

SHOWN_PATHS = 10
MOST_RETRIED = 250
"""The most failed items that a sync of a feed takes up again, as in run.py."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts of items.

    `skips` are new ones of kinds that nobody reads, and those that a rule leaves out.
    `bytes_to_fetch` leaves out items of unknown size. `examples` are at
    most ten paths an action.
    `estimate` is None when nobody asked what it takes.
    """

    adds: int
    updates: int
    renames: int
    deletes: int
    unchanged: int
    unreadable: int
    skips: int
    bytes_to_fetch: int
    needs_confirmation: bool
    examples: dict[str, list[str]]
    estimate: Estimate | None = None


def plan_sync(
    database: Database,
    source: Source,
    data_source: DataSource,
    *,
    job_type: JobType,
    sampler: Sampler | None = None,
    rates: Mapping[str, float] | None = None,
    has_text: Callable[[str], bool] = lambda _mime_type: True,
) -> Plan:
    """List the source and compare; with a `sampler` also say what the work takes. `rates` are those of the settings,
    `has_text` tells whether a MIME type can be read at all.

    What an expired cursor hides is found by listing everything, as a sync does. Raises what listing raises.
    """
    begun_s = time.perf_counter()
    listing = _read(database, source, data_source, job_type, has_text)
    plan = listing.plan()
    if sampler is None:
        return plan
    listing_calls, listed_s = source.provider_calls, time.perf_counter() - begun_s
    stored = sampler.stored_ratios()
    sampled = sampler.look(source, listing.candidates, stored)
    taken = estimate(
        listing.candidates,
        sampled,
        stored,
        listing_calls=listing_calls,
        listing_s=listed_s,
        provider=data_source.source_type.value,
        rates=rates or {},
        fetch_threads=source.fetch_threads,
        token_price=sampler.vectorizer.token_price,
        tokens_per_s=sampler.tokens_per_s(),
    )
    return listing.plan(taken)


def _read(
    database: Database, source: Source, data_source: DataSource, job_type: JobType, has_text: Callable[[str], bool]
) -> _Listing:
    cursor = _cursor(database, source, data_source, job_type)
    listing = _Listing(database, source, data_source, job_type, has_text, cursor=cursor)
    try:
        listing.read()
    except CursorExpiredError:
        # What was told before the end is shown by the listing as well.
        listing = _Listing(database, source, data_source, job_type, has_text, cursor=None)
        listing.read()
    return listing


def _cursor(database: Database, source: Source, data_source: DataSource, job_type: JobType) -> Cursor | None:
    """Return the position of the feed that a sync would read on from; None where it would list."""
    lease = _lease_for_reading(data_source)
    every = source.reconcile_every
    with database.transaction_with_rls(data_source.user_id) as connection:
        previous = sync_jobs.resumable(connection, lease)
        is_listing_due = every is not None and data_sources.is_listing_due(connection, lease, every=every)
    begun = resume_point(
        previous.progress if previous else {},
        data_source=data_source,
        source=source,
        job_type=job_type,
        is_listing_due=is_listing_due,
    )
    return begun["cursor"] if begun.get("mode") == "feed" else None


def _lease_for_reading(data_source: DataSource) -> Lease:
    return Lease(data_source.id, data_source.user_id, data_source.fence)  # nobody is kept out


@dataclass(slots=True)
class _Tally:
    """Items by what would be done with them, and some of their paths."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("adds", "updates", "renames", "deletes", "unchanged", "unreadable", "skips"), 0
        )
    )
    bytes_to_fetch: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, path: str) -> None:
        self.counts[what] += 1
        if len(self.examples.setdefault(what, [])) < SHOWN_PATHS:
            self.examples[what].append(path)


class _Listing:
    """A listing or a feed compared with what is stored, as the engine would, page by page."""

    def __init__(
        self,
        database: Database,
        source: Source,
        data_source: DataSource,
        job_type: JobType,
        has_text: Callable[[str], bool],
        *,
        cursor: Cursor | None,
    ) -> None:
        self._database = database
        self._source = source
        self._data_source = data_source
        self._job_type = job_type
        self._has_text = has_text
        self._lease = _lease_for_reading(data_source)
        self._cursor = cursor
        self._listed: set[str] = set()
        self._counted: set[tuple[Action, str]] = set()  # an item may be shown twice, and nothing is stored between
        self._known = PlannedKnown(database, data_source, self._listed if self._cursor is None else None)
        self._tally = _Tally()
        self._rules = rules.NO_RULES
        self._absent = 0
        self._live = 0
        self.candidates = Candidates()

    def read(self) -> None:
        """Take in everything that the source shows."""
        is_compared = self._cursor is None and not self._source.proves_absence
        with self._database.transaction_with_rls(self._data_source.user_id) as connection:
            self._rules = rules.load(connection, user_id=self._data_source.user_id, data_source_id=self._data_source.id)
            self._live = absent_items.count_live(connection, self._lease)
            due = [] if self._cursor is None else sync_items.due_for_retry(connection, self._lease, limit=MOST_RETRIED)
        if due:
            self._take(Page([Change(ChangeKind.UPSERT, item.external_id, item) for item in due]))
        if self._cursor is None:
            self._source.start_cursor()  # a sync asks for it too, and some sources list from what it found
        is_complete = False
        for told in self._source.pages(self._cursor, self._known, self._job_type):
            page = accepted(told)
            self._known.note(page)
            is_complete = is_complete or page.complete
            if is_compared:
                self._listed.update(change.external_id for change in page.changes)
                self._listed.update(failure.external_id for failure in page.failures)
            self._take(page)
        if is_compared and is_complete:
            for item in self._known.items():
                if item.external_id not in self._listed and item.sync_status is not SyncStatus.DELETED:
                    self._absent += 1
                    self._tally.note("deletes", item.external_path)

    def plan(self, taken: Estimate | None = None) -> Plan:
        return Plan(
            **self._tally.counts,
            bytes_to_fetch=self._tally.bytes_to_fetch,
            needs_confirmation=is_mass_delete(self._absent, self._live),
            examples=self._tally.examples,
            estimate=taken,
        )

    def _take(self, page: Page) -> None:
        self._tally.counts["unchanged"] += page.unchanged
        for failure in page.failures:
            self._tally.note("unreadable", failure.external_path)
        changes = collapse(page.changes)
        self._absent += sum(change.kind is ChangeKind.ABSENT for change in changes.values())
        with self._database.transaction_with_rls(self._data_source.user_id) as connection:
            stored = sync_items.known(connection, self._lease, external_ids=list(changes))
        for step in decide(changes, stored, self._source.same_content, shown=self._rules.shown):
            if (step.action, step.external_id) not in self._counted:
                self._counted.add((step.action, step.external_id))
                self._count(step)

    def _count(self, step: Step) -> None:
        path = step.item.external_path if step.item else step.stored.external_path if step.stored else ""
        if step.action is Action.FETCH and step.item is not None and self._is_left_out(step.item):
            self._tally.note("skips", path)
        elif step.action is Action.FETCH and step.item is not None:
            is_update = step.stored is not None and not step.stored.is_document_deleted
            calls = self._source.fetch_calls(step.item) if step.content is None else ()
            if not is_update and not calls and step.content is None and not self._has_text(step.item.mime_type):
                self._tally.note("skips", path)
                return
            self._tally.note("updates" if is_update else "adds", path)
            self._tally.bytes_to_fetch += max(step.item.size_bytes, 0)
            self.candidates.add(step.item, step.content, is_update=is_update, calls=calls)
        elif step.action is Action.DESCRIBE:
            self._tally.note("renames", path)
        elif step.action is Action.DELETE:
            self._tally.note("deletes", path)
        else:
            self._tally.counts["unchanged"] += 1

    def _is_left_out(self, item: Item) -> bool:
        try:
            return not item.is_sketch and self._rules.left_out(item) is not None
        except SkipItemError:  # a rule that cannot be applied: the sync says so
            return False
