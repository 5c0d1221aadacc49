"""Having deleted documents back, from the text that is kept for a while, without asking any source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from workstation_pipelines.db import (
    audit,
    documents,
    index_settings,
    item_decisions,
    metering,
    origins,
    tombstones,
    vectors,
)
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.sync.recut import next_generation
from workstation_pipelines.sync.vectorize import Vectorizer

FILTERED = "filtered"
PURGED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Restored:
    """Documents that are live again. `own` are those whose items are gone at the source: they belong to no source now.

    Those `at_source` are looked at by its next sync. Processed documents are neither.
    """

    document_ids: Sequence[UUID]
    own: Sequence[UUID]
    at_source: Sequence[UUID]


def restore(
    database: Database, vectorizer: Vectorizer, *, user_id: UserId, reference: str, retention: timedelta
) -> Restored:
    """Bring back a deleted document with what was deleted along with it, in one transaction after embedding.

    A document that its owner deleted is its source's again, and the next sync sees whether it changed meanwhile. One that
    is gone at the source stays as the owner's own copy, which no sync touches. Raises NotFoundError when it is not there
    or no longer, and InvalidRequestError when a rule of the owner's leaves it out.
    """
    with database.transaction_with_rls(user_id) as connection:
        found = tombstones.find(connection, user_id=user_id, reference=reference, retention=retention)
        if found.reason == FILTERED:
            raise InvalidRequestError(
                f"{found.title!r} is left out by one of your rules: change it (`workstation transform list`), and the"
                " next sync brings the document back"
            )
        wanted = index_settings.of_documents(connection, user_id=user_id, document_ids=[found.id])[found.id]
        together = tombstones.deleted_with(connection, user_id=user_id, document_id=found.id)
        texts = vectors.stored_texts(connection, user_id=user_id, document_ids=together, are_deleted=True)

    vectorizer = vectorizer.of(wanted)

    def embedded_before(hashes: Iterable[bytes]) -> Mapping[bytes, bytes]:
        with database.transaction_with_rls(user_id) as connection:
            return vectors.embedded_before(
                connection, user_id=user_id, index_config_id=vectorizer.config.id, text_hashes=hashes
            )

    cuts = {stored.id: vectorizer.cut(stored.text, stored.headings, stored.language) for stored in texts}
    done = vectorizer.vectorize((cut for each in cuts.values() for cut in each), embedded_before)
    writes = [next_generation(stored, vectorizer, done.chunks(cuts[stored.id])) for stored in texts]
    with database.transaction_with_rls(user_id) as connection:
        revived = documents.revive(connection, user_id=user_id, writes=writes, packer=TsvectorPacker())
        if found.id not in revived:
            raise NotFoundError(f"{found.title!r} was restored or purged by somebody else a moment ago")
        at_source = item_decisions.readmit(connection, user_id=user_id, document_ids=revived)
        spent = done.tokens_by_document(cuts.items())
        usages = vectorizer.usages(spent, data_source_id=found.data_source_id, job_id=None)
        metering.record(connection, user_id=user_id, usages=usages)
        has_source = found.data_source_id is not None
        own = [document_id for document_id in revived if has_source and document_id not in at_source]
        item_decisions.detach(connection, user_id=user_id, document_ids=own)
        origins.take_out(connection, user_id=user_id, document_ids=revived)
        audit.append(
            connection,
            [
                audit.Entry("document.restored", f"document:{document_id}", {"own": document_id in own})
                for document_id in revived
            ],
        )
    return Restored(revived, own, at_source)


def delete(database: Database, *, user_id: UserId, document_id: UUID, reason: str) -> list[UUID]:
    """Delete a document here and what was found inside it; syncs leave them out from then on.

    Return those that were live until now.
    """
    with database.transaction_with_rls(user_id) as connection:
        inside = item_decisions.mark_removed_by_user(
            connection, user_id=user_id, document_id=document_id, reason=reason
        )
        inside += origins.inside(connection, user_id=user_id, document_id=document_id)
        deleted = documents.tombstone(connection, user_id=user_id, document_ids=[document_id, *inside], reason=reason)
        audit.append(connection, [audit.Entry("document.deleted", f"document:{each}") for each in deleted])
    return deleted


def purge(database: Database, *, user_id: UserId, retention: timedelta) -> int:
    """Erase tombstones older than `retention` for good, some at a time; return how many. Idempotent."""
    purged = 0
    while True:
        with database.transaction_with_rls(user_id) as connection:
            some = tombstones.purge(connection, user_id=user_id, retention=retention, at_most=PURGED_AT_ONCE)
            if some:
                audit.append(connection, [audit.Entry("document.purged", detail={"documents": some})])
        if not some:
            return purged
        purged += some
