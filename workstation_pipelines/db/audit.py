"""The audit log: who asked for what, in a chain of hashes that shows every later change. Append-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import UserId

_ROWS_A_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be remembered. `action` is noun.verb, `subject` is noun:id.

    `detail` holds ids, numbers and codes: never a name, a text, a path or a secret, since it can never be erased.
    """

    action: str
    subject: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry as it stands in the log; `hash` covers all of it and the hash of the entry before."""

    seq: int
    at: datetime
    action: str
    subject: str
    detail: Mapping[str, Any]
    hash: bytes


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold, and how."""

    seq: int
    problem: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry's number and hash. Kept elsewhere, it proves later that nothing before it has changed."""

    seq: int
    hash: bytes


_APPEND = text("SELECT app.audit_append(:entries)").bindparams(bindparam("entries", type_=JSONB))


def append(connection: Connection, entries: Sequence[Entry]) -> int:
    """Append in the caller's transaction, for the user of its context; return the last number, 0 for no entries.

    The user's chain is locked until that transaction ends, so this belongs at its end.
    """
    if not entries:
        return 0
    rows = [{"action": entry.action, "subject": entry.subject, "detail": dict(entry.detail)} for entry in entries]
    last: int = connection.execute(_APPEND, {"entries": rows}).scalar_one()
    return last


def entries(
    connection: Connection,
    *,
    user_id: UserId,
    subject: str | None = None,
    action: str | None = None,
    after: int = 0,
    newest_first: bool = False,
    limit: int = 100,
) -> list[Logged]:
    """Return entries by number. `subject` is noun:id in full, `action` a noun or noun.verb."""
    order = "DESC" if newest_first else "ASC"
    rows = connection.execute(
        text(
            f"""
            SELECT seq, created_at, action, subject, detail, hash FROM app.audit_logs
             WHERE user_id = :user_id AND seq > :after
               AND (CAST(:subject AS text) IS NULL OR subject = :subject)
               AND (CAST(:action AS text) IS NULL OR action = :action OR split_part(action, '.', 1) = :action)
             ORDER BY seq {order} LIMIT :limit"""  # noqa: S608 - one of two constants
        ),
        {"user_id": user_id, "subject": subject, "action": action, "after": after, "limit": limit},
    )
    return [_logged(row) for row in rows]


def every_entry(connection: Connection, *, user_id: UserId) -> Iterator[Logged]:
    """Yield the whole log in order, a page of rows at a time."""
    after = 0
    while page := entries(connection, user_id=user_id, after=after, limit=_ROWS_A_PAGE):
        yield from page
        after = page[-1].seq


def entry(connection: Connection, *, user_id: UserId, seq: int) -> Logged:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            """
            SELECT seq, created_at, action, subject, detail, hash FROM app.audit_logs
             WHERE user_id = :user_id AND seq = :seq"""
        ),
        {"user_id": user_id, "seq": seq},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no audit entry {seq}: `workstation audit list` shows yours")
    return _logged(row)


def breaks(connection: Connection) -> list[Break]:
    """Compute the whole chain of the context's user anew and return where it does not hold; none means it is untouched."""
    return [
        Break(row.seq, row.problem) for row in connection.execute(text("SELECT seq, problem FROM app.audit_verify()"))
    ]


def head(connection: Connection) -> Head:
    """Return the end of the chain of the context's user; number 0 when nothing was ever logged."""
    row = connection.execute(text("SELECT seq, hash FROM app.audit_head()")).one_or_none()
    return Head(row.seq, bytes(row.hash)) if row else Head(0, b"")


def _logged(row: Row[Any]) -> Logged:
    return Logged(row.seq, row.created_at, row.action, row.subject, row.detail, bytes(row.hash))
