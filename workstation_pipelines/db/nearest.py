"""Nearest chunks to a vector: exact over one user's rows, approximate (HNSW) over what was promoted for heavy users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from workstation_pipelines.db import search, search_scope
from workstation_pipelines.model import IndexConfig, IndexConfigId, Scope, UserId

ANN_DIMENSIONS = 384  # what the partial index chunks_ann_384 holds
# Measured on 2 cores with 384 dimensions: exact search takes 35 ms for 20,000 chunks and grows with them; HNSW takes 12 ms
# in an index of one user and 32 ms in one of which the user owns a fifth. Filling it costs 2 to 3 ms a chunk.
EXACT_UP_TO_CHUNKS = 20_000
ANN_CANDIDATES = 200  # hnsw.ef_search
ANN_SCAN_LIMIT = 200_000  # rows that the iterative scan may visit to find enough of this user's


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A chunk and its cosine similarity, -1..1."""

    key: search.ChunkKey
    cosine: float


def nearest(
    connection: Connection,
    filters: search_scope.Filters,
    *,
    index_config: IndexConfig,
    vector: NDArray[np.float32],
    limit: int,
    exact_up_to: int = EXACT_UP_TO_CHUNKS,
) -> list[Neighbour]:
    """Return the scope's live chunks nearest to `vector` (unit length), nearest first.

    Exact up to `exact_up_to` chunks in the scope. Above, promoted chunks come from the HNSW index with the scope's
    conditions applied inside the scan, chunks that are not promoted yet are measured exactly, and the two are merged.
    """
    where = search_scope.conditions(filters)
    parameters = where.parameters | {
        "config": index_config.id,
        "vector": _literal(vector),
        "limit": limit,
    }
    chunk_count = search.survey(connection, filters).chunk_count
    is_ann = index_config.dimensions == ANN_DIMENSIONS and filters.build_id is None  # what is not live is not promoted
    if chunk_count <= exact_up_to or not is_ann:
        connection.execute(text(search_scope.SCAN_SETTINGS))
        return _rows(connection, _exact(where), parameters)
    connection.execute(text(_ANN_SETTINGS))
    promoted = _rows(connection, _approximate(where), parameters)
    connection.execute(text(search_scope.SCAN_SETTINGS))
    recent = _rows(connection, _exact(where, "AND NOT c.is_ann_indexed"), parameters)
    return sorted([*promoted, *recent], key=lambda neighbour: -neighbour.cosine)[:limit]


def cosines(
    connection: Connection,
    *,
    user_id: UserId,
    index_config_id: IndexConfigId,
    vector: NDArray[np.float32],
    keys: Sequence[search.ChunkKey],
) -> dict[search.ChunkKey, float]:
    """Return the cosine similarity of given chunks, for those that have an embedding under the config."""
    connection.execute(text(search_scope.LOOKUP_SETTINGS))
    rows = connection.execute(
        text(
            """
            SELECT c.document_id, c.generation, c.ordinal, 1 - (c.embedding <=> (SELECT CAST(:vector AS halfvec)))
              FROM unnest(CAST(:document_ids AS uuid[]), CAST(:generations AS int[]), CAST(:ordinals AS int[]))
                   AS wanted (document_id, generation, ordinal)
              JOIN app.chunks c ON c.user_id = :user_id AND c.document_id = wanted.document_id
                   AND c.generation = wanted.generation AND c.ordinal = wanted.ordinal
             WHERE c.index_config_id = :config AND c.embedding IS NOT NULL"""
        ),
        {
            "user_id": user_id,
            "config": index_config_id,
            "vector": _literal(vector),
            "document_ids": [key[0] for key in keys],
            "generations": [key[1] for key in keys],
            "ordinals": [key[2] for key in keys],
        },
    )
    return {(row[0], row[1], row[2]): row[3] for row in rows}


def measured(
    connection: Connection,
    filters: search_scope.Filters,
    *,
    index_config: IndexConfig,
    vector: NDArray[np.float32],
    keys: Sequence[search.ChunkKey],
) -> list[Neighbour]:
    """Return those of the given chunks that are live, in the scope and embedded under the config, nearest first."""
    where = search_scope.conditions(replace(filters, document_ids=list({key[0] for key in keys})))
    parameters = where.parameters | {
        "config": index_config.id,
        "vector": _literal(vector),
        "key_document_ids": [key[0] for key in keys],
        "key_generations": [key[1] for key in keys],
        "key_ordinals": [key[2] for key in keys],
    }
    connection.execute(text(search_scope.LOOKUP_SETTINGS))
    return _rows(connection, _of_keys(where), parameters)


def promote(
    connection: Connection, *, user_id: UserId, at_most: int = 2_000, exact_up_to: int = EXACT_UP_TO_CHUNKS
) -> int:
    """Move up to `at_most` live chunks of a user with more than `exact_up_to` of them into the HNSW index.

    Returns how many it moved; 0 means that nothing is left to do. Call it in a transaction each, until it returns 0: each
    row costs 2 to 3 milliseconds, and a reader sees a chunk before as after, exactly or approximately.
    """
    scope = search_scope.Filters(Scope(user_id))
    if search.survey(connection, scope).chunk_count <= exact_up_to:
        return 0
    return connection.execute(
        text(
            """
            WITH chosen AS MATERIALIZED (
                SELECT p.document_id, p.generation, p.ordinal
                  FROM app.chunks p JOIN app.documents d
                    ON d.user_id = :user_id AND d.id = p.document_id AND d.live_generation = p.generation
                 WHERE p.user_id = :user_id AND NOT p.is_ann_indexed AND vector_dims(p.embedding) = :dimensions
                   AND d.deleted_at IS NULL
                 LIMIT :at_most FOR UPDATE OF p SKIP LOCKED)
            UPDATE app.chunks c SET is_ann_indexed = true FROM chosen
             WHERE c.user_id = :user_id AND c.document_id = chosen.document_id
               AND c.generation = chosen.generation AND c.ordinal = chosen.ordinal"""
        ),
        {"user_id": user_id, "dimensions": ANN_DIMENSIONS, "at_most": at_most},
    ).rowcount


def _exact(where: search_scope.Conditions, further: str = "") -> str:
    # The distance is computed inside the fence: the planner cannot swap in an index that sees all users' rows.
    return f"""
        WITH scoped AS MATERIALIZED (
            SELECT d.id, {where.generation} AS live_generation FROM {where.tables} WHERE {where.documents}),
        measured AS MATERIALIZED (
            SELECT c.document_id, c.generation, c.ordinal,
                   c.embedding <=> (SELECT CAST(:vector AS halfvec)) AS distance
              FROM app.chunks c JOIN scoped s ON s.id = c.document_id AND s.live_generation = c.generation
             WHERE {where.chunks} AND c.index_config_id = :config AND c.embedding IS NOT NULL {further})
        SELECT document_id, generation, ordinal, 1 - distance AS cosine FROM measured
         ORDER BY distance, document_id, ordinal LIMIT :limit"""  # noqa: S608 - conditions are constants, values bound


def _of_keys(where: search_scope.Conditions) -> str:
    return f"""
        WITH scoped AS MATERIALIZED (
            SELECT d.id, {where.generation} AS live_generation FROM {where.tables} WHERE {where.documents}),
        wanted AS MATERIALIZED (
            SELECT w.document_id, w.generation, w.ordinal
              FROM unnest(CAST(:key_document_ids AS uuid[]), CAST(:key_generations AS int[]), CAST(:key_ordinals AS int[]))
                   AS w (document_id, generation, ordinal)
              JOIN scoped s ON s.id = w.document_id AND s.live_generation = w.generation)
        SELECT c.document_id, c.generation, c.ordinal,
               1 - (c.embedding <=> (SELECT CAST(:vector AS halfvec))) AS cosine
          FROM wanted w
          JOIN app.chunks c ON c.document_id = w.document_id AND c.generation = w.generation AND c.ordinal = w.ordinal
         WHERE {where.chunks} AND c.index_config_id = :config AND c.embedding IS NOT NULL
         ORDER BY cosine DESC, document_id, ordinal"""  # noqa: S608 - conditions are constants, values bound


def _approximate(where: search_scope.Conditions) -> str:
    return f"""
        WITH scoped AS MATERIALIZED (
            SELECT d.id, d.live_generation FROM app.documents d WHERE {where.documents}),
        found AS MATERIALIZED (
            SELECT c.document_id, c.generation, c.ordinal,
                   CAST(c.embedding AS halfvec(384)) <=> CAST(:vector AS halfvec(384)) AS distance
              FROM app.chunks c
              JOIN app.documents d ON d.id = c.document_id AND d.live_generation = c.generation
             WHERE {where.chunks} AND {where.documents} AND c.index_config_id = :config
               AND c.is_ann_indexed AND vector_dims(c.embedding) = 384
             ORDER BY CAST(c.embedding AS halfvec(384)) <=> CAST(:vector AS halfvec(384)) LIMIT :limit)
        SELECT document_id, generation, ordinal, 1 - distance AS cosine FROM found
         ORDER BY distance, document_id, ordinal"""  # noqa: S608 - conditions are constants, values bound


# Relaxed order is cheaper and the outer ORDER BY mends it. Sorting is what the planner would choose instead of the index
# whenever it underestimates a user's rows, which row-level security makes it do.
_ANN_SETTINGS = f"""
    SET LOCAL hnsw.iterative_scan = relaxed_order; SET LOCAL hnsw.ef_search = {ANN_CANDIDATES};
    SET LOCAL hnsw.max_scan_tuples = {ANN_SCAN_LIMIT}; SET LOCAL enable_sort = off; SET LOCAL enable_nestloop = on"""


def _rows(connection: Connection, statement: str, parameters: dict[str, object]) -> list[Neighbour]:
    return [Neighbour((row[0], row[1], row[2]), row[3]) for row in connection.execute(text(statement), parameters)]


def _literal(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(f"{value:.6g}" for value in vector.tolist()) + "]"
