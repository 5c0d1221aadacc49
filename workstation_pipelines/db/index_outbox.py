"""The outbox of an index outside the database: documents to compare with it, and which vectors it may hold.

A row says "look at this document again", never what has changed, so that it does not matter how often it is worked on.
Triggers write the rows; whoever drains them claims some for a while, and no transaction is open while vectors are sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from workstation_pipelines.db.engine import raw
from workstation_pipelines.db.index_namespaces import IndexNamespace
from workstation_pipelines.model import UserId

VISIBLE_WITHIN = timedelta(minutes=10)
"""After so long what was sent counts as visible even if the index has not said so."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Some rows of an outbox that nobody else works on until the lease ends. `documents` are ids with their seq."""

    id: UUID
    documents: Mapping[UUID, int]


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """What vectors of a live document carry. `chunk_count` is one more than the highest ordinal of its generation."""

    id: UUID
    generation: int
    chunk_count: int
    index_config_id: UUID
    data_source_id: UUID | None
    source_type: str | None
    project_id: UUID | None
    mime_type: str
    source_modified_at: datetime | None
    tag_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Sent:
    """A generation of which the index may hold the vectors 0 to chunk_count - 1."""

    document_id: UUID
    generation: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What an index still has to be told. `unseen` counts documents sent that searches may not find yet."""

    waiting: int
    failing: int
    unseen: int
    oldest_at: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class ChunkVectors:
    """Ordinals of one document's live chunks, ascending, and their vectors: n x dimensions in the same order."""

    document_id: UUID
    ordinals: Sequence[int]
    vectors: NDArray[np.float32]


def enqueue(connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]) -> None:
    """Note documents for every index of the user, as the triggers do for what they see."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock_shared(hashtextextended('index of ' || :user_id, 0))"), {"user_id": user_id}
    )
    connection.execute(
        text(
            """
            INSERT INTO app.index_outbox (user_id, namespace_id, document_id)
            SELECT n.user_id, n.id, c.id
              FROM unnest(CAST(:ids AS uuid[])) AS c (id) JOIN app.index_namespaces n ON n.user_id = :user_id
             ORDER BY c.id, n.id
            ON CONFLICT (user_id, namespace_id, document_id)
               DO UPDATE SET seq = DEFAULT, next_try_at = now()"""
        ),
        {"user_id": user_id, "ids": sorted(set(document_ids))},
    )


def claim(
    connection: Connection, namespace: IndexNamespace, *, claim_id: UUID, at_most: int, lease: timedelta
) -> Claim | None:
    """Take rows that are due, those waiting longest first; None when there is none. What others hold is passed over."""
    rows = connection.execute(
        text(
            """
            WITH chosen AS MATERIALIZED (
                SELECT o.document_id FROM app.index_outbox o
                 WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id AND o.next_try_at <= now()
                   AND (o.claimed_until IS NULL OR o.claimed_until < now())
                 ORDER BY o.next_try_at, o.document_id LIMIT :at_most FOR UPDATE SKIP LOCKED)
            UPDATE app.index_outbox o SET claim = :claim, claimed_until = now() + :lease
              FROM chosen
             WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id AND o.document_id = chosen.document_id
            RETURNING o.document_id, o.seq"""
        ),
        {**_of(namespace), "claim": claim_id, "at_most": at_most, "lease": lease},
    ).all()
    return Claim(claim_id, {row.document_id: row.seq for row in rows}) if rows else None


def renew(connection: Connection, namespace: IndexNamespace, held: Claim, *, lease: timedelta) -> bool:
    """Hold rows for longer; return whether all of them were still held."""
    renewed = connection.execute(
        text(
            """
            UPDATE app.index_outbox o SET claimed_until = now() + :lease
             WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id AND o.claim = :claim"""
        ),
        {**_of(namespace), "claim": held.id, "lease": lease},
    ).rowcount
    return renewed == len(held.documents)


def live_documents(
    connection: Connection, namespace: IndexNamespace, *, document_ids: Sequence[UUID]
) -> list[IndexedDocument]:
    """Return those of the documents that are live and whose vectors fit into this index, in order of id."""
    rows = connection.execute(
        text(
            """
            SELECT d.id, d.live_generation, d.index_config_id, d.data_source_id, s.source_type, d.project_id, d.mime_type,
                   d.source_modified_at,
                   (SELECT coalesce(max(c.ordinal) + 1, 0) FROM app.chunks c
                     WHERE c.user_id = d.user_id AND c.document_id = d.id AND c.generation = d.live_generation) AS chunks,
                   ARRAY(SELECT dt.tag_id FROM app.document_tags dt
                          WHERE dt.user_id = d.user_id AND dt.document_id = d.id ORDER BY dt.tag_id) AS tag_ids
              FROM app.documents d
              JOIN app.index_configs i ON i.user_id = d.user_id AND i.id = d.index_config_id
              LEFT JOIN app.data_sources s ON s.user_id = d.user_id AND s.id = d.data_source_id
             WHERE d.user_id = :user_id AND d.id = ANY(:ids) AND d.deleted_at IS NULL AND i.dimensions = :dimensions
             ORDER BY d.id"""
        ),
        {"user_id": namespace.user_id, "ids": list(document_ids), "dimensions": namespace.dimensions},
    )
    return [
        IndexedDocument(
            row.id,
            row.live_generation,
            row.chunks,
            row.index_config_id,
            row.data_source_id,
            row.source_type,
            row.project_id,
            row.mime_type,
            row.source_modified_at,
            row.tag_ids,
        )
        for row in rows
    ]


def vectors(
    connection: Connection, *, user_id: UserId, document: IndexedDocument, from_ordinal: int, at_most: int
) -> ChunkVectors:
    """Return vectors of one generation from an ordinal on; chunks without one, or gone meanwhile, are left out."""
    with raw(connection).cursor(binary=True) as cursor:
        cursor.execute(
            """
            SELECT c.ordinal, halfvec_send(c.embedding) FROM app.chunks c
             WHERE c.user_id = %s AND c.document_id = %s AND c.generation = %s AND c.ordinal >= %s
               AND c.embedding IS NOT NULL
             ORDER BY c.ordinal LIMIT %s""",
            [user_id, document.id, document.generation, from_ordinal, at_most],
        )
        rows = cursor.fetchall()
    # halfvec's wire form: dimensions and an unused field as int16, then the numbers, all in network order.
    numbers = [np.frombuffer(bytes(row[1]), ">f2", offset=4) for row in rows]
    stacked = np.stack(numbers).astype(np.float32) if numbers else np.empty((0, 0), np.float32)
    return ChunkVectors(document.id, [row[0] for row in rows], stacked)


def intend(connection: Connection, namespace: IndexNamespace, *, documents: Sequence[Sent]) -> None:
    """Write down what is about to be sent. Committed before it is, so that nothing is ever in the index unknown."""
    connection.execute(
        text(
            """
            INSERT INTO app.index_sent AS s (user_id, namespace_id, document_id, generation, chunk_count)
            SELECT n.user_id, n.id, w.id, w.generation, w.chunks
              FROM unnest(CAST(:ids AS uuid[]), CAST(:generations AS int[]), CAST(:chunks AS int[]))
                   AS w (id, generation, chunks)
              JOIN app.index_namespaces n ON n.user_id = :user_id AND n.id = :namespace_id
             ORDER BY w.id
            ON CONFLICT (user_id, namespace_id, document_id, generation) DO UPDATE
               SET chunk_count = greatest(s.chunk_count, excluded.chunk_count), is_visible = false, lsn = NULL,
                   sent_at = now()"""
        ),
        {**_of(namespace), **_columns(documents)},
    )


def sent(connection: Connection, namespace: IndexNamespace, *, document_ids: Sequence[UUID]) -> list[Sent]:
    """Return what the index may hold of these documents."""
    rows = connection.execute(
        text(
            """
            SELECT s.document_id, s.generation, s.chunk_count FROM app.index_sent s
             WHERE s.user_id = :user_id AND s.namespace_id = :namespace_id AND s.document_id = ANY(:ids)
             ORDER BY s.document_id, s.generation"""
        ),
        {**_of(namespace), "ids": list(document_ids)},
    )
    return [Sent(row.document_id, row.generation, row.chunk_count) for row in rows]


def confirm(
    connection: Connection,
    namespace: IndexNamespace,
    done: Claim,
    *,
    told: Sequence[Sent],
    removed: Sequence[Sent],
    lsn: int | None,
) -> None:
    """Note that the index holds `told` and no longer `removed`, and let go of the rows.

    A document that has changed since it was claimed stays in the outbox. One whose claim was lost meanwhile goes back
    into it, since what was sent may have come after what somebody else sent.
    """
    where = _of(namespace)
    connection.execute(text(_FORGET), {**where, **_columns(removed)})
    connection.execute(text(_SET_SENT), {**where, **_columns(told), "lsn": lsn})
    held = {"claim": done.id, "ids": list(done.documents), "seqs": list(done.documents.values())}
    finished = connection.execute(text(_DONE), {**where, **held}).scalars().all()
    changed = connection.execute(text(_LET_GO), {**where, "claim": done.id}).scalars().all()
    lost = done.documents.keys() - {*finished, *changed}
    if lost:
        intend(connection, namespace, documents=[each for each in (*told, *removed) if each.document_id in lost])
        enqueue(connection, user_id=namespace.user_id, document_ids=list(lost))


def put_off(connection: Connection, namespace: IndexNamespace, failed: Claim, *, error: str, wait_s: float) -> None:
    """Let go of rows that could not be worked on: due again after `wait_s`, or longer the more often they failed."""
    connection.execute(
        text(
            """
            UPDATE app.index_outbox o
               SET claim = NULL, claimed_until = NULL, attempts = o.attempts + 1, last_error = :error,
                   next_try_at = now() + make_interval(secs => greatest(:wait_s, least(600, power(2, least(o.attempts, 10)))))
             WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id AND o.claim = :claim
               AND o.document_id = ANY(:ids)"""
        ),
        {**_of(namespace), "claim": failed.id, "ids": list(failed.documents), "error": error, "wait_s": wait_s},
    )


def hurry(connection: Connection, namespace: IndexNamespace) -> None:
    """Make what was put off due now, because somebody who waits for it says so."""
    connection.execute(
        text(
            """
            UPDATE app.index_outbox o SET next_try_at = now()
             WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id AND o.next_try_at > now()"""
        ),
        _of(namespace),
    )


def set_visible(connection: Connection, namespace: IndexNamespace, *, lsn: int | None) -> None:
    """Note that searches of the index see everything it has taken up to `lsn`."""
    connection.execute(
        text(
            """
            UPDATE app.index_sent s SET is_visible = true
             WHERE s.user_id = :user_id AND s.namespace_id = :namespace_id AND NOT s.is_visible
               AND (s.lsn <= :lsn OR s.sent_at < now() - :within)"""
        ),
        {**_of(namespace), "lsn": lsn, "within": VISIBLE_WITHIN},
    )


def not_visible(connection: Connection, namespace: IndexNamespace, *, at_most: int) -> list[UUID]:
    """Return documents of which searches of the index may not see the newest state, in no order, at most so many."""
    return list(
        connection.execute(
            text(
                """
                SELECT o.document_id FROM app.index_outbox o
                 WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id
                UNION
                SELECT s.document_id FROM app.index_sent s
                 WHERE s.user_id = :user_id AND s.namespace_id = :namespace_id AND NOT s.is_visible
                 LIMIT :at_most"""
            ),
            {**_of(namespace), "at_most": at_most},
        ).scalars()
    )


def backlog(connection: Connection, namespace: IndexNamespace) -> Backlog:
    row = connection.execute(
        text(
            """
            SELECT count(*) AS waiting, count(*) FILTER (WHERE o.attempts > 0) AS failing, min(o.created_at) AS oldest_at,
                   coalesce((array_agg(o.last_error ORDER BY o.updated_at DESC) FILTER (WHERE o.last_error <> ''))[1], '')
                       AS last_error,
                   (SELECT count(*) FROM app.index_sent s
                     WHERE s.user_id = :user_id AND s.namespace_id = :namespace_id AND NOT s.is_visible) AS unseen
              FROM app.index_outbox o WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id"""
        ),
        _of(namespace),
    ).one()
    return Backlog(row.waiting, row.failing, row.unseen, row.oldest_at, row.last_error)


def live_ids(
    connection: Connection, namespace: IndexNamespace, *, after: UUID | None, at_most: int
) -> dict[UUID, list[tuple[int, int]]]:
    """Return (generation, ordinal) of live chunks with vectors by document, documents in order of id, after one."""
    rows = connection.execute(
        text(
            """
            WITH wanted AS MATERIALIZED (
                SELECT d.id, d.live_generation FROM app.documents d
                  JOIN app.index_configs i ON i.user_id = d.user_id AND i.id = d.index_config_id
                 WHERE d.user_id = :user_id AND d.deleted_at IS NULL AND i.dimensions = :dimensions
                   AND (CAST(:after AS uuid) IS NULL OR d.id > :after) ORDER BY d.id LIMIT :at_most)
            SELECT w.id, w.live_generation, ARRAY(
                   SELECT c.ordinal FROM app.chunks c
                    WHERE c.user_id = :user_id AND c.document_id = w.id AND c.generation = w.live_generation
                      AND c.embedding IS NOT NULL ORDER BY c.ordinal) AS ordinals
              FROM wanted w ORDER BY w.id"""
        ),
        {
            "user_id": namespace.user_id,
            "dimensions": namespace.dimensions,
            "after": after,
            "at_most": at_most,
        },
    )
    return {row.id: [(row.live_generation, ordinal) for ordinal in row.ordinals] for row in rows}


def some_live_ids(
    connection: Connection, namespace: IndexNamespace, *, data_source_id: UUID, at_most: int
) -> dict[UUID, list[tuple[int, int]]]:
    """Return the same of some documents of a source, others each time, without those that searches may not see yet."""
    rows = connection.execute(
        text(
            """
            SELECT d.id, d.live_generation, ARRAY(
                   SELECT c.ordinal FROM app.chunks c
                    WHERE c.user_id = d.user_id AND c.document_id = d.id AND c.generation = d.live_generation
                      AND c.embedding IS NOT NULL ORDER BY c.ordinal) AS ordinals
              FROM app.documents d
              JOIN app.index_configs i ON i.user_id = d.user_id AND i.id = d.index_config_id
             WHERE d.user_id = :user_id AND d.data_source_id = :source AND d.deleted_at IS NULL
               AND i.dimensions = :dimensions
               AND NOT EXISTS (SELECT FROM app.index_outbox o WHERE o.user_id = d.user_id
                                  AND o.namespace_id = :namespace_id AND o.document_id = d.id)
               AND NOT EXISTS (SELECT FROM app.index_sent s WHERE s.user_id = d.user_id
                                  AND s.namespace_id = :namespace_id AND s.document_id = d.id AND NOT s.is_visible)
             ORDER BY random() LIMIT :at_most"""
        ),
        {**_of(namespace), "dimensions": namespace.dimensions, "source": data_source_id, "at_most": at_most},
    )
    return {row.id: [(row.live_generation, ordinal) for ordinal in row.ordinals] for row in rows}


_WANTED = """
    unnest(CAST(:ids AS uuid[]), CAST(:generations AS int[]), CAST(:chunks AS int[])) AS w (id, generation, chunks)"""

_FORGET = f"""
    DELETE FROM app.index_sent s USING {_WANTED}
     WHERE s.user_id = :user_id AND s.namespace_id = :namespace_id AND s.document_id = w.id AND s.generation = w.generation"""  # noqa: S608 - constants

_SET_SENT = f"""
    UPDATE app.index_sent s SET chunk_count = w.chunks, lsn = :lsn, sent_at = now() FROM {_WANTED}
     WHERE s.user_id = :user_id AND s.namespace_id = :namespace_id AND s.document_id = w.id AND s.generation = w.generation"""  # noqa: S608 - constants

_PAIRS = "unnest(CAST(:ids AS uuid[]), CAST(:seqs AS bigint[])) AS w (id, seq)"

_DONE = f"""
    DELETE FROM app.index_outbox o USING {_PAIRS}
     WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id AND o.document_id = w.id AND o.claim = :claim
       AND o.seq = w.seq
    RETURNING o.document_id"""  # noqa: S608 - constants

_LET_GO = """
    UPDATE app.index_outbox o SET claim = NULL, claimed_until = NULL
     WHERE o.user_id = :user_id AND o.namespace_id = :namespace_id AND o.claim = :claim
    RETURNING o.document_id"""


def _of(namespace: IndexNamespace) -> dict[str, object]:
    return {"user_id": namespace.user_id, "namespace_id": namespace.id}


def _columns(documents: Sequence[Sent]) -> dict[str, object]:
    return {
        "ids": [each.document_id for each in documents],
        "generations": [each.generation for each in documents],
        "chunks": [each.chunk_count for each in documents],
    }
