"""PostgreSQL reads what wire.py writes as it was meant, and writes the same bytes itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tests.db.conftest import ALICE, BOB
from workstation_pipelines.db import wire
from workstation_pipelines.db.engine import Database, raw
from workstation_pipelines.db.staging import stage
from workstation_pipelines.text.lexemes import Lexer

TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)
MOMENTS = st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=5.75))])
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
COLUMNS = {
    "word": (TEXTS, "text"),
    "id": (st.uuids(), "uuid"),
    "small": (st.integers(-(2**31), 2**31 - 1), "int4"),
    "large": (st.integers(-(2**63), 2**63 - 1), "int8"),
    "moment": (MOMENTS, "timestamptz"),
    "document": (JSON.map(json.dumps), "jsonb"),
    "hash": (st.binary(max_size=40), "bytea"),
}
ROWS = st.lists(st.tuples(*(st.none() | values for values, _ in COLUMNS.values())), max_size=12)

FAR = (
    *("\N{PILE OF POO}" * 250_000, UUID(int=0), -(2**31), 2**63 - 1),
    *(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "[]", b""),
)
EARLY = ("", UUID(int=2**128 - 1), 2**31 - 1, -(2**63), datetime(1, 1, 1, tzinfo=UTC), '"\\u00e9"', bytes(range(256)))
NOTHING = (None,) * len(COLUMNS)


@settings(max_examples=60, deadline=None)
@given(ROWS)
@example([FAR, EARLY, NOTHING])
def test_rows_arrive_as_they_were(shared: Database, rows: list[tuple[Any, ...]]) -> None:
    with shared.transaction_with_rls(ALICE) as connection:
        stage(connection, "arrived", {name: kind for name, (_, kind) in COLUMNS.items()}, rows)
        stored = [tuple(row) for row in connection.execute(text("SELECT * FROM arrived ORDER BY ctid"))]
    assert [_comparable(row) for row in stored] == [_comparable(row, is_written=True) for row in rows]


def _comparable(row: tuple[Any, ...], *, is_written: bool = False) -> tuple[Any, ...]:
    *others, document, digest = row
    if is_written and document is not None:
        document = json.loads(document)
    return (*others, document, None if digest is None else bytes(digest))


def test_text_with_nul_is_refused_by_the_server(shared: Database) -> None:
    with (
        pytest.raises(psycopg.errors.CharacterNotInRepertoire),
        shared.transaction_with_rls(ALICE) as connection,
    ):
        stage(connection, "refused", {"word": "text"}, [("a\0b",)])


def test_thousands_of_rows_arrive_in_order(shared: Database) -> None:
    with shared.transaction_with_rls(ALICE) as connection:
        stage(connection, "numbers", {"number": "int4"}, ((number,) for number in range(4321)))
        found = connection.execute(text("SELECT array_agg(number ORDER BY ctid) FROM numbers")).scalar()
        stage(connection, "numbers", {"number": "int4"}, [(7,)])
        again = connection.execute(text("SELECT array_agg(number) FROM numbers")).scalar()
    assert found == list(range(4321))
    assert again == [7]


def test_staged_rows_do_not_outlive_their_transaction(database: Database) -> None:
    left = text("SELECT count(*), pg_backend_pid() FROM staged")
    with database.transaction_with_rls(ALICE) as connection:
        stage(connection, "staged", {"word": "text"}, [("alice's",)])
        before = connection.execute(left).one()
    with database.transaction_with_rls(BOB) as connection:
        after = connection.execute(left).one()
    assert (before[0], after[0]) == (1, 0)
    assert before.pg_backend_pid == after.pg_backend_pid


LEXEMES = st.one_of(
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=30),
    st.sampled_from(["a", "b", "ab", "\N{PILE OF POO}", "it's", "back\\slash", "a b", ":", "\u00e9", "x" * 120]),
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(LEXEMES, st.integers(1, 400), max_size=30))
def test_tsvector_has_each_lexeme_at_its_positions_and_is_what_the_server_would_send(
    shared: Database, counts: dict[str, int]
) -> None:
    packed = wire.TsvectorPacker().pack(counts)
    with shared.transaction_with_rls(ALICE) as connection:
        stage(connection, "packed", {"tsv": "tsvector"}, [(packed,)])
        rows = connection.execute(text("SELECT lexeme, positions FROM packed, unnest(tsv)")).all()
        # As texts: `=` on tsvectors also compares padding, which depends on the order that they were written in.
        as_text, reread = connection.execute(
            text("SELECT tsv::text, CAST(CAST(tsv AS text) AS tsvector)::text FROM packed")
        ).one()
        by_server = connection.execute(
            text("SELECT array_to_tsvector(CAST(:lexemes AS text[]))::text = strip(tsv)::text FROM packed"),
            {"lexemes": list(counts)},
        ).scalar()
        with raw(connection).cursor() as cursor:
            sent = cursor.execute("SELECT tsvectorsend(tsv) FROM packed").fetchall()[0][0]
            stage(connection, "packed", {"tsv": "tsvector"}, [(bytes(sent),)])
        again = connection.execute(text("SELECT tsv::text FROM packed")).scalar()
    expected = {
        lexeme: list(range(1, min(count, wire.MAX_POSITIONS) + 1)) if count > 1 else None
        for lexeme, count in counts.items()
    }
    assert {row.lexeme: row.positions for row in rows} == expected
    assert by_server
    assert reread == again == as_text


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=300))
def test_lexemes_of_any_text_make_a_tsvector_that_each_of_them_matches(shared: Database, words: str) -> None:
    counts = Lexer("en").counted(words)
    with shared.transaction_with_rls(ALICE) as connection:
        stage(connection, "packed", {"tsv": "tsvector"}, [(wire.TsvectorPacker().pack(counts),)])
        matched = connection.execute(
            text(
                """SELECT coalesce(bool_and(tsv @@ CAST(CAST(array_to_tsvector(ARRAY[lexeme]) AS text) AS tsquery)), true)
                     FROM packed, unnest(CAST(:lexemes AS text[])) lexeme"""
            ),
            {"lexemes": list(counts)},
        ).scalar()
    assert matched


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(-60000, 60000, width=32), min_size=5, max_size=5), min_size=1, max_size=4))
def test_halfvec_is_the_one_that_the_server_makes_of_the_numbers(shared: Database, rows: list[list[float]]) -> None:
    packed = wire.halfvecs(np.array(rows, dtype=np.float32))
    with shared.transaction_with_rls(ALICE) as connection:
        stage(connection, "vectors", {"vector": "halfvec"}, [(each,) for each in packed])
        stored = connection.execute(text("SELECT vector::text, halfvec_send(vector) FROM vectors ORDER BY ctid")).all()
        by_server = [
            connection.execute(
                text("SELECT halfvec_send(CAST(CAST(:numbers AS real[]) AS halfvec))"), {"numbers": row}
            ).scalar()
            for row in rows
        ]
    assert [bytes(row.halfvec_send) for row in stored] == packed == [bytes(each or b"") for each in by_server]
    for row, each in zip(stored, packed, strict=True):
        assert np.array_equal(np.array(json.loads(row.vector), dtype=np.float16), wire.floats(each).astype(np.float16))
