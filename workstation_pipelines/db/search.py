"""Full-text ranking (BM25) over one user's chunks, and what a search shows of the chunks it found.

The ranking is an exact scan of the scope's live chunks. A GIN index would not serve: the match operator of text search is
not leakproof, so under row-level security PostgreSQL may not use it as an index condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db import search_scope
from workstation_pipelines.model import UserId

TERM_FREQUENCY_SATURATION = 1.2  # k1 of BM25
LENGTH_NORMALISATION = 0.4  # b of BM25; chunks are cut to a length, so it says less than it does of whole documents
TITLE_WEIGHT = 0.5  # an occurrence in the document's title counts as this many in the chunk

ChunkKey = tuple[UUID, int, int]
"""Document id, generation, ordinal."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a scope holds: the languages of its documents (None: unknown), the number of its live chunks, and the index
    configs that made them, normally one."""

    languages: Sequence[str | None]
    chunk_count: int
    index_config_ids: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True)
class TextMatch:
    """A chunk with its BM25 score."""

    key: ChunkKey
    bm25: float


@dataclass(frozen=True, slots=True)
class TextRanking:
    """The best chunks, best first. For each term as asked: its inverse document frequency in the scope, and whether any
    chunk of the scope has it; both are empty when no chunk has any of them."""

    matches: Sequence[TextMatch]
    term_weights: Sequence[float]
    is_term_found: Sequence[bool]


@dataclass(frozen=True, slots=True)
class StoredHit:
    """A live chunk with its document, its origin and its way here. `synced_at` is when the last job completed."""

    key: ChunkKey
    text: str
    text_hash: bytes
    start_offset: int
    end_offset: int
    heading_path: str
    title: str
    mime_type: str
    source_modified_at: datetime | None
    external_url: str | None
    external_path: str | None
    data_source_id: UUID | None
    data_source_name: str | None
    source_type: str | None
    external_id: str | None
    external_hash: str | None
    sync_job_id: UUID | None
    dagster_run_id: str | None
    synced_at: datetime | None


def survey(connection: Connection, filters: search_scope.Filters) -> Survey:
    """Look at the documents of a scope, not at their chunks."""
    where = search_scope.conditions(search_scope.Filters(filters.scope, build_id=filters.build_id))
    row = connection.execute(
        text(
            f"""
            SELECT array_agg(DISTINCT d.language) AS languages,
                   coalesce(sum({where.chunk_count}), 0)::bigint AS chunk_count,
                   array_agg(DISTINCT {where.config}) FILTER (WHERE {where.config} IS NOT NULL) AS configs
              FROM {where.tables} WHERE {where.documents}"""  # noqa: S608 - conditions are constants, values bound
        ),
        where.parameters,
    ).one()
    return Survey(row.languages or [], row.chunk_count, row.configs or [])


def rank_by_text(
    connection: Connection, filters: search_scope.Filters, *, terms: Sequence[Sequence[str]], limit: int
) -> TextRanking:
    """Rank the scope's live chunks by BM25. A term is a list of lexemes that count as one word (its variants).

    Ties are ordered by document id and ordinal. Number of chunks, mean length and document frequencies are the scope's.
    """
    if not terms:
        return TextRanking([], [], [])
    where = search_scope.conditions(filters)
    parameters = where.parameters | {f"term_{number}": list(variants) for number, variants in enumerate(terms)}
    parameters |= {"k1": TERM_FREQUENCY_SATURATION, "b": LENGTH_NORMALISATION, "title": TITLE_WEIGHT, "limit": limit}
    connection.execute(text(search_scope.SCAN_SETTINGS))
    rows = connection.execute(text(_ranking_statement(where, [len(term) for term in terms])), parameters).all()
    matches = [TextMatch((row.document_id, row.generation, row.ordinal), row.bm25) for row in rows]
    return TextRanking(matches, rows[0].weights, rows[0].is_found) if rows else TextRanking([], [], [])


def hits(
    connection: Connection, *, user_id: UserId, keys: Sequence[ChunkKey], build_id: UUID | None = None
) -> dict[ChunkKey, StoredHit]:
    """Return what is stored of those chunks that are live, or would be by a build; others are left out."""
    connection.execute(text(search_scope.LOOKUP_SETTINGS))
    rows = connection.execute(
        text(_HITS),
        {
            "user_id": user_id,
            "build_id": build_id,
            "document_ids": [key[0] for key in keys],
            "generations": [key[1] for key in keys],
            "ordinals": [key[2] for key in keys],
        },
    )
    found = (StoredHit((row.document_id, row.generation, row.ordinal), *row[3:]) for row in rows)
    return {hit.key: hit for hit in found}


# What the view document_lineage shows, joined by hand: by way of the view, a security barrier, the planner goes through
# all of a user's items to find those of a few chunks.
_HITS = """
    SELECT c.document_id, c.generation, c.ordinal, c.text, c.text_hash, c.start_offset, c.end_offset, c.heading_path,
           d.title, d.mime_type, d.source_modified_at, coalesce(d.external_url, i.external_url),
           coalesce(i.external_path, CASE WHEN d.origin LIKE 'file:%' OR d.origin LIKE 'url:%'
                                          THEN substr(d.origin, strpos(d.origin, ':') + 1) ELSE NULL END),
           d.data_source_id, s.name, s.source_type, i.external_id, i.external_hash, i.last_sync_job_id,
           j.dagster_run_id, j.completed_at
      FROM unnest(CAST(:document_ids AS uuid[]), CAST(:generations AS int[]), CAST(:ordinals AS int[]))
           AS wanted (document_id, generation, ordinal)
      JOIN app.chunks c ON c.user_id = :user_id AND c.document_id = wanted.document_id
           AND c.generation = wanted.generation AND c.ordinal = wanted.ordinal
      JOIN app.documents d ON d.user_id = :user_id AND d.id = c.document_id AND d.deleted_at IS NULL
      LEFT JOIN app.index_build_documents b ON b.user_id = :user_id AND b.document_id = d.id
           AND b.build_id = CAST(:build_id AS uuid)
      LEFT JOIN app.data_sources s ON s.user_id = :user_id AND s.id = d.data_source_id
      LEFT JOIN app.sync_items i ON i.user_id = :user_id AND i.local_document_id = d.id
      LEFT JOIN app.sync_jobs j ON j.user_id = :user_id AND j.id = i.last_sync_job_id
     WHERE c.generation = coalesce(b.generation, d.live_generation)"""


def _ranking_statement(where: search_scope.Conditions, variants: Sequence[int]) -> str:
    numbers = range(len(variants))
    asked = ", ".join(f"{search_scope.any_of(f'term_{n}')} AS q{n}" for n in numbers)
    in_title = ", ".join(f"{_occurrences('d.title_tsv', n, variants[n])} AS h{n}" for n in numbers)
    in_chunk = ", ".join(
        f"{_occurrences('c.tsv', n, variants[n])} + CAST(:title AS float8) * s.h{n} AS t{n}" for n in numbers
    )
    having = {n: f"count(*) FILTER (WHERE t{n} > 0)" for n in numbers}
    weights = ", ".join(
        f"ln(CAST(1 + (count(*) - {having[n]} + 0.5) / ({having[n]} + 0.5) AS float8)) AS w{n}" for n in numbers
    )
    found = ", ".join(f"{having[n]} > 0" for n in numbers)
    score = " + ".join(f"w{n} * t{n} * (CAST(:k1 AS float8) + 1) / (t{n} + length_factor)" for n in numbers)
    columns = ", ".join(f"t{n}" for n in numbers)
    return f"""
        WITH asked AS MATERIALIZED (SELECT {asked}),
        scoped AS MATERIALIZED (
            SELECT d.id, {where.generation} AS live_generation, {in_title} FROM {where.tables} WHERE {where.documents}),
        live AS MATERIALIZED (
            SELECT c.document_id, c.generation, c.ordinal, c.token_count, {in_chunk}
              FROM app.chunks c JOIN scoped s ON s.id = c.document_id AND s.live_generation = c.generation
             WHERE {where.chunks}),
        scope AS MATERIALIZED (
            SELECT CAST(greatest(avg(token_count), 1) AS float8) AS mean_tokens, ARRAY[{found}] AS is_found, {weights} FROM live)
        SELECT document_id, generation, ordinal, CAST({score} AS float8) AS bm25, is_found,
               CAST(ARRAY[{", ".join(f"w{n}" for n in numbers)}] AS float8[]) AS weights
          FROM live CROSS JOIN scope
         CROSS JOIN LATERAL (
            SELECT CAST(:k1 AS float8) * (1 - CAST(:b AS float8) * (1 - token_count / mean_tokens)) AS length_factor
         ) normal
         WHERE greatest({columns}) > 0
         ORDER BY bm25 DESC, document_id, ordinal LIMIT :limit"""  # noqa: S608 - column names are numbered, values bound


def _occurrences(column: str, number: int, variants: int) -> str:
    """SQL for how often a term occurs. ts_rank of one lexeme with n positions is the sum of 1/j^2 up to n, divided by that
    sum's limit 1.64493 and by the number of variants; 1/(limit * (1 - rank)) - 1/2 inverts it with an error under 0.11,
    which rounding removes.
    """
    rank = f"ts_rank('{{1,1,1,1}}', {column}, (SELECT q{number} FROM asked))"  # noqa: S608 - constants
    # Variants that both occur add up; what would reach beyond 255 occurrences means "very often".
    share = f"least({rank} * {variants}, 0.9976)" if variants > 1 else rank
    return f"round(1 / (1.64493406685 * (1 - {share})) - 0.5)"
