"""The work of one Dagster run at one execution: an attempt at a node each time that Dagster says it is its turn.

What is left open when a run ends is closed by the mirror, which alone knows how the run ended.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from workstation_pipelines.db import executions
from workstation_pipelines.errors import (
    CancelledError,
    FencedError,
    InvalidRequestError,
    NotFoundError,
    RetryableError,
    WorkstationError,
)
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import Usage
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.heartbeat import Heartbeat
from workstation_pipelines.sync.stopping import StopError, StopSignal
from workstation_pipelines.workflow_model import (
    BlockResult,
    Execution,
    ExecutionId,
    Json,
    Node,
    NodeId,
    RetryPolicy,
    RunOwner,
    Step,
    StepStatus,
    Wait,
    WaitKind,
)
from workstation_pipelines.workflows import catalog, references
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockCall
from workstation_pipelines.workflows.calling import NodeStop, called
from workstation_pipelines.workflows.flow import Action
from workstation_pipelines.workflows.given import Given, given
from workstation_pipelines.workflows.ledger import Ledger
from workstation_pipelines.workflows.outputs import stored_output
from workstation_pipelines.workflows.redaction import redacted
from workstation_pipelines.workflows.spending import spent_of
from workstation_pipelines.workflows.turns import Turns

if TYPE_CHECKING:
    from workstation_pipelines.sync.workspace import Workspace

LONGEST_PAUSE_S = 60.0
"""A run waits so long to try a node again; for longer it ends, and another one goes on."""

MOST_LOGGED = 200
"""Lines of one attempt in the timeline."""


class Outcome(StrEnum):
    """What became of a node's turn: a `held` one has a source that waits, one that `waits` is to be called again later."""

    COMPLETED = "completed"
    REUSED = "reused"
    WAITS = "waits"
    HELD = "held"
    RETRY = "retry"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Attempted:
    """`taken` says of each of flow.conditions_of() whether it is true; `bug` is an error that no block should raise.

    `figures` are numbers of a completed attempt, which anybody may see: which it was, and what it took.
    """

    outcome: Outcome
    taken: Sequence[bool] = ()
    wait_s: float = 0.0
    error_class: str = ""
    bug: Exception | None = None
    figures: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Begun:
    """An attempt that is under way. `step` is as its row is since then, `waited` what the block has waited for."""

    node: Node
    step: Step
    block_id: UUID
    waited: Wait | None
    scope: Mapping[str, Any]
    inputs: Mapping[str, Json]
    given: Given
    hidden: frozenset[str]
    """Secrets of the whole workflow: what one node sends out, another may be told."""
    stop: NodeStop


class Runner:
    """One run of one execution, shared by the threads of its steps. Use open() and close()."""

    def __init__(
        self,
        workspace: Workspace,
        owner: RunOwner,
        ledger: Ledger,
        execution: Execution,
        found: Sequence[Step],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Raises InvalidDefinitionError for a definition that this program does not understand any more."""
        self._workspace = workspace
        self._owner = owner
        self._ledger = ledger
        self._definition = catalog.read(execution.definition)
        self._turns = Turns(self._definition, execution, found)
        self._secret_names = references.names_of_secrets([dict(node.config) for node in self._definition.nodes])
        self._secrets: frozenset[str] | None = None
        self._monotonic, self._jitter = monotonic, jitter
        self._ends_s = monotonic() + self._definition.timeout_s
        self._faults = Faults(workspace.settings.fault)
        self._stop = StopSignal(grace_s=0)
        self._is_cancelled = False
        self._heart = Heartbeat(self._beat, self._stop)

    @classmethod
    def open(cls, workspace: Workspace, *, run_id: str, execution_id: str) -> Self:
        """Take up an execution whose newest run this is, and give signs of life until close().

        Raises NotFoundError for an execution that is gone, FencedError for one that is over or another run's, and
        InvalidDefinitionError.
        """
        owner = executions.owner_of(workspace.database, ExecutionId(UUID(execution_id)))
        if owner is None:
            raise NotFoundError(f"no execution {execution_id}: it was removed")
        ledger = Ledger(workspace, owner, run_id)
        execution, found, is_cancelled = ledger.take_up()
        runner = cls(workspace, owner, ledger, execution, found)
        if is_cancelled:
            runner._stop.request(runner._cancelled())
        runner._heart.__enter__()
        return runner

    def close(self) -> None:
        self._heart.__exit__(None, None, None)

    def interrupt(self) -> None:
        """Let what is under way end soon, and nothing begin any more."""
        self._stop.request(CancelledError("the process was told to stop"))

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has asked for the end of the execution, rather than of this process."""
        return self._is_cancelled

    def attempt(self, node_id: NodeId) -> Attempted:
        """Do what is to be done at a node whose sources are over or wait; Dagster asks for no node before that.

        Raises FencedError once the execution is not this run's any more, and SourceUnavailableError when the database is
        away: then the same may be asked again.
        """
        if self._stop.is_set:
            return self._stopped()
        step = self._turns.step(node_id)
        if step.status is StepStatus.COMPLETED:
            return Attempted(Outcome.REUSED, taken=self._turns.taken(node_id))
        decision = self._turns.decision(node_id)
        if decision.action is Action.HOLD:
            return Attempted(Outcome.HELD)
        if decision.action is not Action.RUN:
            raise AssertionError(f"Dagster gives node {node_id} its turn, and by its rows it is to {decision.action}")
        if step.status is StepStatus.WAITING and (step.wait is None or step.wait.decision is None):
            return Attempted(Outcome.WAITS)
        try:
            begun = self._begin(self._definition.node(node_id), step, decision.sources)
        except CancelledError:
            self._stop.request(self._cancelled())
            return self._stopped()
        return self._worked(begun) if begun else Attempted(Outcome.REUSED, taken=self._turns.taken(node_id))

    def _stopped(self) -> Attempted:
        """Raises FencedError when that is why the run was stopped."""
        with suppress(CancelledError):
            self._stop.raise_if_set()
        return Attempted(Outcome.CANCELLED)

    def _begin(self, node: Node, step: Step, sources: Sequence[NodeId]) -> _Begun | None:
        """Begin an attempt; None when an earlier one was completed after all."""
        scope = self._turns.scope(node.id)
        inputs = self._turns.inputs(sources)
        what = given(node, BLOCKS[node.type], scope, self._ledger.secrets)
        block_id = self._workspace.new_id()
        begun, number = self._ledger.begin(step, block_id, {"config": what.shown, "inputs": list(inputs)})
        self._turns.changed(begun)
        if number == 0:
            return None
        hidden = self._all_secrets().union(what.secrets.values())
        stop = NodeStop(self._stop, timeout_s=node.timeout_s, run_ends_s=self._ends_s, monotonic=self._monotonic)
        return _Begun(node, begun, block_id, _waited(step), scope, inputs, what, hidden, stop)

    def _all_secrets(self) -> frozenset[str]:
        """Return the secrets that any node refers to, those that open; read once a run."""
        if self._secrets is None:
            opened: list[str] = []
            for name in sorted(self._secret_names):
                with suppress(InvalidRequestError):  # the node that needs it says so
                    opened += self._ledger.secrets([name]).values()
            self._secrets = frozenset(opened)
        return self._secrets

    def _worked(self, begun: _Begun) -> Attempted:
        try:
            result = self._called(begun)
            self._faults.reach("workflow_block")
            output = None if isinstance(result, Wait) else stored_output(result.output, begun.hidden)
            taken = () if isinstance(result, Wait) else self._turns.taken_with(begun.node.id, output)
        except (CancelledError, FencedError) as error:
            return self._stopped() if self._stop.is_set else self._failed(begun, error)
        except Exception as error:  # noqa: BLE001 - the rim around a block: written down, and told
            return self._failed(begun, error)
        if isinstance(result, Wait):
            result = replace(result, message=str(redacted(result.message, begun.hidden)))
            self._ledger.wait(begun.step, begun.block_id, result)
            self._turns.changed(replace(begun.step, status=StepStatus.WAITING, wait=replace(result, decision=None)))
            return Attempted(Outcome.WAITS)
        self._ledger.complete(begun.step, begun.block_id, output, result.usages)
        self._turns.completed(begun.node.id, output, taken)
        return Attempted(Outcome.COMPLETED, taken=taken, figures=_figures(begun.step.attempts, result.usages))

    def _called(self, begun: _Begun) -> BlockResult | Wait:
        if begun.given.error is not None:
            raise begun.given.error
        node, secrets = begun.node, begun.given.secrets
        call: BlockCall[Any] = BlockCall(
            execution_id=self._owner.execution_id,
            node_id=node.id,
            attempt=begun.step.attempts,
            user_id=self._owner.user_id,
            tenant_id=self._owner.tenant_id,
            config=begun.given.config,
            inputs=begun.inputs,
            scope=begun.scope,
            model_id=self._definition.model_id,
            wait=begun.waited,
            idempotency_key=f"{self._owner.execution_id}:{node.id}",
            stop=begun.stop,
            workspace=self._workspace,
            clock=utc_now,
            new_id=self._workspace.new_id,
            log=_Log(self._ledger, begun),
            resolve=lambda value, more: references.resolve_value(value, {**begun.scope, **more}, secrets),
            block_id=begun.block_id,
            secrets=begun.hidden,
        )
        return called(lambda: BLOCKS[node.type].run(call), begun.stop, name=node.id)

    def _failed(self, begun: _Begun, error: Exception) -> Attempted:
        """Write down why an attempt failed, and whether there is to be another: in this run, in a later one, or none."""
        is_known = isinstance(error, WorkstationError)
        message = (
            error.message if isinstance(error, WorkstationError) else "this is a bug: Dagster's event has the frames"
        )
        wait_s = None
        if isinstance(error, RetryableError):
            wait_s = self._wait_s(begun.node.retry, self._ledger.failures(begun.step), error.wait_s)
        is_later = wait_s is not None and wait_s > LONGEST_PAUSE_S
        later = Wait(WaitKind.TIME, until=utc_now() + timedelta(seconds=wait_s or 0)) if is_later else None
        self._ledger.fail(
            begun.step,
            begun.block_id,
            error_class=type(error).__name__,
            message=str(redacted(message, begun.hidden)),
            will_retry=wait_s is not None,
            wait=later,
        )
        if wait_s is None:
            self._turns.changed(replace(begun.step, status=StepStatus.FAILED))
            return Attempted(Outcome.FAILED, error_class=type(error).__name__, bug=None if is_known else error)
        if is_later:
            self._turns.changed(replace(begun.step, status=StepStatus.WAITING, wait=later))
            return Attempted(Outcome.WAITS)
        self._turns.changed(replace(begun.step, status=StepStatus.RETRYING))
        return Attempted(Outcome.RETRY, wait_s=wait_s, error_class=type(error).__name__)

    def _wait_s(self, policy: RetryPolicy, failures: int, asked_s: float) -> float | None:
        """Return how long to wait after `failures` and one more, None when that was the last attempt."""
        if failures >= policy.max_retries:
            return None
        longest_s = min(policy.max_delay_s, policy.delay_s * 2.0 ** min(failures, 60))
        return max(asked_s, self._jitter(0.0, longest_s))

    def _beat(self) -> StopError | None:
        try:
            return self._cancelled() if self._ledger.beat() else None
        except FencedError as error:
            return error

    def _cancelled(self) -> CancelledError:
        self._is_cancelled = True
        return CancelledError("cancelled on request")


class _Log:
    """Adds lines to the timeline, the first of an attempt only; what comes after it would bury everything else."""

    def __init__(self, ledger: Ledger, begun: _Begun) -> None:
        self._ledger = ledger
        self._begun = begun
        self._left = MOST_LOGGED

    def __call__(self, line: str) -> None:
        self._left -= 1
        if self._left >= 0:
            self._ledger.log(self._begun.step, str(redacted(line, self._begun.hidden)))


def _figures(attempt: int, usages: Sequence[Usage]) -> Mapping[str, int | float]:
    spent = spent_of(usages)
    tokens = {"input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens, "cost_usd": float(spent.cost)}
    return {"attempt": attempt, **{name: value for name, value in tokens.items() if value}}


def _waited(step: Step) -> Wait | None:
    """Return what the block asked for when it was called before; a pause before another attempt is not of its asking."""
    wait = step.wait
    if wait is None or not step.error_class:
        return wait
    if wait.sync_job_id is not None:
        return replace(wait, kind=WaitKind.SYNC)
    if wait.token_hash is not None:
        return replace(wait, kind=WaitKind.APPROVAL)
    return wait if wait.message else None
