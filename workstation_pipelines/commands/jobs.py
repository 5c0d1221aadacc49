"""`workstation jobs`: every attempt to sync, with what failed in it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, print_table
from workstation_pipelines.errors import InvalidRequestError

app = typer.Typer(help="Sync jobs: what each sync found, did and could not do.")

COUNTED = ("found", "created", "updated", "unchanged", "skipped", "deleted", "failed")


@app.command("list")
def list_jobs(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List sync jobs, newest first."""
    from workstation_pipelines.db import sync_jobs

    with open_session(context) as session:
        source_id = session.source(source).id if source is not None else None
        with session.transaction() as connection:
            rows = sync_jobs.recent(
                connection, user_id=session.user_id, data_source_id=source_id, limit=limit, offset=offset
            )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["job", "source", "status", *COUNTED, "started", "took"],
        [
            (
                row.id,
                row.data_source_name,
                row.status,
                *(getattr(row, f"items_{name}") for name in COUNTED),
                row.started_at,
                row.duration,
            )
            for row in rows
        ],
        empty="No syncs yet: `workstation sync NAME` starts one.",
    )


@app.command()
def show(
    context: typer.Context, job: Annotated[str, typer.Argument(help="The job's id.")], as_json: AsJson = False
) -> None:
    """Show one job and name every item that failed in it."""
    from workstation_pipelines.db import sync_failures, sync_jobs

    job_id = parsed_id(job)
    with open_session(context) as session, session.transaction() as connection:
        row = sync_jobs.get(connection, user_id=session.user_id, job_id=job_id)
        failures = sync_failures.of_job(connection, user_id=session.user_id, job_id=job_id)
    if as_json:
        print_json({**row._mapping, "failures": failures})
        return
    print_fields({name.replace("_", " "): value for name, value in row._mapping.items() if name != "user_id"})
    for failure in failures:
        state = "since then resolved" if failure.resolved_at else f"tried {failure.attempts} times"
        print_line(f"failed  {failure.external_path} ({failure.stage}, {failure.reason}; {state}): {failure.message}")


def parsed_id(text: str) -> UUID:
    """Raises InvalidRequestError."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequestError(f"{text!r} is not a job's id: `workstation jobs list` shows them") from None
