"""Secrets of workflows, sealed: rows by name. Nothing here can open one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TenantId

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class SecretName:
    """A secret without its value."""

    name: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A record that opens for its row alone."""

    id: UUID
    record: Mapping[str, Any]


def put(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    secret_id: UUID,
    name: str,
    sealed_value: Mapping[str, Any],
) -> None:
    """Store a secret that is sealed for the row `secret_id`; one of that name is replaced, id and all.

    Raises InvalidRequestError for a name that no reference could hold.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            "a secret's name has up to 100 letters, digits and underscores, and no digit in front"
        )
    connection.execute(
        text(
            """
            INSERT INTO app.workflow_secrets AS known (id, tenant_id, user_id, name, sealed_value)
            VALUES (:id, :tenant_id, :user_id, :name, :sealed_value)
            ON CONFLICT (tenant_id, user_id, name)
            DO UPDATE SET id = excluded.id, sealed_value = excluded.sealed_value
             WHERE known.user_id = :user_id AND known.tenant_id = :tenant_id"""
        ).bindparams(bindparam("sealed_value", type_=JSONB)),
        {
            "id": secret_id,
            "tenant_id": tenant_id,
            "user_id": user_id,
            "name": name,
            "sealed_value": dict(sealed_value),
        },
    )


def names(connection: Connection, *, user_id: UserId, tenant_id: TenantId) -> list[SecretName]:
    rows = connection.execute(
        text(
            """
            SELECT name, created_at, updated_at FROM app.workflow_secrets
             WHERE user_id = :user_id AND tenant_id = :tenant_id ORDER BY name"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id},
    )
    return [SecretName(**row._mapping) for row in rows]


def sealed(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, names: Iterable[str]
) -> dict[str, SealedSecret]:
    """Return the records of those of `names` that there are."""
    rows = connection.execute(
        text(
            """
            SELECT name, id, sealed_value FROM app.workflow_secrets
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND name = ANY (CAST(:names AS text[]))"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "names": [name for name in names if _NAME.fullmatch(name)]},
    )
    return {row.name: SealedSecret(row.id, row.sealed_value) for row in rows}


def remove(connection: Connection, *, user_id: UserId, tenant_id: TenantId, name: str) -> None:
    """Raises NotFoundError."""
    removed = connection.execute(
        text("DELETE FROM app.workflow_secrets WHERE user_id = :user_id AND tenant_id = :tenant_id AND name = :name"),
        {"user_id": user_id, "tenant_id": tenant_id, "name": name if _NAME.fullmatch(name) else None},
    )
    if removed.rowcount != 1:
        raise NotFoundError(f"no secret {name[:100]!r}: `workstation workflow secret list` shows the names of yours")


def owners(database: Database) -> list[tuple[UserId, TenantId]]:
    """Return every user with a secret, once for each tenant."""
    with database.across_users() as connection:
        rows = connection.execute(text("SELECT user_id, tenant_id FROM app.workflow_secret_owners()"))
        return [(UserId(row.user_id), TenantId(row.tenant_id)) for row in rows]


def rewrap_all(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    key_id: str,
    rewrap: Callable[[UUID, Mapping[str, Any]], Mapping[str, Any] | None],
) -> tuple[int, list[UUID]]:
    """Put the user's secrets under the key `key_id`; return how many were, and those for which `rewrap` gives None."""
    rows = connection.execute(
        text(
            """
            SELECT id, sealed_value FROM app.workflow_secrets
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND sealed_value->>'kid' <> :key_id
             ORDER BY id FOR NO KEY UPDATE"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "key_id": key_id},
    ).all()
    done, refused = 0, []
    for row in rows:
        record = rewrap(row.id, row.sealed_value)
        if record is None:
            refused.append(row.id)
            continue
        connection.execute(
            text(
                """
                UPDATE app.workflow_secrets SET sealed_value = :record
                 WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"""
            ).bindparams(bindparam("record", type_=JSONB)),
            {"user_id": user_id, "tenant_id": tenant_id, "id": row.id, "record": dict(record)},
        )
        done += 1
    return done, refused


def sealed_with(connection: Connection, *, user_id: UserId, tenant_id: TenantId) -> dict[str, int]:
    """Return how many of the user's secrets each key seals, by the key's id."""
    rows = connection.execute(
        text(
            """
            SELECT sealed_value->>'kid' AS key_id, count(*) AS records FROM app.workflow_secrets
             WHERE user_id = :user_id AND tenant_id = :tenant_id GROUP BY 1 ORDER BY 1"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id},
    )
    return {row.key_id: row.records for row in rows}
