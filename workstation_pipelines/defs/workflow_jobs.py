"""A workflow version as a Dagster job: an op for each node, an output for each condition of its edges.

Nothing passes between ops but the fact that one is over: values and settings are rows. So Dagster's storage knows of a
workflow its shape, the ids of its nodes and the types of their blocks, and what became of each step.
"""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, assert_never

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from workstation_pipelines.defs import runs, stream
from workstation_pipelines.defs.resources import RESOURCE_KEY, WorkspaceResource, workspace_resource
from workstation_pipelines.defs.threads import threads_executor
from workstation_pipelines.errors import InvalidRequestError, RetryableError, WorkstationError
from workstation_pipelines.settings import Settings
from workstation_pipelines.workflow_model import Definition, Isolation, NodeId
from workstation_pipelines.workflows import flow
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.job_names import JobName

if TYPE_CHECKING:
    from workstation_pipelines.workflows.attempt import Attempted, Runner

EXECUTION_TAG = "workstation/execution"
RUN_KEY = "workflow_run"
OUT = "out"
WAITS, HELD, REUSED = "waits", "held", "reused"
"""Outputs that no edge leaves from: they tell the event log what the step was."""

_MEANINGS = {
    OUT: "The node is completed.",
    WAITS: "The node waits: another run of the execution goes on with it.",
    HELD: "A node before this one waits.",
    REUSED: "The node was completed before this run, and its block was not called.",
}
_BRANCH = "The node is completed, and this condition of its edges is true."

MOST_ATTEMPTS_TO_WRITE = 20
MOST_RETRIES = 1_000_000
"""How often a step may be tried again is the node's own setting, over all runs of its execution; Dagster is to obey."""


class WorkflowRun:
    """What the steps of a run share; nothing is opened before the first of them needs it. Safe to share between threads."""

    def __init__(self, workspace: WorkspaceResource, run: dg.DagsterRun) -> None:
        self._workspace = workspace
        self._run = run
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._is_interrupted = False

    def attempt(self, node_id: str) -> "Attempted":
        """Raises InvalidRequestError for a run that belongs to no execution, and what Runner.open() and attempt() raise."""
        return self._open().attempt(NodeId(node_id))

    def interrupt(self) -> None:
        with self._lock:
            self._is_interrupted = True
            if self._runner is not None:
                self._runner.interrupt()

    @property
    def is_cancelled(self) -> bool:
        return self._runner is not None and self._runner.is_cancelled

    def close(self) -> None:
        with self._lock:
            if self._runner is not None:
                self._runner.close()

    def _open(self) -> "Runner":
        from workstation_pipelines.workflows.attempt import Runner

        with self._lock:
            if self._runner is None:
                execution_id = self._run.tags.get(EXECUTION_TAG)
                if execution_id is None:
                    raise InvalidRequestError(
                        "this run belongs to no execution: `workstation workflow run` starts one that does"
                    )
                self._runner = Runner.open(self._workspace.open(), run_id=self._run.run_id, execution_id=execution_id)
                if self._is_interrupted:
                    self._runner.interrupt()
            return self._runner


@dg.resource(required_resource_keys={RESOURCE_KEY}, description="The execution that this run is a part of.")
def workflow_run(context: dg.InitResourceContext) -> Iterator[WorkflowRun]:
    run = WorkflowRun(getattr(context.resources, RESOURCE_KEY), context.run)  # type: ignore[arg-type]  # always in a run
    try:
        yield run
    finally:
        run.close()


def compile_job(
    slug: str, version: int, job_key: str, definition: Definition, *, workspace: dg.ResourceDefinition | None = None
) -> dg.JobDefinition:
    """Return the job of a version. Pure, and the same for the same version."""
    name = str(JobName(slug, version, job_key))
    outputs = {node.id: _outputs_by_condition(definition, node.id) for node in definition.nodes}
    ops: dict[str, dg.OpDefinition] = {}
    dependencies: dict[dg.NodeInvocation, dict[str, dg.IDependencyDefinition]] = {}
    for node in definition.nodes:
        above = [
            dg.DependencyDefinition(edge.source, outputs[edge.source][edge.condition])
            for edge in definition.into(node.id)
        ]
        conditions = sum(condition is not None for condition in outputs[node.id])
        op = _op(node.type, bool(above), conditions)
        ops[op.name] = op
        # One input for all, also for a single source: so each node waits, is skipped and is left out by the same rule.
        after: dict[str, dg.IDependencyDefinition] = {"after": dg.MultiDependencyDefinition(above)} if above else {}
        dependencies[dg.NodeInvocation(op.name, alias=node.id)] = after
    told = f"Version {version} of the workflow {slug}: `workstation workflow show {slug}` has its settings."
    graph = dg.GraphDefinition(name=name, description=told, node_defs=list(ops.values()), dependencies=dependencies)
    resources = {RESOURCE_KEY: workspace or workspace_resource(Settings.load), RUN_KEY: workflow_run}
    return graph.to_job(name=name, executor_def=_executor(definition), resource_defs=resources)


def _executor(definition: Definition) -> dg.ExecutorDefinition:
    if definition.isolation is Isolation.PROCESSES:
        return dg.multiprocess_executor.configured({"max_concurrent": definition.max_parallel})
    return threads_executor(definition.max_parallel, stopped_by=RUN_KEY)


def _outputs_by_condition(definition: Definition, node_id: str) -> Mapping[str | None, str]:
    """Return the output that each condition of a node's outgoing edges has."""
    conditions = flow.conditions_of(definition, NodeId(node_id))
    return {None: OUT, **{condition: f"if_{number}" for number, condition in enumerate(conditions, 1)}}


@cache
def _op(block_type: str, has_inputs: bool, conditions: int) -> dg.OpDefinition:
    """One op for all nodes of a kind in all workflows: two ops of one name in a repository are an error."""

    def compute(context: dg.OpExecutionContext, _inputs: Mapping[str, Any]) -> Iterator[dg.Output[None]]:
        run: WorkflowRun = getattr(context.resources, RUN_KEY)
        with _as_outcomes(context):
            attempted = run.attempt(context.op_handle.name)
        yield from (dg.Output(None, name, metadata=dict(attempted.figures)) for name in _told(context, attempted))

    outputs = (OUT, *_branches(conditions), WAITS, HELD, REUSED)
    return dg.OpDefinition(
        name=f"{block_type}__{int(has_inputs)}_{conditions}",
        description=BLOCKS[block_type].summary,
        compute_fn=compute,
        ins={"after": dg.In(dg.Nothing, "The nodes whose edges lead here are over.")} if has_inputs else {},
        outs={name: dg.Out(dg.Nothing, _MEANINGS.get(name, _BRANCH), is_required=False) for name in outputs},
        tags={"dagster/compute_kind": block_type},
        required_resource_keys={RUN_KEY},
    )


def _branches(conditions: int) -> list[str]:
    return [f"if_{number}" for number in range(1, conditions + 1)]


@contextmanager
def _as_outcomes(context: dg.OpExecutionContext) -> Iterator[None]:
    """Translate what concerns the run rather than one step; Dagster stores no more of it than a class and frames."""
    try:
        yield
    except (
        RetryableError
    ) as error:  # the database was away: nothing is known to be written, and a step goes on from rows
        context.log.warning("%s at node %s: trying again", type(error).__name__, context.op_handle.name)
        raise dg.RetryRequested(MOST_ATTEMPTS_TO_WRITE, max(error.wait_s, 1.0)) from None
    except WorkstationError as error:
        raise _failure(context, type(error).__name__) from None
    except Exception as bug:  # noqa: BLE001 - a process rim: raised again without what it quotes
        raise _failure(context, type(bug).__name__, frames=stream.frames_of(bug)) from None


def _told(context: dg.OpExecutionContext, attempted: "Attempted") -> list[str]:
    """Return the outputs of a step; raises what lets Dagster try it again, call it failed, or end the run as cancelled."""
    from workstation_pipelines.workflows.attempt import Outcome

    match attempted.outcome:
        case Outcome.COMPLETED | Outcome.REUSED:
            taken = zip(_branches(len(attempted.taken)), attempted.taken, strict=True)
            marker = [REUSED] if attempted.outcome is Outcome.REUSED else []
            return [*marker, OUT, *(name for name, is_taken in taken if is_taken)]
        case Outcome.WAITS:
            return [WAITS]
        case Outcome.HELD:
            return [HELD]
        case Outcome.RETRY:
            place = (attempted.error_class, context.op_handle.name, attempted.wait_s)
            context.log.warning("%s at node %s: trying again in %.1f s", *place)
            raise dg.RetryRequested(MOST_RETRIES, attempted.wait_s) from None
        case Outcome.FAILED:
            frames = stream.frames_of(attempted.bug) if attempted.bug is not None else ()
            raise _failure(context, attempted.error_class, frames=frames)
        case Outcome.CANCELLED:
            runs.report_canceling(context.instance, context.run.run_id)
            raise DagsterExecutionInterruptedError
        case never:
            assert_never(never)


def _failure(context: dg.OpExecutionContext, error_class: str, *, frames: Sequence[str] = ()) -> dg.Failure:
    metadata: dict[str, Any] = {"error_class": error_class, **({"frames": list(frames)} if frames else {})}
    told = f"{error_class} at node {context.op_handle.name}: its step has the message, `workstation workflow history` shows it."
    return dg.Failure(told, metadata=metadata, allow_retries=False)
