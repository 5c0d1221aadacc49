"""Ways to build the engine wrong. Each must be caught by the checker, or the checker proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from workstation_pipelines.db import data_sources, documents, metering, sync_items
from workstation_pipelines.db.engine import raw
from workstation_pipelines.sync import batch, run


def _documents_in_their_own_transaction() -> None:
    """Commits documents before the items that own them: a kill in between leaves documents that nobody owns."""
    original = documents.store

    def store(connection: Any, **arguments: Any) -> None:
        original(connection, **arguments)
        raw(connection).commit()
        raw(connection).execute("SELECT app.set_current_user_id(%s)", [arguments["user_id"]])

    _replace(documents, "store", store)


def _cursor_before_items() -> None:
    """Stores the resume point before the page it lies behind."""
    original = batch.BatchWriter.write

    def write(self: Any, done: Any, **arguments: Any) -> Any:
        original(self, batch.Batch(), **arguments)
        return original(self, done, **arguments)

    _replace(batch.BatchWriter, "write", write)


def _promote_before_work() -> None:
    """Moves the feed position when a job starts instead of when it ends."""
    original = run._Run.start

    def start(self: Any) -> None:
        original(self)
        with self._parts.database.transaction_with_rls(self._lease.user_id) as connection:
            cursor = self._source.start_cursor()
            data_sources.promote(
                connection, self._lease, cursor=cursor, scope="", is_listed=False, status="early", items_synced=0
            )

    _replace(run._Run, "start", start)


def _old_chunks_stay() -> None:
    """Forgets to remove the chunks of the generation before."""
    _replace(documents, "_DROP_OTHER_GENERATIONS", text("SELECT :user_id, CAST(:ids AS uuid[])"))


def _deletes_keep_documents() -> None:
    """Marks items deleted and leaves their documents searchable."""
    original = sync_items.mark_deleted

    def mark_deleted(*arguments: Any, **named: Any) -> list[Any]:
        original(*arguments, **named)
        return []

    _replace(sync_items, "mark_deleted", mark_deleted)


def _bills_in_their_own_transaction() -> None:
    """Commits what a page is billed before the page: a kill in between bills it twice."""
    original = metering.record

    def record(connection: Any, **arguments: Any) -> None:
        original(connection, **arguments)
        raw(connection).commit()
        raw(connection).execute("SELECT app.set_current_user_id(%s)", [arguments["user_id"]])

    _replace(metering, "record", record)


def _no_fence() -> None:
    """Lets a holder write whose lease was taken over."""
    _replace(batch, "prove_lease", lambda connection, lease: None)


def _replace(owner: object, name: str, value: object) -> None:
    if not hasattr(owner, name):
        raise AttributeError(f"the engine has no {name} any more: bring its mutant up to date")
    setattr(owner, name, value)


MUTANTS: dict[str, Callable[[], None]] = {
    "documents_in_their_own_transaction": _documents_in_their_own_transaction,
    "cursor_before_items": _cursor_before_items,
    "promote_before_work": _promote_before_work,
    "old_chunks_stay": _old_chunks_stay,
    "deletes_keep_documents": _deletes_keep_documents,
    "bills_in_their_own_transaction": _bills_in_their_own_transaction,
    "no_fence": _no_fence,
}


def apply(name: str) -> None:
    MUTANTS[name]()
