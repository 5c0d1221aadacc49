"""What an execution would do: its nodes by level, whom they would call, and what it may take - before anything is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Definition, Json, Node, NodeId
from workstation_pipelines.workflows.graph import edges_into
from workstation_pipelines.workflows.references import evaluate, pieces, strings_in

MODEL_TYPE = "llm"
CHARACTERS_A_TOKEN = 4
"""Of English text; other languages take more tokens."""


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """One node of the outline. `calls` is whom outside it calls, empty if nobody. A conditional one may be skipped though
    nothing fails. `median_s` is of earlier executions, None where there was none.

    `prompt_tokens` estimate what is sent to a language model, without what earlier nodes will give; None for others.
    """

    id: NodeId
    type: str
    name: str
    calls: str
    is_conditional: bool
    most_attempts: int
    timeout_s: float
    median_s: float | None
    prompt_tokens: int | None


@dataclass(frozen=True, slots=True)
class Outline:
    """`levels` are in the order of running: what stands in one waits for nothing but earlier levels, and may run in parallel.

    `estimate_s` is the longest way through the graph by the medians, no less than all of them shared among `max_parallel`;
    None when a node on it was never run. `unknown` are those nodes. Waits for people or times are in the medians as they were.
    """

    levels: Sequence[Sequence[PlannedNode]]
    calls: Mapping[str, int]
    """How many nodes call whom outside."""
    model_calls: int
    prompt_tokens: int
    estimate_s: float | None
    unknown: Sequence[NodeId]


def outline(
    definition: Definition,
    *,
    calls: Mapping[str, str],
    medians_s: Mapping[str, float],
    input: Mapping[str, Json] | None = None,
) -> Outline:
    """Return the outline; `calls` say by block type whom it calls, `medians_s` by node id how long it took before."""
    levels, conditional = _levels(definition), _conditional(definition)
    planned = {
        node.id: PlannedNode(
            id=node.id,
            type=node.type,
            name=node.name,
            calls=next((calls[kind] for kind in _types(node) if calls.get(kind)), ""),
            is_conditional=node.id in conditional,
            most_attempts=node.retry.max_retries + 1,
            timeout_s=node.timeout_s,
            median_s=medians_s.get(node.id),
            prompt_tokens=_prompt_tokens(definition, node, input or {}) if MODEL_TYPE in _types(node) else None,
        )
        for node in definition.nodes
    }
    called: dict[str, int] = {}
    for node in planned.values():
        for whom in [node.calls] if node.calls else []:
            called[whom] = called.get(whom, 0) + 1
    models = [node for node in planned.values() if node.prompt_tokens is not None]
    unknown = [node.id for node in planned.values() if node.median_s is None]
    return Outline(
        levels=[[planned[node_id] for node_id in level] for level in levels],
        calls=called,
        model_calls=len(models),
        prompt_tokens=sum(node.prompt_tokens or 0 for node in models),
        estimate_s=None if unknown else _estimate_s(definition, medians_s),
        unknown=unknown,
    )


def _levels(definition: Definition) -> list[list[NodeId]]:
    """A node stands one level below the lowest of those before it; `nodes` are in a topological order."""
    into = edges_into(definition.edges)
    level: dict[str, int] = {}
    for node in definition.nodes:
        level[node.id] = max((level[edge.source] + 1 for edge in into.get(node.id, ())), default=0)
    found: list[list[NodeId]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for node in definition.nodes:
        found[level[node.id]].append(node.id)
    return found


def _types(node: Node) -> list[str]:
    """Return the type of a node, and that of a block which it runs itself."""
    inner = [value["type"] for value in node.config.values() if isinstance(value, Mapping) and "config" in value]
    return [node.type, *(kind for kind in inner if isinstance(kind, str))]


def _conditional(definition: Definition) -> set[NodeId]:
    """Return the nodes that may be skipped though nothing fails."""
    into = edges_into(definition.edges)
    found: set[NodeId] = set()
    for node in definition.nodes:
        edges = into.get(node.id, ())
        if edges and all(edge.condition is not None or edge.source in found for edge in edges):
            found.add(node.id)
    return found


def _prompt_tokens(definition: Definition, node: Node, input: Mapping[str, Json]) -> int:
    """Estimate what is sent: the texts of the config, with the inputs and variables that they refer to."""
    scope: dict[str, Any] = {"input": input, "variables": definition.variables, "nodes": {}, "execution": {}}
    characters = 0
    for _, text in strings_in(dict(node.config)):
        for piece in pieces(text):
            if isinstance(piece, str):
                characters += len(piece)
            elif piece.secret is None and piece.expression.startswith(("input.", "variables.")):
                with suppress(InvalidRequestError):  # the run will tell
                    characters += len(str(evaluate(piece.expression, scope)))
    return -(-characters // CHARACTERS_A_TOKEN)


def _estimate_s(definition: Definition, medians_s: Mapping[str, float]) -> float:
    into = edges_into(definition.edges)
    ends_s: dict[str, float] = {}
    for node in definition.nodes:
        begins_s = max((ends_s[edge.source] for edge in into.get(node.id, ())), default=0.0)
        ends_s[node.id] = begins_s + medians_s[node.id]
    work_s = sum(medians_s[node.id] for node in definition.nodes)
    return max(max(ends_s.values(), default=0.0), work_s / definition.max_parallel)
