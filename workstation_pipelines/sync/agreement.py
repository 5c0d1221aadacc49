"""Do documents, chunks, vectors and the index outside the database say the same? Find it out, and mend what does not.

Nothing is fetched for it. What was embedded before is not embedded again, and since embeddings are kept, an index outside
the database is mended without any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from workstation_pipelines.db import events, index_namespaces
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.model import EventKind, Severity, UserId
from workstation_pipelines.sync import index
from workstation_pipelines.sync.index import Report, Reworked
from workstation_pipelines.sync.index_repair import IndexReport, check_index, repair_index

if TYPE_CHECKING:
    from workstation_pipelines.sync.workspace import Workspace

THE_INDEX = UUID(int=0)
"""What an event about the whole of a user's index is about."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was found, what was done about it, and how it stands now. `outside` is about indexes outside the database."""

    found: Report
    now: Report
    strays_removed: int = 0
    reworked: Reworked = field(default_factory=Reworked)
    outside_found: Sequence[IndexReport] = ()
    outside_now: Sequence[IndexReport] = ()

    @property
    def was_clean(self) -> bool:
        return self.found.is_clean and all(report.is_clean for report in self.outside_found)

    @property
    def is_clean(self) -> bool:
        return self.now.is_clean and all(report.is_clean for report in self.outside_now)


def agree(
    workspace: Workspace, *, user_id: UserId, data_source_id: UUID | None = None, is_repairing: bool = True
) -> Agreement:
    """Check a user's rows, or one source's, and mend them if asked; indexes outside are looked at for all sources alone.

    Commits in steps and may be repeated. Raises RetryableError when an embedder or an index cannot be reached.
    """
    database, vectorizer = workspace.database, workspace.vectorizer(user_id)
    found = now = index.check(database, vectorizer, user_id=user_id, data_source_id=data_source_id)
    strays, reworked = 0, Reworked()
    if is_repairing and not found.is_clean:
        strays = index.remove_strays(database, user_id=user_id)
        for done in index.reindex(database, vectorizer, user_id=user_id, data_source_id=data_source_id):
            reworked = reworked.plus(done)
        index.distrust(database, user_id=user_id, document_ids=[document_id for document_id, _ in found.wrong_hash])
        now = index.check(database, vectorizer, user_id=user_id, data_source_id=data_source_id)
    outside = [] if data_source_id is not None else check_outside(workspace, user_id=user_id)
    outside_now = outside
    if is_repairing and not all(report.is_clean for report in outside):
        outside_now = repair_outside(workspace, outside, user_id=user_id)
    return Agreement(found, now, strays, reworked, outside, outside_now)


def note(workspace: Workspace, done: Agreement, *, user_id: UserId) -> None:
    """Let somebody know that a check found something, or that what one found is no more. Commits."""
    with workspace.database.transaction_with_rls(user_id) as connection:
        if done.was_clean:
            events.resolve_about(connection, user_id=user_id, kind=EventKind.INDEX_DRIFTED, about=THE_INDEX)
            return
        outcome = (
            "it was mended" if done.is_clean else "not all could be mended: `workstation check --repair` says what"
        )
        events.open_event(
            connection,
            user_id=user_id,
            kind=EventKind.INDEX_DRIFTED,
            severity=Severity.WARNING if done.is_clean else Severity.ERROR,
            message=f"the index did not agree with the documents, and {outcome}",
            about=THE_INDEX,
            new_id=workspace.new_id,
            detail={
                "stale_documents": len(done.found.stale),
                "stray_chunks": done.found.strays,
                "wrong_texts": len(done.found.wrong_hash),
                "missing_outside": sum(report.missing for report in done.outside_found),
                "extra_outside": sum(report.extra for report in done.outside_found),
            },
        )


def note_stopped(workspace: Workspace, stopped: WorkstationError, *, user_id: UserId) -> None:
    """Let somebody know that mending the index stopped, and why. Commits."""
    with workspace.database.transaction_with_rls(user_id) as connection:
        events.open_event(
            connection,
            user_id=user_id,
            kind=EventKind.INDEX_DRIFTED,
            severity=Severity.ERROR,
            message=f"the index did not agree with the documents, and mending it stopped: {stopped.message}",
            about=THE_INDEX,
            new_id=workspace.new_id,
        )


def check_outside(workspace: Workspace, *, user_id: UserId) -> list[IndexReport]:
    """Compare the user's namespaces, if the settings lead to any. Raises RetryableError."""
    external = workspace.external_index
    if external is None:
        return []
    with workspace.database.transaction_with_rls(user_id) as connection:
        namespaces = index_namespaces.all_of(connection, user_id=user_id)
    return [check_index(external, namespace) for namespace in namespaces]


def repair_outside(workspace: Workspace, reports: Sequence[IndexReport], *, user_id: UserId) -> list[IndexReport]:
    """Mend what reports name and compare again. Raises RetryableError."""
    external = workspace.external_index
    if external is None:
        return []
    by_name = {report.index_name: report for report in reports}
    with workspace.database.transaction_with_rls(user_id) as connection:
        namespaces = index_namespaces.all_of(connection, user_id=user_id)
    for namespace in namespaces:
        if namespace.index_name in by_name:  # else it was made a moment ago, and is being filled
            repair_index(external, namespace, by_name[namespace.index_name])
    return check_outside(workspace, user_id=user_id)
