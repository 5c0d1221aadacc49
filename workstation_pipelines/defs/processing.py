"""Processing jobs as Dagster runs: a job for each kind, and the sensor that starts what somebody enqueued.

The rows of `processing_jobs` are the truth: a row is asked for until a run has started it, which it does in the
transaction that moves it out of `pending`. A run holds the row's id and nothing else.
"""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dagster as dg

from workstation_pipelines.defs import runs, stream
from workstation_pipelines.defs.home import USER_TAG
from workstation_pipelines.defs.resources import RESOURCE_KEY, WorkspaceResource
from workstation_pipelines.errors import BusyError, NotFoundError
from workstation_pipelines.model import JobStatus, ProcessingJobId, ProcessingKind

if TYPE_CHECKING:
    from workstation_pipelines.db.processing import Waiting
    from workstation_pipelines.sync.processing import ProcessingResult
    from workstation_pipelines.sync.workspace import Workspace

PROCESSING_TAG = "workstation/processing_job"
STARTED_EVERY_S = 2
"""Dagster looks at sensors every five seconds; one that asked for just these five would miss every other look."""
REQUESTS_PER_TICK = 100
SILENT_S = 90.0
"""An attempt beats every five seconds; one that has not for so long is dead, or may write nothing any more."""

MOST_RUNS = 5
"""So many runs may end before they have started their job; then something is wrong that another will not mend."""

BUSY_WAIT_S = 30.0

_SHOWN = ("total", "done", "skipped", "failed", "pending")


class ProcessingConfig(dg.Config):
    """`processing_job_id` names a row of `processing_jobs`."""

    processing_job_id: str


@dg.op(
    name="process_documents",
    pool="document_processing",
    description="Processes the pending documents of one job, a few at a time; each has its own outcome and transaction.",
)
def process_documents(
    context: dg.OpExecutionContext, config: ProcessingConfig, workspace: dg.ResourceParam[WorkspaceResource]
) -> None:
    with stream.as_outcomes(context, config.processing_job_id):
        opened = workspace.open()
        work(context, opened, config, opened.process)


@dg.op(
    name="reprocess_documents",
    pool="document_processing",
    description="Cuts and embeds the pending documents of one job anew from their stored texts, a few in each transaction.",
)
def reprocess_documents(
    context: dg.OpExecutionContext, config: ProcessingConfig, workspace: dg.ResourceParam[WorkspaceResource]
) -> None:
    with stream.as_outcomes(context, config.processing_job_id):
        opened = workspace.open()
        work(context, opened, config, opened.reprocess)


@dg.job(
    name=ProcessingKind.DOCUMENT_REPROCESSING.value,
    executor_def=dg.in_process_executor,
    description=(
        "Bring the documents of one reprocessing job to the settings chosen for them: `processing_job_id` names its row,"
        " whose outcomes say what became of each. Nothing is fetched, and searches see each document in one version."
    ),
)
def document_reprocessing() -> None:
    reprocess_documents()


@dg.job(
    name=ProcessingKind.BULK_DOCUMENT_PROCESSING.value,
    executor_def=dg.in_process_executor,
    description=(
        "Read, cut, embed and store the files, URLs and uploads of one processing job: `processing_job_id` names its row,"
        " whose outcomes say what became of each. A run that is killed loses nothing; the next one goes on."
    ),
)
def bulk_document_processing() -> None:
    process_documents()


JOBS: Mapping[ProcessingKind, tuple[dg.JobDefinition, str]] = {
    ProcessingKind.BULK_DOCUMENT_PROCESSING: (bulk_document_processing, "process_documents"),
    ProcessingKind.DOCUMENT_REPROCESSING: (document_reprocessing, "reprocess_documents"),
}
"""Kind -> the job that does it, and its op, whose config is a ProcessingConfig."""


def processing_definitions(workspace: dg.ResourceDefinition) -> dg.Definitions:
    # Bound here: Definitions would bind them by making the sensor anew, which warns of a parameter in beta.
    jobs = [job.with_top_level_resources({RESOURCE_KEY: workspace}) for job, _ in JOBS.values()]
    return dg.Definitions(jobs=jobs, sensors=[requests_sensor(jobs)])


def requests_sensor(jobs: Sequence[dg.JobDefinition]) -> dg.SensorDefinition:
    @dg.sensor(
        name="processing_requests_sensor",
        jobs=jobs,
        minimum_interval_seconds=STARTED_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts processing jobs that somebody enqueued, and starts those again whose process fell silent.",
    )
    def sensor(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]) -> dg.SensorResult:
        opened = workspace.open()
        given_up = give_up_silent(opened)
        requests = start_waiting(opened, context.instance)
        told = dg.SkipReason(f"nothing waits; {given_up} silent jobs given up")
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else told)

    return sensor


def work(
    context: dg.OpExecutionContext,
    workspace: "Workspace",
    config: ProcessingConfig,
    begin: Callable[..., Generator[Any, None, "ProcessingResult"]],
) -> None:
    """Make one attempt at a job, which `begin` starts, and show its counts. A job that is over already needs none."""
    from workstation_pipelines.db import processing

    job_id = ProcessingJobId(UUID(config.processing_job_id))
    owner = processing.owner_of(workspace.database, job_id)
    if owner is None:
        raise NotFoundError(f"no processing job {job_id}: it was removed")
    status: JobStatus | None = None
    try:
        with closing(begin(user_id=owner, job_id=job_id, dagster_run_id=context.run.run_id)) as processed:
            status = _ended(processed).status
    except BusyError:
        context.log.warning("processing job %s is held by another process: trying again", job_id)
        raise dg.RetryRequested(max_retries=stream.MAX_RETRIES, seconds_to_wait=BUSY_WAIT_S) from None
    except NotFoundError:
        context.log.info("processing job %s is over: nothing to do", job_id)
    with workspace.database.transaction_with_rls(owner) as connection:
        row = processing.get(connection, user_id=owner, job_id=job_id)
    counts = {name: getattr(row, f"documents_{name}") for name in _SHOWN}
    spent = {name: getattr(row, name) for name in ("chunks_embedded", "chunks_reused", "embedding_tokens")}
    context.add_output_metadata({"processing_job": str(job_id), "status": row.status, **counts, **spent})
    if status is JobStatus.CANCELLED:
        runs.end_as_cancelled(context)


def give_up_silent(workspace: "Workspace") -> int:
    """End the attempts that have fallen silent, whoever's they are; return how many."""
    from workstation_pipelines.db import processing

    ended = 0
    for job in processing.silent(workspace.database, silent_s=SILENT_S, at_most=REQUESTS_PER_TICK):
        with workspace.database.transaction_with_rls(job.user_id) as connection:
            given_up = processing.give_up(connection, user_id=job.user_id, job_id=job.job_id, attempt=job.attempt)
            ended += given_up is not None
    return ended


def start_waiting(workspace: "Workspace", instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """Return a request for each job that waits and has no run that may still start it."""
    from workstation_pipelines.db import processing

    waiting = [job for job in processing.to_start(workspace.database, at_most=REQUESTS_PER_TICK) if job.kind in JOBS]
    found = runs.existing_runs(instance, [key for job in waiting for key in _keys(job)])
    requests = []
    for job in waiting:
        key = _free_key(workspace, instance, job, found)
        if key is not None and job.kind is not None:
            requests.append(_request(job, job.kind, key))
    return requests


def _request(job: "Waiting", kind: ProcessingKind, run_key: str) -> dg.RunRequest:
    definition, op_name = JOBS[kind]
    return dg.RunRequest(
        run_key=run_key,
        job_name=definition.name,
        run_config={"ops": {op_name: {"config": {"processing_job_id": str(job.job_id)}}}},
        tags={USER_TAG: job.user_id, PROCESSING_TAG: str(job.job_id)},
    )


def _keys(job: "Waiting") -> Sequence[str]:
    first = f"{job.job_id}:{job.attempt}"
    return [first, *(f"{first}:{number}" for number in range(1, MOST_RUNS))]


def _free_key(
    workspace: "Workspace", instance: dg.DagsterInstance, job: "Waiting", found: Mapping[str, dg.DagsterRun]
) -> str | None:
    """Return the key of the run to ask for, None when one is on its way or nothing helps any more."""
    from workstation_pipelines.db import processing

    for key in _keys(job):
        run = found.get(key)
        if run is None:
            return key
        if not run.is_finished:
            runs.submit_if_forgotten(instance, run)
            return None
        if run.status is dg.DagsterRunStatus.CANCELED:  # taken out of the queue before it began
            with workspace.database.transaction_with_rls(job.user_id) as connection:
                processing.request_cancel(connection, user_id=job.user_id, job_id=job.job_id)
            return None
    return None


def _ended(processed: Any) -> "ProcessingResult":
    from workstation_pipelines.sync.processing import drive

    return drive(processed)
