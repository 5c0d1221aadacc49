"""What is to become of each node of an execution, decided from the states of the nodes before it.

A node runs when all before it are over and some edge to it is taken; it is skipped where no edge is taken, or one before it
failed; it is held, and stays pending, while one before it waits for something outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, assert_never

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import (
    Definition,
    Edge,
    ExecutionStatus,
    Json,
    NodeId,
    SkipReason,
    StepStatus,
)
from workstation_pipelines.workflows.expressions import evaluate, is_true
from workstation_pipelines.workflows.graph import edges_into
from workstation_pipelines.workflows.reuse import reusable

__all__ = [
    "HOLD",
    "NOT_YET",
    "OUTPUT_TYPE",
    "PENDING",
    "RUN",
    "Action",
    "Decision",
    "NodeState",
    "conditions_of",
    "decide",
    "decisions",
    "final",
    "givers",
    "output_of",
    "reusable",
    "scope_of",
    "taken_conditions",
]

OUTPUT_TYPE = "output"
"""The block type whose output is that of the execution."""


class Action(StrEnum):
    """`not_yet`: a node before it runs still, or is to run."""

    RUN = "run"
    SKIP = "skip"
    HOLD = "hold"
    NOT_YET = "not_yet"


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is why it is skipped. `sources` are the nodes whose outputs are its inputs, in the order of the edges."""

    action: Action
    reason: SkipReason | None = None
    sources: Sequence[NodeId] = ()


@dataclass(frozen=True, slots=True)
class NodeState:
    """How a node stands. `conditions` of a completed one are those of taken_conditions(), in that order."""

    status: StepStatus
    skip_reason: SkipReason | None = None
    conditions: Sequence[bool] = ()


RUN = Decision(Action.RUN)
HOLD = Decision(Action.HOLD)
NOT_YET = Decision(Action.NOT_YET)
PENDING = NodeState(StepStatus.PENDING)


def decide(definition: Definition, node_id: str, states: Mapping[NodeId, NodeState]) -> Decision:
    """Return what is to become of a node that has not begun; what has no state is pending."""
    others = {known: state for known, state in states.items() if known != node_id}
    return decisions(definition, others)[NodeId(node_id)]


def decisions(definition: Definition, states: Mapping[NodeId, NodeState]) -> dict[NodeId, Decision]:
    """Return what is to become of every pending node: one that is held or skipped is so for those behind it, too."""
    into = edges_into(definition.edges)
    conditions = _all_conditions(definition)
    found: dict[NodeId, Decision] = {}
    for node in definition.nodes:
        if states.get(node.id, PENDING).status is StepStatus.PENDING:
            found[node.id] = _decided(into.get(node.id, ()), conditions, states, found)
    return found


def conditions_of(definition: Definition, node_id: str) -> Sequence[str]:
    """Return the distinct conditions of the edges that leave a node, in the order of their first use."""
    return _all_conditions(definition).get(NodeId(node_id), ())


def taken_conditions(definition: Definition, node_id: str, scope: Mapping[str, Any], output: Json) -> list[bool]:
    """Return which conditions_of() a node its output makes true; `scope` is that of the node.

    Raises InvalidRequestError naming the edge when one cannot be evaluated.
    """
    nodes = {**scope.get("nodes", {}), node_id: {"output": output}}
    seen = {**scope, "nodes": nodes, "output": output}
    taken: list[bool] = []
    for condition in conditions_of(definition, node_id):
        try:
            taken.append(is_true(evaluate(condition, seen)))
        except InvalidRequestError as error:
            edge = next(edge for edge in definition.out_of(node_id) if edge.condition == condition)
            raise InvalidRequestError(
                f"the condition of the edge {edge.source} -> {edge.target} failed: {error.message}"
            ) from None
    return taken


def scope_of(
    definition: Definition,
    node_id: str,
    *,
    input: Mapping[str, Json],
    outputs: Mapping[NodeId, Json],
    execution: Mapping[str, Json],
) -> dict[str, Any]:
    """Return what expressions of a node may ask for: of the nodes those before it alone, null where one has no output.

    `execution` is {"id", "workflow", "number"}.
    """
    before = _before(definition, node_id)
    return {
        "input": input,
        "variables": definition.variables,
        "nodes": {node.id: {"output": outputs.get(node.id)} for node in definition.nodes if node.id in before},
        "execution": execution,
    }


def final(
    definition: Definition, states: Mapping[NodeId, NodeState], outputs: Mapping[NodeId, Json]
) -> tuple[ExecutionStatus, Json]:
    """Return how an execution stands whose run is over and that nobody cancelled, and its output once it is completed.

    A failed step fails it; otherwise what waits, or is pending behind what waits, keeps it waiting.
    """
    found = {states.get(node.id, PENDING).status for node in definition.nodes}
    if StepStatus.FAILED in found:
        return ExecutionStatus.FAILED, None
    if StepStatus.CANCELLED in found:
        return ExecutionStatus.CANCELLED, None
    if found - {StepStatus.COMPLETED, StepStatus.SKIPPED}:
        return ExecutionStatus.WAITING, None
    return ExecutionStatus.COMPLETED, output_of(definition, outputs)


def output_of(definition: Definition, outputs: Mapping[NodeId, Json]) -> Json:
    """Return what the `output` blocks gave, {name: value} of all of them, else {id: output} of the last nodes.

    `outputs` are those of completed nodes. Of two output blocks that give the same name the later one counts.
    """
    given = {node_id: outputs[node_id] for node_id in givers(definition) if node_id in outputs}
    if any(node.type == OUTPUT_TYPE for node in definition.nodes):
        values = given.values()
        return {name: value for output in values if isinstance(output, Mapping) for name, value in output.items()}
    return {**given}


def givers(definition: Definition) -> list[NodeId]:
    """Return the nodes whose outputs output_of() looks at."""
    inner = {edge.source for edge in definition.edges}
    named = [node.id for node in definition.nodes if node.type == OUTPUT_TYPE]
    return named or [node.id for node in definition.nodes if node.id not in inner]


@dataclass(frozen=True, slots=True)
class _Sources:
    """How the sources of a node stand, by what their edges say."""

    open: list[NodeId] = field(default_factory=list)
    held: list[NodeId] = field(default_factory=list)
    taken: list[NodeId] = field(default_factory=list)
    failed: list[NodeId] = field(default_factory=list)


def _decided(
    edges: Sequence[Edge],
    conditions: Mapping[NodeId, Sequence[str]],
    states: Mapping[NodeId, NodeState],
    decided: Mapping[NodeId, Decision],
) -> Decision:
    sources = _Sources()
    for edge in edges:
        _sort_in(edge, conditions, states.get(edge.source, PENDING), decided.get(edge.source), sources)
    if sources.open:
        return NOT_YET
    if sources.held:
        return HOLD
    if sources.failed:
        return Decision(Action.SKIP, SkipReason.UPSTREAM_FAILED)
    if edges and not sources.taken:
        return Decision(Action.SKIP, SkipReason.CONDITION)
    return Decision(Action.RUN, sources=tuple(sources.taken))


def _sort_in(
    edge: Edge,
    conditions: Mapping[NodeId, Sequence[str]],
    state: NodeState,
    decision: Decision | None,
    sources: _Sources,
) -> None:
    status, reason = state.status, state.skip_reason
    if status is StepStatus.PENDING and decision is not None:
        if decision.action is Action.HOLD:
            status = StepStatus.WAITING
        elif decision.action is Action.SKIP:
            status, reason = StepStatus.SKIPPED, decision.reason
    match status:
        case StepStatus.PENDING | StepStatus.RUNNING | StepStatus.RETRYING:
            sources.open.append(edge.source)
        case StepStatus.WAITING:
            sources.held.append(edge.source)
        case StepStatus.FAILED | StepStatus.CANCELLED:
            sources.failed.append(edge.source)
        case StepStatus.SKIPPED:
            if reason is not SkipReason.CONDITION:
                sources.failed.append(edge.source)
        case StepStatus.COMPLETED:
            if edge.condition is None or state.conditions[conditions[edge.source].index(edge.condition)]:
                sources.taken.append(edge.source)
        case _:
            assert_never(status)


def _all_conditions(definition: Definition) -> dict[NodeId, list[str]]:
    found: dict[NodeId, list[str]] = {}
    for edge in definition.edges:
        if edge.condition is not None and edge.condition not in found.setdefault(edge.source, []):
            found[edge.source].append(edge.condition)
    return found


def _before(definition: Definition, node_id: str) -> set[NodeId]:
    """Return all nodes from which a way leads to this one; `nodes` are in a topological order."""
    into = edges_into(definition.edges)
    wanted = {edge.source for edge in into.get(node_id, ())}
    for node in reversed(definition.nodes):
        if node.id in wanted:
            wanted.update(edge.source for edge in into.get(node.id, ()))
    return wanted
