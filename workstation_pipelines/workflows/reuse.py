"""Which steps of an execution need not run again when it is retried."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from workstation_pipelines.workflow_model import Definition, Json, NodeId, SkipReason, Step, StepStatus
from workstation_pipelines.workflows.graph import edges_into
from workstation_pipelines.workflows.references import strings_in

From = Literal["start", "failed"] | Collection[str]
"""Where a retry begins: with everything, with what did not complete, or with these nodes."""


def reusable(old: Definition, old_steps: Sequence[Step], new: Definition, from_nodes: From) -> set[NodeId]:
    """Return the nodes of `new` whose output in an execution of `old` still holds.

    Such a step completed, nothing that it is made from has changed - type, config, incoming edges with their conditions, the
    variables, inputs and model that these refer to -, and the same is true of everything before it. What an unmet condition
    skipped is not reused, but stands in nobody's way: it is skipped again.
    """
    if from_nodes == "start":
        return set()
    again = frozenset() if from_nodes == "failed" else frozenset(from_nodes)
    steps = {step.node_id: step for step in old_steps}
    before = {node.id: _made_from(old, node.id) for node in old.nodes}
    into = edges_into(new.edges)
    reused: set[NodeId] = set()
    settled: set[NodeId] = set()
    for node in new.nodes:
        step = steps.get(node.id)
        if step is None or node.id in again or any(edge.source not in settled for edge in into.get(node.id, ())):
            continue
        if before.get(node.id) != _made_from(new, node.id):
            continue
        if step.status is StepStatus.COMPLETED:
            reused.add(node.id)
            settled.add(node.id)
        elif step.status is StepStatus.SKIPPED and step.skip_reason is SkipReason.CONDITION:
            settled.add(node.id)
    return reused


def _made_from(definition: Definition, node_id: NodeId) -> Sequence[Json]:
    """Return all of the definition that the output of a node depends on, but for the nodes before it."""
    node = definition.node(node_id)
    edges = [(edge.source, edge.condition) for edge in definition.into(node_id)]
    texts = [condition or "" for _, condition in edges] + [text for _, text in strings_in(dict(node.config))]
    asked = " ".join(texts)
    # Some fields are expressions without ${}: what may ask for all of the scope counts as asking for the variables.
    is_wide = "*" in asked or "@" in asked
    variables = dict(definition.variables) if is_wide or "variables" in asked else None
    inputs = list(definition.inputs) if is_wide or "input" in asked else None
    return [node.type, dict(node.config), edges, definition.model_id, variables, inputs]
