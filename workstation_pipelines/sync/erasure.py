"""Removing a data source with all that came from it, read back and certified in the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workstation_pipelines.db import audit, data_sources, erasure, index_namespaces, index_outbox, metering
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import SourceUnavailableError
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.outbox import ExternalIndex, drain_all

DOCUMENTS_AT_ONCE = 500
ITEMS_AT_ONCE = 5000

BEGUN, ERASED = "source.erasure_begun", "source.erased"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was counted before and after, by table. `number` is the audit entry that says so for good."""

    number: int
    before: Mapping[str, int]
    after: Mapping[str, int]

    @property
    def is_complete(self) -> bool:
        return not any(self.after.values())


VECTORS_OUTSIDE = "vectors_outside"
"""In a certificate, beside the tables: what an index outside the database holds of the source."""


def erase(
    database: Database, data_source: DataSource, *, faults: Faults, external: ExternalIndex | None = None
) -> Certificate:
    """Erase a source, its credentials first; what it cost stays, without its name.

    Killed at any point, a second call goes on and certifies the whole.

    Commits in steps, so that a large source locks nothing for long; the last step deletes the source itself, counts what
    is left of it, and writes the certificate, all in one transaction. Raises BusyError while a sync holds the source, and
    RetryableError while `external`, an index outside the database, cannot be told: then the source stays until a next call.
    """
    user_id, source_id = data_source.user_id, data_source.id
    subject = f"source:{source_id}"
    with data_sources.leased(database, data_source):
        with database.transaction_with_rls(user_id) as connection:
            begun = audit.entries(connection, user_id=user_id, subject=subject, action=BEGUN, limit=1)
            before = begun[0].detail["before"] if begun else None
            if before is None:
                before = erasure.census(connection, user_id=user_id, data_source_id=source_id)
                before[VECTORS_OUTSIDE] = erasure.vectors_outside(connection, user_id=user_id, data_source_id=source_id)
            erasure.withdraw(connection, user_id=user_id, data_source_id=source_id)
            if not begun:
                audit.append(connection, [audit.Entry(BEGUN, subject, {"before": before})])
        faults.reach("erasure_begun")
        for delete_some, at_once in (
            (erasure.delete_documents, DOCUMENTS_AT_ONCE),
            (erasure.delete_items, ITEMS_AT_ONCE),
        ):
            deleted = at_once
            while deleted:
                with database.transaction_with_rls(user_id) as connection:
                    deleted = delete_some(connection, user_id=user_id, data_source_id=source_id, at_most=at_once)
                faults.reach("erasure_step")
        if external is not None:
            _empty_outside(external, data_source)
        with database.transaction_with_rls(user_id) as connection:
            metering.anonymise(connection, user_id=user_id, data_source_id=source_id)
            data_sources.remove(connection, user_id=user_id, data_source_id=source_id)
            after = erasure.census(connection, user_id=user_id, data_source_id=source_id)
            after[VECTORS_OUTSIDE] = erasure.orphans_outside(connection, user_id=user_id)
            detail = {"source_type": data_source.source_type.value, "before": before, "after": after}
            number = audit.append(connection, [audit.Entry(ERASED, subject, detail)])
            faults.reach("erasure_before_commit")
    return Certificate(number, before, after)


def _empty_outside(external: ExternalIndex, data_source: DataSource) -> None:
    """Have the vectors of documents that are no more deleted, and see that they are."""
    user_id = data_source.user_id
    with external.database.transaction_with_rls(user_id) as connection:
        namespaces = index_namespaces.all_of(connection, user_id=user_id)
        for namespace in namespaces:
            index_outbox.hurry(connection, namespace)
    error = ""
    for namespace in namespaces:
        error = drain_all(external, namespace).error or error
    with external.database.transaction_with_rls(user_id) as connection:
        left = erasure.orphans_outside(connection, user_id=user_id)
    if left:
        raise SourceUnavailableError(
            f"{left:,} vectors of {data_source.name} could not be deleted from the index outside the database"
            f" ({error or 'another process holds them'}): remove it again later, the rest is done already"
        )
