"""Holds the database against the truth, as a superuser would see it: what is lost, double, stray or wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import psycopg

from tests.sync.parts import FixedSplitter, vector_of
from workstation_pipelines.settings import libpq_url


@dataclass(frozen=True)
class Violations:
    """All zero when the database holds exactly the truth."""

    lost: int = 0
    surplus: int = 0
    duplicates: int = 0
    wrong_text: int = 0
    wrong_chunks: int = 0
    orphan_chunks: int = 0
    wrong_vectors: int = 0
    orphan_documents: int = 0
    running_jobs: int = 0
    unbalanced_jobs: int = 0
    misbilled_jobs: int = 0

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


def check(admin_url: str, user: str, truth: dict[str, str]) -> Violations:
    """Compare with `truth`, external path -> text, after a sync has ended."""
    with psycopg.connect(libpq_url(admin_url)) as connection:
        live = connection.execute(
            """
            SELECT i.external_path, d.id, d.text, d.live_generation, d.chunk_count, c.chunk_tokens
              FROM app.sync_items i JOIN app.documents d ON d.id = i.local_document_id
              JOIN app.index_configs c ON c.id = d.index_config_id
             WHERE i.user_id = %s AND i.sync_status IN ('synced', 'failed') AND d.deleted_at IS NULL""",
            [user],
        ).fetchall()
        chunks = connection.execute(
            """
            SELECT document_id, generation, ordinal, text, start_offset, end_offset, embedding::text
              FROM app.chunks c WHERE user_id = %s AND NOT EXISTS (
                SELECT FROM app.index_build_documents b JOIN app.documents d ON d.id = b.document_id
                 WHERE b.document_id = c.document_id AND c.generation IN (b.generation, b.previous_generation)
                   AND c.generation <> d.live_generation)
             ORDER BY document_id, generation, ordinal""",
            [user],
        ).fetchall()
        orphan_documents = _one(
            connection,
            """
            SELECT count(*) FROM app.documents d WHERE user_id = %s AND deleted_at IS NULL AND NOT EXISTS (
                SELECT FROM app.sync_items i WHERE i.local_document_id = d.id AND i.sync_status IN ('synced', 'failed'))""",
            user,
        )
        running = _one(connection, "SELECT count(*) FROM app.sync_jobs WHERE user_id = %s AND status = 'running'", user)
        unbalanced = _one(
            connection,
            """
            SELECT count(*) FROM app.sync_jobs WHERE user_id = %s AND items_found <> items_created + items_updated
                   + items_unchanged + items_skipped + items_deleted + items_failed""",
            user,
        )
        misbilled = _one(
            connection,
            """
            SELECT count(*) FROM app.sync_jobs j LEFT JOIN LATERAL (
                   SELECT coalesce(sum(quantity), 0) AS tokens, coalesce(sum(cost), 0) AS cost FROM app.billing_records b
                    WHERE b.user_id = j.user_id AND b.job_id = j.id) billed ON true
             WHERE user_id = %s AND (billed.tokens, billed.cost) <> (j.embedding_tokens, j.cost)""",
            user,
        )
    paths = Counter(row[0] for row in live)
    generations = {(row[1], row[3]): (row[2], row[4], row[5]) for row in live}
    return Violations(
        lost=len(truth.keys() - paths.keys()),
        surplus=len(paths.keys() - truth.keys()),
        duplicates=sum(paths.values()) - len(paths),
        wrong_text=sum(truth.get(path, text) != text for path, _, text, *_ in live),
        wrong_chunks=_wrong_chunks(generations, chunks),
        orphan_chunks=sum((row[0], row[1]) not in generations for row in chunks),
        wrong_vectors=sum(not _is_vector_of(row[6], row[3]) for row in chunks),
        orphan_documents=orphan_documents,
        running_jobs=running,
        unbalanced_jobs=unbalanced,
        misbilled_jobs=misbilled,
    )


def _wrong_chunks(generations: dict[tuple[Any, int], tuple[str, int, int]], chunks: list[Any]) -> int:
    found: dict[tuple[Any, int], list[tuple[int, str, int, int]]] = {}
    for document_id, generation, ordinal, text, start, end, _ in chunks:
        found.setdefault((document_id, generation), []).append((ordinal, text, start, end))
    wrong = 0
    for key, (text, chunk_count, characters) in generations.items():
        cut = FixedSplitter(characters).split(text, [])
        wanted = [(c.ordinal, c.text, c.start_offset, c.end_offset) for c in cut]
        wrong += found.get(key, []) != wanted or chunk_count != len(wanted)
    return wrong


def _is_vector_of(stored: str | None, text: str) -> bool:
    if stored is None:
        return False
    vector = np.array([float(number) for number in stored.strip("[]").split(",")])
    return bool(np.allclose(vector, vector_of(text), atol=2e-3))


def _one(connection: psycopg.Connection[Any], statement: str, user: str) -> int:
    row = connection.execute(statement.encode(), [user]).fetchone()
    return int(row[0]) if row else -1
