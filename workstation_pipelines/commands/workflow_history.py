"""`workstation workflow history`: what was run, and one execution with its timeline, steps and attempts."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table, shown
from workstation_pipelines.commands.workflow_watch import Standing, as_values, summary
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import ExecutionId, ExecutionStatus, Trigger

if TYPE_CHECKING:
    from sqlalchemy import Connection

LONGEST_OUTPUT = 500
EVENTS_SHOWN = 1000


def history(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[SLUG|EXECUTION]", help="Only of this workflow; or one execution in all detail."),
    ] = None,
    status: Annotated[ExecutionStatus | None, typer.Option(help="Only in this state.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only what failed.")] = False,
    trigger: Annotated[Trigger | None, typer.Option(help="Only what was started in this way.")] = None,
    since: Annotated[datetime | None, typer.Option(help="From then on, in UTC: 2026-11-01.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before then.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List executions, newest first, or show one.

    One with its steps, its attempts and its timeline.
    """
    from workstation_pipelines.db import executions

    execution_id = _as_id(what)
    with open_session(context) as session, session.transaction() as connection:
        if execution_id is not None:
            _print_one(session, connection, execution_id, as_json=as_json)
            return
        rows = executions.listed(
            connection,
            **session.owner,
            workflow_id=session.workflow(connection, what).id if what is not None else None,
            status=status,
            errors_only=errors,
            trigger=trigger,
            since=since and since.replace(tzinfo=UTC),
            until=until and until.replace(tzinfo=UTC),
            limit=limit,
            offset=offset,
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["execution", "workflow", "version", "status", "by", "steps", "tokens", "cost", "started", "took", "error"],
        [
            (
                row.id,
                row.slug,
                row.version,
                row.status,
                row.trigger,
                f"{row.steps_over}/{row.steps_total}",
                row.input_tokens + row.output_tokens,
                f"{row.cost:.4f} USD",
                row.started_at,
                row.completed_at - row.started_at if row.completed_at and row.started_at else None,
                row.error_class,
            )
            for row in rows
        ],
        empty="Nothing such was run: `workstation workflow run SLUG` begins.",
    )


def parsed_execution(text: str) -> ExecutionId:
    """Raises InvalidRequestError."""
    found = _as_id(text)
    if found is None:
        raise InvalidRequestError(f"{text!r} is not an execution's id: `workstation workflow history` shows them")
    return found


def standing_of(session: Session, connection: Connection, execution_id: ExecutionId) -> Standing:
    """Return how an execution and its steps stand, without what the steps gave. Raises NotFoundError."""
    from workstation_pipelines.db import executions, steps

    execution = executions.get(connection, **session.owner, execution_id=execution_id)
    return Standing(execution, steps.standing(connection, **session.owner, execution_id=execution_id))


def whole_of(session: Session, connection: Connection, execution_id: ExecutionId) -> Standing:
    """Return the same with all outputs. Raises NotFoundError."""
    from workstation_pipelines.db import executions, steps

    execution = executions.get(connection, **session.owner, execution_id=execution_id)
    return Standing(execution, steps.of_execution(connection, **session.owner, execution_id=execution_id))


def _print_one(session: Session, connection: Connection, execution_id: ExecutionId, *, as_json: bool) -> None:
    from workstation_pipelines.db import blocks, timeline

    standing = whole_of(session, connection, execution_id)
    attempts = blocks.of_execution(connection, **session.owner, execution_id=execution_id)
    events = timeline.of_execution(connection, **session.owner, execution_id=execution_id, limit=EVENTS_SHOWN)
    if as_json:
        print_json({**as_values(standing), "attempts": attempts, "timeline": events})
        return
    for line in summary(standing):
        print_line(line)
    print_line()
    print_table(
        ["step", "type", "status", "attempts", "took", "tokens", "cost", "output or error"],
        [
            (
                step.node_id,
                step.node_type,
                f"{step.status} ({step.skip_reason})" if step.skip_reason else step.status,
                "reused" if step.is_reused else step.attempts,
                step.completed_at - step.started_at if step.completed_at and step.started_at else None,
                step.input_tokens + step.output_tokens,
                f"{step.cost:.4f} USD",
                step.error_message or _output(step.output),
            )
            for step in standing.steps
        ],
        empty="It has no steps.",
    )
    print_line()
    for each in attempts:
        said = f": {shown(each.error_class)}: {shown(each.error_message)}" if each.error_class else ""
        print_line(f"attempt {each.attempt} of {each.node_id}, {shown(each.started_at)}: {each.status}{said}")
    print_line()
    for event in events:
        where = f" {event.node_id}" if event.node_id else ""
        print_line(f"{event.occurred_at:%H:%M:%S.%f}"[:12] + f"  {event.kind}{where}  {shown(event.message)}".rstrip())


def _output(output: object) -> str:
    text = "" if output is None else json.dumps(output, ensure_ascii=False)
    return text if len(text) <= LONGEST_OUTPUT else f"{text[:LONGEST_OUTPUT]}…"


def _as_id(text: str | None) -> ExecutionId | None:
    try:
        return None if text is None else ExecutionId(UUID(text))
    except ValueError:
        return None
