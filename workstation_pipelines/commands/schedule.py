"""`workstation schedule`: when sources are synced by the clock, as rows that count from Dagster's next tick on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from workstation_pipelines.commands import clock_times
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.identity import utc_now

if TYPE_CHECKING:
    from workstation_pipelines.db.schedules import DueSync

app = typer.Typer(help="Syncs by the clock: add, list, pause, resume, remove, next. They start while Dagster runs.")

ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id; `schedule list` shows them.")]


@app.command()
def add(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="The source's name or id.")],
    cron: clock_times.Cron = None,
    every: clock_times.Every = None,
    daily: clock_times.Daily = None,
    weekly: clock_times.Weekly = None,
    timezone: clock_times.Timezone = "UTC",
    as_json: AsJson = False,
) -> None:
    """Sync a source by the clock. Give one of --cron, --every, --daily, --weekly; a source may have several schedules."""
    from workstation_pipelines.db import schedules
    from workstation_pipelines.sync.schedule import next_run_at

    schedule_type, config = clock_times.chosen(cron, every, daily, weekly)
    next_at = next_run_at(schedule_type, config, timezone, utc_now())
    with open_session(context) as session:
        found = session.source(source)
        with session.transaction() as connection:
            row = schedules.add(
                connection,
                user_id=session.user_id,
                schedule_id=session.workspace.new_id(),
                data_source_id=found.id,
                schedule_type=schedule_type,
                config=config,
                timezone=timezone,
                next_at=next_at,
            )
    if as_json:
        print_json(row)
    else:
        in_utc = "" if row.timezone == "UTC" else f" ({clock_times.utc(next_at)})"
        print_line(f"{found.name} is synced next at {clock_times.in_zone(next_at, row)}{in_utc}, if Dagster runs then.")
        print_line(f"schedule {row.id}")


@app.command("list")
def list_schedules(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    as_json: AsJson = False,
) -> None:
    """List schedules in order of their next time."""
    from workstation_pipelines.db import schedules

    with open_session(context) as session:
        source_id = session.source(source).id if source is not None else None
        with session.transaction() as connection:
            rows = schedules.of_user(connection, user_id=session.user_id, data_source_id=source_id)
        names = _names(session)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["schedule", "source", "when", "time zone", "active", "last", "next", "error"],
        [
            (
                row.id,
                names.get(row.data_source_id, ""),
                clock_times.when(row),
                row.timezone,
                row.is_active,
                row.last_run_at,
                clock_times.next_shown(row),
                row.error,
            )
            for row in rows
        ],
        empty="No schedules yet: `workstation schedule add SOURCE --daily 02:30` adds one.",
    )


@app.command()
def pause(context: typer.Context, schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Let a schedule start nothing until it is resumed."""
    from workstation_pipelines.db import schedules

    schedule_id = _parsed_id(schedule)
    with open_session(context) as session, session.transaction() as connection:
        schedules.pause(connection, user_id=session.user_id, schedule_id=schedule_id)
        row = schedules.get(connection, user_id=session.user_id, schedule_id=schedule_id)
    if as_json:
        print_json(row)
    else:
        print_line(f"Paused: `workstation schedule resume {schedule_id}` goes on from its next time then.")


@app.command()
def resume(context: typer.Context, schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Let a paused schedule go on from its next time.

    What was missed is not made up for.
    """
    from workstation_pipelines.db import schedules
    from workstation_pipelines.sync.schedule import next_run_at

    schedule_id = _parsed_id(schedule)
    with open_session(context) as session, session.transaction() as connection:
        row = schedules.get(connection, user_id=session.user_id, schedule_id=schedule_id)
        next_at = next_run_at(row.schedule_type, row.schedule_config, row.timezone, utc_now())
        schedules.resume(connection, user_id=session.user_id, schedule_id=schedule_id, next_at=next_at)
        row = schedules.get(connection, user_id=session.user_id, schedule_id=schedule_id)
    if as_json:
        print_json(row)
    else:
        print_line(f"Resumed: next at {clock_times.in_zone(next_at, row)} ({clock_times.utc(next_at)}).")


@app.command()
def remove(context: typer.Context, schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Remove a schedule. Its source and what was synced stay."""
    from workstation_pipelines.db import schedules

    schedule_id = _parsed_id(schedule)
    with open_session(context) as session, session.transaction() as connection:
        schedules.remove(connection, user_id=session.user_id, schedule_id=schedule_id)
    if as_json:
        print_json({"removed": schedule_id})
    else:
        print_line(f"Removed schedule {schedule_id}.")


@app.command("next")
def next_times(
    context: typer.Context,
    schedule: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this one; without it, all.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many times to show.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the next times.

    On the clocks of each schedule's zone and in UTC.
    """
    from workstation_pipelines.db import schedules

    with open_session(context) as session:
        with session.transaction() as connection:
            if schedule is None:
                rows = schedules.of_user(connection, user_id=session.user_id)
            else:
                rows = [schedules.get(connection, user_id=session.user_id, schedule_id=_parsed_id(schedule))]
        names = _names(session)
    times = list(islice(merge(*(_times(row) for row in rows if row.is_active), key=lambda each: each[0]), count))
    if as_json:
        print_json(
            [
                {
                    "schedule_id": row.id,
                    "data_source_id": row.data_source_id,
                    "utc": due,
                    "local": clock_times.in_zone(due, row),
                }
                for due, row in times
            ]
        )
        return
    print_table(
        ["local time", "utc", "source", "schedule"],
        [
            (clock_times.in_zone(due, row), clock_times.utc(due), names.get(row.data_source_id, ""), row.id)
            for due, row in times
        ],
        empty="Nothing is due: `workstation schedule list` shows which schedules are paused.",
    )


def _times(row: DueSync) -> Iterator[tuple[datetime, DueSync]]:
    """Yield a row's due times; none for one that cannot be computed, which the next tick deactivates."""
    from workstation_pipelines.sync.schedule import next_run_at, upcoming

    now = utc_now()
    try:
        first = row.next_run_at or next_run_at(row.schedule_type, row.schedule_config, row.timezone, now)
        for due in upcoming(row.schedule_type, row.schedule_config, row.timezone, first=first, now=now):
            yield due, row
    except InvalidRequestError:
        return


def _names(session: Session) -> dict[UUID, str]:
    from workstation_pipelines.db import data_sources

    with session.transaction() as connection:
        return {source.id: source.name for source in data_sources.all_of(connection, user_id=session.user_id)}


def _parsed_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequestError(f"{text!r} is not a schedule's id: `workstation schedule list` shows them") from None
