"""`workstation sync`: one sync in the foreground, by the same function that Dagster's assets call, or a request for one."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.budget import limits_of_run
from workstation_pipelines.commands.exits import ExitCode, of_job
from workstation_pipelines.commands.interruption import interruptible
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, shown
from workstation_pipelines.commands.planned import print_plan
from workstation_pipelines.errors import InvalidRequestError, NotFoundError, WorkstationError
from workstation_pipelines.model import Counts, JobResult, JobStatus, JobType, Limit, Progress, SyncJobId

if TYPE_CHECKING:
    from sqlalchemy import Row

    from workstation_pipelines.db.data_sources import DataSource

FAILURES_SHOWN = 10


def sync(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The source's name or id.")],
    job_type: Annotated[JobType, typer.Option(help="full_sync reads every item again.")] = JobType.MANUAL,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what a sync would do.")] = False,
    confirm_deletes: Annotated[
        bool, typer.Option("--confirm-deletes", help="Delete here what is gone there, even if it is suspiciously much.")
    ] = False,
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="With --plan: only list, and look into no item to tell its text.")
    ] = False,
    budget_usd: Annotated[float | None, typer.Option(min=0, help="Spend at most so much on this sync.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=0, help="Embed at most so many tokens in this sync.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try all failed items again, also those that were given up.")
    ] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Only ask for it: `workstation dev`, or another Dagster, does it.")
    ] = False,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="With --background: higher ones go first.")] = 0,
    key: Annotated[str | None, typer.Option(help="With --background: the same key asks once, however often.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring one source up to date. Fetches what is new or changed, indexes it, and drops what is gone."""
    limits = limits_of_run(usd=budget_usd, tokens=budget_tokens)
    if background and limits:
        raise InvalidRequestError("--background heeds the stored budgets alone: set one, `workstation budget set run`")
    with open_session(context) as session:
        source = session.source(name)
        if plan:
            planned = session.workspace.plan(source, job_type=job_type, is_sampled=not no_sample)
            print_plan(planned, as_json=as_json)
            return
        if retry_failed:
            _make_due(session, source)
        if background:
            wish = {"job_type": job_type, "confirm_deletes": confirm_deletes, "priority": priority}
            _print_request(_enqueue(session, source, idempotency_key=key, **wish), as_json=as_json)
            return
        result = _run(session, source, job_type=job_type, confirm_deletes=confirm_deletes, limits=limits, quiet=as_json)
        failures = _failures(session, result.job_id) if result.counts.failed else []
    if as_json:
        print_json({**_as_values(result), "failures": failures})
    else:
        _print_result(source.name, result, failures)
    if result.interrupted:
        sys.stderr.write(f"workstation: {result.message}\n")
        raise typer.Exit(ExitCode.INTERRUPTED)
    raise typer.Exit(of_job(result.status))


def _enqueue(session: Session, source: DataSource, **wish: Any) -> Row[Any]:
    from workstation_pipelines.db import job_queue

    with session.transaction() as connection:
        job_id = SyncJobId(session.workspace.new_id())
        return job_queue.enqueue(connection, user_id=session.user_id, data_source_id=source.id, job_id=job_id, **wish)


def _print_request(row: Row[Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row._mapping)
        return
    print_line(f"job {row.id} is {row.status.replace('_', ' ')}")
    print_line(f"  workstation jobs show {row.id}")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a sync in the foreground ended."""

    job_id: SyncJobId
    status: JobStatus
    counts: Counts
    pages: int
    message: str
    duration_s: float
    interrupted: bool = False


def _run(
    session: Session,
    source: DataSource,
    *,
    job_type: JobType,
    confirm_deletes: bool,
    limits: Sequence[Limit],
    quiet: bool,
) -> Ended:
    from workstation_pipelines.sync.run import SyncRequest

    # Chosen here, so that an interrupted sync can be named.
    job_id = SyncJobId(session.workspace.new_id())
    request = SyncRequest(job_type=job_type, job_id=job_id, confirm_deletes=confirm_deletes, limits=limits)
    begun_s = time.monotonic()
    last = Progress(job_id, 0, Counts())
    result: JobResult | None = None
    try:
        with (
            interruptible(),
            closing(session.workspace.sync(source, request)) as syncing,
            _shown_progress(quiet) as show,
        ):
            while result is None:
                told = _next(syncing)
                if isinstance(told, JobResult):
                    result = told
                else:
                    last = told
                    show(told, time.monotonic() - begun_s)
    except KeyboardInterrupt:
        return _interrupted(session, last, time.monotonic() - begun_s)
    return Ended(result.job_id, result.status, result.counts, result.pages, result.message, time.monotonic() - begun_s)


def _next(syncing: Generator[Progress, None, JobResult]) -> Progress | JobResult:
    try:
        return next(syncing)
    except StopIteration as end:
        result: JobResult = end.value
        return result


def _interrupted(session: Session, last: Progress, duration_s: float) -> Ended:
    """Say what the job row says: the engine has closed it by now, or the next sync will."""
    from workstation_pipelines.db import sync_jobs

    try:
        with session.transaction() as connection:
            job = sync_jobs.get(connection, user_id=session.user_id, job_id=last.job_id)
    except NotFoundError:
        message = "interrupted before the sync began: nothing was changed"
        return Ended(last.job_id, JobStatus.CANCELLED, Counts(), 0, message, duration_s, interrupted=True)
    counts = Counts(**{name: getattr(job, f"items_{name}") for name in _COUNTED})
    kept = counts.created + counts.updated
    message = (
        f"interrupted: job {job.id} is {job.status}; the {kept:,} documents it stored stay,"
        " and the next sync goes on from there"
    )
    return Ended(last.job_id, JobStatus(job.status), counts, job.pages, message, duration_s, interrupted=True)


_COUNTED = ("found", "created", "updated", "unchanged", "skipped", "deleted", "failed", "fetched")


class _Show:
    """Shows progress in place on a terminal, and nothing anywhere else."""

    def __init__(self, progress: Any = None) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None) if progress is not None else None

    def __call__(self, told: Progress, elapsed_s: float) -> None:
        if self._progress is None:
            return
        counts = told.counts
        stored = counts.created + counts.updated
        rate = stored / elapsed_s if elapsed_s else 0.0
        line = f"{told.pages:,} pages, {counts.found:,} items, {stored:,} documents, {rate:,.0f} documents/s"
        self._progress.update(self._task, description=line)


@contextmanager
def _shown_progress(quiet: bool) -> Iterator[_Show]:
    if quiet or not sys.stderr.isatty():
        yield _Show()
        return
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Bar(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        yield _Show(bar)


def _make_due(session: Session, source: DataSource) -> None:
    from workstation_pipelines.db import sync_failures

    with session.transaction() as connection:
        sync_failures.make_due(connection, user_id=session.user_id, data_source_id=source.id)


def _failures(session: Session, job_id: SyncJobId) -> list[dict[str, Any]]:
    from workstation_pipelines.db import sync_failures

    try:
        with session.transaction() as connection:
            rows = sync_failures.of_job(connection, user_id=session.user_id, job_id=job_id)
    except WorkstationError:
        return []  # the result of the sync matters more than this list
    return [dict(row._mapping) for row in rows]


def _as_values(ended: Ended) -> dict[str, Any]:
    return {
        "job_id": ended.job_id,
        "status": ended.status,
        "message": ended.message,
        "pages": ended.pages,
        "duration_s": round(ended.duration_s, 3),
        "counts": ended.counts,
        "interrupted": ended.interrupted,
    }


def _print_result(name: str, ended: Ended, failures: list[dict[str, Any]]) -> None:
    counts = ended.counts
    print_line(f"{ended.status.replace('_', ' ')} after {ended.duration_s:.1f} s: {counts.found:,} items found")
    outcomes = ("created", "updated", "unchanged", "skipped", "deleted", "failed")
    print_line("  " + ", ".join(f"{getattr(counts, name):,} {name}" for name in outcomes))
    print_line(
        f"  {counts.fetched:,} fetched ({counts.bytes_fetched:,} bytes),"
        f" {counts.chunks_embedded:,} chunks embedded, {counts.chunks_reused:,} reused"
    )
    for failure in failures[:FAILURES_SHOWN]:
        print_line(f"  failed: {shown(failure['external_path'])}: {shown(failure['message'])}")
    if len(failures) > FAILURES_SHOWN:
        print_line(f"  and {len(failures) - FAILURES_SHOWN:,} more: workstation jobs show {ended.job_id}")
    print_line(f"  job {ended.job_id}")
    if ended.status in (JobStatus.NEEDS_CONFIRMATION, JobStatus.PAUSED, JobStatus.CANCELLED) and not ended.interrupted:
        print_line(f"{ended.message}.")
    if ended.status is JobStatus.NEEDS_CONFIRMATION:
        print_line(f"  they are right: workstation sync {name} --confirm-deletes")
        print_line(f"  they are not: workstation jobs refuse {ended.job_id}, or do nothing: nothing of it is deleted")
