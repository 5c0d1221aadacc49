"""`workstation status`: everything at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from workstation_pipelines.commands.durations import written_span
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    from datetime import datetime

_EVENTS_SHOWN = 5


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show how every source stands.

    State, last and next sync, open failures, freshness and cost of each.

    Backlog is what waits to be done: failed items that are due again, documents to index anew, jobs to start.
    """
    with open_session(context) as session:
        print_status(session, as_json=as_json)


def print_status(session: Session, *, as_json: bool = False) -> None:
    """Print how a user's sources, jobs, workflows and events stand."""
    from workstation_pipelines.db import events
    from workstation_pipelines.db import status as standing

    with session.transaction() as connection:
        sources = standing.sources(connection, user_id=session.user_id)
        queue = standing.queue(connection, user_id=session.user_id)
        workflows = standing.workflows(connection, **session.owner)
        newest = events.recent(connection, user_id=session.user_id, is_open=True, limit=_EVENTS_SHOWN)
    if as_json:
        print_json({"sources": sources, "queue": queue, "workflows": workflows, "newest_events": newest})
        return
    print_table(
        ["source", "type", "state", "last sync", "next sync", "backlog", "failures", "fresh", "cost this month"],
        [
            (
                row.name,
                row.source_type,
                _state(row),
                _ago(row.last_sync_at, row.now),
                _ahead(row.next_run_at, row.now),
                row.backlog,
                row.open_failures,
                _fresh(row),
                f"{row.cost_this_month_usd:.4f} USD",
            )
            for row in sources
        ],
        empty="No sources yet: `workstation source add local_folder NAME --path FOLDER` adds one.",
    )
    print_line()
    print_line(
        f"Jobs: {queue.pending:,} pending, {queue.running:,} running, {queue.paused:,} paused,"
        f" {queue.needs_confirmation:,} to be confirmed. Cost this month: {queue.cost_this_month_usd:.4f} USD."
    )
    print_line(
        f"Workflows: {workflows.pending:,} pending, {workflows.running:,} running, {workflows.waiting:,} waiting"
        f" ({workflows.approvals:,} for an approval), {workflows.failed_today:,} failed in the last 24 hours."
    )
    if not queue.open_events:
        print_line("Events: none open.")
        return
    print_line(f"Events: {queue.open_events:,} open, the newest first (`workstation events list` shows all):")
    for event in newest:
        where = f" {event.data_source_name}:" if event.data_source_name else ""
        print_line(f"  {event.severity:<7}  {event.kind}:{where} {' '.join(event.message.split())}")


def _state(row: Any) -> str:
    """The one word that says most of what is to be done."""
    if row.needs_reauth:
        return "connect again"
    if not row.is_active:
        return "inactive"
    for is_so, word in (
        (row.running_jobs, "syncing"),
        (row.unconfirmed_jobs, "confirm deletes"),
        (row.paused_jobs, "paused"),
        (row.pending_jobs, "pending"),
    ):
        if is_so:
            return word
    return str(row.connection_status)


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    span = written_span(now - moment)
    return span if span == "now" else f"{span} ago"


def _ahead(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return ""
    span = written_span(moment - now)
    return span if span == "now" else f"in {span}"


def _fresh(row: Any) -> str:
    if row.objective_minutes is None:
        return ""
    return f"missed {_ago(row.fresh_until, row.now)}" if row.is_late else "ok"
