"""A user's rules, and which of them a data source has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId

MOST_RULES = 200

_COLUMNS = """t.id, t.name, t.source_type, t.data_source_id, t.transformation_type, t.config, t.execution_order, t.is_active,
              t.created_at, t.updated_at"""


@dataclass(frozen=True, slots=True)
class Transformation:
    """A rule as it is to be stored. With neither a type nor a source it is for all that its user has."""

    name: str
    transformation_type: str
    config: Mapping[str, Any]
    source_type: str | None = None
    data_source_id: UUID | None = None
    execution_order: int = 100
    is_active: bool = True


def add(connection: Connection, *, user_id: UserId, transformation_id: UUID, rule: Transformation) -> None:
    """Insert a rule. Raises InvalidRequestError when the user has one of that name, or too many."""
    count = connection.execute(
        text("SELECT count(*) FROM app.etl_transformations WHERE user_id = :user_id"), {"user_id": user_id}
    ).scalar_one()
    if count >= MOST_RULES:
        raise InvalidRequestError(f"you have {count} rules, and {MOST_RULES} is the most: remove one first")
    statement = text(
        """
        INSERT INTO app.etl_transformations (id, user_id, name, source_type, data_source_id, transformation_type, config,
                                             execution_order, is_active)
        VALUES (:id, :user_id, :name, :source_type, :data_source_id, :transformation_type, :config, :execution_order,
                :is_active)"""
    )
    _write(connection, statement, user_id, transformation_id, rule)


def replace(connection: Connection, *, user_id: UserId, transformation_id: UUID, rule: Transformation) -> None:
    """Store a rule anew under its id. Raises InvalidRequestError for a name that is taken, NotFoundError."""
    statement = text(
        """
        UPDATE app.etl_transformations
           SET name = :name, source_type = :source_type, data_source_id = :data_source_id,
               transformation_type = :transformation_type, config = :config, execution_order = :execution_order,
               is_active = :is_active
         WHERE user_id = :user_id AND id = :id"""
    )
    if not _write(connection, statement, user_id, transformation_id, rule):
        raise NotFoundError(f"no rule {rule.name!r}: it was removed a moment ago")


def remove(connection: Connection, *, user_id: UserId, transformation_id: UUID) -> None:
    connection.execute(
        text("DELETE FROM app.etl_transformations WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": transformation_id},
    )


def all_of(connection: Connection, *, user_id: UserId) -> Sequence[Row[Any]]:
    """Return every rule in the order in which they are applied, with the name of the source it is for."""
    return connection.execute(
        text(
            f"""
            SELECT {_COLUMNS}, s.name AS data_source_name
              FROM app.etl_transformations t
              LEFT JOIN app.data_sources s ON s.user_id = t.user_id AND s.id = t.data_source_id
             WHERE t.user_id = :user_id ORDER BY t.execution_order, t.id"""  # noqa: S608 - a constant
        ),
        {"user_id": user_id},
    ).all()


def named(connection: Connection, *, user_id: UserId, name: str) -> Row[Any]:
    """Find by name, or by id written out. Raises NotFoundError."""
    found = [row for row in all_of(connection, user_id=user_id) if name in (row.name, str(row.id))]
    if not found:
        raise NotFoundError(f"no rule named {name!r}: `workstation transform list` shows yours")
    return found[0]


def effective(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> tuple[str, Sequence[Row[Any]]]:
    """Return the hash and the rows of a source's active rules, in order and of one moment."""
    rows = connection.execute(
        text(
            f"""
            SELECT r.rules_hash, {_COLUMNS}
              FROM app.data_source_rules r
              JOIN app.data_sources s ON s.user_id = r.user_id AND s.id = r.data_source_id
              LEFT JOIN app.etl_transformations t ON t.user_id = s.user_id AND t.is_active
                    AND coalesce(t.source_type = s.source_type, true) AND coalesce(t.data_source_id = s.id, true)
             WHERE r.user_id = :user_id AND r.data_source_id = :source
             ORDER BY t.execution_order, t.id"""  # noqa: S608 - a constant
        ),
        {"user_id": user_id, "source": data_source_id},
    ).all()
    if not rows:
        raise NotFoundError(f"no data source {data_source_id}: it was removed")
    return rows[0].rules_hash, [row for row in rows if row.id is not None]


def for_everything(connection: Connection, *, user_id: UserId) -> tuple[str, Sequence[Row[Any]]]:
    """Return the hash and the rows of the active rules that are for no source or type in particular, in order."""
    rows = connection.execute(
        text(
            f"""
            SELECT r.rules_hash, {_COLUMNS}
              FROM app.data_source_rules r
              JOIN app.etl_transformations t ON t.user_id = r.user_id AND t.is_active AND t.source_type IS NULL
                   AND t.data_source_id IS NULL
             WHERE r.user_id = :user_id AND r.data_source_id IS NULL
             ORDER BY t.execution_order, t.id"""  # noqa: S608 - a constant
        ),
        {"user_id": user_id},
    ).all()
    return rows[0].rules_hash if rows else "", rows


def _write(
    connection: Connection, statement: Any, user_id: UserId, transformation_id: UUID, rule: Transformation
) -> int:
    parameters = {
        "user_id": user_id,
        "id": transformation_id,
        "name": rule.name,
        "source_type": rule.source_type,
        "data_source_id": rule.data_source_id,
        "transformation_type": rule.transformation_type,
        "config": dict(rule.config),
        "execution_order": rule.execution_order,
        "is_active": rule.is_active,
    }
    try:
        return connection.execute(statement.bindparams(bindparam("config", type_=JSONB)), parameters).rowcount
    except IntegrityError as error:
        if isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise InvalidRequestError(f"you already have a rule named {rule.name!r}: choose another name") from None
        raise
