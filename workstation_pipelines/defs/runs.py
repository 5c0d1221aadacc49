"""Runs as Dagster's own code handles them: the only module that touches what Dagster does not promise to keep.

Pinned by `dagster~=1.13.27` and by contract tests that run each function for real.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import FINISHED_STATUSES, IN_PROGRESS_RUN_STATUSES
from dagster._core.storage.tags import (
    MAX_RUNTIME_SECONDS_TAG,
    PARENT_RUN_ID_TAG,
    PARTITION_NAME_TAG,
    ROOT_RUN_ID_TAG,
)

from workstation_pipelines.defs.home import USER_TAG
from workstation_pipelines.model import Clock

if TYPE_CHECKING:
    from workstation_pipelines.db.engine import Database

LOCATION = "sync"
REPOSITORY = "__repository__"
WORKFLOWS = "workflows"
"""The other code location, and the repository in it."""

WORKFLOWS_MODULE = "workstation_pipelines.workflow_location"
DATA_SOURCE_TAG = "workstation/data_source"
SCHEDULED_SYNC_TAG = "workstation/scheduled_sync"
PROBE_TAG = "workstation/probe"
SYNC_JOB_TAG = "workstation/sync_job"
TRIGGER_TAG = "workstation/trigger"
WITHDRAWN_TAG = "workstation/withdrawn"
PRIORITY_TAG = "dagster/priority"
MAX_RUNTIME_TAG = MAX_RUNTIME_SECONDS_TAG
PARTITION_TAG = PARTITION_NAME_TAG
RUN_KEY_TAG = "dagster/run_key"
FORGOTTEN_AFTER = timedelta(hours=2)
"""A run that is said to be under way for so long without an event was lost with its machine."""

INTERRUPT_WITHIN_S = 3.0
"""A code server that hangs answers after a minute."""

QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
SIGN_OF_LIFE_S = 75.0
"""Daemons give a sign of life every 30 seconds."""

DEV = "workstation dev"
"""What `workstation dev` is present as; see run_presence. Its daemon takes a while to give its first sign of life."""

RECENT_RUNS = 20
REQUEST = "request"
"""The trigger of a run that starts a sync job which was written before it."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended. `metadata` is by stage, `failed_checks` are names; ids and numbers only."""

    run_id: str
    status: str
    metadata: Mapping[str, Mapping[str, Any]]
    failed_checks: Sequence[str]

    @property
    def is_success(self) -> bool:
        return self.status == dg.DagsterRunStatus.SUCCESS.value


def end_as_cancelled(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> NoReturn:
    """End the run as CANCELED, as "Terminate" in the web UI does.

    Without the report Dagster finds the interrupt unexpected and calls the run failed.
    """
    context.instance.report_run_canceling(context.run)
    raise DagsterExecutionInterruptedError from None


def end_as_withdrawn(context: dg.AssetExecutionContext) -> NoReturn:
    """End the run as CANCELED because its sync job cannot be started by it, or need not be; see was_cancelled_by_hand."""
    context.instance.add_run_tags(context.run.run_id, {WITHDRAWN_TAG: "true"})
    end_as_cancelled(context)


def tags_of(
    *,
    user_id: str,
    data_source_id: str,
    scheduled_sync_id: str | None = None,
    probe: str | None = None,
    sync_job_id: str | None = None,
    trigger: str | None = None,
) -> dict[str, str]:
    """Return a run's tags: ids alone, since Dagster shows and keeps them in clear. `trigger` says what wanted the run."""
    tags = {
        TRIGGER_TAG: trigger,
        SYNC_JOB_TAG: sync_job_id,
        USER_TAG: user_id,
        DATA_SOURCE_TAG: data_source_id,
        SCHEDULED_SYNC_TAG: scheduled_sync_id,
        PROBE_TAG: probe,
    }
    return {key: value for key, value in tags.items() if value}


def existing_runs(instance: dg.DagsterInstance, run_keys: Sequence[str]) -> dict[str, dg.DagsterRun]:
    """Return the runs that were created for these run keys."""
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: list(run_keys)})) if run_keys else []
    return {run.tags[RUN_KEY_TAG]: run for run in runs}


def is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished


def unfinished_requested(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs for requested sync jobs that are not over."""
    return list(
        instance.get_runs(
            dg.RunsFilter(
                tags={TRIGGER_TAG: REQUEST},
                statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, *IN_PROGRESS_RUN_STATUSES],
            )
        )
    )


def finished_by_job(instance: dg.DagsterInstance, sync_job_ids: Sequence[str]) -> dict[str, list[dg.DagsterRun]]:
    """Return the runs for these sync jobs that are over, by job, the newest first."""
    found: dict[str, list[dg.DagsterRun]] = defaultdict(list)
    if sync_job_ids:
        filters = dg.RunsFilter(
            tags={SYNC_JOB_TAG: list(sync_job_ids), TRIGGER_TAG: REQUEST}, statuses=FINISHED_STATUSES
        )
        for run in instance.get_runs(filters):
            found[run.tags[SYNC_JOB_TAG]].append(run)
    return found


def started_before(instance: dg.DagsterInstance, moment: datetime) -> list[dg.DagsterRun]:
    """Return the runs of our code locations that began before `moment` and are not over."""
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    )
    return [
        record.dagster_run
        for record in records
        if record.start_time is not None
        and record.start_time < moment.timestamp()
        and location_of(record.dagster_run) in (LOCATION, WORKFLOWS)
    ]


def starting_before(instance: dg.DagsterInstance, moment: datetime) -> list[dg.DagsterRun]:
    """Return the runs of workflows whose process was to start before `moment`, and has not said that it did."""
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING], updated_before=moment)
    return [run for run in instance.get_runs(filters) if location_of(run) == WORKFLOWS]


def location_of(run: dg.DagsterRun) -> str | None:
    return run.remote_job_origin.location_name if run.remote_job_origin is not None else None


def is_silent_since(instance: dg.DagsterInstance, run_id: str, moment: datetime) -> bool:
    """Return whether a run has written nothing to its log from `moment` on."""
    newest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return not newest or newest[0].event_log_entry.timestamp < moment.timestamp()


def report_gone(instance: dg.DagsterInstance, run_id: str, *, is_cancelled: bool) -> bool:
    """End a run whose process is gone, or was told to stop and does not; False when it is over already, or unknown."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in IN_PROGRESS_RUN_STATUSES:
        return False
    if is_cancelled:
        instance.report_run_canceled(run, message="Its process is gone, and it was to be cancelled.")
    else:
        is_workflow = location_of(run) == WORKFLOWS
        go_on = "a retry of its execution" if is_workflow else "the next sync"
        instance.report_run_failed(
            run, message=f"Its process is gone: what is committed stays, and {go_on} goes on from there."
        )
    return True


def report_canceling(instance: dg.DagsterInstance, run_id: str) -> None:
    """Say that a run is about to end as CANCELED, unless it is said already; without it an interrupted run has failed."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is dg.DagsterRunStatus.STARTED:
        instance.report_run_canceling(run)


def cancel_unstarted(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """End a run that has not begun as CANCELED; one that is taken from the queue in this moment finds that out by itself."""
    instance.report_run_canceling(run, message="What it was for has been cancelled.")
    instance.report_run_canceled(run)


def interrupt(instance: dg.DagsterInstance, run_id: str) -> None:
    """Have the code server interrupt a run's process; one that is gone or hangs is not waited for.

    The run is CANCELING from then on, whoever hears of it.
    """

    def ask() -> None:
        with suppress(dg.DagsterError):  # without its code server a process hears of it from the database
            instance.run_coordinator.cancel_run(run_id)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(timeout=INTERRUPT_WITHIN_S)


def withdraw(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Cancel a run that has not begun, because nobody needs it; see was_cancelled_by_hand."""
    instance.add_run_tags(run.run_id, {WITHDRAWN_TAG: "true"})
    instance.report_run_canceling(run, message="The sync job it was for needs no run any more.")
    instance.report_run_canceled(run)


def was_cancelled_by_hand(run: dg.DagsterRun) -> bool:
    return run.status is dg.DagsterRunStatus.CANCELED and WITHDRAWN_TAG not in run.tags


def newest_probe_run(instance: dg.DagsterInstance, data_source_id: str) -> dg.DagsterRun | None:
    """Return the newest run that a change of this data source asked for, if it is among its last few runs."""
    recent = instance.get_runs(dg.RunsFilter(tags={DATA_SOURCE_TAG: data_source_id}), limit=RECENT_RUNS)
    return next((run for run in recent if PROBE_TAG in run.tags), None)


def busy_partitions(instance: dg.DagsterInstance, partition_keys: Sequence[str], clock: Clock) -> set[str]:
    """Return those partitions that a run is queued for or working on."""
    if not partition_keys:
        return set()
    runs = instance.get_runs(
        dg.RunsFilter(
            tags={PARTITION_NAME_TAG: list(partition_keys)},
            statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, *IN_PROGRESS_RUN_STATUSES],
            updated_after=clock() - FORGOTTEN_AFTER,
        )
    )
    return {run.tags[PARTITION_NAME_TAG] for run in runs}


def submit_if_forgotten(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Queue a run that was created but never submitted, because its tick died in between; return whether it was."""
    if run.status is not dg.DagsterRunStatus.NOT_STARTED:
        return False
    instance.submit_run(run.run_id, workspace=None)  # type: ignore[arg-type]  # the queue needs no workspace
    return True


def by_id(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> dict[str, dg.DagsterRun]:
    """Return those of these runs that Dagster knows."""
    return {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=run_ids))} if run_ids else {}


def enqueue_workflow(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    run_id: str,
    tags: Mapping[str, str],
    parent_run_id: str | None = None,
    root_run_id: str | None = None,
) -> None:
    """Queue a run of a compiled workflow under a given id, once: a run of this id that exists is submitted at most.

    The location need not have heard of the job: the daemon looks up the location, the run's process the job, both by name.
    """
    known = instance.get_run_by_id(run_id)
    if known is None:
        known = _create_workflow_run(
            instance, job, run_id=run_id, tags=tags, parent_run_id=parent_run_id, root_run_id=root_run_id
        )
    submit_if_forgotten(instance, known)


def execute_workflow_here(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    run_id: str,
    tags: Mapping[str, str],
    parent_run_id: str | None = None,
    root_run_id: str | None = None,
    log_level: str = "CRITICAL",
) -> None:
    """Run a compiled workflow under a given id in this process, and wait. The web UI shows the run like any other."""
    run = _create_workflow_run(
        instance,
        job,
        run_id=run_id,
        tags=tags,
        parent_run_id=parent_run_id,
        root_run_id=root_run_id,
        run_config={"loggers": {"console": {"config": {"log_level": log_level}}}},
    )
    execute_run(InMemoryJob(job), run, instance)


def _create_workflow_run(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    run_id: str,
    tags: Mapping[str, str],
    parent_run_id: str | None,
    root_run_id: str | None,
    run_config: Mapping[str, Any] | None = None,
) -> dg.DagsterRun:
    lineage = {PARENT_RUN_ID_TAG: parent_run_id, ROOT_RUN_ID_TAG: root_run_id}
    repository = ReconstructableRepository.for_module(WORKFLOWS_MODULE, WORKFLOWS)
    return instance.create_run_for_job(
        job_def=job,
        run_id=run_id,
        run_config=run_config,
        tags={
            **tags,
            **{key: value for key, value in lineage.items() if value},
            "dagster/repository": f"{WORKFLOWS}@{WORKFLOWS}",
        },
        status=dg.DagsterRunStatus.NOT_STARTED,
        parent_run_id=parent_run_id,
        root_run_id=root_run_id,
        remote_job_origin=RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(WORKFLOWS), WORKFLOWS).get_job_origin(
            job.name
        ),
        job_code_origin=repository.get_reconstructable_job(job.name).get_python_origin(),
    )


def is_served(database: Database, instance: dg.DagsterInstance, clock: Clock) -> bool:
    """Return whether runs are taken from the queue, or soon will be: a daemon that died without a word counts for a minute."""
    from workstation_pipelines.db import run_presence

    sign = instance.get_daemon_heartbeats().get(QUEUE_DAEMON)
    is_alive = sign is not None and clock().timestamp() - sign.timestamp < SIGN_OF_LIFE_S
    return is_alive or run_presence.is_present(database, DEV)


def execute_now(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    partition_key: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any],
    assets: Sequence[dg.AssetKey] | None = None,
) -> RunOutcome:
    """Run a job in this process and wait. The web UI shows the run like any other, with its job and partition."""
    subset = job.get_subset(asset_selection=set(assets)) if assets is not None else job
    run = create_sync_run(
        instance, subset, partition_key=partition_key, tags=tags, run_config=run_config, assets=assets
    )
    execute_run(InMemoryJob(subset), run, instance)
    return outcome_of(instance, run.run_id)


def create_sync_run(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    partition_key: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any],
    assets: Sequence[dg.AssetKey] | None = None,
) -> dg.DagsterRun:
    """Create a run of a job of the location `sync`, neither queued nor begun; `job` has been cut to `assets`."""
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), REPOSITORY).get_job_origin(job.name)
    repository = ReconstructableRepository.for_module("workstation_pipelines.definitions", "defs")
    return instance.create_run_for_job(
        job_def=job,
        run_config=dict(run_config),
        tags={**tags, PARTITION_NAME_TAG: partition_key, "dagster/repository": f"{REPOSITORY}@{LOCATION}"},
        status=dg.DagsterRunStatus.NOT_STARTED,
        asset_selection=frozenset(assets) if assets is not None else None,
        remote_job_origin=origin,
        job_code_origin=repository.get_reconstructable_job(job.name).get_python_origin(),
    )


def outcome_of(instance: dg.DagsterInstance, run_id: str) -> RunOutcome:
    """Read back from the event log what a run did."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        raise LookupError(f"Dagster has no run {run_id}")
    metadata: dict[str, dict[str, Any]] = {}
    failed_checks: list[str] = []
    for record in instance.get_records_for_run(run_id).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key is not None:
            values = event.step_materialization_data.materialization.metadata
            metadata[event.asset_key.path[-1]] = {name: value.value for name, value in values.items()}
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                failed_checks.append(evaluation.check_name)
    return RunOutcome(run_id, run.status.value, metadata, tuple(failed_checks))


def prune(instance: dg.DagsterInstance, *, kept: timedelta, clock: Clock, at_once: int, at_most: int) -> int:
    """Delete runs that ended longer than `kept` ago, oldest first, with their events; return how many.

    The newest run of each data source stays, so that its page in the web UI shows how it last went. Idempotent.
    """
    deleted = 0
    passed: str | None = None
    while deleted < at_most:
        filters = dg.RunsFilter(statuses=FINISHED_STATUSES, created_before=clock() - kept)
        some = instance.get_run_records(filters, limit=at_once, cursor=passed, ascending=True)
        if not some:
            return deleted
        for record in some:
            run = record.dagster_run
            if _is_newest(instance, run):
                passed = run.run_id
                continue
            instance.delete_run(run.run_id)
            deleted += 1
    return deleted


def _is_newest(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    source = run.tags.get(DATA_SOURCE_TAG)
    if source is None:
        return False
    newest = instance.get_runs(dg.RunsFilter(job_name=run.job_name, tags={DATA_SOURCE_TAG: source}), limit=1)
    return bool(newest) and newest[0].run_id == run.run_id


def run_config_for(op_name: str, config: Mapping[str, Any], *, log_level: str) -> dict[str, Any]:
    return {
        "ops": {op_name: {"config": json.loads(json.dumps(config))}},
        "loggers": {"console": {"config": {"log_level": log_level}}},
    }
