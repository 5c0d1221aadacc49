"""Bulk rows as parameters of one statement: an array a column, which the server unnests.

COPY straight into a table with row-level security is refused by PostgreSQL. By way of a temporary table it is no faster
than this, needs three statements more, and writes the system catalogues in each new connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg import pq
from sqlalchemy import Connection, text

from workstation_pipelines.db import wire
from workstation_pipelines.db.engine import raw

Fields = Sequence[bytes | None]
"""One column of the rows, each value in its binary form; None is NULL."""

_TEXT, _BINARY = pq.Format.TEXT, pq.Format.BINARY


class BulkStatement:
    """A statement that reads the sent rows as `s`, and before them parameters $1, $2, ... that are the same for all."""

    def __init__(self, statement: str, columns: Mapping[str, str], *, constants: int) -> None:
        """`statement` says `{rows}` where it reads `columns` (name -> type), and casts each of its constants."""
        arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), constants + 1))
        self._statement = statement.format(rows=f"unnest({arrays}) AS s ({', '.join(columns)})").encode()
        self._types = list(columns.values())
        self._formats = [_TEXT] * constants + [_BINARY] * len(columns)

    def execute(self, connection: Connection, columns: Sequence[Fields], *constants: str | UUID | None) -> None:
        """Run once for all rows, in the connection's transaction."""
        sent = [None if value is None else str(value).encode() for value in constants]
        for kind, fields in zip(self._types, columns, strict=True):
            sent.append(wire.array(_element_type(connection, kind), fields))
        # libpq's own blocking call: it sends megabytes and waits without the interpreter's lock. psycopg's cursor would
        # ask for the lock back after each bufferful, and a thread that computes gives it up only every 5 ms.
        pgconn = raw(connection).pgconn
        result = pgconn.exec_params(self._statement, sent, None, self._formats)
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)


def encoded(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> list[Fields]:
    """Turn rows of Python values into columns of fields. Each row has one value a column."""
    encoders = [wire.ENCODERS[kind] for kind in columns.values()]
    return [
        [None if value is None else encode(value) for value in values]
        for encode, values in zip(encoders, zip(*rows, strict=True), strict=True)
    ]


def _element_type(connection: Connection, kind: str) -> int:
    known = wire.ELEMENT_TYPES.get(kind)
    if known is not None:
        return known
    key = f"oid of {kind}"
    if key not in connection.info:  # lives as long as the DBAPI connection
        statement = text("SELECT CAST(CAST(:name AS regtype) AS oid)::bigint")
        connection.info[key] = connection.execute(statement, {"name": f"public.{kind}"}).scalar_one()
    oid: int = connection.info[key]
    return oid
