"""An executor that works on independent steps at the same time, each in a thread of the run's own process.

Dagster has an executor for one step after the other and one with a process for each step, which costs seconds a step. This
one leaves to Dagster what a step is and when it is its turn, as both of them do, and writes the same events for each step.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Protocol

import dagster as dg

# Not public; pinned by `dagster~=1.13.27` and by tests that compare the events with those of Dagster's own executors.
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.api import ExecuteRunWithPlanIterable
from dagster._core.execution.compute_logs import create_compute_log_file_key
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.execute_plan import dagster_event_sequence_for_step
from dagster._core.execution.plan.objects import ErrorSource, step_failure_event_from_exc_info
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.base import Executor
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster._utils.interrupts import pop_captured_interrupt

from workstation_pipelines.defs import runs

if TYPE_CHECKING:
    from dagster._core.execution.context.system import (
        PlanExecutionContext,
        PlanOrchestrationContext,
        StepExecutionContext,
    )
    from dagster._core.execution.plan.active import ActiveExecution
    from dagster._core.execution.plan.plan import ExecutionPlan

LOOK_EVERY_S = 0.1
GRACE_S = 10.0
"""How long steps that were told to end are waited for; their threads end with the process anyway."""


class Stoppable(Protocol):
    """What tells the steps of a run to end, and hears of it when somebody has asked for that; safe from any thread."""

    def interrupt(self) -> None: ...

    @property
    def is_cancelled(self) -> bool: ...


Arrived = tuple[str, DagsterEvent | BaseException | None]
"""A step's key with one of its events, or with how it ended: None, or what it raised past its last event."""


def threads_executor(max_parallel: int, *, stopped_by: str | None = None) -> dg.ExecutorDefinition:
    """Return an executor of at most `max_parallel` steps at a time; `stopped_by` is the key of a Stoppable resource.

    A step that is interrupted hears of it through that resource alone, since a signal reaches no thread but the main one.
    Hooks are not run.
    """

    @dg.executor(name="threads")  # type: ignore[untyped-decorator, unused-ignore]
    def threads(_context: dg.InitExecutorContext) -> ThreadsExecutor:
        """Independent steps at the same time, in threads of this process."""
        return ThreadsExecutor(max_parallel, stopped_by)

    return threads  # type: ignore[no-any-return, unused-ignore]


class ThreadsExecutor(Executor):
    """Runs ready steps in threads; all that decides which are ready happens in the thread of `execute`."""

    def __init__(self, max_parallel: int, stopped_by: str | None) -> None:
        self._max_parallel = max_parallel
        self._stopped_by = stopped_by

    @property
    def retries(self) -> RetryMode:
        return RetryMode.ENABLED

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        began_s = time.monotonic()
        keys = execution_plan.step_keys_to_execute
        where = f"at most {self._max_parallel} threads (pid: {os.getpid()})"
        what = EngineEventData.in_process(os.getpid(), keys)
        yield DagsterEvent.engine_event(plan_context, f"Executing steps in {where}", event_specific_data=what)
        yield from ExecuteRunWithPlanIterable(
            execution_plan=execution_plan,
            iterator=self._steps,
            execution_context_manager=PlanExecutionContextManager(
                job=plan_context.job,
                retry_mode=plan_context.retry_mode,
                execution_plan=execution_plan,
                run_config=plan_context.run_config,
                dagster_run=plan_context.dagster_run,
                instance=plan_context.instance,
                raise_on_error=plan_context.raise_on_error,
                output_capture=plan_context.output_capture,
                step_dependency_config=self.step_dependency_config,
            ),
        )
        took_s = time.monotonic() - began_s
        done = f"Finished steps in {where} in {took_s:.2f}s"
        yield DagsterEvent.engine_event(plan_context, done, event_specific_data=what)

    def _steps(self, job_context: PlanExecutionContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        active = execution_plan.start(retry_mode=job_context.retry_mode, max_concurrent=self._max_parallel)
        with active, ExitStack() as captured:
            yield from _capture_logs(job_context, execution_plan, captured)
            running = _Running(job_context, self._stoppable(job_context))
            while not active.is_complete:
                for step in active.get_steps_to_execute():
                    running.start(job_context.for_step(step, active.get_known_state()))
                yield from running.stop_if_asked()
                arrived = running.next_arrived(_wait_s(active))
                if arrived is not None:
                    yield from self._taken_in(arrived, active, job_context, running)

    def _taken_in(
        self, arrived: Arrived, active: ActiveExecution, job_context: PlanExecutionContext, running: _Running
    ) -> Iterator[DagsterEvent]:
        step_key, what = arrived
        if isinstance(what, DagsterEvent):
            yield what
            if what.is_step_up_for_retry:
                running.retries[step_key] = what  # else it might begin again before its thread has ended
            else:
                active.handle_event(what)
            return
        if (
            what is not None
        ):  # the step was interrupted, or Dagster's storage is away: as in its own executors, all ends
            yield from running.stop()
            raise what
        if step_key in running.retries:
            active.handle_event(running.retries.pop(step_key))
        active.verify_complete(job_context, step_key)
        yield from active.plan_events_iterator(job_context)  # those that are skipped or left out because of this one

    def _stoppable(self, job_context: PlanExecutionContext) -> Stoppable | None:
        if self._stopped_by is None:
            return None
        resources = job_context.scoped_resources_builder.build({self._stopped_by})
        return getattr(resources, self._stopped_by, None)


class _Running:
    """The steps that have a thread at the moment, and the one queue on which they tell what happens to them."""

    def __init__(self, job_context: PlanExecutionContext, stoppable: Stoppable | None) -> None:
        self._job_context = job_context
        self._stoppable = stoppable
        self._steps: dict[str, StepExecutionContext] = {}
        self._arrived: SimpleQueue[Arrived] = SimpleQueue()
        self.retries: dict[str, DagsterEvent] = {}

    def start(self, step_context: StepExecutionContext) -> None:
        key = step_context.step.key
        self._steps[key] = step_context
        Thread(target=_work, args=(step_context, self._arrived.put), name=f"step {key}", daemon=True).start()

    def next_arrived(self, wait_s: float) -> Arrived | None:
        try:
            arrived = self._arrived.get(timeout=wait_s)
        except Empty:
            return None
        if not isinstance(arrived[1], DagsterEvent):
            self._steps.pop(arrived[0], None)
        return arrived

    def stop_if_asked(self) -> Iterator[DagsterEvent]:
        """Raises DagsterExecutionInterruptedError after a signal, or when somebody has cancelled what this run is for."""
        if pop_captured_interrupt() or self._is_cancelled:
            yield from self.stop()
            raise DagsterExecutionInterruptedError

    @property
    def _is_cancelled(self) -> bool:
        return self._stoppable is not None and self._stoppable.is_cancelled

    def stop(self) -> Iterator[DagsterEvent]:
        """Tell the steps to end, wait a while for them, and say of those that do not that they were interrupted."""
        if self._is_cancelled:  # else Dagster would find the interrupt unexpected, and the run failed
            runs.report_canceling(self._job_context.instance, self._job_context.run_id)
        if self._stoppable is not None:
            self._stoppable.interrupt()
        deadline_s = time.monotonic() + GRACE_S
        while self._steps and time.monotonic() < deadline_s:
            arrived = self.next_arrived(LOOK_EVERY_S)
            if arrived is not None and isinstance(arrived[1], DagsterEvent):
                yield arrived[1]
        for step_context in self._steps.values():
            try:
                raise DagsterExecutionInterruptedError  # its traceback is what Dagster shows
            except DagsterExecutionInterruptedError:
                yield step_failure_event_from_exc_info(step_context, sys.exc_info(), error_source=ErrorSource.INTERRUPT)


def _work(step_context: StepExecutionContext, tell: Callable[[Arrived], None]) -> None:
    key = step_context.step.key
    try:
        for event in dagster_event_sequence_for_step(step_context):
            tell((key, event))
    except BaseException as error:  # noqa: BLE001 - the thread's rim: raised again by the main thread
        tell((key, error))
    else:
        tell((key, None))


def _wait_s(active: ActiveExecution) -> float:
    """Seconds until there is something to do besides listening to steps."""
    until_retry_s: float = active.sleep_interval()  # type: ignore[no-untyped-call]
    return min(LOOK_EVERY_S, until_retry_s) if until_retry_s > 0 else LOOK_EVERY_S


def _capture_logs(
    job_context: PlanExecutionContext, execution_plan: ExecutionPlan, captured: ExitStack
) -> Iterator[DagsterEvent]:
    """Let the process's output go to where the web UI shows it; a run goes on without that."""
    manager = job_context.instance.compute_log_manager
    file_key = create_compute_log_file_key()  # type: ignore[no-untyped-call]
    log_key = manager.build_log_key_for_run(job_context.run_id, file_key)
    keys = [step.key for step in execution_plan.get_steps_to_execute_in_topo_order()]
    try:
        context = captured.enter_context(manager.capture_logs(log_key))
        yield DagsterEvent.capture_logs(job_context, keys, list(log_key), context)
    except Exception:  # noqa: BLE001 - whatever the log manager of this instance raises
        told = EngineEventData(error=serializable_error_info_from_exc_info(sys.exc_info()))
        yield DagsterEvent.engine_event(job_context, "Exception while setting up compute log capture", told)
