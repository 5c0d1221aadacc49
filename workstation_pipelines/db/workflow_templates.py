"""Templates that workflows are made from: one's own, those that others have made public, and those of the system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.workflow_labels import is_slug, refuse_unstorable
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TemplateId, TenantId

# Reading is for everybody where is_system or is_public says so; whose a public one is, is nobody else's business.
_COLUMNS = """id, slug, name, description, category, tags, definition, is_system, is_public, usage_count, created_at,
    updated_at, coalesce(user_id = :user_id AND tenant_id = :tenant_id, false) AS is_own"""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that its reader may use. Only one that `is_own` may be changed; `is_system` ones belong to nobody."""

    id: TemplateId
    slug: str
    name: str
    description: str
    category: str
    tags: Sequence[str]
    definition: Mapping[str, Any]
    is_system: bool
    is_public: bool
    usage_count: int
    created_at: datetime
    updated_at: datetime
    is_own: bool


def create(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    template_id: TemplateId,
    slug: str,
    name: str,
    definition: Mapping[str, Any],
    description: str = "",
    category: str = "",
    tags: Sequence[str] = (),
) -> Template:
    """Insert a template for oneself alone. Raises InvalidRequestError when the slug is taken or cannot be."""
    refuse_unstorable(slug=slug, name=name, description=description, category=category, tags=tags)
    row = connection.execute(
        text(
            f"""
            INSERT INTO app.workflow_templates
                (id, tenant_id, user_id, slug, name, description, category, tags, definition)
            VALUES (:id, :tenant_id, :user_id, :slug, :name, :description, :category, :tags, :definition)
            ON CONFLICT (tenant_id, user_id, slug) DO NOTHING RETURNING {_COLUMNS}"""  # noqa: S608 - a constant above
        ).bindparams(bindparam("definition", type_=JSONB)),
        {
            "id": template_id,
            "tenant_id": tenant_id,
            "user_id": user_id,
            "slug": slug,
            "name": name,
            "description": description,
            "category": category,
            "tags": list(tags),
            "definition": dict(definition),
        },
    ).one_or_none()
    if row is None:
        raise InvalidRequestError(f"you already have a template {slug!r}: choose another slug, or change that one")
    return Template(**row._mapping)


def get(connection: Connection, *, user_id: UserId, tenant_id: TenantId, template_id: UUID) -> Template:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.workflow_templates
             WHERE ((user_id = :user_id AND tenant_id = :tenant_id) OR is_system OR is_public)
               AND id = :id"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": template_id},
    ).one_or_none()
    if row is None:
        raise _not_found(template_id)
    return Template(**row._mapping)


def by_slug(connection: Connection, *, user_id: UserId, tenant_id: TenantId, slug: str) -> Template:
    """Return one's own template of that name, else the system's, else the public one that is there longest.

    Raises NotFoundError.
    """
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.workflow_templates
             WHERE ((user_id = :user_id AND tenant_id = :tenant_id) OR is_system OR is_public)
               AND slug = :slug
             ORDER BY is_own DESC, is_system DESC, created_at, id LIMIT 1"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "slug": slug if is_slug(slug) else None},
    ).one_or_none()
    if row is None:
        raise _not_found(slug)
    return Template(**row._mapping)


def listed(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    category: str | None = None,
    tags: Sequence[str] = (),
    is_own: bool | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[Template]:
    """Return the readable templates that have all of `tags`: the system's, then one's own, then public ones, by name."""
    rows = connection.execute(
        text(
            f"""
            SELECT * FROM (
                SELECT {_COLUMNS} FROM app.workflow_templates
                 WHERE ((user_id = :user_id AND tenant_id = :tenant_id) OR is_system OR is_public)
                   AND (CAST(:category AS text) IS NULL OR category = :category)
                   AND tags @> CAST(:tags AS text[])) AS readable
             WHERE CAST(:is_own AS boolean) IS NULL OR is_own = :is_own
             ORDER BY is_system DESC, is_own DESC, name, id LIMIT :limit OFFSET :offset"""  # noqa: S608 - constants
        ),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "category": category,
            "tags": list(tags),
            "is_own": is_own,
            "limit": limit,
            "offset": offset,
        },
    )
    return [Template(**row._mapping) for row in rows]


def update(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    template_id: UUID,
    name: str | None = None,
    description: str | None = None,
    category: str | None = None,
    tags: Sequence[str] | None = None,
    definition: Mapping[str, Any] | None = None,
) -> Template:
    """Change what is given of one's own template; None leaves it. Raises NotFoundError, InvalidRequestError."""
    refuse_unstorable(name=name, description=description, category=category, tags=tags)
    row = connection.execute(
        text(
            f"""
            UPDATE app.workflow_templates
               SET name = coalesce(CAST(:name AS text), name),
                   description = coalesce(CAST(:description AS text), description),
                   category = coalesce(CAST(:category AS text), category),
                   tags = coalesce(CAST(:tags AS text[]), tags),
                   definition = coalesce(CAST(:definition AS jsonb), definition)
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id RETURNING {_COLUMNS}"""  # noqa: S608
        ).bindparams(bindparam("definition", type_=JSONB(none_as_null=True))),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "id": template_id,
            "name": name,
            "description": description,
            "category": category,
            "tags": None if tags is None else list(tags),
            "definition": None if definition is None else dict(definition),
        },
    ).one_or_none()
    if row is None:
        raise _not_found(template_id)
    return Template(**row._mapping)


def set_public(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, template_id: UUID, is_public: bool
) -> Template:
    """Let every user read one's own template, or nobody else. Idempotent. Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            UPDATE app.workflow_templates SET is_public = :is_public
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id RETURNING {_COLUMNS}"""  # noqa: S608
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": template_id, "is_public": is_public},
    ).one_or_none()
    if row is None:
        raise _not_found(template_id)
    return Template(**row._mapping)


def delete(connection: Connection, *, user_id: UserId, tenant_id: TenantId, template_id: UUID) -> None:
    """Delete one's own template; workflows that were made from it stay. Raises NotFoundError."""
    deleted = connection.execute(
        text("DELETE FROM app.workflow_templates WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"),
        {"user_id": user_id, "tenant_id": tenant_id, "id": template_id},
    )
    if deleted.rowcount != 1:
        raise _not_found(template_id)


def count_use(connection: Connection, *, user_id: UserId, tenant_id: TenantId, template_id: UUID) -> None:
    """Note that a workflow was made from a template that its maker may read. Raises NotFoundError."""
    get(connection, user_id=user_id, tenant_id=tenant_id, template_id=template_id)
    connection.execute(text("SELECT app.count_template_use(:id)"), {"id": template_id})


def _not_found(name: object) -> NotFoundError:
    return NotFoundError(f"no template {name}: `workstation workflow templates list` shows those that you can use")
