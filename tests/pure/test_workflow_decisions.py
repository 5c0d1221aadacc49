"""What flow.py decides in the cases that the words of the rules are about, and which steps of a failed execution are reused."""

# ruff: noqa: S311 - chance here is no secret
from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pure.test_workflow_flow import parsed
from tests.pure.workflow_reference import play
from tests.workflows.dags import acts_of, documents
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import (
    Definition,
    Edge,
    ExecutionId,
    ExecutionStatus,
    Node,
    NodeId,
    SkipReason,
    Step,
    StepId,
    StepStatus,
)
from workstation_pipelines.workflows import flow
from workstation_pipelines.workflows.flow import Action, Decision, NodeState

_STATES = {
    "pending": flow.PENDING,
    "running": NodeState(StepStatus.RUNNING),
    "retrying": NodeState(StepStatus.RETRYING),
    "waiting": NodeState(StepStatus.WAITING),
    "true": NodeState(StepStatus.COMPLETED, conditions=[True]),
    "false": NodeState(StepStatus.COMPLETED, conditions=[False]),
    "failed": NodeState(StepStatus.FAILED),
    "cancelled": NodeState(StepStatus.CANCELLED),
    "unmet": NodeState(StepStatus.SKIPPED, SkipReason.CONDITION),
    "behind failed": NodeState(StepStatus.SKIPPED, SkipReason.UPSTREAM_FAILED),
}


def _run(*sources: str) -> Decision:
    return Decision(Action.RUN, sources=tuple(map(NodeId, sources)))


_CONDITION = Decision(Action.SKIP, SkipReason.CONDITION)
_UPSTREAM = Decision(Action.SKIP, SkipReason.UPSTREAM_FAILED)


@pytest.mark.parametrize(
    ("sources", "decision"),
    [
        ("", flow.RUN),
        ("true", _run("s0")),
        ("true, true", _run("s0", "s1")),
        ("false, true", _run("s1")),
        ("unmet, true", _run("s1")),
        ("false", _CONDITION),
        ("false, unmet", _CONDITION),
        ("failed", _UPSTREAM),
        ("failed, true", _UPSTREAM),
        ("false, failed", _UPSTREAM),
        ("behind failed, unmet", _UPSTREAM),
        ("cancelled, true", _UPSTREAM),
        ("waiting", flow.HOLD),
        ("waiting, true", flow.HOLD),
        ("waiting, failed", flow.HOLD),
        ("waiting, false", flow.HOLD),
        ("pending, true", flow.NOT_YET),
        ("running, waiting", flow.NOT_YET),
        ("retrying, failed", flow.NOT_YET),
    ],
)
def test_node_is_decided_by_its_sources(sources: str, decision: Decision) -> None:
    names = [name for name in sources.split(", ") if name]
    ids = [NodeId(f"s{place}") for place in range(len(names))]
    nodes = [
        *(Node(node_id, "x", "") for node_id in ids),
        Node(NodeId("node"), "x", ""),
        Node(NodeId("behind"), "x", ""),
    ]
    edges = [*(Edge(node_id, NodeId("node"), "output.ok") for node_id in ids), Edge(NodeId("node"), NodeId("behind"))]
    definition = Definition(nodes, edges, {})
    states = {node_id: _STATES[name] for node_id, name in zip(ids, names, strict=True)}
    assert flow.decide(definition, "node", states) == decision
    behind = {Action.RUN: flow.NOT_YET, Action.SKIP: Decision(Action.SKIP, decision.reason)}
    assert flow.decide(definition, "behind", states) == behind.get(decision.action, decision)


def test_conditions_of_a_node_are_evaluated_once_each() -> None:
    names = [NodeId(name) for name in "abcd"]
    edges = [
        Edge(names[0], target, text)
        for target, text in zip(names[1:], ["output.x", "input.y", "output.x"], strict=True)
    ]
    definition = Definition([Node(name, "x", "") for name in names], edges, {})
    assert flow.conditions_of(definition, "a") == ["output.x", "input.y"]
    assert flow.conditions_of(definition, "b") == ()
    assert flow.taken_conditions(definition, "a", {"input": {"y": []}}, {"x": 0}) == [True, False]
    broken = replace(definition, edges=[replace(edges[0], condition="length(output.x)")])
    with pytest.raises(InvalidRequestError, match=r"edge a -> b failed: 'length\(output.x\)' cannot be evaluated"):
        flow.taken_conditions(broken, "a", {}, {"x": 0})


def test_output_is_that_of_output_blocks_or_of_the_last_nodes() -> None:
    names = [NodeId(name) for name in "abc"]
    last = Definition([Node(name, "x", "") for name in names], [Edge(names[0], names[1])], {})
    states = {name: NodeState(StepStatus.COMPLETED) for name in names}
    outputs: dict[NodeId, Any] = {names[0]: 1, names[1]: 2, names[2]: None}
    assert flow.final(last, states, outputs) == (ExecutionStatus.COMPLETED, {"b": 2, "c": None})
    named = replace(
        last, nodes=[last.nodes[0], replace(last.nodes[1], type="output"), replace(last.nodes[2], type="output")]
    )
    given = {names[0]: 1, names[1]: {"x": 1, "y": 2}, names[2]: {"y": 3}}
    assert flow.final(named, states, given) == (ExecutionStatus.COMPLETED, {"x": 1, "y": 3})
    assert flow.final(named, states | {names[0]: NodeState(StepStatus.WAITING)}, given) == (
        ExecutionStatus.WAITING,
        None,
    )
    assert flow.final(named, states | {names[0]: NodeState(StepStatus.FAILED)}, given) == (ExecutionStatus.FAILED, None)


def _steps(document: dict[str, Any]) -> list[Step]:
    """The steps of an execution of the document as the reference leaves them."""
    played = play(document, acts_of(document))
    none = UUID(int=0)
    return [
        Step(
            *(StepId(none), ExecutionId(none), NodeId(node["id"]), node["type"], ""),
            status=StepStatus(played.status[node["id"]]),
            skip_reason=SkipReason(played.reason[node["id"]]) if node["id"] in played.reason else None,
        )
        for node in document["nodes"]
    ]


def _behind(definition: Definition, node_ids: set[NodeId]) -> set[NodeId]:
    """The nodes and all that a way leads to from them."""
    found = set(node_ids)
    for node in definition.nodes:
        if any(edge.source in found for edge in definition.into(node.id)):
            found.add(node.id)
    return found


@settings(max_examples=60, deadline=None)
@given(documents(most_nodes=15), st.integers(0, 2**32 - 1))
def test_what_is_at_or_behind_a_node_to_run_again_is_not_reused(document: dict[str, Any], seed: int) -> None:
    definition, steps = parsed(document), _steps(document)
    failed_again = flow.reusable(definition, steps, definition, "failed")
    settled = {
        step.node_id
        for step in steps
        if step.status is StepStatus.COMPLETED
        or (step.status, step.skip_reason) == (StepStatus.SKIPPED, SkipReason.CONDITION)
    }
    completed = {step.node_id for step in steps if step.status is StepStatus.COMPLETED}
    assert failed_again == completed - _behind(definition, {node.id for node in definition.nodes} - settled)
    assert flow.reusable(definition, steps, definition, "start") == set()
    random = Random(seed)
    chosen = {node.id for node in definition.nodes if random.random() < 0.2}
    assert flow.reusable(definition, steps, definition, chosen) == failed_again - _behind(definition, chosen)


@settings(max_examples=80, deadline=None)
@given(documents(most_nodes=12), st.integers(0, 2**32 - 1))
def test_what_has_changed_is_not_reused_nor_anything_behind_it(document: dict[str, Any], seed: int) -> None:
    old, steps, random = parsed(document), _steps(document), Random(seed)
    reused = flow.reusable(old, steps, old, "failed")
    node = random.choice(old.nodes)
    into = old.into(node.id)
    changed = {
        "config": lambda: replace(old, nodes=[replace(n, config={"new": 1}) if n is node else n for n in old.nodes]),
        "type": lambda: replace(old, nodes=[replace(n, type="new") if n is node else n for n in old.nodes]),
        "id": lambda: _renamed(old, node.id),
        "condition": lambda: replace(old, edges=[replace(e, condition="`1`") if e in into else e for e in old.edges]),
        "edges": lambda: replace(old, edges=[e for e in old.edges if e not in into[:1]]),
        "one more": lambda: replace(
            old, nodes=[Node(NodeId("new"), "x", ""), *old.nodes], edges=[*old.edges, Edge(NodeId("new"), node.id)]
        ),
    }
    kind = random.choice(sorted(changed))
    new = changed[kind]()
    still = flow.reusable(old, steps, new, "failed")
    expected = reused if not into and kind in ("condition", "edges") else reused - _behind(old, {node.id})
    assert still == expected
    harmless = [replace(n, name="new", timeout_s=1.0, retry=replace(n.retry, max_retries=9)) for n in old.nodes]
    assert flow.reusable(old, steps, replace(old, nodes=harmless, timeout_s=5.0), "failed") == reused


def _renamed(old: Definition, node_id: NodeId) -> Definition:
    new = NodeId("renamed")
    nodes = [replace(node, id=new) if node.id == node_id else node for node in old.nodes]
    ends = {node.id: node.id for node in old.nodes} | {node_id: new}
    return replace(
        old, nodes=nodes, edges=[replace(e, source=ends[e.source], target=ends[e.target]) for e in old.edges]
    )


def test_what_refers_to_a_changed_variable_or_model_is_not_reused() -> None:
    nodes = [
        {"id": "a", "type": "scripted", "config": {"acts": [{"do": "complete"}], "see": "${variables.limit}"}},
        {"id": "b", "type": "scripted", "config": {"acts": [{"do": "complete"}]}},
        {"id": "c", "type": "scripted", "config": {"acts": [{"do": "complete"}]}},
    ]
    edges = [{"source": "b", "target": "c", "condition": "variables.limit > `1`"}]
    document = {"nodes": nodes, "edges": edges, "variables": {"limit": 5}}
    old, steps = parsed(document), _steps(document)
    assert flow.reusable(old, steps, old, "failed") == {"a", "b", "c"}
    assert flow.reusable(old, steps, parsed(document | {"variables": {"limit": 6}}), "failed") == {"b"}
    assert flow.reusable(old, steps, parsed(document | {"model_id": "other"}), "failed") == set()
