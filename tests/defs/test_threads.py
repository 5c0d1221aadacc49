"""The executor of threads next to Dagster's own: the same events for each step, whatever the shape of the job."""

# No postponed annotations here: Dagster reads those of an op's function and takes strings for no type it knows.

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from workstation_pipelines.defs import threads
from workstation_pipelines.defs.threads import threads_executor

Work = Callable[[dg.OpExecutionContext], Iterator[str]]
Events = Mapping[str, list[str]]


def op(name: str, work: Work, resources: Iterable[str], *, has_inputs: bool = False) -> dg.OpDefinition:
    """`work` yields the names of the outputs that its step yields."""

    def compute(context: dg.OpExecutionContext, _inputs: Mapping[str, Any]) -> Iterator[dg.Output[None]]:
        yield from (dg.Output(None, each) for each in work(context))

    return dg.OpDefinition(
        name=name,
        compute_fn=compute,
        ins={"after": dg.In(dg.Nothing)} if has_inputs else {},
        outs={name: dg.Out(dg.Nothing, is_required=False) for name in ("out", "if_1")},
        required_resource_keys=set(resources),
    )


def job(
    work: Work, sources: Mapping[str, list[tuple[str, str]]], executor: dg.ExecutorDefinition, **resources: Any
) -> dg.JobDefinition:
    """A job of nodes with the same work, each after outputs of others."""
    first, later = op("first", work, resources), op("later", work, resources, has_inputs=True)
    dependencies: dict[dg.NodeInvocation, dict[str, dg.IDependencyDefinition]] = {}
    for node, above in sources.items():
        after = dg.MultiDependencyDefinition([dg.DependencyDefinition(*each) for each in above])
        dependencies[dg.NodeInvocation("later" if above else "first", alias=node)] = {"after": after} if above else {}
    used = [each for each in (first, later) if any(node.name == each.name for node in dependencies)]
    graph = dg.GraphDefinition(name="shape", node_defs=used, dependencies=dependencies)
    hard = {key: dg.ResourceDefinition.hardcoded_resource(value) for key, value in resources.items()}
    return graph.to_job(executor_def=executor, resource_defs=hard)


def run(instance: dg.DagsterInstance, shape: dg.JobDefinition) -> tuple[str, Events]:
    """Run it, and return its status and the events of each step."""
    created = instance.create_run_for_job(shape)
    execute_run(InMemoryJob(shape), created, instance)
    ended = instance.get_run_by_id(created.run_id)
    assert ended is not None
    events: dict[str, list[str]] = {}
    for record in instance.get_records_for_run(created.run_id).records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.step_key is not None:
            events.setdefault(event.step_key, []).append(event.event_type_value)
    return ended.status.value, events


def by_its_name(context: dg.OpExecutionContext) -> Iterator[str]:
    """Fails, is tried again, yields one, both or no output, as the name of the step decides."""
    chance = Random(context.op_handle.name).random()  # noqa: S311
    if chance < 0.15:
        raise dg.Failure("by its name")
    if chance < 0.4 and context.retry_number < 2:
        raise dg.RetryRequested(max_retries=5, seconds_to_wait=0.01 if chance < 0.3 else 0)
    if chance > 0.5:
        yield "out"
    if 0.45 < chance < 0.8:
        yield "if_1"


def random_shape(random: Random) -> dict[str, list[tuple[str, str]]]:
    shape: dict[str, list[tuple[str, str]]] = {}
    for number in range(random.randint(6, 12)):
        above = [each for each in shape if random.random() < 0.3]
        shape[f"{random.randrange(10**6)}_{number}"] = [(each, random.choice(("out", "if_1"))) for each in above]
    return shape


def test_random_jobs_have_the_events_that_they_have_one_step_at_a_time(instance: dg.DagsterInstance) -> None:
    seen: set[str] = set()
    for seed in range(5):
        shape = random_shape(Random(seed))  # noqa: S311
        expected = run(instance, job(by_its_name, shape, dg.in_process_executor))
        assert run(instance, job(by_its_name, shape, threads_executor(3))) == expected, seed
        seen |= {event for events in expected[1].values() for event in events}
    assert {"STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_SKIPPED", "STEP_FAILURE", "STEP_SUCCESS"} <= seen


def test_as_many_steps_as_allowed_work_at_the_same_time(instance: dg.DagsterInstance) -> None:
    lock, now, most = threading.Lock(), [0], [0]
    all_there = threading.Barrier(3)

    def meet(_context: dg.OpExecutionContext) -> Iterator[str]:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        all_there.wait(timeout=20)
        with lock:
            now[0] -= 1
        yield "out"

    status, events = run(instance, job(meet, {f"n{number}": [] for number in range(6)}, threads_executor(3)))
    assert (status, len(events), most[0]) == ("SUCCESS", 6, 3)


class Stop:
    """What a run of workflows has, as the executor sees it."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.is_cancelled = False

    def interrupt(self) -> None:
        self.told.set()


def until_told(stop: Stop, begun: Callable[[], None]) -> Work:
    def work(_context: dg.OpExecutionContext) -> Iterator[str]:
        begun()
        if stop.told.wait(timeout=20):
            raise dg.Failure("told to stop")
        yield "out"

    return work


SHAPE: Mapping[str, list[tuple[str, str]]] = {"a": [], "b": [], "c": [("a", "out")]}


def test_cancel_of_what_the_run_is_for_ends_it_as_cancelled(instance: dg.DagsterInstance) -> None:
    stop = Stop()

    def cancel() -> None:
        stop.is_cancelled = True

    shape = job(until_told(stop, cancel), SHAPE, threads_executor(4, stopped_by="stop"), stop=stop)
    status, events = run(instance, shape)
    assert status == "CANCELED"
    assert {step: each[-1] for step, each in events.items()} == {"a": "STEP_FAILURE", "b": "STEP_FAILURE"}


def test_signal_to_the_process_ends_the_run_though_a_step_is_deaf(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "GRACE_S", 0.2)
    is_over = threading.Event()

    def deaf(context: dg.OpExecutionContext) -> Iterator[str]:
        context.instance.report_run_canceling(context.run)  # as whoever sends the signal does
        os.kill(os.getpid(), signal.SIGINT)
        is_over.wait(timeout=20)
        yield "out"

    shape = job(deaf, {"a": [], "b": [("a", "out")]}, threads_executor(4))
    created = instance.create_run_for_job(shape)
    began_s = time.monotonic()
    execute_run(InMemoryJob(shape), created, instance)
    is_over.set()
    for thread in threading.enumerate():
        if thread.name == "step a":
            thread.join()
    ended = instance.get_run_by_id(created.run_id)
    assert ended is not None
    assert (ended.status.value, time.monotonic() - began_s < 10) == ("CANCELED", True)
