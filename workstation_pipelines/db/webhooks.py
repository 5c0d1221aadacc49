"""Webhooks: where events are sent, with the sealed secret that signs them. Nothing here can open a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId, WebhookId

EVERY_KIND = "*"

_COLUMNS = "id, user_id, name, url, kinds, is_active, disabled_reason, created_at"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A row of webhooks without its secret. `kinds` are kinds of events, or EVERY_KIND alone."""

    id: WebhookId
    user_id: UserId
    name: str
    url: str
    kinds: Sequence[str]
    is_active: bool
    disabled_reason: str
    created_at: datetime


def add(
    connection: Connection,
    *,
    user_id: UserId,
    webhook_id: WebhookId,
    name: str,
    url: str,
    kinds: Sequence[str],
    sealed_secret: Mapping[str, Any],
) -> Webhook:
    """Insert an active webhook. Raises InvalidRequestError when the user has one of that name."""
    statement = text(
        f"""INSERT INTO app.webhooks (id, user_id, name, url, kinds, sealed_secret)
            VALUES (:id, :user_id, :name, :url, :kinds, :sealed_secret) RETURNING {_COLUMNS}"""  # noqa: S608 - a constant
    ).bindparams(bindparam("sealed_secret", type_=JSONB))
    try:
        row = connection.execute(
            statement,
            {
                "id": webhook_id,
                "user_id": user_id,
                "name": name,
                "url": url,
                "kinds": list(kinds),
                "sealed_secret": dict(sealed_secret),
            },
        ).one()
    except IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise InvalidRequestError(f"you already have a webhook named {name!r}: choose another name") from None
        raise
    return Webhook(**row._mapping)


def all_of(connection: Connection, *, user_id: UserId) -> list[Webhook]:
    statement = text(f"SELECT {_COLUMNS} FROM app.webhooks WHERE user_id = :user_id ORDER BY name")  # noqa: S608
    return [Webhook(**row._mapping) for row in connection.execute(statement, {"user_id": user_id})]


def named(connection: Connection, *, user_id: UserId, name: str) -> Webhook:
    """Find by name, or by id written out. Raises NotFoundError."""
    statement = text(
        f"SELECT {_COLUMNS} FROM app.webhooks WHERE user_id = :user_id AND (name = :name OR id::text = :name)"  # noqa: S608
    )
    row = connection.execute(statement, {"user_id": user_id, "name": name}).one_or_none()
    if row is None:
        raise NotFoundError(f"no webhook named {name!r}: `workstation webhooks list` shows yours")
    return Webhook(**row._mapping)


def remove(connection: Connection, *, user_id: UserId, webhook_id: UUID) -> None:
    """Delete a webhook with its deliveries; what was not sent yet is not sent any more."""
    connection.execute(
        text("DELETE FROM app.webhooks WHERE user_id = :user_id AND id = :id"), {"user_id": user_id, "id": webhook_id}
    )


def enable(connection: Connection, *, user_id: UserId, webhook_id: UUID) -> None:
    """Let a webhook be told again; what was waiting when it was disabled is due at once. Idempotent."""
    connection.execute(
        text(
            """UPDATE app.webhooks SET is_active = true, disabled_reason = ''
                WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": webhook_id},
    )


def disable(connection: Connection, *, user_id: UserId, webhook_id: UUID, reason: str) -> None:
    """Tell a webhook nothing from now on; `reason` says why, in words of ours."""
    connection.execute(
        text(
            """UPDATE app.webhooks SET is_active = false, disabled_reason = :reason
                WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": webhook_id, "reason": reason},
    )


def owners(database: Database) -> list[UserId]:
    """Return every user with a webhook."""
    with database.across_users() as connection:
        return [UserId(row[0]) for row in connection.execute(text("SELECT user_id FROM app.webhook_owners()"))]


def rewrap_all(
    connection: Connection,
    *,
    user_id: UserId,
    key_id: str,
    rewrap: Callable[[WebhookId, Mapping[str, Any]], Mapping[str, Any] | None],
) -> tuple[int, list[WebhookId]]:
    """Put the user's secrets under the key `key_id`; return how many were, and those for which `rewrap` gives None."""
    rows = connection.execute(
        text(
            """SELECT id, sealed_secret FROM app.webhooks
                WHERE user_id = :user_id AND sealed_secret->>'kid' <> :key_id ORDER BY id FOR NO KEY UPDATE"""
        ),
        {"user_id": user_id, "key_id": key_id},
    ).all()
    done, refused = 0, []
    for row in rows:
        record = rewrap(WebhookId(row.id), row.sealed_secret)
        if record is None:
            refused.append(WebhookId(row.id))
            continue
        connection.execute(
            text("UPDATE app.webhooks SET sealed_secret = :record WHERE user_id = :user_id AND id = :id").bindparams(
                bindparam("record", type_=JSONB)
            ),
            {"user_id": user_id, "id": row.id, "record": dict(record)},
        )
        done += 1
    return done, refused


def sealed_with(connection: Connection, *, user_id: UserId) -> dict[str, int]:
    """Return how many of the user's secrets each key seals, by the key's id."""
    rows = connection.execute(
        text(
            """SELECT sealed_secret->>'kid' AS key_id, count(*) AS records FROM app.webhooks
                WHERE user_id = :user_id GROUP BY 1 ORDER BY 1"""
        ),
        {"user_id": user_id},
    )
    return {row.key_id: row.records for row in rows}
