"""Embeddings: one is made once, what is missing or out of date is found, and what nothing shows is removed."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Connection, text

from tests.db import waiting
from tests.db.conftest import ALICE, BOB
from tests.db.rows import Library, config_of, document_write, store, text_hash, vector_of
from workstation_pipelines.db import documents, vectors
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import DocumentId, Heading, IndexConfigId

Admin = psycopg.Connection[Any]


def _store(database: Database, alices: Library, *writes: DocumentWrite) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        store(connection, ALICE, writes, data_source_id=alices.source.id)


def _census(database: Database, data_source_id: UUID | None = None) -> dict[str, int]:
    with database.transaction_with_rls(ALICE) as connection:
        return vectors.census(connection, user_id=ALICE, data_source_id=data_source_id)


def _stale(database: Database, config_id: IndexConfigId, source: UUID | None = None) -> list[tuple[UUID, str]]:
    with database.transaction_with_rls(ALICE) as connection:
        found = vectors.stale(connection, user_id=ALICE, index_config_id=config_id, data_source_id=source, limit=10)
    assert [each.id for each in found] == sorted(each.id for each in found)
    return [(each.id, each.problem) for each in found]


def test_equal_values_are_one_config_and_others_another(database: Database) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        first, again, other = (config_of(connection, ALICE, model) for model in ("one", "one", "two"))
    with database.transaction_with_rls(BOB) as connection:
        bobs = config_of(connection, BOB, "one")
    assert first == again
    assert len({first.id, other.id, bobs.id}) == 3


def test_config_that_two_runs_make_at_once_is_one(database: Database, admin: Admin) -> None:
    def make() -> UUID:
        with database.transaction_with_rls(ALICE) as connection:
            return config_of(connection, ALICE).id

    with ThreadPoolExecutor(1) as thread:
        with database.transaction_with_rls(ALICE) as connection:
            mine = config_of(connection, ALICE).id
            other = thread.submit(make)
            waiting.until_somebody_waits(admin)
        assert other.result(timeout=20) == mine


def test_text_that_was_embedded_before_brings_its_vector(database: Database, alices: Library, bobs: Library) -> None:
    hashes = [text_hash(piece) for piece in ("alice's te", "xt", "never seen", "bob's text")]
    with database.transaction_with_rls(ALICE) as connection:

        def before(config_id: IndexConfigId, wanted: list[bytes]) -> dict[bytes, bytes]:
            return vectors.embedded_before(connection, user_id=ALICE, index_config_id=config_id, text_hashes=wanted)

        assert before(alices.config.id, hashes) == {
            text_hash("alice's te"): vector_of("alice's te"),
            text_hash("xt"): vector_of("xt"),
        }
        assert (
            before(alices.config.id, [])
            == before(bobs.config.id, hashes)
            == before(IndexConfigId(uuid4()), hashes)
            == {}
        )


def test_chunk_without_a_vector_has_not_been_embedded_before(database: Database, alices: Library) -> None:
    _store(database, alices, document_write("bare", config_id=alices.config.id, with_vectors=False))
    with database.transaction_with_rls(ALICE) as connection:
        found = vectors.embedded_before(
            connection, user_id=ALICE, index_config_id=alices.config.id, text_hashes=[text_hash("bare")]
        )
    assert found == {}


def test_missing_vectors_are_named_in_order_and_filled(database: Database, alices: Library) -> None:
    write = document_write("0123456789abcde", config_id=alices.config.id, with_vectors=False)
    _store(database, alices, write)
    assert _stale(database, alices.config.id) == [(write.id, "vectors missing")]
    with database.transaction_with_rls(ALICE) as connection:
        missing = vectors.missing(connection, user_id=ALICE, document_ids=[write.id, alices.document_id])
        assert missing == [
            (write.id, 1, 0, text_hash("0123456789"), "0123456789", 3),
            (write.id, 1, 1, text_hash("abcde"), "abcde", 3),
        ]
        filled = [(row[0], row[1], row[2], vector_of(row[4])) for row in missing]
        gone = [(DocumentId(uuid4()), 1, 0, vector_of("x")), (write.id, 1, 99, vector_of("x"))]
        vectors.fill(connection, user_id=ALICE, vectors=[*filled, *gone])
        assert vectors.missing(connection, user_id=ALICE, document_ids=[write.id]) == []
    assert _stale(database, alices.config.id) == []
    rows = database.query_with_rls(
        ALICE,
        "SELECT halfvec_send(embedding) FROM app.chunks WHERE document_id = :id ORDER BY ordinal",
        {"id": write.id},
    )
    assert [bytes(row[0]) for row in rows] == [vector_of("0123456789"), vector_of("abcde")]


def test_vectors_of_another_users_chunks_cannot_be_filled(
    database: Database, alices: Library, bobs: Library, admin: Admin
) -> None:
    with database.transaction_with_rls(BOB) as connection:
        assert vectors.missing(connection, user_id=BOB, document_ids=[alices.document_id]) == []
        vectors.fill(connection, user_id=BOB, vectors=[(alices.document_id, 1, 0, vector_of("bob's"))])
    statement = "SELECT halfvec_send(embedding) FROM app.chunks WHERE document_id = %s AND ordinal = 0"
    assert admin.execute(statement, [alices.document_id]).fetchall() == [(vector_of("alice's te"),)]
    assert bobs.user_id == BOB


DAMAGE = {
    "nothing": ("SELECT 1", None),
    "one chunk less": ("DELETE FROM app.chunks WHERE ordinal = 0", "chunks missing"),
    "last chunk less": ("DELETE FROM app.chunks WHERE ordinal = 1", "chunks missing"),
    "all chunks less": ("DELETE FROM app.chunks", "chunks missing"),
    "wrong count": ("UPDATE app.documents SET chunk_count = 3", "chunks missing"),
    "gap in the order": ("UPDATE app.chunks SET ordinal = 5 WHERE ordinal = 1", "chunks missing"),
    "one vector less": ("UPDATE app.chunks SET embedding = NULL WHERE ordinal = 1", "vectors missing"),
    "an older config": ("UPDATE app.documents SET index_config_id = NULL", "older index config"),
    "a chunk of another generation": (
        """INSERT INTO app.chunks SELECT (jsonb_populate_record(c, '{"generation": 7}')).* FROM app.chunks c
            WHERE ordinal = 0""",
        "chunks of another generation",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_a_document_is_named(database: Database, alices: Library, damage: str) -> None:
    statement, problem = DAMAGE[damage]
    database.query_with_rls(ALICE, statement)
    expected = [] if problem is None else [(alices.document_id, problem)]
    assert _stale(database, alices.config.id) == expected
    assert _stale(database, alices.config.id, alices.source.id) == expected
    assert _stale(database, alices.config.id, uuid4()) == []


def test_every_document_is_stale_under_a_new_config_except_deleted_ones(database: Database, alices: Library) -> None:
    deleted = document_write("deleted", config_id=alices.config.id)
    _store(database, alices, deleted, *(document_write(f"text {n}", config_id=alices.config.id) for n in range(3)))
    with database.transaction_with_rls(ALICE) as connection:
        documents.tombstone(connection, user_id=ALICE, document_ids=[deleted.id])
        other = config_of(connection, ALICE, model="other")
        first = vectors.stale(connection, user_id=ALICE, index_config_id=other.id, data_source_id=None, limit=3)
    found = _stale(database, other.id)
    assert {problem for _, problem in found} == {"older index config"}
    assert len(found) == 3, "for the project of a fourth somebody chose the old one"
    assert [each.id for each in first] == [each for each, _ in found][:3]


def test_empty_document_is_not_stale(database: Database, alices: Library) -> None:
    _store(database, alices, document_write("", config_id=alices.config.id))
    assert _stale(database, alices.config.id) == []


def test_stored_texts_of_live_documents_come_in_order(database: Database, alices: Library) -> None:
    write = dataclasses.replace(document_write("other", config_id=alices.config.id), headings=[Heading(0, 1, "H")])
    deleted = document_write("deleted", config_id=alices.config.id)
    _store(database, alices, write, deleted)
    with database.transaction_with_rls(ALICE) as connection:
        documents.tombstone(connection, user_id=ALICE, document_ids=[deleted.id])
        ids = [write.id, alices.document_id, deleted.id, uuid4()]
        stored = vectors.stored_texts(connection, user_id=ALICE, document_ids=ids)
    by_id = {each.id: each for each in stored}
    assert [each.id for each in stored] == sorted(by_id)
    assert set(by_id) == {write.id, alices.document_id}
    assert by_id[write.id] == vectors.StoredText(write.id, "title", "en", "other", [Heading(0, 1, "H")], 1)


def test_census_counts_what_there_is_and_what_there_should_be(database: Database, alices: Library) -> None:
    sound = {"documents": 1, "chunks_expected": 2, "chunks": 2, "vectors": 2, "strays": 0, "rules_changed": 0}
    assert _census(database) == _census(database, alices.source.id) == sound
    assert set(_census(database, uuid4()).values()) == {0}
    _store(database, alices, document_write("0123456789x", config_id=alices.config.id, with_vectors=False))
    database.query_with_rls(
        ALICE, "DELETE FROM app.chunks WHERE document_id = :id AND ordinal = 0", {"id": alices.document_id}
    )
    assert _census(database) == {
        "documents": 2,
        "chunks_expected": 4,
        "chunks": 3,
        "vectors": 1,
        "strays": 0,
        "rules_changed": 0,
    }


def test_strays_are_counted_removed_and_then_gone(database: Database, alices: Library, bobs: Library) -> None:
    deleted = document_write("deleted", config_id=alices.config.id)
    _store(database, alices, deleted)
    database.query_with_rls(ALICE, "UPDATE app.documents SET deleted_at = now() WHERE id = :id", {"id": deleted.id})
    database.query_with_rls(ALICE, DAMAGE["a chunk of another generation"][0])
    assert _census(database)["strays"] == 3

    def remove(connection: Connection) -> int:
        return vectors.remove_strays(connection, user_id=ALICE)

    with database.transaction_with_rls(ALICE) as connection:
        assert (remove(connection), remove(connection)) == (3, 0)
    assert _census(database) == {
        "documents": 1,
        "chunks_expected": 2,
        "chunks": 2,
        "vectors": 2,
        "strays": 0,
        "rules_changed": 0,
    }
    assert len(database.query_with_rls(BOB, "SELECT 1 FROM app.chunks")) == 1
    assert bobs.user_id == BOB


@pytest.mark.parametrize(("stored", "at_most", "found"), [(0, 5, 1), (9, 5, 5), (9, 20, 10), (30, 10, 10)])
def test_sample_is_spread_and_no_larger_than_asked(
    database: Database, alices: Library, stored: int, at_most: int, found: int
) -> None:
    _store(database, alices, *(document_write(f"text {n}", config_id=alices.config.id) for n in range(stored)))
    with database.transaction_with_rls(ALICE) as connection:
        rows = vectors.sample(connection, user_id=ALICE, data_source_id=None, at_most=at_most)
        assert vectors.sample(connection, user_id=ALICE, data_source_id=uuid4(), at_most=at_most) == []
        assert len(connection.execute(text("SELECT 1 FROM app.documents")).all()) == stored + 1
    assert len(rows) == len({row.id for row in rows}) == found
