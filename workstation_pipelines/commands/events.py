"""`workstation events`: what somebody should know of."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, print_table
from workstation_pipelines.errors import InvalidRequestError

app = typer.Typer(help="Events: failed syncs, lost grants, missed objectives and the like.")


@app.command("list")
def list_events(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List open events, the newest first."""
    from workstation_pipelines.db import events

    with open_session(context) as session:
        source_id = session.source(source).id if source is not None else None
        with session.transaction() as connection:
            rows = events.recent(
                connection,
                user_id=session.user_id,
                is_open=not everything,
                data_source_id=source_id,
                limit=limit,
                offset=offset,
            )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["event", "severity", "kind", "source", "times", "last", "resolved", "message"],
        [
            (
                row.id,
                row.severity,
                row.kind,
                row.data_source_name,
                row.occurrences,
                row.last_occurred_at,
                row.resolved_at,
                row.message,
            )
            for row in rows
        ],
        empty="No events." if everything else "No open events.",
    )


@app.command()
def show(
    context: typer.Context, event: Annotated[str, typer.Argument(help="The event's id.")], as_json: AsJson = False
) -> None:
    """Show one event, and mark it as seen."""
    from workstation_pipelines.db import events

    event_id = _parsed(event)
    with open_session(context) as session, session.transaction() as connection:
        row = events.get(connection, user_id=session.user_id, event_id=event_id)
        events.mark_seen(connection, user_id=session.user_id, event_id=event_id)
    if as_json:
        print_json(row)
    else:
        print_fields({name.replace("_", " "): value for name, value in row._mapping.items() if value != {}})


@app.command()
def resolve(
    context: typer.Context,
    event: Annotated[str | None, typer.Argument(help="The event's id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say that an event is dealt with. Most resolve by themselves.

    What happens again is a new event.
    """
    from workstation_pipelines.db import events

    if (event is None) != everything:
        raise InvalidRequestError("give either an event's id or --all")
    event_id = _parsed(event) if event is not None else None
    with open_session(context) as session, session.transaction() as connection:
        resolved = events.resolve(connection, user_id=session.user_id, event_id=event_id)
    if as_json:
        print_json({"resolved": resolved})
    elif event is not None and not resolved:
        print_line("It was resolved already.")
    else:
        print_line(f"Resolved {resolved:,}.")


def _parsed(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequestError(f"{text!r} is not an event's id: `workstation events list` shows them") from None
