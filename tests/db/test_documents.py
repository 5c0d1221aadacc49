"""Documents change from one state to the next as a whole: a reader sees the old one or the new one, never a mixture."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError

from tests.db.conftest import ALICE, BOB
from tests.db.rows import Library, config_of, document_write, store
from workstation_pipelines.db import documents, library, wire
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import Chunk, Heading

Admin = psycopg.Connection[Any]


def _store(database: Database, alices: Library, *writes: DocumentWrite, **more: Any) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        store(connection, ALICE, writes, data_source_id=alices.source.id, **more)


def _row(database: Database, write: DocumentWrite) -> Any:
    rows = database.query_with_rls(ALICE, "SELECT * FROM app.documents WHERE id = :id", {"id": write.id})
    return rows[0] if rows else None


def _chunks(database: Database, write: DocumentWrite) -> list[tuple[int, str]]:
    statement = "SELECT generation, text FROM app.chunks WHERE document_id = :id ORDER BY generation, ordinal"
    return [(row.generation, row.text) for row in database.query_with_rls(ALICE, statement, {"id": write.id})]


def test_new_document_is_stored_with_every_field(database: Database, alices: Library) -> None:
    words = "H\N{LATIN SMALL LETTER E WITH ACUTE}llo \N{PILE OF POO} wonderful world, and then some more"
    write = dataclasses.replace(
        document_write(words, config_id=alices.config.id, title="T \N{SNOWMAN}"),
        external_url="https://x/y",
        headings=[Heading(0, 1, "H\N{SNOWMAN}"), Heading(10, 2, '"quoted" \\ {,}')],
        source_created_at=datetime(1, 1, 1, tzinfo=UTC),
        source_modified_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        title_lexemes={"t": 2, "\N{SNOWMAN}": 1},
    )
    _store(database, alices, write, project_id=alices.project_id)
    row = _row(database, write)
    for name in (
        "title",
        "mime_type",
        "external_url",
        "size_bytes",
        "content_hash",
        "language",
        "text",
        "index_config_id",
    ):
        assert getattr(row, name) == getattr(write, name), name
    assert (row.source_created_at, row.source_modified_at) == (write.source_created_at, write.source_modified_at)
    assert row.headings == [[0, 1, "H\N{SNOWMAN}"], [10, 2, '"quoted" \\ {,}']]
    assert (row.live_generation, row.chunk_count, row.deleted_at) == (1, len(write.chunks or ()), None)
    assert (row.project_id, row.data_source_id) == (alices.project_id, alices.source.id)
    assert row.title_tsv == "'t':1,2 '\N{SNOWMAN}'"


def test_chunks_are_stored_as_they_were_cut(database: Database, alices: Library) -> None:
    words = "\N{PILE OF POO}" * 25
    write = document_write(words, config_id=alices.config.id)
    _store(database, alices, write)
    with database.transaction_with_rls(ALICE) as connection:
        rows = library.chunks_of(connection, user_id=ALICE, document_id=write.id)
        stored = [
            Chunk(row.ordinal, row.text, row.start_offset, row.end_offset, row.heading_path, row.token_count)
            for row in rows
        ]
        assert library.text_of(connection, user_id=ALICE, document_id=write.id) == words
    assert write.chunks is not None
    assert stored == [written.chunk for written in write.chunks]
    assert [words[chunk.start_offset : chunk.end_offset] for chunk in stored] == [chunk.text for chunk in stored]
    kept = database.query_with_rls(
        ALICE,
        "SELECT text_hash, halfvec_send(embedding), tsv::text FROM app.chunks WHERE document_id = :id ORDER BY ordinal",
        {"id": write.id},
    )
    assert [(bytes(text_hash), bytes(embedding), tsv) for text_hash, embedding, tsv in map(tuple, kept)] == [
        (written.text_hash, written.embedding, "'lexeme'") for written in write.chunks
    ]


def test_chunk_without_vector_has_none(database: Database, alices: Library) -> None:
    write = document_write("some text", config_id=alices.config.id, with_vectors=False)
    _store(database, alices, write)
    with database.transaction_with_rls(ALICE) as connection:
        assert [row.has_vector for row in library.chunks_of(connection, user_id=ALICE, document_id=write.id)] == [False]


def test_changed_document_has_its_next_generation_only(database: Database, alices: Library) -> None:
    first = document_write("a" * 35, config_id=alices.config.id)
    second = document_write("b" * 15, config_id=alices.config.id, document_id=first.id, is_new=False, generation=2)
    _store(database, alices, first, project_id=alices.project_id)
    _store(database, alices, second)
    row = _row(database, first)
    assert (row.text, row.live_generation, row.chunk_count) == ("b" * 15, 2, 2)
    assert row.project_id == alices.project_id  # where its owner put it
    assert _chunks(database, first) == [(2, "b" * 10), (2, "b" * 5)]


def test_document_that_became_empty_has_no_chunks(database: Database, alices: Library) -> None:
    first = document_write("text", config_id=alices.config.id)
    _store(database, alices, first)
    empty = document_write("", config_id=alices.config.id, document_id=first.id, is_new=False, generation=2)
    _store(database, alices, empty)
    assert (_row(database, first).chunk_count, _chunks(database, first)) == (0, [])


def test_renamed_document_keeps_text_chunks_and_generation(database: Database, alices: Library) -> None:
    write = document_write("text", config_id=alices.config.id)
    _store(database, alices, write)
    renamed = DocumentWrite(
        id=write.id,
        is_new=False,
        title="renamed",
        title_lexemes={"renam": 1},
        mime_type="text/markdown",
        external_url="https://x/renamed",
        size_bytes=99,
        source_created_at=None,
        source_modified_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    _store(database, alices, renamed)
    row = _row(database, write)
    assert (row.title, row.title_tsv, row.mime_type, row.size_bytes) == ("renamed", "'renam'", "text/markdown", 99)
    assert (row.text, row.live_generation, row.content_hash) == ("text", 1, write.content_hash)
    assert _chunks(database, write) == [(1, "text")]


def test_new_changed_and_renamed_documents_go_in_one_batch(database: Database, alices: Library) -> None:
    old = [document_write(f"old {number}", config_id=alices.config.id) for number in range(2)]
    _store(database, alices, *old)
    changed = document_write("changed", config_id=alices.config.id, document_id=old[0].id, is_new=False, generation=2)
    renamed = dataclasses.replace(old[1], is_new=False, title="renamed", chunks=None)
    new = [document_write(f"new {number} " + "x" * 5000, config_id=alices.config.id) for number in range(40)]
    _store(database, alices, *new, changed, renamed)
    assert _chunks(database, changed) == [(2, "changed")]
    assert (_row(database, renamed).title, _chunks(database, renamed)) == ("renamed", [(1, "old 1")])
    assert sum(len(_chunks(database, write)) for write in new) == sum(len(write.chunks or ()) for write in new)


def test_tombstone_hides_a_document_and_a_later_version_revives_it(database: Database, alices: Library) -> None:
    write = document_write("text", config_id=alices.config.id)
    _store(database, alices, write)
    for _ in range(2):
        with database.transaction_with_rls(ALICE) as connection:
            documents.tombstone(connection, user_id=ALICE, document_ids=[write.id, uuid4()])
            documents.tombstone(connection, user_id=ALICE, document_ids=[])
    row = _row(database, write)
    assert (row.deleted_at is not None, row.chunk_count, row.text, _chunks(database, write)) == (True, 0, "text", [])
    again = document_write("back", config_id=alices.config.id, document_id=write.id, is_new=False, generation=2)
    _store(database, alices, again)
    assert (_row(database, write).deleted_at, _chunks(database, write)) == (None, [(2, "back")])


def test_second_tombstone_keeps_the_time_of_the_first(database: Database, alices: Library) -> None:
    moments = set()
    for _ in range(2):
        with database.transaction_with_rls(ALICE) as connection:
            documents.tombstone(connection, user_id=ALICE, document_ids=[alices.document_id])
        rows = database.query_with_rls(ALICE, "SELECT deleted_at FROM app.documents WHERE deleted_at IS NOT NULL")
        moments |= {row.deleted_at for row in rows}
    assert len(moments) == 1


def test_concurrent_reader_sees_the_old_or_the_new_generation_and_never_a_mixture(
    database: Database, alices: Library
) -> None:
    write = document_write("generation 1 ".ljust(200, "1"), config_id=alices.config.id)
    _store(database, alices, write)
    last = 25

    def rewrite() -> None:
        for generation in range(2, last + 1):
            words = f"generation {generation} ".ljust(200 + 10 * generation, str(generation % 10))
            _store(
                database,
                alices,
                document_write(
                    words, config_id=alices.config.id, document_id=write.id, is_new=False, generation=generation
                ),
            )

    with ThreadPoolExecutor(1) as thread:
        writer = thread.submit(rewrite)
        seen = [_whole(database, write)]
        while not writer.done():
            seen.append(_whole(database, write))
        writer.result()
    seen.append(_whole(database, write))
    assert seen == sorted(seen)
    assert seen[-1] == last


def _whole(database: Database, write: DocumentWrite) -> int:
    """Read the live chunks in one READ COMMITTED statement and return their generation; they make up the whole text."""
    statement = """
        SELECT d.live_generation, d.chunk_count, d.content_hash, d.text, array_agg(c.text ORDER BY c.ordinal) AS pieces,
               array_agg(DISTINCT c.generation) AS generations
          FROM app.documents d JOIN app.chunks c ON c.user_id = d.user_id AND c.document_id = d.id
         WHERE d.user_id = 'alice' AND d.id = :id GROUP BY d.id"""
    (row,) = database.query_with_rls(ALICE, statement, {"id": write.id})
    assert row.generations == [row.live_generation]
    assert "".join(row.pieces) == row.text
    assert len(row.pieces) == row.chunk_count
    assert hashlib.sha256(row.text.encode()).hexdigest() == row.content_hash
    return int(row.live_generation)


def test_error_in_the_middle_leaves_nothing_of_a_batch(database: Database, alices: Library) -> None:
    good, bad = (document_write(words, config_id=alices.config.id) for words in ("good", "bad"))
    assert bad.chunks is not None
    with_nul = dataclasses.replace(bad.chunks[0].chunk, text="a\0b")
    broken = dataclasses.replace(bad, chunks=[dataclasses.replace(bad.chunks[0], chunk=with_nul)])
    with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
        _store(database, alices, good, broken)
    assert (_row(database, good), _row(database, broken)) == (None, None)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 5), (5, 4)])
def test_chunk_offsets_that_enclose_nothing_are_refused(
    database: Database, alices: Library, start: int, end: int
) -> None:
    write = document_write("text", config_id=alices.config.id)
    assert write.chunks is not None
    cut = dataclasses.replace(write.chunks[0].chunk, start_offset=start, end_offset=end)
    broken = dataclasses.replace(write, chunks=[dataclasses.replace(write.chunks[0], chunk=cut)])
    with pytest.raises((IntegrityError, psycopg.IntegrityError), match="chunks_offsets_check"):
        _store(database, alices, broken)


def _rechunk(database: Database, *writes: DocumentWrite) -> list[Any]:
    with database.transaction_with_rls(ALICE) as connection:
        return documents.rechunk(connection, user_id=ALICE, writes=writes, packer=wire.TsvectorPacker())


def test_rechunking_gives_the_same_text_its_next_generation(database: Database, alices: Library) -> None:
    write = document_write("abcdefghij", config_id=alices.config.id)
    _store(database, alices, write)
    with database.transaction_with_rls(ALICE) as connection:
        other = config_of(connection, ALICE, model="other")
    next_one = document_write(
        "abcdefghij", config_id=other.id, document_id=write.id, is_new=False, generation=2, chunk_size=5
    )
    assert _rechunk(database, next_one) == [write.id]
    assert _chunks(database, write) == [(2, "abcde"), (2, "fghij")]
    row = _row(database, write)
    assert (row.live_generation, row.chunk_count, row.index_config_id, row.text) == (2, 2, other.id, "abcdefghij")


def test_rechunking_leaves_a_document_that_has_moved_on_alone(database: Database, alices: Library) -> None:
    moved, deleted = (document_write(words, config_id=alices.config.id) for words in ("moved", "deleted"))
    _store(database, alices, moved, deleted)
    newer = document_write("newer", config_id=alices.config.id, document_id=moved.id, is_new=False, generation=2)
    _store(database, alices, newer)
    with database.transaction_with_rls(ALICE) as connection:
        documents.tombstone(connection, user_id=ALICE, document_ids=[deleted.id])
    late = [dataclasses.replace(write, is_new=False, generation=2) for write in (moved, deleted)]
    assert _rechunk(database, *late) == []
    assert _chunks(database, moved) == [(2, "newer")]
    assert _chunks(database, deleted) == []


def test_another_users_document_is_neither_changed_nor_renamed(
    database: Database, alices: Library, bobs: Library, admin: Admin
) -> None:
    changed = document_write(
        "stolen", config_id=bobs.config.id, document_id=alices.document_id, is_new=False, generation=2
    )
    renamed = dataclasses.replace(changed, chunks=None)
    described: list[Callable[[], None]] = []
    for write in (renamed, changed):

        def attempt(write: DocumentWrite = write) -> None:
            with database.transaction_with_rls(BOB) as connection:
                store(connection, BOB, [write])

        described.append(attempt)
    described[0]()  # nothing of that id is his to rename
    with pytest.raises((IntegrityError, psycopg.IntegrityError), match="chunks_document_fk"):
        described[1]()
    (kept,) = admin.execute("SELECT title, text FROM app.documents WHERE id = %s", [alices.document_id]).fetchall()
    assert kept == ("alice's title", "alice's text")
