"""Saved workflows: a row each, with versions that never change. Who deletes a workflow deletes its executions, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.workflow_labels import is_slug, refuse_unstorable
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TemplateId, TenantId, WorkflowId, WorkflowVersionId

ORDERS = ("created_at", "updated_at", "name", "total_executions")

_COLUMNS = """id, tenant_id, user_id, slug, name, description, category, tags, is_active, latest_version, template_id,
    total_executions, completed_executions, failed_executions, cancelled_executions, total_duration_s, total_cost,
    total_tokens, last_executed_at, created_at, updated_at, job_key"""
_VERSION_COLUMNS = "id, workflow_id, version, definition, definition_hash, created_at"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A row of workflows. `job_key` ends the name of its Dagster jobs; the counters are of executions that are over."""

    id: WorkflowId
    tenant_id: TenantId
    user_id: UserId
    slug: str
    name: str
    description: str
    category: str
    tags: Sequence[str]
    is_active: bool
    latest_version: int
    template_id: TemplateId | None
    total_executions: int
    completed_executions: int
    failed_executions: int
    cancelled_executions: int
    total_duration_s: float
    total_cost: Decimal
    total_tokens: int
    last_executed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    job_key: str


@dataclass(frozen=True, slots=True)
class Version:
    """What was saved at one time, as JSON; `definition_hash` tells whether two are the same."""

    id: WorkflowVersionId
    workflow_id: WorkflowId
    version: int
    definition: Mapping[str, Any]
    definition_hash: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class WorkflowStats:
    """Figures of the executions that are over. `success_rate` is from 0 to 1; it and the mean are None before the first."""

    total_executions: int
    completed_executions: int
    failed_executions: int
    cancelled_executions: int
    success_rate: float | None
    mean_duration_s: float | None
    total_cost: Decimal
    total_tokens: int
    last_executed_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """The same figures of all a user's workflows within a tenant."""

    workflows: int
    active_workflows: int
    total_executions: int
    completed_executions: int
    failed_executions: int
    cancelled_executions: int
    success_rate: float | None
    mean_duration_s: float | None
    total_cost: Decimal
    total_tokens: int
    last_executed_at: datetime | None


class VersionOwner(NamedTuple):
    """Whose a version is: all that may be told without a user's context."""

    user_id: UserId
    tenant_id: TenantId
    version_id: WorkflowVersionId


def create(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: WorkflowId,
    version_id: WorkflowVersionId,
    slug: str,
    name: str,
    definition: Mapping[str, Any],
    definition_hash: str,
    description: str = "",
    category: str = "",
    tags: Sequence[str] = (),
    template_id: TemplateId | None = None,
) -> Workflow:
    """Insert an active workflow with its version 1. Raises InvalidRequestError when the slug is taken or cannot be."""
    refuse_unstorable(slug=slug, name=name, description=description, category=category, tags=tags)
    row = connection.execute(
        text(
            f"""
            INSERT INTO app.workflows (id, tenant_id, user_id, slug, name, description, category, tags, template_id)
            VALUES (:id, :tenant_id, :user_id, :slug, :name, :description, :category, :tags, :template_id)
            ON CONFLICT (tenant_id, user_id, slug) DO NOTHING RETURNING {_COLUMNS}"""  # noqa: S608 - a constant above
        ),
        {
            "id": workflow_id,
            "tenant_id": tenant_id,
            "user_id": user_id,
            "slug": slug,
            "name": name,
            "description": description,
            "category": category,
            "tags": list(tags),
            "template_id": template_id,
        },
    ).one_or_none()
    if row is None:
        raise InvalidRequestError(
            f"you already have a workflow {slug!r}: choose another slug, or save a new version of it"
        )
    _insert_version(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        workflow_id=workflow_id,
        version_id=version_id,
        definition=definition,
        definition_hash=definition_hash,
    )
    return Workflow(**{**row._mapping, "latest_version": 1})


def get(connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID) -> Workflow:
    """Raises NotFoundError."""
    return named(connection, user_id=user_id, tenant_id=tenant_id, name=str(workflow_id))


def by_slug(connection: Connection, *, user_id: UserId, tenant_id: TenantId, slug: str) -> Workflow:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.workflows
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND slug = :slug"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "slug": slug if is_slug(slug) else None},
    ).one_or_none()
    if row is None:
        raise _not_found(slug)
    return Workflow(**row._mapping)


def named(connection: Connection, *, user_id: UserId, tenant_id: TenantId, name: str) -> Workflow:
    """Find by slug, or by id written out; what could be both is a slug. Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.workflows
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND (slug = :slug OR id = CAST(:id AS uuid))
             ORDER BY slug = :slug DESC LIMIT 1"""  # noqa: S608 - a constant above
        ),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "slug": name if is_slug(name) else None,
            "id": _as_id(name),
        },
    ).one_or_none()
    if row is None:
        raise _not_found(name)
    return Workflow(**row._mapping)


def exists(connection: Connection, *, user_id: UserId, tenant_id: TenantId, slug: str) -> bool:
    found = connection.execute(
        text("SELECT FROM app.workflows WHERE user_id = :user_id AND tenant_id = :tenant_id AND slug = :slug"),
        {"user_id": user_id, "tenant_id": tenant_id, "slug": slug if is_slug(slug) else None},
    )
    return found.first() is not None


def listed(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    is_active: bool | None = None,
    category: str | None = None,
    tags: Sequence[str] = (),
    order_by: str = "created_at",
    descending: bool = True,
    limit: int = 50,
    offset: int = 0,
) -> list[Workflow]:
    """Return the workflows that have all of `tags`, in one of ORDERS. Raises InvalidRequestError for another order."""
    if order_by not in ORDERS:
        raise InvalidRequestError(f"workflows cannot be sorted by {order_by!r}: choose one of {', '.join(ORDERS)}")
    direction = "DESC" if descending else "ASC"
    rows = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.workflows
             WHERE user_id = :user_id AND tenant_id = :tenant_id
               AND (CAST(:is_active AS boolean) IS NULL OR is_active = :is_active)
               AND (CAST(:category AS text) IS NULL OR category = :category)
               AND tags @> CAST(:tags AS text[])
             ORDER BY {order_by} {direction}, id {direction} LIMIT :limit OFFSET :offset"""  # noqa: S608 - constants
        ),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "is_active": is_active,
            "category": category,
            "tags": list(tags),
            "limit": limit,
            "offset": offset,
        },
    )
    return [Workflow(**row._mapping) for row in rows]


def update(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: UUID,
    name: str | None = None,
    description: str | None = None,
    category: str | None = None,
    tags: Sequence[str] | None = None,
) -> Workflow:
    """Change what is given; None leaves it. Raises NotFoundError, InvalidRequestError."""
    refuse_unstorable(name=name, description=description, category=category, tags=tags)
    row = connection.execute(
        text(
            f"""
            UPDATE app.workflows
               SET name = coalesce(CAST(:name AS text), name),
                   description = coalesce(CAST(:description AS text), description),
                   category = coalesce(CAST(:category AS text), category),
                   tags = coalesce(CAST(:tags AS text[]), tags)
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id RETURNING {_COLUMNS}"""  # noqa: S608
        ),
        {
            "user_id": user_id,
            "tenant_id": tenant_id,
            "id": workflow_id,
            "name": name,
            "description": description,
            "category": category,
            "tags": None if tags is None else list(tags),
        },
    ).one_or_none()
    if row is None:
        raise _not_found(workflow_id)
    return Workflow(**row._mapping)


def set_active(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID, is_active: bool
) -> Workflow:
    """Let a workflow be started, or not; executions that have begun go on. Idempotent. Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            UPDATE app.workflows SET is_active = :is_active
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id RETURNING {_COLUMNS}"""  # noqa: S608
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": workflow_id, "is_active": is_active},
    ).one_or_none()
    if row is None:
        raise _not_found(workflow_id)
    return Workflow(**row._mapping)


def add_version(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: UUID,
    version_id: WorkflowVersionId,
    definition: Mapping[str, Any],
    definition_hash: str,
) -> Version:
    """Save the next version; when the newest has the same hash, return that one and save nothing. Raises NotFoundError."""
    _lock(connection, user_id=user_id, tenant_id=tenant_id, workflow_id=workflow_id)
    newest = version(connection, user_id=user_id, tenant_id=tenant_id, workflow_id=workflow_id)
    if newest.definition_hash == definition_hash:
        return newest
    return _insert_version(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        workflow_id=workflow_id,
        version_id=version_id,
        definition=definition,
        definition_hash=definition_hash,
    )


def version(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID, version: int | None = None
) -> Version:
    """Return one version, the newest for None. Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            SELECT {_VERSION_COLUMNS} FROM app.workflow_versions
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND workflow_id = :workflow_id
               AND (CAST(:version AS integer) IS NULL OR version = :version)
             ORDER BY version DESC LIMIT 1"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "workflow_id": workflow_id, "version": version},
    ).one_or_none()
    if row is None:
        wanted = f"workflow {workflow_id}" if version is None else f"version {version} of workflow {workflow_id}"
        raise NotFoundError(f"no {wanted}: `workstation workflow list` shows yours")
    return Version(**row._mapping)


def versions(connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID) -> list[Version]:
    """Return all versions, the newest first; none for a workflow that is not there."""
    rows = connection.execute(
        text(
            f"""
            SELECT {_VERSION_COLUMNS} FROM app.workflow_versions
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND workflow_id = :workflow_id
             ORDER BY version DESC"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "workflow_id": workflow_id},
    )
    return [Version(**row._mapping) for row in rows]


def version_of_id(connection: Connection, *, user_id: UserId, tenant_id: TenantId, version_id: UUID) -> Version:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            f"""
            SELECT {_VERSION_COLUMNS} FROM app.workflow_versions
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"""  # noqa: S608 - a constant above
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": version_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no workflow version {version_id}: `workstation workflow list` shows your workflows")
    return Version(**row._mapping)


def clone(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: UUID,
    new_id: WorkflowId,
    new_version_id: WorkflowVersionId,
    slug: str,
    name: str,
    version: int | None = None,
) -> Workflow:
    """Make another workflow whose version 1 is a version of this one, the newest for None; schedules are not copied.

    Raises NotFoundError, InvalidRequestError.
    """
    original = get(connection, user_id=user_id, tenant_id=tenant_id, workflow_id=workflow_id)
    copied = _version_of(connection, original, version)
    return create(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        workflow_id=new_id,
        version_id=new_version_id,
        slug=slug,
        name=name,
        definition=copied.definition,
        definition_hash=copied.definition_hash,
        description=original.description,
        category=original.category,
        tags=original.tags,
        template_id=original.template_id,
    )


def delete(connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID) -> None:
    """Delete a workflow with its versions, schedules and executions.

    Raises NotFoundError, and InvalidRequestError while one of its executions is not over.
    """
    values = {"user_id": user_id, "tenant_id": tenant_id, "id": workflow_id}
    connection.execute(_LOCK_SCHEDULES, values)  # before the workflow, in the order of a schedule that is due
    _lock(connection, user_id=user_id, tenant_id=tenant_id, workflow_id=workflow_id)  # none begins meanwhile
    still_open: int = connection.execute(
        text(
            """
            SELECT count(*) FROM app.workflow_executions
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND workflow_id = :id
               AND status IN ('pending', 'running', 'waiting')"""
        ),
        values,
    ).scalar_one()
    if still_open:
        raise InvalidRequestError(
            f"workflow {workflow_id} has {still_open} executions that are not over: cancel them first, or wait for them"
        )
    connection.execute(
        text("DELETE FROM app.workflows WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"), values
    )


_LOCK_SCHEDULES = text(
    """
    SELECT FROM app.scheduled_workflows
     WHERE user_id = :user_id AND tenant_id = :tenant_id AND workflow_id = :id ORDER BY id FOR UPDATE"""
)


def stats(connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID) -> WorkflowStats:
    """Raises NotFoundError."""
    row = connection.execute(
        text(
            """
            SELECT total_executions, completed_executions, failed_executions, cancelled_executions,
                   completed_executions::float8 / nullif(total_executions, 0) AS success_rate,
                   total_duration_s / nullif(total_executions, 0) AS mean_duration_s,
                   total_cost, total_tokens, last_executed_at
              FROM app.workflows WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": workflow_id},
    ).one_or_none()
    if row is None:
        raise _not_found(workflow_id)
    return WorkflowStats(**row._mapping)


def summary(connection: Connection, *, user_id: UserId, tenant_id: TenantId) -> WorkflowSummary:
    """Return the figures of all workflows together; zeros for somebody without any."""
    row = connection.execute(
        text(
            """
            SELECT workflows, active_workflows, total_executions, completed_executions, failed_executions,
                   cancelled_executions, success_rate, mean_duration_s, total_cost, total_tokens, last_executed_at
              FROM app.user_workflow_summary WHERE user_id = :user_id AND tenant_id = :tenant_id"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id},
    ).one_or_none()
    if row is None:
        return WorkflowSummary(0, 0, 0, 0, 0, 0, None, None, Decimal(0), 0, None)
    return WorkflowSummary(**row._mapping)


def version_by_job(database: Database, *, job_key: str, slug: str, version: int) -> VersionOwner | None:
    """Return whose version a Dagster job was made of: all that a run knows at its start is the job's name."""
    with database.across_users() as connection:
        row = connection.execute(
            text("SELECT user_id, tenant_id, version_id FROM app.workflow_version_by_job(:job_key, :slug, :version)"),
            {"job_key": job_key, "slug": slug, "version": version},
        ).one_or_none()
    return VersionOwner(*row) if row is not None else None


def recently_used(database: Database, *, at_most: int) -> list[VersionOwner]:
    """Return the newest versions of all users' active workflows, the last executed or saved first."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT user_id, tenant_id, version_id FROM app.recently_used_workflows(:at_most)"),
            {"at_most": at_most},
        )
        return [VersionOwner(*row) for row in rows]


def newest_version_at(database: Database) -> datetime | None:
    """Return when anybody last saved a version, by the database's clock."""
    with database.across_users() as connection:
        newest: datetime | None = connection.execute(text("SELECT app.newest_workflow_version_at()")).scalar()
    return newest


def _version_of(connection: Connection, workflow: Workflow, number: int | None) -> Version:
    return version(
        connection,
        user_id=workflow.user_id,
        tenant_id=workflow.tenant_id,
        workflow_id=workflow.id,
        version=number,
    )


def _lock(connection: Connection, *, user_id: UserId, tenant_id: TenantId, workflow_id: UUID) -> None:
    locked = connection.execute(
        text(
            """
            SELECT FROM app.workflows
             WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :id FOR UPDATE"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id, "id": workflow_id},
    )
    if locked.first() is None:
        raise _not_found(workflow_id)


def _insert_version(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: UUID,
    version_id: WorkflowVersionId,
    definition: Mapping[str, Any],
    definition_hash: str,
) -> Version:
    row = connection.execute(
        text(
            f"""
            WITH numbered AS (
                UPDATE app.workflows SET latest_version = latest_version + 1
                 WHERE user_id = :user_id AND tenant_id = :tenant_id AND id = :workflow_id RETURNING latest_version)
            INSERT INTO app.workflow_versions (id, tenant_id, user_id, workflow_id, version, definition, definition_hash)
            SELECT :id, :tenant_id, :user_id, :workflow_id, latest_version, :definition, :definition_hash FROM numbered
            RETURNING {_VERSION_COLUMNS}"""  # noqa: S608 - a constant above
        ).bindparams(bindparam("definition", type_=JSONB)),
        {
            "id": version_id,
            "tenant_id": tenant_id,
            "user_id": user_id,
            "workflow_id": workflow_id,
            "definition": dict(definition),
            "definition_hash": definition_hash,
        },
    ).one()
    return Version(**row._mapping)


def _as_id(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None


def _not_found(name: object) -> NotFoundError:
    return NotFoundError(f"no workflow {name}: `workstation workflow list` shows yours")
