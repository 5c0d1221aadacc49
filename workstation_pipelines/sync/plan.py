"""What a sync would do, found out by listing alone: nothing is fetched and nothing is written."""

from __future__ import annotations

from dataclasses import dataclass

from workstation_pipelines.db import sync_items
from workstation_pipelines.db.data_sources import DataSource, Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import ChangeKind, Delta, JobType, SyncStatus
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync.delta import Action, collapse, decide, is_mass_delete
from workstation_pipelines.sync.intake import accepted
from workstation_pipelines.sync.known import PlannedKnown

SHOWN_PATHS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """Counts of items; `bytes_to_fetch` leaves out items of unknown size. `examples` are at most ten paths an action."""

    adds: int
    updates: int
    renames: int
    deletes: int
    unchanged: int
    unreadable: int
    bytes_to_fetch: int
    needs_confirmation: bool
    examples: dict[str, list[str]]


def plan_sync(database: Database, source: Source, data_source: DataSource, *, job_type: JobType) -> Plan:
    """List the source and compare. Raises what listing raises, CursorExpiredError included."""
    is_full = job_type is JobType.FULL_SYNC
    is_fresh = is_full or source.delta is Delta.NONE or data_source.synced_scope not in (None, source.scope)
    cursor = None if is_fresh else data_source.cursor
    lease = Lease(data_source.id, data_source.user_id, data_source.fence)  # for reading: nobody is kept out
    counts = dict.fromkeys(("adds", "updates", "renames", "deletes", "unchanged", "unreadable", "bytes_to_fetch"), 0)
    examples: dict[str, list[str]] = {}
    absent = 0

    def note(what: str, path: str) -> None:
        counts[what] += 1
        if len(examples.setdefault(what, [])) < SHOWN_PATHS:
            examples[what].append(path)

    with database.transaction_with_rls(data_source.user_id) as connection:
        live = sync_items.count_live(connection, lease)
    is_compared = cursor is None and not source.proves_absence
    listed: set[str] = set()
    counted: set[tuple[Action, str]] = set()  # a listing may show an item twice, and nothing is stored between
    known = PlannedKnown(database, data_source, listed if cursor is None else None)
    is_complete = False
    for told in source.pages(cursor, known, job_type):
        page = accepted(told)
        known.note(page)
        is_complete = is_complete or page.complete
        if is_compared:
            listed.update(change.external_id for change in page.changes)
            listed.update(failure.external_id for failure in page.failures)
        counts["unchanged"] += page.unchanged
        for failure in page.failures:
            note("unreadable", failure.external_path)
        changes = collapse(page.changes)
        absent += sum(change.kind is ChangeKind.ABSENT for change in changes.values())
        with database.transaction_with_rls(data_source.user_id) as connection:
            stored = sync_items.known(connection, lease, external_ids=list(changes))
        for step in decide(changes, stored, source.same_content):
            if (step.action, step.external_id) in counted:
                continue
            counted.add((step.action, step.external_id))
            path = step.item.external_path if step.item else step.stored.external_path if step.stored else ""
            if step.action is Action.FETCH:
                note("updates" if step.stored and not step.stored.is_document_deleted else "adds", path)
                counts["bytes_to_fetch"] += max(step.item.size_bytes, 0) if step.item else 0
            elif step.action is Action.DESCRIBE:
                note("renames", path)
            elif step.action is Action.DELETE:
                note("deletes", path)
            else:
                counts["unchanged"] += 1
    if is_compared and is_complete:
        for item in known.items():
            if item.external_id not in listed and item.sync_status is not SyncStatus.DELETED:
                absent += 1
                note("deletes", item.external_path)
    return Plan(**counts, needs_confirmation=is_mass_delete(absent, live), examples=examples)
