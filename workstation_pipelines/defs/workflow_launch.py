"""Executions become Dagster runs: at once by whoever asks for one, and by a sensor where that one died in between.

The row that says which run works on an execution is written before that run exists, so that there is never more than one.
"""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import dagster as dg

from workstation_pipelines.defs import runs
from workstation_pipelines.defs.home import TENANT_TAG, USER_TAG
from workstation_pipelines.defs.resources import WorkspaceResource
from workstation_pipelines.defs.workflow_jobs import EXECUTION_TAG, compile_job
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import Clock
from workstation_pipelines.workflow_model import ExecutionStatus, RunOwner, SkipReason, StepStatus
from workstation_pipelines.workflows import catalog

if TYPE_CHECKING:
    from workstation_pipelines.db.workflow_runs import OpenRun
    from workstation_pipelines.sync.workspace import Workspace
    from workstation_pipelines.workflow_model import Execution

SWEPT_EVERY_S = 2
"""Dagster looks at sensors every five seconds; one that asked for just these five would miss every other look."""

STARTED_AT_ONCE = 50
LONGEST_SWEEP_S = 20.0
FORGOTTEN_AFTER = timedelta(seconds=10)
"""So long after its row was written a run is there, or whoever was to make it is not."""

LOOKED_AT = 2000
MOST_OVERTIME_S = 60
"""The run's own process ends it in time; Dagster's daemon does so where that process hangs."""


@dataclass(frozen=True, slots=True)
class Swept:
    """`started` are new runs, `recovered` those that were written down before, and had not been queued."""

    started: int = 0
    recovered: int = 0


def start_execution(workspace: "Workspace", instance: dg.DagsterInstance, owner: RunOwner) -> str | None:
    """Let a new run work on an execution; return its id, None where none may begin now (see begin_run).

    An execution whose definition cannot be compiled any more is failed. When Dagster's storage is away its error passes
    through: the run is written down by then, and a sweep queues it later.
    """
    begun = _begin(workspace, owner)
    if begun is None:
        return None
    execution, job, run_id = begun
    _enqueue(workspace, instance, execution, job, run_id)
    return str(run_id)


def execute_here(
    workspace: "Workspace", instance: dg.DagsterInstance, owner: RunOwner, *, resource: dg.ResourceDefinition
) -> str | None:
    """Do in this process what a run of start_execution() would do in its own, and return its id once it is over.

    `resource` gives the steps their workspace. Raises InvalidRequestError for a workflow that wants processes.
    """
    begun = _begin(workspace, owner, resource=resource)
    if begun is None:
        return None
    execution, job, run_id = begun
    runs.execute_workflow_here(instance, job, run_id=str(run_id), **_described(workspace, execution, run_id))
    return str(run_id)


def _begin(
    workspace: "Workspace", owner: RunOwner, *, resource: dg.ResourceDefinition | None = None
) -> "tuple[Execution, dg.JobDefinition, UUID] | None":
    """Write down that a new run works on an execution; None where none may begin now."""
    from workstation_pipelines.db import execution_control, executions

    place: dict[str, Any] = {"user_id": owner.user_id, "tenant_id": owner.tenant_id, "execution_id": owner.execution_id}
    run_id = workspace.new_id()
    with workspace.database.transaction_with_rls(owner.user_id, owner.tenant_id) as connection:
        execution = executions.get(connection, **place)
    if execution.status.is_over:
        return None
    job = _job_of(workspace, execution, resource)
    if job is None:
        return None
    with workspace.database.transaction_with_rls(owner.user_id, owner.tenant_id) as connection:
        number = execution_control.begin_run(connection, **place, run_id=run_id)
    return None if number is None else (execution, job, run_id)


def sweep(
    workspace: "Workspace",
    instance: dg.DagsterInstance,
    *,
    clock: Clock = utc_now,
    monotonic: Callable[[], float] = time.monotonic,
) -> Swept:
    """Start what is to start, all users', and queue runs that were written down but are not queued. Safe in several processes."""
    from workstation_pipelines.db import executions

    ends_s = monotonic() + LONGEST_SWEEP_S
    recovered = _recover(workspace, instance, clock)
    started = 0
    for owner in executions.to_start(workspace.database, at_most=STARTED_AT_ONCE):
        if monotonic() > ends_s:
            break
        try:
            started += start_execution(workspace, instance, owner) is not None
        except NotFoundError:  # removed meanwhile
            continue
    return Swept(started, recovered)


def requests_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="workflow_requests_sensor",
        minimum_interval_seconds=SWEPT_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Queues runs for executions of workflows that wait for one: asked for while Dagster was away, on a schedule, or"
            " going on after a wait. It queues them itself, since Dagster knows only the jobs that it lists."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[WorkspaceResource]) -> dg.SkipReason:
        return dg.SkipReason(str(sweep(workspace.open(), context.instance)))

    return sensor


def _recover(workspace: "Workspace", instance: dg.DagsterInstance, clock: Clock) -> int:
    from workstation_pipelines.db import workflow_runs

    before = clock() - FORGOTTEN_AFTER
    open_runs = workflow_runs.open_runs(workspace.database, at_most=LOOKED_AT)
    old = {str(run.run_id): run for run in open_runs if run.created_at < before}
    known = runs.by_id(instance, list(old))
    recovered = 0
    for run_id, run in old.items():
        if run_id in known:
            recovered += runs.submit_if_forgotten(instance, known[run_id])
        else:
            recovered += _recreate(workspace, instance, run)
    return recovered


def _recreate(workspace: "Workspace", instance: dg.DagsterInstance, run: "OpenRun") -> bool:
    """Make a run that Dagster has never known; one that it knew and knows no more is lost, and the mirror's to close."""
    from workstation_pipelines.db import executions, workflow_runs

    place: dict[str, Any] = {"user_id": run.user_id, "tenant_id": run.tenant_id}
    try:
        with workspace.database.transaction_with_rls(run.user_id, run.tenant_id) as connection:
            row = workflow_runs.get(connection, **place, run_id=run.run_id)
            execution = executions.get(connection, **place, execution_id=run.execution_id)
    except NotFoundError:  # removed meanwhile
        return False
    if row.is_closed or row.dagster_status not in ("", workflow_runs.UNSEEN) or execution.cancel_requested:
        return False
    job = _job_of(workspace, execution)
    if job is not None:
        _enqueue(workspace, instance, execution, job, run.run_id)
    return job is not None


def _job_of(
    workspace: "Workspace", execution: "Execution", resource: dg.ResourceDefinition | None = None
) -> dg.JobDefinition | None:
    """Compile the definition that an execution was frozen with; None, and it has failed, when that is not possible any more."""
    from workstation_pipelines.db import workflows

    place: dict[str, Any] = {"user_id": execution.user_id, "tenant_id": execution.tenant_id}
    with workspace.database.transaction_with_rls(execution.user_id, execution.tenant_id) as connection:
        workflow = workflows.get(connection, **place, workflow_id=execution.workflow_id)
    try:
        definition = catalog.read(execution.definition)
        return compile_job(workflow.slug, execution.version, workflow.job_key, definition, workspace=resource)
    except InvalidRequestError as error:
        _fail(workspace, execution, error)
        return None


def _fail(workspace: "Workspace", execution: "Execution", error: InvalidRequestError) -> None:
    from workstation_pipelines.db import execution_control, executions, steps, workflow_runs
    from workstation_pipelines.db.steps import Ending

    owner: dict[str, Any] = {"user_id": execution.user_id, "tenant_id": execution.tenant_id}
    place: dict[str, Any] = {**owner, "execution_id": execution.id}
    with workspace.database.transaction_with_rls(execution.user_id, execution.tenant_id) as connection:
        executions.hold(connection, **place)
        left = [step for step in steps.standing(connection, **place) if not step.status.is_over]
        endings = [Ending(step.node_id, StepStatus.SKIPPED, SkipReason.NOT_REACHED) for step in left]
        steps.close_open(connection, **place, endings=endings)
        for run in workflow_runs.of_execution(connection, **place):
            workflow_runs.close(connection, **owner, run_id=run.id)
        execution_control.end(
            connection,
            **place,
            status=ExecutionStatus.FAILED,
            error_class=type(error).__name__,
            error_message=error.message,
        )


def _enqueue(
    workspace: "Workspace", instance: dg.DagsterInstance, execution: "Execution", job: dg.JobDefinition, run_id: UUID
) -> None:
    runs.enqueue_workflow(instance, job, run_id=str(run_id), **_described(workspace, execution, run_id))


def _described(workspace: "Workspace", execution: "Execution", run_id: UUID) -> dict[str, Any]:
    """Return the tags of an execution's run, and the runs that it descends from."""
    parent, root = _ancestors(workspace, execution, run_id)
    tags = {
        EXECUTION_TAG: str(execution.id),
        USER_TAG: execution.user_id,
        TENANT_TAG: execution.tenant_id,
        runs.PRIORITY_TAG: str(execution.priority),
        runs.MAX_RUNTIME_TAG: str(int(catalog.read(execution.definition).timeout_s) + MOST_OVERTIME_S),
    }
    return {"tags": tags, "parent_run_id": parent, "root_run_id": root}


def _ancestors(workspace: "Workspace", execution: "Execution", run_id: UUID) -> tuple[str | None, str | None]:
    """Return the run before this one and the first of all, of this execution or of those that it retries."""
    from workstation_pipelines.db import workflow_runs

    owner: dict[str, Any] = {"user_id": execution.user_id, "tenant_id": execution.tenant_id}
    with workspace.database.transaction_with_rls(execution.user_id, execution.tenant_id) as connection:
        own = workflow_runs.of_execution(connection, **owner, execution_id=execution.id)
        before = [run.id for run in own if run.id != run_id]
        parent_id = execution.parent_execution_id
        if parent_id is not None:
            before = [
                run.id for run in workflow_runs.of_execution(connection, **owner, execution_id=parent_id)
            ] + before
        first = workflow_runs.of_execution(connection, **owner, execution_id=execution.root_execution_id)
    if not before:
        return None, None
    return str(before[-1]), str(first[0].id if first else before[0])
