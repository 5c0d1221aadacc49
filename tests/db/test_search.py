"""Search finds what is asked for inside the scope, nothing of anybody else, and survives any query."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, event

from tests.db import rows
from workstation_pipelines.db import documents, library, nearest, search_scope, sync_items, sync_jobs, vectors, wire
from workstation_pipelines.db import search as stored
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, SourceUnavailableError
from workstation_pipelines.index import query as queries
from workstation_pipelines.index import search
from workstation_pipelines.index.store import PostgresVectorStore, SnapshotVectorStore, VectorStore
from workstation_pipelines.model import (
    Chunk,
    DocumentId,
    IndexConfig,
    IndexConfigId,
    JobType,
    Scope,
    SourceType,
    SyncJobId,
    UserId,
)
from workstation_pipelines.text.lexemes import lexer_for

ALICE, BOB = UserId("alice"), UserId("bob")
HOSTILE = [
    "' | !x:*",
    "pump'; DROP TABLE app.chunks; --",
    "\\' OR 1=1",
    ":* & | ! <-> ( )",
    "a\x00b pump",
    "😀 pump 🚀",
    "\ud800 pump",
    "%s %(user_id)s :user_id pump",
    '"unbalanced pump',
    '"\'; SELECT 1" pump',
    "-'quoted pump",
    "pump " * 400,
    "".join(f"w{number} " for number in range(400)),
    "ﷺ" * 2_000,
    "12.5.3-a_b/c" * 150,
]
MARCH = datetime(2024, 3, 1, tzinfo=UTC)
JUNE = datetime(2024, 6, 1, tzinfo=UTC)


_SYNONYMS = {"automobile": "car"}


class WordVectors:
    """An embedder that puts texts near each other when they share words or the synonyms it knows."""

    name = "test"
    model = "word vectors"
    dimensions = 384

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float32]:
        words = [_SYNONYMS.get(word, word) for word in re.findall(r"\w+", text.lower())] or [""]
        total = np.sum([self._word(word) for word in words], axis=0)
        return np.asarray(total / np.linalg.norm(total), np.float32)

    def _word(self, word: str) -> NDArray[np.float64]:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big")
        return np.random.default_rng(seed).normal(size=self.dimensions)


class Unreachable(WordVectors):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise SourceUnavailableError("the embedding service does not answer: try again later")


@dataclass(frozen=True, slots=True)
class Shelf:
    """One user's source, to put documents on and to search."""

    database: Database
    user_id: UserId
    source: DataSource
    config: IndexConfig

    def add(self, *texts: str, title: str = "Untitled", language: str | None = "en", **described: Any) -> DocumentId:
        """Store a document whose chunks are `texts`."""
        project_id = described.pop("project_id", None)
        write = replace(self.write(texts, title, language), **described)
        with self.database.transaction_with_rls(self.user_id) as connection:
            rows.store(connection, self.user_id, [write], data_source_id=self.source.id, project_id=project_id)
        return write.id

    def write(self, texts: Sequence[str], title: str, language: str | None) -> documents.DocumentWrite:
        halfvecs = wire.halfvecs(WordVectors().embed(texts))
        whole = rows.document_write("".join(texts), config_id=self.config.id, title=title)
        starts = [sum(map(len, texts[:number])) for number in range(len(texts))]
        chunks = [
            documents.ChunkWrite(
                Chunk(number, text, start, start + len(text), "", len(text.split()) or 1),
                rows.text_hash(text),
                lexer_for(language).counted(text),
                halfvec,
            )
            for number, (text, start, halfvec) in enumerate(zip(texts, starts, halfvecs, strict=True))
        ]
        return replace(whole, chunks=chunks, title_lexemes=lexer_for(None).counted(title), language=language)

    def find(self, query: str, *, embedder: WordVectors | None = None, **options: Any) -> search.SearchResult:
        scope = options.pop("scope", Scope(self.user_id))
        return search.search(self.database, embedder or WordVectors(), self.config, query, scope, **options)

    def titles(self, query: str, **options: Any) -> list[str]:
        return [hit.title for hit in self.find(query, **options).hits]


def shelf_of(database: Database, user_id: UserId, name: str = "notes") -> Shelf:
    with database.transaction_with_rls(user_id) as connection:
        source = rows.add_source(connection, user_id, name)
        config = vectors.index_config(
            connection,
            user_id=user_id,
            embedder=WordVectors.name,
            model=WordVectors.model,
            dimensions=WordVectors.dimensions,
            chunk_tokens=254,
            overlap_tokens=0,
            new_id=uuid4,
        )
    return Shelf(database, user_id, source, config)


@pytest.fixture
def alice(database: Database) -> Shelf:
    return shelf_of(database, ALICE)


@pytest.fixture
def bob(database: Database) -> Shelf:
    return shelf_of(database, BOB)


class TestRanking:
    def test_a_rare_word_outranks_a_common_one(self, alice: Shelf) -> None:
        for number in range(6):
            alice.add(f"the report number {number} of this week", title=f"report {number}")
        alice.add("the turbine was inspected", title="turbine")
        assert alice.titles("turbine report", mode="text")[0] == "turbine"

    def test_more_occurrences_rank_higher(self, alice: Shelf) -> None:
        alice.add("pump pump pump pump and other words", title="four")
        alice.add("pump and several quite other words", title="one")
        assert alice.titles("pump", mode="text") == ["four", "one"]

    def test_bm25_is_the_textbook_formula(self, alice: Shelf) -> None:
        alice.add("pump pump valve", title="")
        alice.add("valve seal gasket", title="")
        alice.add("nothing of it here", title="")
        scores = sorted(hit.bm25 or 0.0 for hit in alice.find("pump", mode="text").hits)
        tokens, mean = 3, 10 / 3
        weight = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
        factor = stored.TERM_FREQUENCY_SATURATION * (
            1 - stored.LENGTH_NORMALISATION + stored.LENGTH_NORMALISATION * tokens / mean
        )
        assert scores == [pytest.approx(weight * 2 * (stored.TERM_FREQUENCY_SATURATION + 1) / (2 + factor))]

    def test_a_match_in_the_title_counts(self, alice: Shelf) -> None:
        alice.add("see the numbers below", title="Budget of the plant")
        alice.add("see the numbers above", title="Minutes")
        assert alice.titles("budget", mode="text") == ["Budget of the plant"]

    def test_meaning_finds_what_shares_no_word(self, alice: Shelf) -> None:
        alice.add("an automobile in the garage", title="garage")
        alice.add("a cat on the roof", title="roof")
        assert alice.titles("car", mode="vector", limit=1) == ["garage"]
        assert alice.titles("car", mode="text") == []

    def test_an_identifier_ranks_its_document_first_among_lookalikes(self, alice: Shelf) -> None:
        for number in range(20):
            alice.add(f"invoice INV-2024-{4700 + number} for servers and storage", title=str(4700 + number))
        assert alice.titles("INV-2024-4711")[0] == "4711"

    def test_words_are_compared_in_each_language_of_the_scope(self, alice: Shelf) -> None:
        alice.add("Die Verträge wurden gekündigt", title="german", language="de")
        alice.add("the contracts were signed", title="english")
        assert alice.titles("Vertrag", mode="text") == ["german"]
        assert alice.titles("contract", mode="text") == ["english"]

    def test_a_word_in_two_languages_counts_once(self, alice: Shelf) -> None:
        alice.add("running water", title="english")
        single = alice.find("running", mode="text").hits[0].bm25
        alice.add("fließendes Wasser", title="german", language="de")
        alice.add("eau courante", title="french", language="fr")
        hit = alice.find("running", mode="text").hits[0]
        assert (hit.title, len(alice.find("running", mode="text").hits)) == ("english", 1)
        assert hit.bm25 is not None
        assert single is not None
        assert hit.bm25 < 2 * np.log(1 + 2.5 / 1.5)


class TestDemands:
    def test_a_quoted_phrase_must_stand_in_the_text_whatever_its_case_and_accents(self, alice: Shelf) -> None:
        alice.add("Der Bericht nennt die GRÖSSTE  Übergabe heute", title="together")
        alice.add("Übergabe war nicht die grösste", title="apart")
        assert alice.titles('"grosste ubergabe"') == ["together"]

    def test_a_phrase_of_part_of_an_identifier_is_looked_for_in_the_text(self, alice: Shelf) -> None:
        alice.add("notes of release v2.1.3", title="release")
        alice.add("notes of release v3.2.1", title="other")
        assert alice.titles('"v2.1" release') == ["release"]

    def test_a_phrase_restricts_the_vectors_too(self, alice: Shelf) -> None:
        alice.add("annual report of the plant", title="together")
        alice.add("report of the annual plant", title="apart")
        assert alice.titles('"annual report"', mode="vector") == ["together"]

    def test_an_excluded_word_hides_its_chunks(self, alice: Shelf) -> None:
        alice.add("pump manual draft", title="draft")
        alice.add("pump manual final", title="final")
        for mode in search.Mode:
            assert alice.titles("pump manual -draft", mode=mode) == ["final"]

    def test_an_excluded_word_hides_documents_titled_with_it(self, alice: Shelf) -> None:
        alice.add("pump manual", title="Draft of the manual")
        assert alice.titles("pump -drafts") == []


class TestScope:
    def test_each_restriction_holds_in_each_mode(self, alice: Shelf, database: Database) -> None:
        with database.transaction_with_rls(ALICE) as connection:
            project = library.ensure_project(connection, user_id=ALICE, name="plant", new_id=uuid4)
            tag = library.ensure_tag(connection, user_id=ALICE, name="urgent", new_id=uuid4)
        other = shelf_of(database, ALICE, "other")
        inside = alice.add(
            "pump manual", title="inside", mime_type="application/pdf", source_modified_at=MARCH, project_id=project
        )
        other.add("pump manual too", title="outside", mime_type="text/plain", source_modified_at=JUNE)
        with database.transaction_with_rls(ALICE) as connection:
            library.tag(connection, user_id=ALICE, document_id=inside, tag_id=tag)
        scopes = [
            Scope(ALICE, project_ids=[project]),
            Scope(ALICE, tag_names=["urgent", "unused"]),
            Scope(ALICE, data_source_ids=[alice.source.id]),
            Scope(ALICE, mime_types=["application/pdf"]),
            Scope(ALICE, modified_before=JUNE),
            Scope(ALICE, modified_from=MARCH, modified_before=JUNE, source_types=[SourceType.LOCAL_FOLDER]),
        ]
        for scope in scopes:
            for mode in search.Mode:
                assert alice.titles("pump manual", scope=scope, mode=mode) == ["inside"], (scope, mode)
        assert alice.titles("pump", scope=Scope(ALICE, source_types=[SourceType.GMAIL])) == []
        assert len(alice.titles("pump", scope=Scope(ALICE, modified_from=MARCH))) == 2

    def test_a_restriction_applies_before_the_limit(self, alice: Shelf) -> None:
        alice.add(*(f"pump pump pump {number}" for number in range(search.CANDIDATES + 10)), title="many")
        alice.add("a long text that mentions the pump once", title="rare", mime_type="application/pdf")
        assert alice.titles("pump", scope=Scope(ALICE, mime_types=["application/pdf"]), limit=1) == ["rare"]

    @pytest.mark.parametrize("field", ["project_ids", "tag_names", "source_types", "data_source_ids", "mime_types"])
    def test_an_empty_restriction_admits_nothing_and_asks_no_database(self, field: str) -> None:
        nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
        config = IndexConfig(IndexConfigId(uuid4()), WordVectors.name, WordVectors.model, 384, 254, 0)
        scope = replace(Scope(ALICE), **{field: ()})  # type: ignore[arg-type]  # each of them is a sequence
        found = search.search(nowhere, WordVectors(), config, "pump", scope)
        assert found.nothing_relevant
        nowhere.close()

    def test_deleted_documents_and_old_generations_are_not_found(self, alice: Shelf, database: Database) -> None:
        gone = alice.add("pump manual", title="gone")
        changed = alice.add("pump manual of old", title="changed")
        new = alice.write(["valve manual of now"], "changed", "en")
        with database.transaction_with_rls(ALICE) as connection:
            documents.tombstone(connection, user_id=ALICE, document_ids=[gone])
            rows.store(connection, ALICE, [replace(new, id=changed, is_new=False, generation=2)])
        assert alice.titles("pump", mode="text") == []
        assert [hit.id for hit in alice.find("manual").hits] == [f"{changed}#2#0"]

    @pytest.mark.parametrize("death", ["live_generation = 7", "deleted_at = now()"])
    def test_dead_chunks_take_no_part_in_a_ranking_and_are_not_shown(
        self, alice: Shelf, admin: psycopg.Connection[Any], death: str
    ) -> None:
        dead = alice.add("pump manual", title="")
        admin.execute(f"UPDATE app.documents SET {death}")  # noqa: S608 - constants above
        filters = search_scope.Filters(Scope(ALICE))
        vector = WordVectors().embed(["pump"])[0]
        with alice.database.transaction_with_rls(ALICE) as connection:
            assert stored.rank_by_text(connection, filters, terms=[["pump"]], limit=9).matches == []
            for exact_up_to in (0, 10):
                options = {"index_config": alice.config, "vector": vector, "limit": 9, "exact_up_to": exact_up_to}
                assert nearest.nearest(connection, filters, **options) == []
            # Whoever found them, a vector store that lags behind for one.
            assert stored.hits(connection, user_id=ALICE, keys=[(dead, 1, 0), (uuid4(), 1, 0)]) == {}


class TestHits:
    def test_a_hit_carries_text_origin_and_lineage(self, alice: Shelf, database: Database) -> None:
        lease = rows.lease_of(alice.source)
        document_id = alice.add("the pump", " and the valve", title="Manual", external_url="https://example.com/1")
        job_id = SyncJobId(uuid4())
        with database.transaction_with_rls(ALICE) as connection:
            sync_jobs.start(
                connection, lease, job_id=job_id, job_type=JobType.FULL_SYNC, progress={}, dagster_run_id="run-1"
            )
            item = rows.item_write("manual.txt", document_id=document_id)
            sync_items.write(connection, lease, job_id=job_id, sweep_id=None, writes=[item])
        hit = alice.find("valve", limit=1).hits[0]
        assert (hit.id, hit.text, hit.start_offset, hit.end_offset) == (f"{document_id}#1#1", " and the valve", 8, 22)
        assert (hit.title, hit.external_url, hit.data_source_name, hit.source_type) == (
            "Manual", "https://example.com/1", "notes", "local_folder",
        )  # fmt: skip
        assert hit.external_path == item.item.external_path
        assert (hit.lineage.sync_job_id, hit.lineage.dagster_run_id) == (job_id, "run-1")
        view = database.query_with_rls(ALICE, "SELECT * FROM app.document_lineage WHERE ordinal = 1")[0]
        assert (view.chunk_id, view.external_id, view.external_hash, view.sync_job_id, view.dagster_run_id) == (
            hit.id, hit.lineage.external_id, hit.lineage.external_hash, hit.lineage.sync_job_id, "run-1",
        )  # fmt: skip

    def test_one_document_holds_three_of_the_first_ten_places(self, alice: Shelf) -> None:
        alice.add(*(f"pump pump pump part {number}. " for number in range(8)), title="crowd")
        for number in range(4):
            alice.add(f"one pump among other things, case {number}", title="single")
        titles = alice.titles("pump", limit=10)
        assert titles[:7].count("crowd") == 3
        assert titles.count("single") == 4
        assert len(titles) == 10

    def test_a_document_alone_fills_all_places(self, alice: Shelf) -> None:
        alice.add(*(f"pump part {number}. " for number in range(8)), title="alone")
        assert len(alice.titles("pump", limit=8)) == 8

    def test_the_same_text_is_shown_once_and_names_its_duplicates(self, alice: Shelf) -> None:
        ids = {f"{alice.add('pump manual', title=title)}#1#0" for title in ("one", "two", "three")}
        (hit,) = alice.find("pump").hits
        assert {hit.id, *hit.duplicates} == ids

    def test_a_chunk_found_by_words_alone_gets_its_cosine_too(self, alice: Shelf) -> None:
        class Shortsighted(SnapshotVectorStore):
            def within(self, connection: Connection) -> VectorStore:
                return Shortsighted(connection)

            def nearest(self, filters: Any, **options: Any) -> list[nearest.Neighbour]:
                return []

        alice.add("pump manual", title="")
        with alice.database.transaction_with_rls(alice.user_id) as connection:
            (hit,) = alice.find("pump manual", store=Shortsighted(connection)).hits
        assert hit.cosine == pytest.approx(1.0, abs=1e-3)

    def test_scores_fall_and_stay_between_0_and_1(self, alice: Shelf) -> None:
        for number in range(5):
            alice.add("pump " * number + f"and words {number}", title=str(number))
        for mode in search.Mode:
            scores = [hit.score for hit in alice.find("pump words", mode=mode).hits]
            assert scores == sorted(scores, reverse=True)
            assert all(0 <= score <= 1 for score in scores)


class TestFallback:
    def test_words_answer_when_the_embedder_is_out_of_reach(self, alice: Shelf) -> None:
        alice.add("pump manual", title="manual")
        found = alice.find("pump", embedder=Unreachable())
        assert [hit.title for hit in found.hits] == ["manual"]
        assert found.mode is search.Mode.TEXT
        assert "the embedding service does not answer" in found.notice

    def test_the_database_answers_when_the_vector_store_is_out_of_reach(self, alice: Shelf) -> None:
        class Down(PostgresVectorStore):
            def within(self, connection: Connection) -> VectorStore:
                return self

            def nearest(self, filters: Any, **options: Any) -> list[nearest.Neighbour]:
                raise SourceUnavailableError("the vector index does not answer: try again later")

        alice.add("pump manual", title="manual")
        found = alice.find("pump", store=Down(alice.database))
        assert (len(found.hits), found.mode) == (1, search.Mode.HYBRID)
        assert found.hits[0].cosine is not None
        assert found.notice.startswith("vectors were searched in the database: the vector index")


class TestRefusals:
    def test_requests_that_cannot_be_meant_are_refused(self, alice: Shelf) -> None:
        refused: list[tuple[str, dict[str, Any]]] = [
            ("  ", {}),
            ("x" * 2_001, {}),
            ("-pump", {}),
            ("pump", {"limit": 0}),
            ("pump", {"limit": 101}),
            ("pump", {"mode": "magic"}),
        ]
        for query, options in refused:
            with pytest.raises(InvalidRequestError):
                alice.find(query, **options)

    def test_an_embedder_that_did_not_make_the_index_is_refused(self, alice: Shelf) -> None:
        class Other(WordVectors):
            model = "other"

        with pytest.raises(InvalidRequestError, match="re-index"):
            alice.find("pump", embedder=Other())

    def test_any_text_is_only_text(self, alice: Shelf) -> None:
        alice.add("pump manual", title="manual")
        for query in HOSTILE:
            for mode in search.Mode:
                alice.find(query[: queries.LONGEST_QUERY], mode=mode)
        assert alice.titles("pump") == ["manual"]

    def test_a_lexeme_of_any_characters_matches_itself_and_nothing_else(self, alice: Shelf) -> None:
        lexemes = ["it's", "a\\b", "a:b*", "x | y", "!z", "'", "<->", " ", "plain"]
        write = alice.write(lexemes, "strange", "en")
        assert write.chunks is not None
        chunks = [replace(chunk, lexemes={lexeme: 2}) for chunk, lexeme in zip(write.chunks, lexemes, strict=True)]
        with alice.database.transaction_with_rls(ALICE) as connection:
            rows.store(connection, ALICE, [replace(write, chunks=chunks)], data_source_id=alice.source.id)
            for ordinal, lexeme in enumerate(lexemes):
                filters = search_scope.Filters(Scope(ALICE))
                ranking = stored.rank_by_text(connection, filters, terms=[[lexeme]], limit=10)
                assert [match.key[2] for match in ranking.matches] == [ordinal], lexeme
                rest = stored.rank_by_text(connection, replace(filters, excluded=[lexeme]), terms=[lexemes], limit=10)
                assert len(rest.matches) == len(lexemes) - 1, lexeme


class TestIsolation:
    def test_identical_texts_of_two_users_never_meet(self, alice: Shelf, bob: Shelf) -> None:
        mine = {f"{alice.add('pump manual', title='mine')}#1#0" for _ in range(3)}
        for _ in range(5):
            bob.add("pump manual", title="theirs")
        for mode in search.Mode:
            found = alice.find("pump manual", mode=mode)
            assert {identity for hit in found.hits for identity in (hit.id, *hit.duplicates)} == mine

    def test_another_users_rows_do_not_move_scores(self, alice: Shelf, bob: Shelf) -> None:
        alice.add("pump manual", title="one")
        alice.add("valve manual", title="two")
        before = [(hit.id, hit.score, hit.bm25, hit.cosine) for hit in alice.find("pump manual").hits]
        for number in range(10):
            bob.add(f"pump {number}", title="pump")
        assert [(hit.id, hit.score, hit.bm25, hit.cosine) for hit in alice.find("pump manual").hits] == before

    def test_naming_another_users_source_finds_nothing(self, alice: Shelf, bob: Shelf) -> None:
        bob.add("pump manual", title="theirs")
        assert alice.titles("pump", scope=Scope(ALICE, data_source_ids=[bob.source.id])) == []

    def test_every_reading_of_rows_is_by_their_owner(self, alice: Shelf) -> None:
        alice.add("pump manual", title="one")
        with recorded(alice.database) as statements:
            alice.find('"pump manual" -draft')
        read = [sql for sql, _ in statements if "app." in sql and "set_current_user_id" not in sql]
        assert len(read) >= 4
        for sql in read:
            tables = len(re.findall(r"(?:FROM|JOIN) app\.\w+", sql))
            assert sql.count("user_id = %(user_id)s") >= tables, sql

    def test_plans_look_rows_up_by_owner(self, alice: Shelf, bob: Shelf, admin: psycopg.Connection[Any]) -> None:
        alice.add("pump manual", title="one")
        for _ in range(3):
            bob.add(*(f"filler text {number} " for number in range(100)), title="theirs")
        admin.execute("ANALYZE app.chunks")
        for plan in plans(alice.database, ALICE, lambda: alice.find("pump manual")):
            if "on chunks" in plan:
                assert re.search(r"(Index Cond|Recheck Cond|Filter):.*user_id = 'alice'", plan), plan
                assert "Seq Scan on chunks" not in plan


class TestApproximateIndex:
    def test_promoted_chunks_are_searched_by_the_index_with_the_exact_answer(
        self, alice: Shelf, bob: Shelf, admin: psycopg.Connection[Any]
    ) -> None:
        for shelf in (alice, bob):
            _fill(shelf, 400)
            assert _promote_all(shelf) == 400
        late = alice.add("w1 w2 w3 w4 added after the promotion", title="late")
        store = _Approximate(alice.database)
        asked = [WordVectors().embed([_words(seed)])[0] for seed in range(1_000, 1_020)]
        filters = search_scope.Filters(Scope(ALICE))
        options = {"index_config": alice.config, "limit": 10}
        recalls = []
        for vector in asked:
            exact = PostgresVectorStore(alice.database).nearest(filters, vector=vector, **options)  # type: ignore[arg-type]
            found = store.nearest(filters, vector=vector, **options)
            recalls.append(len({n.key for n in exact} & {n.key for n in found}) / len(exact))
            assert [n.cosine for n in found] == sorted((n.cosine for n in found), reverse=True)
        assert np.mean(recalls) >= 0.95
        own = WordVectors().embed(["w1 w2 w3 w4 added after the promotion"])[0]
        assert store.nearest(filters, vector=own, **options)[0].key[0] == late
        seen = plans(alice.database, ALICE, lambda: store.nearest(filters, vector=asked[0], **options))
        assert sum("chunks_ann_384" in plan for plan in seen) == 1

    def test_a_scope_holds_inside_the_index_scan(self, alice: Shelf) -> None:
        _fill(alice, 300)
        wanted = alice.add("w1 w2", title="wanted", mime_type="application/pdf")
        _promote_all(alice)
        filters = search_scope.Filters(Scope(ALICE, mime_types=["application/pdf"]))
        vector = WordVectors().embed(["w90 w91"])[0]
        found = _Approximate(alice.database).nearest(filters, index_config=alice.config, vector=vector, limit=10)
        assert [neighbour.key[0] for neighbour in found] == [wanted]

    def test_users_below_the_threshold_are_not_promoted(self, alice: Shelf, database: Database) -> None:
        alice.add("pump manual", title="one")
        with database.transaction_with_rls(ALICE) as connection:
            assert nearest.promote(connection, user_id=ALICE) == 0

    def test_promotion_touches_its_user_only_and_ends(self, alice: Shelf, bob: Shelf) -> None:
        _fill(alice, 30)
        _fill(bob, 5)
        with alice.database.transaction_with_rls(ALICE) as connection:
            moved = [nearest.promote(connection, user_id=ALICE, at_most=20, exact_up_to=0) for _ in range(3)]
        assert moved == [20, 10, 0]
        left = bob.database.query_with_rls(BOB, "SELECT count(*) FROM app.chunks WHERE is_ann_indexed")
        assert left[0][0] == 0


class _Approximate(PostgresVectorStore):
    """The database's vectors with the approximate index in use for any number of chunks."""

    def nearest(self, filters: search_scope.Filters, **options: Any) -> list[nearest.Neighbour]:
        with self._database.transaction_with_rls(filters.scope.user_id) as connection:
            return nearest.nearest(connection, filters, exact_up_to=0, **options)


def _words(seed: int) -> str:
    drawn = np.random.default_rng(seed).integers(0, 60, size=8)
    return " ".join(f"w{number}" for number in drawn)


def _fill(shelf: Shelf, count: int) -> None:
    shelf.add(*(f"{_words(number)} {number} " for number in range(count)), title="filler")


def _promote_all(shelf: Shelf) -> int:
    with shelf.database.transaction_with_rls(shelf.user_id) as connection:
        return nearest.promote(connection, user_id=shelf.user_id, exact_up_to=0)


@contextmanager
def recorded(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Yield the statements that the block runs, with their parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        seen.append((statement, parameters))

    event.listen(database._engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(database._engine, "before_cursor_execute", note)


def plans(database: Database, user_id: UserId, call: Callable[[], object]) -> list[str]:
    """Return the plan of each statement that `call` runs on the tables, under the settings that it ran with."""
    with recorded(database) as statements:
        call()
    found = []
    with database.transaction_with_rls(user_id) as connection:
        for statement, parameters in statements:
            if "app." not in statement or "set_current_user_id" in statement:
                connection.exec_driver_sql(statement, parameters)
                continue
            lines = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            found.append("\n".join(line[0] for line in lines))
    return found
