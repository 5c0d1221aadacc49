"""`workstation jobs`: every attempt to sync, what failed in it, and how to stop, hold or answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, print_table, shown
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import JobStatus, SyncJobId

if TYPE_CHECKING:
    from sqlalchemy import Row

app = typer.Typer(help="Sync jobs: what each sync found, did and could not do, and how to stop, hold or answer it.")

TheJob = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
HELD_BACK_SHOWN = 10

COUNTED = ("found", "created", "updated", "unchanged", "skipped", "deleted", "failed")


@app.command("list")
def list_jobs(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only of this source.")] = None,
    status: Annotated[JobStatus | None, typer.Option(help="Only in this state.")] = None,
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
                connection,
                user_id=session.user_id,
                data_source_id=source_id,
                status=status,
                limit=limit,
                offset=offset,
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
        empty="No syncs yet: `workstation sync NAME` starts one." if status is None else f"No job is {status}.",
    )


@app.command()
def show(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Show one job with what it could not do.

    Names every item that failed in it, and some of those whose deletion it held back.
    """
    from workstation_pipelines.db import absent_items, sync_failures, sync_jobs

    job_id = parsed_id(job)
    with open_session(context) as session, session.transaction() as connection:
        row = sync_jobs.get(connection, user_id=session.user_id, job_id=job_id)
        failures = sync_failures.of_job(connection, user_id=session.user_id, job_id=job_id)
        held = absent_items.held_back(connection, user_id=session.user_id, job_id=job_id, limit=HELD_BACK_SHOWN + 1)
    if as_json:
        print_json({**row._mapping, "failures": failures, "held_back": held[:HELD_BACK_SHOWN]})
        return
    print_fields({name.replace("_", " "): value for name, value in row._mapping.items() if name != "user_id"})
    for failure in failures:
        state = "since then resolved" if failure.resolved_at else f"tried {failure.attempts} times"
        print_line(f"failed  {failure.external_path} ({failure.stage}, {failure.reason}; {state}): {failure.message}")
    for path in held[:HELD_BACK_SHOWN]:
        print_line(f"gone from the source, and kept here: {shown(path)}")
    if len(held) > HELD_BACK_SHOWN:
        print_line("and more")


@app.command()
def cancel(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Stop a job, whatever it does.

    At once if it waits, within seconds if it runs. What is committed stays.
    """
    from workstation_pipelines.db import job_control
    from workstation_pipelines.sync.reaper import reap_if_dead

    job_id = parsed_id(job)
    with open_session(context) as session:
        with session.transaction() as connection:
            status = job_control.request_cancel(connection, user_id=session.user_id, job_id=job_id)
        if status is JobStatus.RUNNING:  # unless its process is dead
            reap_if_dead(session.workspace.database, user_id=session.user_id, job_id=job_id)
        row = _row(session, job_id)
    said = "cancelled" if row.status == JobStatus.CANCELLED else "stops within seconds; what is committed stays"
    _print(row, said, as_json=as_json)


@app.command()
def pause(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Hold a job until `jobs resume`.

    At once if it waits, within seconds if it runs.
    """
    from workstation_pipelines.db import job_control

    job_id = parsed_id(job)
    with open_session(context) as session:
        with session.transaction() as connection:
            job_control.request_pause(connection, user_id=session.user_id, job_id=job_id)
        row = _row(session, job_id)
    _print(row, "paused" if row.status == JobStatus.PAUSED else "pauses within seconds", as_json=as_json)


@app.command()
def resume(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Let a paused job go on where it stopped.

    It waits for `workstation dev`, or another Dagster, to start it.
    """
    from workstation_pipelines.db import job_control

    job_id = parsed_id(job)
    with open_session(context) as session:
        with session.transaction() as connection:
            job_control.resume(connection, user_id=session.user_id, job_id=job_id)
        row = _row(session, job_id)
    _print(
        row, "goes on as soon as something starts it" if row.status == JobStatus.PENDING else "runs", as_json=as_json
    )


@app.command()
def confirm(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Have deleted what a job held back.

    A new job lists the source once more, and deletes what is gone then.
    """
    from workstation_pipelines.db import job_control

    job_id = parsed_id(job)
    with open_session(context) as session, session.transaction() as connection:
        new_id = SyncJobId(session.workspace.new_id())
        row = job_control.confirm(connection, user_id=session.user_id, job_id=job_id, new_job_id=new_id)
    _print(row, "waits to be started, and deletes what is gone then", as_json=as_json)


@app.command()
def refuse(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Keep what a job wanted to delete.

    You are not asked about the same items again.
    """
    from workstation_pipelines.db import job_control

    job_id = parsed_id(job)
    with open_session(context) as session:
        with session.transaction() as connection:
            job_control.refuse(connection, user_id=session.user_id, job_id=job_id)
        row = _row(session, job_id)
    _print(row, "deletes nothing; you are not asked about these items again", as_json=as_json)


def _row(session: Session, job_id: UUID) -> Row[Any]:
    from workstation_pipelines.db import sync_jobs

    with session.transaction() as connection:
        return sync_jobs.get(connection, user_id=session.user_id, job_id=job_id)


def _print(row: Row[Any], said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(row._mapping)
    else:
        print_line(f"job {row.id} {said}")


def parsed_id(text: str) -> UUID:
    """Raises InvalidRequestError."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequestError(f"{text!r} is not a job's id: `workstation jobs list` shows them") from None
