"""The binary formats in themselves; that PostgreSQL reads them as meant is for tests/db/test_wire.py."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workstation_pipelines.db import wire

HALVES = st.lists(st.floats(-60000, 60000, width=16), min_size=3, max_size=3)


@given(st.lists(HALVES, min_size=1, max_size=5))
def test_halfvecs_come_back_as_the_nearest_half(rows: list[list[float]]) -> None:
    vectors = np.array(rows, dtype=np.float32)
    packed = wire.halfvecs(vectors)
    assert [len(each) for each in packed] == [4 + 2 * 3] * len(rows)
    assert np.array_equal(np.array([wire.floats(each) for each in packed]), vectors)


def test_no_vectors_make_no_halfvecs() -> None:
    assert wire.halfvecs(np.zeros((0, 384), dtype=np.float32)) == []


def test_halfvecs_take_a_view_that_is_not_contiguous() -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert wire.halfvecs(vectors[:, ::2]) == wire.halfvecs(np.ascontiguousarray(vectors[:, ::2]))


def test_packed_lexeme_is_remembered_and_forgotten_when_there_are_too_many() -> None:
    packer = wire.TsvectorPacker()
    once = packer.pack({"a": 1, "b": 2})
    assert packer.pack({"a": 1, "b": 2}) == once == struct.pack("!i", 2) + b"a\0\0\0" + b"b\0\0\2\0\1\0\2"
    packer._packed.update(dict.fromkeys(((str(number), 1) for number in range(500_000)), b""))
    assert packer.pack({"a": 1, "b": 2}) == once
    assert len(packer._packed) == 2


@pytest.mark.parametrize(("count", "positions"), [(1, 0), (2, 2), (255, 255), (256, 255), (10**6, 255)])
def test_lexeme_has_as_many_positions_as_it_occurs_up_to_a_limit(count: int, positions: int) -> None:
    packed = wire.TsvectorPacker().pack({"x": count})
    assert struct.unpack("!H", packed[6:8]) == (positions,)
    assert len(packed) == 8 + 2 * positions


def _fields(copied: bytes) -> list[list[bytes | None]]:
    """Read a binary COPY as PostgreSQL documents it."""
    assert copied.startswith(wire.COPY_HEADER)
    at, rows = len(wire.COPY_HEADER), []
    while (count := struct.unpack_from("!h", copied, at)[0]) != -1:
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (size,) = struct.unpack_from("!i", copied, at)
            at += 4
            row.append(None if size == -1 else copied[at : at + size])
            at += max(size, 0)
        rows.append(row)
    assert copied[at:] == wire.COPY_TRAILER
    return rows


ROWS = st.lists(st.tuples(st.none() | st.text(max_size=20), st.none() | st.integers(-(2**31), 2**31 - 1)), max_size=30)


@given(ROWS, st.integers(1, 10))
def test_copy_has_the_rows_in_order_however_it_is_cut_into_blocks(rows: list[tuple[Any, Any]], block_rows: int) -> None:
    blocks = list(wire.copy_blocks(["text", "int4"], rows, block_rows=block_rows))
    assert len(blocks) == 1 + len(rows) // block_rows
    expected = [
        [None if words is None else words.encode(), None if number is None else struct.pack("!i", number)]
        for words, number in rows
    ]
    assert _fields(b"".join(blocks)) == expected


def test_row_of_another_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(wire.copy_blocks(["text", "text"], [("a",)]))
