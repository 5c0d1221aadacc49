"""Keeping an index outside the database in step with it: what it must look at again is in the outbox of its namespace.

A row says only "look at this document again": its live vectors are written, those of its other generations deleted, and the
row goes unless the document has changed meanwhile. All of it may happen twice. Which vectors the index can hold is written
down before they are sent, so that no listing, which would lag, is needed to delete them. Vectors come from the chunks in
the database: nothing here embeds or fetches anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import numpy as np

from workstation_pipelines.db import index_namespaces, index_outbox
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_namespaces import IndexNamespace, NamespaceStatus
from workstation_pipelines.db.index_outbox import Claim, IndexedDocument, Sent
from workstation_pipelines.errors import FencedError, RetryableError, WorkstationError
from workstation_pipelines.index.pinecone import PineconeClient, Record
from workstation_pipelines.index.pinecone_store import index_name, metadata, vector_id
from workstation_pipelines.model import NewId, UserId
from workstation_pipelines.sync.faults import Faults

DOCUMENTS_A_CLAIM = 50
VECTORS_A_WRITE = 1000
LEASE = timedelta(minutes=5)
"""Renewed before each write, which takes 30 seconds at most."""

NAMESPACES_A_SWEEP = 100
REFUSED_WAIT_S = 60.0
PARTIAL_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class ExternalIndex:
    """What it takes to keep one: `prefix` begins the names of its indexes, one for each length of vectors."""

    database: Database
    client: PineconeClient
    prefix: str
    new_id: NewId
    faults: Faults


@dataclass(frozen=True, slots=True)
class Drained:
    """What was sent. `put_off` documents are due again later; `error` says why the last of them were."""

    documents: int = 0
    vectors_written: int = 0
    vectors_deleted: int = 0
    put_off: int = 0
    error: str = ""
    wait_s: float = 0.0

    def plus(self, other: Drained) -> Drained:
        return Drained(
            self.documents + other.documents,
            self.vectors_written + other.vectors_written,
            self.vectors_deleted + other.vectors_deleted,
            self.put_off + other.put_off,
            other.error or self.error,
            max(self.wait_s, other.wait_s),
        )


def open_namespace(index: ExternalIndex, *, user_id: UserId, dimensions: int) -> IndexNamespace:
    """Return the user's namespace for vectors of so many dimensions, made with its index if it is not there.

    Every live document is in a new one's outbox. Idempotent. Raises RetryableError, InvalidRequestError.
    """
    name = index_name(index.prefix, dimensions)
    with index.database.transaction_with_rls(user_id) as connection:
        found = index_namespaces.find(connection, user_id=user_id, index_name=name)
    if found is not None:
        return found
    host = index.client.ensure_index(name, dimensions=dimensions)
    with index.database.transaction_with_rls(user_id) as connection:
        return index_namespaces.open_namespace(
            connection,
            user_id=user_id,
            namespace_id=index.new_id(),
            index_name=name,
            host=host,
            dimensions=dimensions,
        )


def drain(
    index: ExternalIndex, namespace: IndexNamespace, *, is_stopped: Callable[[], bool] = lambda: False
) -> Iterator[Drained]:
    """Send what the outbox says is due; yields after each portion. Safe beside others who do the same.

    Ends when nothing is due, or with the first portion that the index cannot take: what failed is due again later, longer
    the more often it fails. Raises only what the database raises.
    """
    total = Drained()
    while not is_stopped():
        done = _portion(index, namespace)
        if done is None:
            break
        total = total.plus(done)
        yield done
        if done.wait_s:
            return
    if total.documents:
        look_how_far(index, namespace)
    if namespace.status is NamespaceStatus.COPYING:
        with index.database.transaction_with_rls(namespace.user_id) as connection:
            index_namespaces.set_ready_if_copied(connection, namespace)


def drain_all(
    index: ExternalIndex, namespace: IndexNamespace, *, is_stopped: Callable[[], bool] = lambda: False
) -> Drained:
    """Drain without watching it."""
    total = Drained()
    for done in drain(index, namespace, is_stopped=is_stopped):
        total = total.plus(done)
    return total


def sweep(index: ExternalIndex, *, stop_after_s: float, monotonic: Callable[[], float]) -> Drained:
    """Drain what syncs have left behind, of all users, for so long at most. Raises only what the database raises."""
    ends_at = monotonic() + stop_after_s
    total = Drained()
    for user_id, namespace_id in index_namespaces.behind(index.database, at_most=NAMESPACES_A_SWEEP):
        if monotonic() >= ends_at:
            break
        with index.database.transaction_with_rls(user_id) as connection:
            namespace = index_namespaces.get(connection, user_id=user_id, namespace_id=namespace_id)
        total = total.plus(drain_all(index, namespace, is_stopped=lambda: monotonic() >= ends_at))
    return total


def drop(index: ExternalIndex, namespace: IndexNamespace) -> None:
    """Delete a user's vectors from the index, then forget the namespace. Raises RetryableError, and then it is kept."""
    index.client.delete_namespace(namespace.host, namespace.name)
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        index_namespaces.drop(connection, namespace)


@dataclass(frozen=True, slots=True)
class _Portion:
    """Claimed documents: those that live, and what the index may hold of all of them besides."""

    claim: Claim
    live: Sequence[IndexedDocument]
    obsolete: Sequence[Sent]

    @property
    def told(self) -> list[Sent]:
        return [Sent(each.id, each.generation, each.chunk_count) for each in self.live]

    def only(self, wanted: Callable[[UUID], bool]) -> _Portion:
        claimed = {key: seq for key, seq in self.claim.documents.items() if wanted(key)}
        return _Portion(
            Claim(self.claim.id, claimed),
            [each for each in self.live if wanted(each.id)],
            [each for each in self.obsolete if wanted(each.document_id)],
        )


def _portion(index: ExternalIndex, namespace: IndexNamespace) -> Drained | None:
    portion = _claimed(index, namespace)
    if portion is None:
        return None
    index.faults.reach("outbox_claimed")
    try:
        return _sent(index, namespace, portion)
    except FencedError:
        # Somebody else has taken these meanwhile, and what was sent last may be older than what they sent.
        with index.database.transaction_with_rls(namespace.user_id) as connection:
            index_outbox.intend(connection, namespace, documents=portion.told)
            index_outbox.enqueue(connection, user_id=namespace.user_id, document_ids=list(portion.claim.documents))
        return Drained(put_off=len(portion.claim.documents))
    except WorkstationError as error:
        wait_s = error.wait_s if isinstance(error, RetryableError) else REFUSED_WAIT_S
        _put_off(index, namespace, portion.claim, error.message, wait_s)
        return Drained(put_off=len(portion.claim.documents), error=error.message, wait_s=max(wait_s, 0.01))


def _claimed(index: ExternalIndex, namespace: IndexNamespace) -> _Portion | None:
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        claim = index_outbox.claim(
            connection, namespace, claim_id=index.new_id(), at_most=DOCUMENTS_A_CLAIM, lease=LEASE
        )
        if claim is None:
            return None
        ids = list(claim.documents)
        live = index_outbox.live_documents(connection, namespace, document_ids=ids)
        known = index_outbox.sent(connection, namespace, document_ids=ids)
        portion = _Portion(claim, live, _obsolete(known, live))
        index_outbox.intend(connection, namespace, documents=portion.told)
        return portion


def _obsolete(known: Sequence[Sent], live: Sequence[IndexedDocument]) -> list[Sent]:
    current = {each.id: each for each in live}
    return [
        each
        for each in known
        if each.document_id not in current
        or each.generation != current[each.document_id].generation
        or each.chunk_count > current[each.document_id].chunk_count
    ]


def _sent(index: ExternalIndex, namespace: IndexNamespace, portion: _Portion) -> Drained:
    failed, written, lsn = _write(index, namespace, portion)
    index.faults.reach("outbox_written")
    good = portion.only(lambda document_id: document_id not in failed)
    ids = _ids_to_delete(good)
    if ids:
        _renew(index, namespace, portion.claim)
        lsn = max(
            (each for each in (lsn, index.client.delete(namespace.host, namespace.name, ids)) if each), default=None
        )
    index.faults.reach("outbox_deleted")
    done = Drained(len(good.claim.documents), written, len(ids))
    if failed:
        bad = portion.only(lambda document_id: document_id in failed)
        reason = next(iter(failed.values()))
        _put_off(index, namespace, bad.claim, reason, PARTIAL_WAIT_S)
        done = replace(done, put_off=len(bad.claim.documents), error=reason)
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        generations = {(each.document_id, each.generation) for each in good.told}
        removed = [each for each in good.obsolete if (each.document_id, each.generation) not in generations]
        index_outbox.confirm(connection, namespace, good.claim, told=good.told, removed=removed, lsn=lsn)
    index.faults.reach("outbox_confirmed")
    return done


def _write(
    index: ExternalIndex, namespace: IndexNamespace, portion: _Portion
) -> tuple[dict[UUID, str], int, int | None]:
    """Write the live vectors; return documents of which some were refused and why, the number written, the position."""
    failed: dict[UUID, str] = {}
    written, lsn = 0, None
    for records in _records(index, namespace, portion.live):
        _renew(index, namespace, portion.claim)
        answer = index.client.upsert(namespace.host, namespace.name, records)
        index.faults.reach("outbox_part_written")
        for record_id, reason in answer.failed.items():
            failed.setdefault(UUID(record_id.partition("#")[0]), reason)
        written += len(records) - len(answer.failed)
        lsn = max((each for each in (lsn, answer.lsn) if each is not None), default=None)
    return failed, written, lsn


def _records(
    index: ExternalIndex, namespace: IndexNamespace, documents: Sequence[IndexedDocument]
) -> Iterator[list[Record]]:
    """Yield the vectors of documents in portions, each read in a transaction of its own, none open in between."""
    portion: list[Record] = []
    for document in documents:
        shared = metadata(document)
        ordinal = 0
        while ordinal < document.chunk_count:
            room = VECTORS_A_WRITE - len(portion)
            with index.database.transaction_with_rls(namespace.user_id) as connection:
                found = index_outbox.vectors(
                    connection, user_id=namespace.user_id, document=document, from_ordinal=ordinal, at_most=room
                )
            portion += [
                Record(vector_id(document.id, document.generation, each), shared, vector)
                for each, vector in zip(found.ordinals, found.vectors, strict=True)
            ]
            if len(portion) == VECTORS_A_WRITE:
                yield portion
                portion = []
            if len(found.ordinals) < room:
                break
            ordinal = found.ordinals[-1] + 1
    if portion:
        yield portion


def _ids_to_delete(portion: _Portion) -> list[str]:
    kept = {(each.document_id, each.generation): each.chunk_count for each in portion.told}
    return [
        vector_id(each.document_id, each.generation, ordinal)
        for each in portion.obsolete
        for ordinal in range(kept.get((each.document_id, each.generation), 0), each.chunk_count)
    ]


def _renew(index: ExternalIndex, namespace: IndexNamespace, claim: Claim) -> None:
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        if not index_outbox.renew(connection, namespace, claim, lease=LEASE):
            raise FencedError("another drain of this outbox has taken over")


def _put_off(index: ExternalIndex, namespace: IndexNamespace, claim: Claim, error: str, wait_s: float) -> None:
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        index_outbox.put_off(connection, namespace, claim, error=error, wait_s=wait_s)


def look_how_far(index: ExternalIndex, namespace: IndexNamespace) -> None:
    """Ask up to where searches see, which only a search tells, so that what they see need not be searched here too."""
    direction = np.full(namespace.dimensions, 1 / np.sqrt(namespace.dimensions), np.float32)
    try:
        found = index.client.search(namespace.host, namespace.name, vector=direction, filters={}, limit=1)
    except WorkstationError:
        return  # nothing depends on it but the time that searches take
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        index_outbox.set_visible(connection, namespace, lsn=found.lsn)
