"""The fold of a run's log says what the reference says of the workflow, however the log arrives and wherever it stops."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pure.dagster_log import BEGUN_AT, FAILS, RETRIES, SimulatedRun
from tests.pure.workflow_reference import play
from tests.workflows.dags import SCRIPTED, SCRIPTED_BLOCK, acts_of, documents
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Definition, Edge, ExecutionStatus, Node, NodeId, SkipReason, StepStatus
from workstation_pipelines.workflows import catalog, flow, mirror, references
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.mirror import EventKind, Folded, StepEvent, fold


def graph(edges: str) -> Definition:
    """`a>b a>c?x` has the nodes a, b and c; `?x` is a condition."""
    read = []
    for each in edges.split():
        ends, _, condition = each.partition("?")
        source, _, target = ends.partition(">")
        read.append((source, target, condition or None))
    names = dict.fromkeys(name for source, target, _ in read for name in (source, target) if name)
    return Definition(
        [Node(NodeId(name), "scripted", name) for name in names],
        [Edge(NodeId(source), NodeId(target), condition) for source, target, condition in read if target],
        {},
    )


def log(*told: str) -> list[StepEvent]:
    """`a start`, `a output out`, `a failure SomeError`, `- canceling`: one event each, in order."""
    events = []
    for number, each in enumerate(told, 1):
        name, kind, *rest = each.split()
        found = next(known for known in EventKind if known.name.lower() == kind)
        what = rest[0] if rest else ""
        is_output = found is EventKind.OUTPUT
        events.append(
            StepEvent(
                number,
                found,
                "" if name == "-" else name,
                what if is_output else "",
                BEGUN_AT,
                "" if is_output else what,
            )
        )
    return events


def done(name: str, output: str = "out") -> list[str]:
    return [f"{name} started", f"{name} output {output}", f"{name} succeeded"]


def states(folded: Folded) -> str:
    """All nodes as `a=completed b=skipped:condition`."""
    return " ".join(
        f"{name}={step.status}" + (f":{step.skip_reason}" if step.skip_reason else "")
        for name, step in folded.steps.items()
    )


CHAIN = graph("a>b b>c")

ENDS = [
    pytest.param(
        CHAIN,
        [*done("a"), *done("b"), *done("c")],
        "SUCCESS",
        "completed",
        "a=completed b=completed c=completed",
        id="all done",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), "b started", "b failed SomeError"],
        "FAILURE",
        "failed SomeError",
        "a=completed b=failed c=skipped:upstream_failed",
        id="what is behind a failure is never named by Dagster",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), "b started"],
        "FAILURE",
        "failed RunLostError",
        "a=completed b=failed c=skipped:not_reached",
        id="killed in the middle",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), "b started", "b up_for_retry"],
        "LOST",
        "failed RunLostError",
        "a=completed b=failed c=skipped:not_reached",
        id="killed between two attempts, and unknown to Dagster",
    ),
    pytest.param(
        CHAIN,
        [],
        "FAILURE",
        "failed RunLostError",
        "a=skipped:not_reached b=skipped:not_reached c=skipped:not_reached",
        id="never started",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), *done("b"), *done("c")],
        "FAILURE",
        "failed RunLostError",
        "a=completed b=completed c=completed",
        id="killed before it could say that it has ended",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), "b started"],
        "CANCELED",
        "cancelled",
        "a=completed b=cancelled c=cancelled",
        id="cancelled",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), "b started", "- canceling", "b failed DagsterExecutionInterruptedError"],
        "FAILURE",
        "cancelled",
        "a=completed b=cancelled c=cancelled",
        id="failed by the signal that was to cancel it",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), "b started", "- overdue", "b failed DagsterExecutionInterruptedError"],
        "CANCELED",
        "failed RunTimeoutError",
        "a=completed b=failed c=skipped:not_reached",
        id="cancelled by its time limit",
    ),
    pytest.param(
        CHAIN,
        [*done("a", "waits"), "b skipped", "c skipped"],
        "SUCCESS",
        "waiting",
        "a=waiting b=pending c=pending",
        id="what is skipped behind one that waits is held",
    ),
    pytest.param(
        graph("a>c b>c"),
        [*done("a", "waits"), *done("b"), *done("c", "held")],
        "SUCCESS",
        "waiting",
        "a=waiting c=pending b=completed",
        id="a fan-in that Dagster runs is held",
    ),
    pytest.param(
        graph("a>c b>c c>d"),
        [*done("a", "waits"), "b started", "b failed SomeError"],
        "FAILURE",
        "failed SomeError",
        "a=cancelled c=cancelled b=failed d=cancelled",
        id="nobody goes on waiting for an execution that has failed",
    ),
    pytest.param(
        graph("a>b?x a>c?y b>d c>d"),
        [*done("a", "if_2"), "b skipped", *done("c"), *done("d")],
        "SUCCESS",
        "completed",
        "a=completed b=skipped:condition c=completed d=completed",
        id="a join runs when one of its branches was taken",
    ),
    pytest.param(
        graph("a>b?x b>d c>d"),
        [*done("c"), "a started", "a succeeded", "b skipped", *done("d")],
        "SUCCESS",
        "completed",
        "a=completed b=skipped:condition d=completed c=completed",
        id="no condition is true",
    ),
    pytest.param(
        graph("a>c?x b>c"),
        ["a started", "a succeeded", "b started", "b failed SomeError"],
        "FAILURE",
        "failed SomeError",
        "a=completed c=skipped:upstream_failed b=failed",
        id="a failure counts more than a condition",
    ),
    pytest.param(
        CHAIN,
        [*done("a"), "a started", "b started", "b succeeded", *done("c"), "stranger started"],
        "SUCCESS",
        "completed",
        "a=completed b=completed c=completed",
        id="what is not in the graph, and what comes after the end, says nothing",
    ),
]


@pytest.mark.parametrize(("definition", "told", "status", "outcome", "expected"), ENDS)
def test_log_says_how_every_node_has_ended(
    definition: Definition, told: Sequence[str], status: str, outcome: str, expected: str
) -> None:
    folded = fold(definition, log(*told), status, is_cancel_requested=False)
    assert states(folded) == expected
    assert f"{folded.status} {folded.error_class}".strip() == outcome
    assert folded.is_over


def test_what_was_asked_decides_between_failed_and_cancelled() -> None:
    killed = log(*done("a"), "b started")
    assert fold(CHAIN, killed, "FAILURE", is_cancel_requested=True).status is ExecutionStatus.CANCELLED
    waits = log(*done("a", "waits"))
    assert fold(CHAIN, waits, "SUCCESS", is_cancel_requested=True).status is ExecutionStatus.CANCELLED
    whole = log(*done("a"), *done("b"), *done("c"))  # too late
    assert fold(CHAIN, whole, "SUCCESS", is_cancel_requested=True).status is ExecutionStatus.COMPLETED


def test_run_under_way_ends_nothing() -> None:
    folded = fold(CHAIN, log(*done("a"), "b started", "b up_for_retry"), "STARTED", is_cancel_requested=True)
    assert (states(folded), folded.status, folded.is_over) == ("a=completed b=retrying c=pending", "running", False)
    assert fold(CHAIN, [], "QUEUED", is_cancel_requested=False).status is ExecutionStatus.PENDING


def test_attempts_are_those_of_this_run() -> None:
    events = log("a started", "a up_for_retry", "a restarted", "a output out", "a succeeded", *done("b", "reused"))
    steps = fold(CHAIN, events, "STARTED", is_cancel_requested=False).steps
    assert [(step.attempts, step.is_reused) for step in steps.values()] == [(2, False), (0, True), (0, False)]


class Scripted:
    """Plays an execution run by run, as our ops would behave in Dagster: what they do is in the nodes' scripts."""

    def __init__(self, document: Mapping[str, Any], shuffle: random.Random) -> None:
        self.definition = catalog.read(document, {**BLOCKS, SCRIPTED: SCRIPTED_BLOCK})
        self.shuffle = shuffle
        self.acts = acts_of(document)
        self.output: dict[str, Any] = {}
        self.attempts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def run(self) -> SimulatedRun:
        return SimulatedRun(self.definition, self.act, self.shuffle, self.definition.max_parallel).go()

    def act(self, name: str, _attempt: int, outputs: Mapping[str, frozenset[str]]) -> frozenset[str] | str:
        if name in self.output:
            return self.led_on(name) | {"reused"}
        if flow.decide(self.definition, name, self.states(outputs)).action is flow.Action.HOLD:
            return frozenset({"held"})
        self.attempts[name] += 1
        acts = self.acts.get(name, [{"do": "complete", "score": 0}])
        act = acts[min(self.attempts[name], len(acts)) - 1]
        if act["do"] == "wait":
            return frozenset({"waits"})
        if act["do"] == "complete":
            self.output[name] = self.result(name, act, outputs)
            try:
                return self.led_on(name)
            except InvalidRequestError:
                del self.output[name]
                return FAILS
        self.failures[name] += 1
        may_retry = act["do"] == "retry" and self.failures[name] <= self.definition.node(name).retry.max_retries
        return RETRIES if may_retry else FAILS

    def states(self, outputs: Mapping[str, frozenset[str]]) -> dict[NodeId, flow.NodeState]:
        """As the rows have them, when it is a node's turn whose sources have all had theirs."""
        found = {}
        for name, told in outputs.items():
            if "held" not in told:
                status = StepStatus.WAITING if "waits" in told else StepStatus.COMPLETED
                count = len(flow.conditions_of(self.definition, name))
                found[NodeId(name)] = flow.NodeState(
                    status, conditions=[f"if_{number}" in told for number in range(1, count + 1)]
                )
        return found

    def scope(self, name: str) -> dict[str, Any]:
        outputs = {NodeId(each): output for each, output in self.output.items()}
        return flow.scope_of(self.definition, name, input={"is_on": True}, outputs=outputs, execution={})

    def led_on(self, name: str) -> frozenset[str]:
        taken = flow.taken_conditions(self.definition, name, self.scope(name), self.output[name])
        return frozenset({"out", *(f"if_{number}" for number, is_true in enumerate(taken, 1) if is_true)})

    def result(self, name: str, act: Mapping[str, Any], outputs: Mapping[str, frozenset[str]]) -> Any:
        if self.definition.node(name).type != SCRIPTED:
            return {}
        conditions = {edge.source: flow.conditions_of(self.definition, edge.source) for edge in self.definition.edges}
        taken = [
            edge.source
            for edge in self.definition.into(name)
            if (f"if_{conditions[edge.source].index(edge.condition) + 1}" if edge.condition else "out")
            in outputs.get(edge.source, ())
        ]
        seen = references.resolve({"see": self.definition.node(name).config.get("see")}, self.scope(name), {})
        return {"score": act["score"], "from": taken, "seen": seen.value["see"]}


@settings(max_examples=40)
@given(documents(), st.randoms(use_true_random=False))
def test_folds_of_all_runs_say_what_the_reference_says(document: dict[str, Any], shuffle: random.Random) -> None:
    played = play(document, acts_of(document), input={"is_on": True})
    script = Scripted(document, shuffle)
    attempts: Counter[str] = Counter()
    for stood in played.stood:
        run = script.run()
        folded = fold(mirror.shape(document), run.events, run.status, is_cancel_requested=False)
        attempts.update({name: step.attempts for name, step in folded.steps.items()})
        assert (folded.status, folded.is_over) == (stood, True)
        pieces = [*run.events[::2], *run.events[len(run.events) // 3 :], *run.events]
        shuffle.shuffle(pieces)
        assert fold(script.definition, pieces, run.status, is_cancel_requested=False) == replace(
            folded, steps={node.id: folded.steps[node.id] for node in script.definition.nodes}
        )
    assert {name: step.status.value for name, step in folded.steps.items()} == played.status
    assert {name: step.skip_reason for name, step in folded.steps.items() if step.skip_reason} == played.reason
    assert dict(attempts) == played.attempts


@settings(max_examples=40)
@given(documents(with_waits=False), st.randoms(use_true_random=False), st.sampled_from(["FAILURE", "LOST", "CANCELED"]))
def test_log_that_stops_anywhere_leaves_nothing_open(
    document: dict[str, Any], shuffle: random.Random, status: str
) -> None:
    script = Scripted(document, shuffle)
    run = script.run()
    events = run.events[: shuffle.randint(0, len(run.events))]
    whole = fold(script.definition, run.events, run.status, is_cancel_requested=False)
    cut = fold(script.definition, events, status, is_cancel_requested=False)
    assert cut.is_over
    assert cut.status is (ExecutionStatus.CANCELLED if status == "CANCELED" else ExecutionStatus.FAILED)
    for name, step in cut.steps.items():
        assert step.status.is_over
        # What is known of it stays so, whatever more of the log there is.
        is_known = step.status is not StepStatus.CANCELLED and step.error_class != mirror.LOST
        if is_known and step.skip_reason is not SkipReason.NOT_REACHED:
            assert (step.status, step.skip_reason) == (whole.steps[name].status, whole.steps[name].skip_reason)
