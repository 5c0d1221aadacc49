"""What has had its day: which rows of which table nobody needs any more, counted and deleted in portions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId

KEPT_OF_EACH = 10
"""So many of a source's newest jobs that were started stay, however old."""

_ENDED = "'completed', 'completed_with_errors', 'failed', 'cancelled'"
# The next sync asks the newest that was started where to go on: it must not find an older one in its place.
_IS_AMONG_NEWEST = f"""r.id IN (SELECT j.id FROM app.sync_jobs j
    WHERE j.user_id = r.user_id AND j.data_source_id = r.data_source_id AND j.started_at IS NOT NULL
    ORDER BY j.created_at DESC, j.id DESC LIMIT {KEPT_OF_EACH})"""  # noqa: S608 - constants
# Without its job an item would count as gone again, and the next listing might delete it without asking.
_KEEPS_ABSENT_ITEMS = """r.deletes_refused AND EXISTS (SELECT FROM app.sync_items i
    WHERE i.user_id = r.user_id AND i.data_source_id = r.data_source_id AND i.absent_job_id = r.id)"""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows `r` of a table that may go once `condition` holds; it names the moment `:before` it had its day.

    `kept_as` is the setting that says how many days lie between that moment and now. Rows of some tables belong to a tenant
    besides their user. What is `audited_as` (action and noun) leaves an entry in the audit log.
    """

    name: str
    table: str
    condition: str
    kept_as: str
    is_within_tenant: bool = False
    audited_as: tuple[str, str] | None = None


# In an order in which one rule makes way for the next.
RULES = (
    Rule(
        "tombstones",
        "documents",
        "r.deleted_at <= :before",
        "tombstones",
        audited_as=("document.purged", "documents"),
    ),
    Rule(
        "gone items",
        "sync_items",
        "r.sync_status = 'deleted' AND r.reason <> 'removed_by_user' AND r.local_document_id IS NULL"
        " AND r.updated_at <= :before",
        "tombstones",
    ),
    Rule("resolved failures", "sync_failures", "r.resolved_at <= :before", "failures"),
    Rule(
        "sync jobs",
        "sync_jobs",
        f"r.status IN ({_ENDED}) AND r.created_at <= :before AND r.completed_at <= :before"
        f" AND NOT ({_IS_AMONG_NEWEST}) AND NOT ({_KEEPS_ABSENT_ITEMS})",
        "sync_jobs",
    ),
    Rule("processing jobs", "processing_jobs", f"r.status IN ({_ENDED}) AND r.completed_at <= :before", "sync_jobs"),
    Rule(
        "workflow executions",
        "workflow_executions",
        "r.tenant_id = :tenant_id AND r.completed_at <= :before",
        "workflow_executions",
        is_within_tenant=True,
        audited_as=("execution.purged", "executions"),
    ),
    Rule("forgotten uploads", "uploads", "r.updated_at <= :before", "tombstones"),
    Rule(
        "webhook deliveries",
        "webhook_deliveries",
        "coalesce(r.delivered_at, r.given_up_at) <= :before",
        "events",
    ),
    Rule("resolved events", "events", "r.resolved_at <= :before", "events"),
    Rule("metrics", "observability_metrics", "r.hour <= :before", "metrics"),
)


def count(connection: Connection, rule: Rule, *, user_id: UserId, kept: timedelta, tenant_id: str | None = None) -> int:
    """Return how many of the user's rows a rule lets go, within a tenant if they belong to one."""
    statement = text(
        f"SELECT count(*) FROM app.{rule.table} r WHERE r.user_id = :user_id AND {_of(rule)}"  # noqa: S608 - constants
    )
    parameters = _parameters(rule, user_id=user_id, tenant_id=tenant_id, kept=kept)
    found: int = connection.execute(statement, parameters).scalar_one()
    return found


def delete(
    connection: Connection,
    rule: Rule,
    *,
    user_id: UserId,
    kept: timedelta,
    at_most: int,
    tenant_id: str | None = None,
) -> int:
    """Delete some of the rows that a rule lets go; return how many. Rows that somebody holds are left for the next time."""
    statement = text(
        f"""
        DELETE FROM app.{rule.table} d WHERE d.user_id = :user_id AND d.ctid = ANY(ARRAY(
            SELECT r.ctid FROM app.{rule.table} r WHERE r.user_id = :user_id AND {_of(rule)}
             LIMIT :at_most FOR UPDATE SKIP LOCKED))"""  # noqa: S608 - constants
    )
    parameters = _parameters(rule, user_id=user_id, tenant_id=tenant_id, kept=kept)
    return connection.execute(statement, {**parameters, "at_most": at_most}).rowcount


def tenants(connection: Connection) -> list[str]:
    """Return the tenants in which the context's user has executions that are over, in order."""
    rows = connection.execute(text("SELECT tenant_id FROM app.tenants_with_executions()"))
    return [row.tenant_id for row in rows]


def _parameters(rule: Rule, **values: Any) -> dict[str, Any]:
    return values if rule.is_within_tenant else {name: each for name, each in values.items() if name != "tenant_id"}


def users(database: Database, *, after: str = "", at_most: int = 1000) -> list[UserId]:
    """Return users who have anything here, in order of their ids."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT user_id FROM app.users_with_rows(:after, :at_most)"), {"after": after, "at_most": at_most}
        )
        return [UserId(row.user_id) for row in rows]


def _of(rule: Rule) -> str:
    return rule.condition.replace(":before", "(now() - CAST(:kept AS interval))")
