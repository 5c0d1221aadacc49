"""Hybrid search: finds chunks by their words and by their meaning, inside a scope, and tells where each comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import index_settings, search_scope
from workstation_pipelines.db import search as stored
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, RetryableError
from workstation_pipelines.index import fusion
from workstation_pipelines.index import query as queries
from workstation_pipelines.index.contract import Embedder
from workstation_pipelines.index.store import SnapshotVectorStore, Vector, VectorStore
from workstation_pipelines.model import IndexConfig, Scope
from workstation_pipelines.text.lexemes import Lexer, lexer_for

MOST_HITS = 100
CANDIDATES = 200  # of each ranking, before they are fused
CROWDED_AFTER = 3  # hits of one document among
FIRST_HITS = 10  # the first ones


class Mode(StrEnum):
    HYBRID = "hybrid"
    TEXT = "text"
    VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class Lineage:
    """How a chunk came here. `synced_at` is when that job completed, None while it runs."""

    external_id: str | None
    external_hash: str | None
    sync_job_id: UUID | None
    dagster_run_id: str | None
    synced_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk. `text` is the document's characters from start_offset to end_offset.

    `score` is 0..1, higher is nearer; `bm25` (0 and up) and `cosine` (-1..1) explain it, None where that signal did not
    see the chunk. `duplicates` are the ids of further chunks with exactly this text.
    """

    id: str
    document_id: UUID
    title: str
    text: str
    start_offset: int
    end_offset: int
    heading_path: str
    mime_type: str
    source_modified_at: datetime | None
    external_url: str | None
    external_path: str | None
    data_source_id: UUID | None
    data_source_name: str | None
    source_type: str | None
    score: float
    bm25: float | None
    cosine: float | None
    lineage: Lineage
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, except that a document's hits beyond the third come after others in the first ten.

    `mode` is what was done, which is `text` when the embedder was out of reach; `notice` then says so. With
    `nothing_relevant` the scope was searched and held no answer.
    """

    hits: Sequence[Hit]
    mode: Mode
    notice: str = ""

    @property
    def nothing_relevant(self) -> bool:
        return not self.hits


EmbedderOf = Callable[[IndexConfig], Embedder]
"""The embedder that made an index config's vectors. Raises InvalidRequestError when it is not to be had any more."""


def search(
    database: Database,
    embedder: Embedder,
    index_config: IndexConfig,
    query: str,
    scope: Scope,
    *,
    limit: int = 10,
    mode: str = Mode.HYBRID,
    store: VectorStore | None = None,
    embedder_of: EmbedderOf | None = None,
    build_id: UUID | None = None,
) -> SearchResult:
    """Search the live chunks of `scope`; `store` is where vectors are searched, by default the database itself.

    All that is read of the database is of one moment, so a document that is being changed shows its old chunks or its new
    ones. Where documents of the scope have other index configs than `index_config`, they are asked by `embedder_of`, and
    by words alone without it. With `build_id` the chunks that this build would make live are searched.
    A store outside the database that cannot be reached is replaced by the database, an embedder by words alone; `notice`
    says so.

    Raises:
        InvalidRequestError: the query is blank or too long, the limit is not 1..100, the mode is unknown, or the
            embedder is not the one that made the index config's vectors.
        SourceUnavailableError: the database cannot be reached.
    """
    wanted = _checked_mode(mode)
    _check(limit, embedder, index_config)
    asked = queries.parse(query, [lexer_for(None)]).wanted  # refuses a blank query before anything is asked
    if search_scope.is_empty(scope):
        return SearchResult([], wanted)
    # Before the snapshot: a model may take its time, and a transaction should not wait for it.
    vector, notice = (None, "") if wanted is Mode.TEXT else _embedded(embedder, asked)
    with database.snapshot_with_rls(scope.user_id) as connection:
        surveyed = stored.survey(connection, search_scope.Filters(scope, build_id=build_id))
        parsed = queries.parse(query, _lexers(surveyed))
        filters = search_scope.Filters(scope, parsed.phrases, parsed.excluded, build_id)
        in_snapshot = store.within(connection) if store is not None else SnapshotVectorStore(connection)
        found = _Signals(connection, in_snapshot, filters, parsed)
        if vector is not None:
            others, notice = _others(connection, scope, surveyed, index_config, vector, asked, embedder_of)
            try:
                ranked, lacking = _ranked(found, wanted, [(index_config, vector), *others])
                return SearchResult(_hits(connection, filters, ranked, limit), wanted, notice or lacking)
            except RetryableError as error:
                notice = f"searched by words only: {error.message}"
        return SearchResult(_hits(connection, filters, found.fused(Mode.TEXT, None), limit), Mode.TEXT, notice)


def _ranked(
    found: _Signals, mode: Mode, vectors: Sequence[tuple[IndexConfig, Vector]]
) -> tuple[list[fusion.Fused[stored.ChunkKey]], str]:
    """Rank by the chosen store, or by the vectors in the database while that store cannot be reached."""
    try:
        return found.fused(mode, vectors), ""
    except RetryableError as error:
        if isinstance(found.store, SnapshotVectorStore):
            raise
        ranked = replace(found, store=SnapshotVectorStore(found.connection)).fused(mode, vectors)
        return ranked, f"vectors were searched in the database: {error.message}"


@dataclass(frozen=True, slots=True)
class _Signals:
    connection: Connection
    store: VectorStore
    filters: search_scope.Filters
    query: queries.Query

    def fused(
        self, mode: Mode, vectors: Sequence[tuple[IndexConfig, Vector]] | None
    ) -> list[fusion.Fused[stored.ChunkKey]]:
        ranking = stored.TextRanking([], [], []) if mode is Mode.VECTOR else self._by_text()
        bm25 = {match.key: match.bm25 for match in ranking.matches}
        cosines: dict[stored.ChunkKey, float] | None = None if vectors is None else {}
        calibrations: list[fusion.Calibration] = []
        read_by: dict[stored.ChunkKey, fusion.Calibration] = {}
        for index_config, vector in vectors or ():
            calibrations.append(fusion.CALIBRATIONS.get(index_config.model, fusion.UNCALIBRATED))
            seen = self._by_meaning(index_config, vector, bm25)
            if len(calibrations) > 1:
                read_by |= dict.fromkeys(seen, calibrations[-1])
            cosines = {**(cosines or {}), **seen}
        described = fusion.features(
            ranking.term_weights, [term.is_identifier for term in self.query.terms], ranking.is_term_found
        )
        calibration = calibrations[0] if calibrations else fusion.UNCALIBRATED
        if mode is Mode.VECTOR:
            return fusion.fuse(None, cosines, fusion.features([], [], []), calibration, read_by)
        return fusion.fuse(bm25, cosines, described, calibration, read_by)

    def _by_text(self) -> stored.TextRanking:
        terms = [term.variants for term in self.query.terms]
        return stored.rank_by_text(self.connection, self.filters, terms=terms, limit=CANDIDATES)

    def _by_meaning(
        self, index_config: IndexConfig, vector: Vector, bm25: Mapping[stored.ChunkKey, float]
    ) -> dict[stored.ChunkKey, float]:
        neighbours = self.store.nearest(self.filters, index_config=index_config, vector=vector, limit=CANDIDATES)
        cosines = {neighbour.key: neighbour.cosine for neighbour in neighbours}
        # A chunk found by its words alone is no worse in meaning for being beyond the nearest.
        rest = [key for key in bm25 if key not in cosines]
        if rest:
            cosines |= self.store.cosines(self.filters, index_config=index_config, vector=vector, keys=rest)
        return cosines


def _checked_mode(mode: str) -> Mode:
    try:
        return Mode(mode)
    except ValueError:
        raise InvalidRequestError(f"no search mode {mode!r}: use {', '.join(Mode)}") from None


def _check(limit: int, embedder: Embedder, index_config: IndexConfig) -> None:
    if not 1 <= limit <= MOST_HITS:
        raise InvalidRequestError(f"limit {limit} is out of range: ask for 1 to {MOST_HITS} hits")
    if (embedder.name, embedder.model) != (index_config.embedder, index_config.model):
        raise InvalidRequestError(
            f"the index was made with {index_config.embedder}/{index_config.model} and cannot be searched with"
            f" {embedder.name}/{embedder.model}: re-index, or configure the embedder that made it"
        )


def _lexers(surveyed: stored.Survey) -> list[Lexer]:
    # Titles are lexed without a language whatever the text is in.
    lexers = [lexer_for(language) for language in (None, *surveyed.languages)]
    return list({lexer.language: lexer for lexer in lexers}.values())


def _embedded(embedder: Embedder, text: str) -> tuple[Vector | None, str]:
    try:
        return embedder.embed([text])[0], ""
    except RetryableError as error:
        return None, f"searched by words only: {error.message}"


def _others(
    connection: Connection,
    scope: Scope,
    surveyed: stored.Survey,
    index_config: IndexConfig,
    vector: Vector,
    text: str,
    embedder_of: EmbedderOf | None,
) -> tuple[list[tuple[IndexConfig, Vector]], str]:
    """Return the query's vector under each other index config of the scope, embedding once a model."""
    others: list[tuple[IndexConfig, Vector]] = []
    vectors = {_model(index_config): vector}
    notice = ""
    for other_id in surveyed.index_config_ids if embedder_of is not None else ():
        if embedder_of is None or other_id == index_config.id:
            continue
        config = index_settings.config(connection, user_id=scope.user_id, index_config_id=other_id)
        try:
            if _model(config) not in vectors:
                vectors[_model(config)] = embedder_of(config).embed([text])[0]
            others.append((config, vectors[_model(config)]))
        except (RetryableError, InvalidRequestError) as error:
            notice = f"what {config.embedder}/{config.model} indexed was searched by words only: {error.message}"
    return others, notice


def _model(config: IndexConfig) -> tuple[str, str, int]:
    return config.embedder, config.model, config.dimensions


def _hits(
    connection: Connection, filters: search_scope.Filters, ranked: Sequence[fusion.Fused[stored.ChunkKey]], limit: int
) -> list[Hit]:
    candidates = ranked[: max(50, 4 * limit)]
    if not candidates:
        return []
    keys = [candidate.key for candidate in candidates]
    rows = stored.hits(connection, user_id=filters.scope.user_id, keys=keys, build_id=filters.build_id)
    live = [(candidate, rows[candidate.key]) for candidate in candidates if candidate.key in rows]
    return _spread(_distinct(live))[:limit]


def _distinct(live: Iterable[tuple[fusion.Fused[stored.ChunkKey], stored.StoredHit]]) -> list[Hit]:
    """Show each text once, under its best chunk."""
    same: dict[bytes, list[tuple[fusion.Fused[stored.ChunkKey], stored.StoredHit]]] = {}
    for candidate, row in live:
        same.setdefault(row.text_hash, []).append((candidate, row))
    return [_hit(*group[0], duplicates=tuple(_chunk_id(row.key) for _, row in group[1:])) for group in same.values()]


def _spread(hits: Sequence[Hit]) -> list[Hit]:
    """Let one document hold at most three of the first ten places, unless there is nothing else to fill them."""
    first: list[Hit] = []
    rest: list[Hit] = []
    places: Counter[UUID] = Counter()
    for hit in hits:
        if len(first) < FIRST_HITS and places[hit.document_id] < CROWDED_AFTER:
            places[hit.document_id] += 1
            first.append(hit)
        else:
            rest.append(hit)
    return first + rest


def _hit(candidate: fusion.Fused[stored.ChunkKey], row: stored.StoredHit, *, duplicates: tuple[str, ...]) -> Hit:
    return Hit(
        id=_chunk_id(row.key),
        document_id=row.key[0],
        title=row.title,
        text=row.text,
        start_offset=row.start_offset,
        end_offset=row.end_offset,
        heading_path=row.heading_path,
        mime_type=row.mime_type,
        source_modified_at=row.source_modified_at,
        external_url=row.external_url,
        external_path=row.external_path,
        data_source_id=row.data_source_id,
        data_source_name=row.data_source_name,
        source_type=row.source_type,
        score=candidate.score,
        bm25=candidate.bm25,
        cosine=candidate.cosine,
        lineage=Lineage(row.external_id, row.external_hash, row.sync_job_id, row.dagster_run_id, row.synced_at),
        duplicates=duplicates,
    )


def _chunk_id(key: stored.ChunkKey) -> str:
    return f"{key[0]}#{key[1]}#{key[2]}"
