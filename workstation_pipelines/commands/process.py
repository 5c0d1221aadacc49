"""`workstation process`: files and URLs of no source, processed in bulk, with an outcome for each."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from workstation_pipelines.commands.exits import ExitCode, of_job
from workstation_pipelines.commands.interruption import interruptible
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, print_table, shown
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import JobStatus, OutcomeStatus, ProcessingJobId, ProcessingKind

if TYPE_CHECKING:
    from sqlalchemy import Row

    from workstation_pipelines.sync.processing import Processed, ProcessingResult

app = typer.Typer(help="Process files and URLs that belong to no source: add, list, show, resume, cancel.")

TheJob = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
PROBLEMS_SHOWN = 20

COUNTED = ("total", "done", "skipped", "failed", "pending")


@app.command()
def add(
    context: typer.Context,
    subjects: Annotated[list[str], typer.Argument(metavar="PATH|URL...", help="Files of this machine, and URLs.")],
    project: Annotated[str | None, typer.Option(help="Put the documents into this project; a new one is made.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Put this tag on them; may be given several times.")] = None,
    at_a_time: Annotated[int, typer.Option(min=1, max=32, help="How many are worked on at once.")] = 5,
    background: Annotated[
        bool,
        typer.Option("--background", help="Only enqueue them: `workstation dev`, or another Dagster, does the work."),
    ] = False,
    key: Annotated[str | None, typer.Option(help="The same key again gives the same job instead of a new one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read, cut, embed and store files and URLs. What was processed before is updated if it has changed."""
    from workstation_pipelines.db import library, processing
    from workstation_pipelines.sync.subjects import given

    with open_session(context) as session:
        job_id = ProcessingJobId(session.workspace.new_id())
        # What it works with comes first: once the row is there, it is started at once, and not by somebody else.
        processed = None if background else session.workspace.process(user_id=session.user_id, job_id=job_id)
        with session.transaction() as connection:
            project_id = (
                library.ensure_project(
                    connection, user_id=session.user_id, name=project, new_id=session.workspace.new_id
                )
                if project is not None
                else None
            )
            for name in tag or ():
                library.ensure_tag(connection, user_id=session.user_id, name=name, new_id=session.workspace.new_id)
            enqueued = processing.enqueue(
                connection,
                user_id=session.user_id,
                job_id=job_id,
                kind=ProcessingKind.BULK_DOCUMENT_PROCESSING,
                subjects=given(subjects),
                config={"at_a_time": at_a_time, "tags": tag or []},
                project_id=project_id,
                idempotency_key=key,
            )
        if processed is None or enqueued != job_id:
            _print_job(session, enqueued, as_json=as_json)
            return
        _work(session, job_id, processed, as_json=as_json)


@app.command("list")
def list_jobs(
    context: typer.Context,
    kind: Annotated[ProcessingKind | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List processing jobs, newest first."""
    from workstation_pipelines.db import processing

    with open_session(context) as session, session.transaction() as connection:
        rows = processing.recent(connection, user_id=session.user_id, kind=kind, limit=limit, offset=offset)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["job", "kind", "status", *COUNTED, "started", "took"],
        [
            (
                row.id,
                row.kind.replace("_", " "),
                row.status,
                *(getattr(row, f"documents_{name}") for name in COUNTED),
                row.started_at,
                row.duration,
            )
            for row in rows
        ],
        empty="Nothing was processed yet: `workstation process add FILE...` begins.",
    )


@app.command()
def show(
    context: typer.Context,
    job: TheJob,
    status: Annotated[OutcomeStatus | None, typer.Option(help="Only outcomes of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 1000,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Show one job and what became of each of its documents."""
    from workstation_pipelines.db import processing

    job_id = parsed_id(job)
    with open_session(context) as session, session.transaction() as connection:
        row = processing.get(connection, user_id=session.user_id, job_id=job_id)
        outcomes = processing.outcomes(
            connection, user_id=session.user_id, job_id=job_id, status=status, limit=limit, offset=offset
        )
    if as_json:
        print_json({**row._mapping, "outcomes": outcomes})
        return
    print_fields({name.replace("_", " "): value for name, value in row._mapping.items() if name != "user_id"})
    print_table(
        ["what", "status", "reason", "document", "tries", "seconds", "message"],
        [
            (
                each.subject,
                each.status,
                each.reason,
                each.document_id,
                each.attempts,
                f"{each.duration_s:.2f}",
                each.message,
            )
            for each in outcomes
        ],
        empty="No document has such an outcome.",
    )


@app.command()
def resume(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Go on with a job here. It waits, is paused, or lost its process; what is done already stays as it is.

    Reprocessing goes on in Dagster.
    """
    from workstation_pipelines.db import processing

    job_id = ProcessingJobId(parsed_id(job))
    with open_session(context) as session:
        with session.transaction() as connection:
            row = processing.get(connection, user_id=session.user_id, job_id=job_id)
        if row.kind != ProcessingKind.BULK_DOCUMENT_PROCESSING:
            with session.transaction() as connection:
                processing.release(connection, user_id=session.user_id, job_id=job_id)
            _print_job(session, job_id, as_json=as_json)
            return
        _work(session, job_id, session.workspace.process(user_id=session.user_id, job_id=job_id), as_json=as_json)


@app.command()
def cancel(context: typer.Context, job: TheJob, as_json: AsJson = False) -> None:
    """Stop a job. One that runs stops between two documents; what is committed stays."""
    from workstation_pipelines.db import processing

    job_id = parsed_id(job)
    with open_session(context) as session:
        with session.transaction() as connection:
            processing.request_cancel(connection, user_id=session.user_id, job_id=job_id)
        _print_job(session, job_id, as_json=as_json)


def _work(
    session: Session,
    job_id: ProcessingJobId,
    processed: Generator[Processed, None, ProcessingResult],
    *,
    as_json: bool,
) -> None:
    """Make one attempt here, and end the program with what came of it."""
    is_watched = not as_json and sys.stderr.isatty()
    interrupted = False
    try:
        with interruptible(), closing(processed):
            for number, each in enumerate(processed, 1):
                if is_watched:
                    sys.stderr.write(f"\r{number:,} processed, the last one {shown(each.outcome.status)}\x1b[K")
    except KeyboardInterrupt:
        interrupted = True
    if is_watched:
        sys.stderr.write("\r\x1b[K")
    row = _print_job(session, job_id, as_json=as_json)
    raise typer.Exit(ExitCode.INTERRUPTED if interrupted else of_job(JobStatus(row.status)))


def _print_job(session: Session, job_id: UUID, *, as_json: bool) -> Row[Any]:
    from workstation_pipelines.db import processing

    with session.transaction() as connection:
        row = processing.get(connection, user_id=session.user_id, job_id=job_id)
        failed = processing.outcomes(
            connection, user_id=session.user_id, job_id=job_id, status=OutcomeStatus.FAILED, limit=PROBLEMS_SHOWN + 1
        )
    if as_json:
        print_json({**row._mapping, "failed": failed[:PROBLEMS_SHOWN]})
        return row
    counts = ", ".join(f"{getattr(row, f'documents_{name}'):,} {name}" for name in COUNTED[1:])
    print_line(f"{row.status.replace('_', ' ')}: {row.documents_total:,} documents, {counts}")
    for each in failed[:PROBLEMS_SHOWN]:
        print_line(f"  failed: {shown(each.subject)}: {shown(each.message)}")
    if len(failed) > PROBLEMS_SHOWN:
        print_line(f"  and more: workstation process show {job_id} --status failed")
    print_line(f"  job {job_id}")
    if row.status == JobStatus.PENDING:
        print_line("it waits for `workstation dev`, or another Dagster, to start it")
    elif row.status == JobStatus.PAUSED:
        print_line(f"{shown(row.error_message)}: workstation process resume {job_id}")
    elif row.status == JobStatus.RUNNING and row.cancel_requested:
        print_line("it stops within half a minute; what is committed stays")
    return row


def parsed_id(text: str) -> UUID:
    """Raises InvalidRequestError."""
    try:
        return UUID(text)
    except ValueError:
        raise InvalidRequestError(f"{text!r} is not a job's id: `workstation process list` shows them") from None
