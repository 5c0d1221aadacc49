"""`workstation source objective`: how old a source's last sync may become before an event says so."""

from __future__ import annotations

from typing import Annotated

import typer

from workstation_pipelines.commands.durations import minutes_of
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line

_BY_FREQUENCY = "by-frequency"
_NONE = "none"


def objective(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The source, as `workstation source add` named it.")],
    fresh_within: Annotated[
        str,
        typer.Option(help=f"A span such as 90m, 6h or 2d; `{_BY_FREQUENCY}`, the default of a source; or `{_NONE}`."),
    ],
    as_json: AsJson = False,
) -> None:
    """Say how old a source's last sync may become.

    By frequency it is 3 hours for hourly, 26 hours for daily, 8 days for weekly, and none for manual syncs.
    """
    from workstation_pipelines.db import freshness

    minutes = (
        None
        if fresh_within == _BY_FREQUENCY
        else freshness.NO_OBJECTIVE
        if fresh_within == _NONE
        else minutes_of(fresh_within)
    )
    with open_session(context) as session:
        source = session.source(name)
        with session.transaction() as connection:
            freshness.set_objective(connection, user_id=session.user_id, data_source_id=source.id, minutes=minutes)
            holds = freshness.objective_minutes(connection, user_id=session.user_id, data_source_id=source.id)
    if as_json:
        print_json({"name": source.name, "freshness_minutes": minutes, "objective_minutes": holds})
    elif holds is None:
        print_line(f"{source.name} has no freshness objective.")
    else:
        print_line(
            f"{source.name} is to be synced within {freshness.written_duration(holds)}: an event says so when it is not,"
            " while Dagster runs."
        )
