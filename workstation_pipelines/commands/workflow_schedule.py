"""`workstation workflow schedule`: when workflows are run by the clock, as rows that count from the next minute on."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from workstation_pipelines.commands import clock_times
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table
from workstation_pipelines.commands.workflow_input import InputFile, Inputs, given_input
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.identity import utc_now

app = typer.Typer(help="Workflows by the clock: add, list, pause, resume, remove. They start while Dagster runs.")

ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id; `schedule list` shows them.")]


@app.command()
def add(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The workflow's slug or id.")],
    cron: clock_times.Cron = None,
    every: clock_times.Every = None,
    daily: clock_times.Daily = None,
    weekly: clock_times.Weekly = None,
    timezone: clock_times.Timezone = "UTC",
    inputs: Inputs = None,
    input_file: InputFile = None,
    as_json: AsJson = False,
) -> None:
    """Run a workflow by the clock, always its newest version.

    Give one of --cron, --every, --daily, --weekly; a workflow may have several schedules.
    """
    from workstation_pipelines.db import workflow_schedules, workflows
    from workstation_pipelines.sync.schedule import next_run_at
    from workstation_pipelines.workflows import catalog
    from workstation_pipelines.workflows import inputs as declared

    schedule_type, config = clock_times.chosen(cron, every, daily, weekly)
    next_at = next_run_at(schedule_type, config, timezone, utc_now())
    with open_session(context) as session, session.transaction() as connection:
        found = session.workflow(connection, slug)
        newest = workflows.version(connection, **session.owner, workflow_id=found.id)
        given = given_input(newest.definition, inputs, input_file)
        declared.checked(catalog.read(newest.definition).inputs, given)
        row = workflow_schedules.add(
            connection,
            **session.owner,
            schedule_id=session.workspace.new_id(),
            workflow_id=found.id,
            schedule_type=schedule_type,
            config=config,
            timezone=timezone,
            next_at=next_at,
            input=given,
        )
    if as_json:
        print_json(row)
    else:
        in_utc = "" if row.timezone == "UTC" else f" ({clock_times.utc(next_at)})"
        print_line(f"{found.slug} is run next at {clock_times.in_zone(next_at, row)}{in_utc}, if Dagster runs then.")
        print_line(f"schedule {row.id}")


@app.command("list")
def list_schedules(
    context: typer.Context,
    workflow: Annotated[str | None, typer.Option(metavar="SLUG", help="Only of this workflow.")] = None,
    as_json: AsJson = False,
) -> None:
    """List schedules in order of their next time."""
    from workstation_pipelines.db import workflow_schedules, workflows

    with open_session(context) as session, session.transaction() as connection:
        workflow_id = session.workflow(connection, workflow).id if workflow is not None else None
        rows = workflow_schedules.of_user(connection, **session.owner, workflow_id=workflow_id)
        slugs = {
            each: workflows.get(connection, **session.owner, workflow_id=each).slug
            for each in {row.workflow_id for row in rows}
        }
    if as_json:
        print_json(rows)
        return
    print_table(
        ["schedule", "workflow", "when", "time zone", "active", "last", "next", "error"],
        [
            (
                row.id,
                slugs[row.workflow_id],
                clock_times.when(row),
                row.timezone,
                row.is_active,
                row.last_run_at,
                clock_times.next_shown(row),
                row.error,
            )
            for row in rows
        ],
        empty="No schedules yet: `workstation workflow schedule add SLUG --daily 07:00` adds one.",
    )


@app.command()
def pause(context: typer.Context, schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Let a schedule start nothing until it is resumed."""
    from workstation_pipelines.db import workflow_schedules

    schedule_id = _parsed_id(schedule)
    with open_session(context) as session, session.transaction() as connection:
        workflow_schedules.pause(connection, **session.owner, schedule_id=schedule_id)
        row = workflow_schedules.get(connection, **session.owner, schedule_id=schedule_id)
    if as_json:
        print_json(row)
    else:
        print_line(f"Paused: `workstation workflow schedule resume {schedule_id}` goes on from its next time then.")


@app.command()
def resume(context: typer.Context, schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Let a paused schedule go on from its next time.

    What was missed is not made up for.
    """
    from workstation_pipelines.db import workflow_schedules
    from workstation_pipelines.sync.schedule import next_run_at

    schedule_id = _parsed_id(schedule)
    with open_session(context) as session, session.transaction() as connection:
        row = workflow_schedules.get(connection, **session.owner, schedule_id=schedule_id)
        next_at = next_run_at(row.schedule_type, row.schedule_config, row.timezone, utc_now())
        workflow_schedules.resume(connection, **session.owner, schedule_id=schedule_id, next_at=next_at)
        row = workflow_schedules.get(connection, **session.owner, schedule_id=schedule_id)
    if as_json:
        print_json(row)
    else:
        print_line(f"Resumed: next at {clock_times.in_zone(next_at, row)} ({clock_times.utc(next_at)}).")


@app.command()
def remove(context: typer.Context, schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Remove a schedule. Its workflow and what was run stay."""
    from workstation_pipelines.db import workflow_schedules

    schedule_id = _parsed_id(schedule)
    with open_session(context) as session, session.transaction() as connection:
        workflow_schedules.remove(connection, **session.owner, schedule_id=schedule_id)
    if as_json:
        print_json({"removed": schedule_id})
    else:
        print_line(f"Removed schedule {schedule_id}.")


def _parsed_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequestError(
            f"{text!r} is not a schedule's id: `workstation workflow schedule list` shows them"
        ) from None
