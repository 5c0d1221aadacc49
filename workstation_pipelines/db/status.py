"""How everything of a user stands: a row for each data source, one for the queue, and one for workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TenantId

# Documents that another index config made than the one that wrote last: what changed settings leave to be done anew.
_SOURCES = text(
    """
    SELECT s.id, s.name, s.source_type, s.connection_status, s.status_message, s.needs_reauth, s.is_active,
           s.last_sync_at, s.last_sync_status, now() AS now, n.next_run_at,
           coalesce(f.open_failures, 0) AS open_failures, coalesce(f.due_failures, 0) AS due_failures,
           coalesce(d.stale_documents, 0) AS stale_documents,
           coalesce(j.pending_jobs, 0) AS pending_jobs, coalesce(j.running_jobs, 0) AS running_jobs,
           coalesce(j.paused_jobs, 0) AS paused_jobs, coalesce(j.unconfirmed_jobs, 0) AS unconfirmed_jobs,
           coalesce(f.due_failures, 0) + coalesce(d.stale_documents, 0) + coalesce(j.pending_jobs, 0) AS backlog,
           o.objective_minutes, o.due_at AS fresh_until, o.is_missed AS is_late,
           coalesce(b.cost, 0) AS cost_this_month_usd, coalesce(e.open_events, 0) AS open_events
      FROM app.data_sources s
      JOIN app.source_freshness o ON o.user_id = s.user_id AND o.data_source_id = s.id
      LEFT JOIN (SELECT data_source_id, min(next_run_at) AS next_run_at FROM app.scheduled_syncs
                  WHERE user_id = :user_id AND is_active GROUP BY 1) n ON n.data_source_id = s.id
      LEFT JOIN (SELECT data_source_id, count(*) AS open_failures,
                        count(*) FILTER (WHERE next_try_at <= now()) AS due_failures
                   FROM app.sync_failures WHERE user_id = :user_id AND resolved_at IS NULL GROUP BY 1) f
        ON f.data_source_id = s.id
      LEFT JOIN (SELECT data_source_id, count(*) AS stale_documents
                   FROM app.documents
                  WHERE user_id = :user_id AND deleted_at IS NULL AND data_source_id IS NOT NULL
                    AND index_config_id IS DISTINCT FROM (
                        SELECT index_config_id FROM app.documents
                         WHERE user_id = :user_id AND deleted_at IS NULL AND index_config_id IS NOT NULL
                         ORDER BY updated_at DESC, id DESC LIMIT 1)
                  GROUP BY 1) d ON d.data_source_id = s.id
      LEFT JOIN (SELECT data_source_id, count(*) FILTER (WHERE status = 'pending') AS pending_jobs,
                        count(*) FILTER (WHERE status = 'running') AS running_jobs,
                        count(*) FILTER (WHERE status = 'paused') AS paused_jobs,
                        count(*) FILTER (WHERE status = 'needs_confirmation') AS unconfirmed_jobs
                   FROM app.sync_jobs
                  WHERE user_id = :user_id AND status IN ('pending', 'running', 'paused', 'needs_confirmation')
                  GROUP BY 1) j ON j.data_source_id = s.id
      LEFT JOIN (SELECT data_source_id, sum(cost) AS cost FROM app.billing_records
                  WHERE user_id = :user_id AND hour >= date_trunc('month', now(), 'UTC') GROUP BY 1) b
        ON b.data_source_id = s.id
      LEFT JOIN (SELECT data_source_id, count(*) AS open_events FROM app.events
                  WHERE user_id = :user_id AND resolved_at IS NULL GROUP BY 1) e ON e.data_source_id = s.id
     WHERE s.user_id = :user_id ORDER BY s.name"""
)


def sources(connection: Connection, *, user_id: UserId) -> Sequence[Row[Any]]:
    """Return a row for each data source, by name.

    `backlog` is failed items that are due again, documents to be indexed anew and jobs that wait to start. `fresh_until` is
    when the freshness objective is missed, or was; NULL without one.
    """
    return connection.execute(_SOURCES, {"user_id": user_id}).all()


def queue(connection: Connection, *, user_id: UserId) -> Row[Any]:
    """Return how many sync jobs wait, run, are paused and ask for confirmation, and how many events are open."""
    return connection.execute(
        text(
            """
            SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
                   count(*) FILTER (WHERE status = 'running') AS running,
                   count(*) FILTER (WHERE status = 'paused') AS paused,
                   count(*) FILTER (WHERE status = 'needs_confirmation') AS needs_confirmation,
                   (SELECT count(*) FROM app.events WHERE user_id = :user_id AND resolved_at IS NULL) AS open_events,
                   (SELECT coalesce(sum(cost), 0) FROM app.billing_records
                     WHERE user_id = :user_id AND hour >= date_trunc('month', now(), 'UTC')) AS cost_this_month_usd
              FROM app.sync_jobs
             WHERE user_id = :user_id AND status IN ('pending', 'running', 'paused', 'needs_confirmation')"""
        ),
        {"user_id": user_id},
    ).one()


def workflows(connection: Connection, *, user_id: UserId, tenant_id: TenantId) -> Row[Any]:
    """Return how many executions of workflows are not over, how many steps ask for an approval, and what failed in a day."""
    return connection.execute(
        text(
            """
            SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
                   count(*) FILTER (WHERE status = 'running') AS running,
                   count(*) FILTER (WHERE status = 'waiting') AS waiting,
                   count(*) FILTER (WHERE status = 'failed') AS failed_today,
                   (SELECT count(*) FROM app.workflow_steps
                     WHERE user_id = :user_id AND tenant_id = :tenant_id AND status = 'waiting'
                       AND wait_kind = 'approval' AND decision IS NULL) AS approvals
              FROM app.workflow_executions
             WHERE user_id = :user_id AND tenant_id = :tenant_id
               AND (status IN ('pending', 'running', 'waiting')
                    OR status = 'failed' AND completed_at > now() - interval '1 day')"""
        ),
        {"user_id": user_id, "tenant_id": tenant_id},
    ).one()
