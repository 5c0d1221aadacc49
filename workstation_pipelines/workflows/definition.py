"""Reads the JSON of a workflow into a Definition, or tells everything that is wrong with it, each with its place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Definition, Edge, InputField, Isolation, Node, NodeId, RetryPolicy
from workstation_pipelines.workflows import configs, storable
from workstation_pipelines.workflows.expressions import compiled
from workstation_pipelines.workflows.fields import Fields
from workstation_pipelines.workflows.graph import Graph, cycle_problems, graph_of
from workstation_pipelines.workflows.inputs import TYPES, is_of_type
from workstation_pipelines.workflows.linear import MOST_NODES, as_graph, place_in_steps
from workstation_pipelines.workflows.problems import InvalidDefinitionError, Problem, nearest, pointer, quoted
from workstation_pipelines.workflows.schema import MOST_PARALLEL, MOST_RETRIES, MOST_TIMEOUT_S, json_schema

__all__ = ["MOST_NODES", "InvalidDefinitionError", "Problem", "as_graph", "digest", "json_schema", "parse"]

NODE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
FIELDS = (
    *("nodes", "edges", "inputs", "variables", "mode", "model_id", "timeout_s", "max_parallel", "isolation"),
    *("description", "$schema"),
)
NODE_FIELDS = ("id", "type", "name", "config", "retry", "timeout_s", "description")
EDGE_FIELDS = ("source", "target", "condition")
INPUT_FIELDS = ("type", "required", "default", "description")
RETRY_FIELDS = ("max_retries", "delay_s", "max_delay_s")


def parse(
    document: Mapping[str, Any],
    *,
    blocks: Mapping[str, type[BaseModel]],
    default_timeouts: Mapping[str, float] | None = None,
    lazy_fields: Mapping[str, frozenset[str]] | None = None,
) -> Definition:
    """Return the workflow of a document in graph or linear form; `source` of it is the graph form.

    `blocks` are the config models by block type, `default_timeouts` their time limits in seconds, `lazy_fields` the fields
    of their config that the block resolves itself. Raises InvalidDefinitionError with every error at once, whatever
    JSON it is given, and nothing else.
    """
    unstorable = list(storable.problems_of(document))
    if unstorable:
        raise InvalidDefinitionError(unstorable)
    if not isinstance(document, Mapping):
        raise InvalidDefinitionError(
            [Problem("", f"a workflow is an object with nodes and edges, not {quoted(document)}")]
        )
    source = as_graph(document, types=blocks)
    reading = _Reading(source, dict(default_timeouts or {}))
    found = reading.definition()
    reading.problems.extend(
        configs.problems_of(found, reading.graph, reading.places, blocks=blocks, lazy_fields=lazy_fields or {})
    )
    if reading.problems:
        if source is not document:
            reading.problems = [
                Problem(place_in_steps(each.path, document, source), each.message) for each in reading.problems
            ]
        raise InvalidDefinitionError(_in_order(reading.problems))
    return found


def digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document, the same for equal ones in whatever order their names stand."""
    written = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()


class _Reading:
    """Reads what can be read, and notes what cannot; `places` are where the nodes and edges that were read stand."""

    def __init__(self, source: Mapping[str, Any], default_timeouts: Mapping[str, float]) -> None:
        self.source = source
        self.default_timeouts = default_timeouts
        self.problems: list[Problem] = []
        self.places = configs.Places({}, {})
        self.graph = Graph([], {}, [])

    def definition(self) -> Definition:
        top = Fields(self.source, "", self.problems)
        top.refuse_unknown(FIELDS)
        nodes = self._nodes(top)
        edges = self._edges(top, {node.id for node in nodes})
        pairs = [(edge.source, edge.target) for edge in edges]
        self.graph = graph_of([node.id for node in nodes], pairs)
        self._tell_cycles(nodes, edges)
        by_id = {node.id: node for node in nodes}
        in_order = [by_id[NodeId(node_id)] for node_id in self.graph.order]
        rest = [node for node in nodes if node.id not in self.graph.before]
        return Definition(
            nodes=(*in_order, *rest),
            edges=tuple(edges),
            source=self.source,
            inputs=self._inputs(top),
            variables=top.object("variables"),
            mode=top.text("mode", default="standard", most=100),
            model_id=top.text("model_id", default="", most=200) or None,
            timeout_s=top.seconds("timeout_s", default=3600.0, least=1, most=MOST_TIMEOUT_S),
            max_parallel=top.whole("max_parallel", default=4, least=1, most=MOST_PARALLEL),
            isolation=Isolation(top.one_of("isolation", [kind.value for kind in Isolation], default="threads")),
        )

    def _nodes(self, top: Fields) -> list[Node]:
        written = top.list("nodes")
        if not written and not self.problems:
            self.problems.append(Problem("/nodes", "a workflow has at least one node"))
        if len(written) > MOST_NODES:
            self.problems.append(Problem("/nodes", f"a workflow has at most {MOST_NODES} nodes, not {len(written):,}"))
            return []
        nodes: list[Node] = []
        for place, value in enumerate(written):
            node = self._node(value, place)
            if node is None:
                continue
            if node.id in self.places.nodes:
                first = self.places.nodes[node.id]
                self.problems.append(
                    Problem(
                        pointer("nodes", place, "id"),
                        f"node {node.id!r} is there already, at /nodes/{first}: rename it",
                    )
                )
                continue
            self.places.nodes[node.id] = place
            nodes.append(node)
        return nodes

    def _node(self, value: object, place: int) -> Node | None:
        path = pointer("nodes", place)
        if not isinstance(value, Mapping):
            self.problems.append(Problem(path, f"a node is an object with id and type, not {quoted(value)}"))
            return None
        written_id = value.get("id")
        of = f"node {written_id!r}: " if isinstance(written_id, str) and NODE_ID.fullmatch(written_id) else ""
        fields = Fields(value, path, self.problems, of=of)
        fields.refuse_unknown(NODE_FIELDS)
        kind = fields.text("type", most=100)
        fields.text("description", default="", most=5000)
        limit_s = float(self.default_timeouts.get(kind, 300.0))
        node = Node(
            id=NodeId(str(written_id)),
            type=kind if isinstance(value.get("config"), Mapping | None) else "",  # nothing to hold against its block
            name=fields.text("name", default=str(written_id)[:60], most=200),
            config=fields.object("config"),
            retry=self._retry(fields),
            timeout_s=fields.seconds("timeout_s", default=limit_s, least=0.1, most=MOST_TIMEOUT_S),
        )
        if not of:
            wanted = "letters, digits and _, at most 60, no digit first"
            told = f"the id {quoted(written_id)} cannot be used" if "id" in value else "a node needs an id"
            self.problems.append(Problem(f"{path}/id", f"{told}: {wanted}"))
            return None
        return node

    def _retry(self, fields: Fields) -> RetryPolicy:
        retry = fields.inner("retry")
        retry.refuse_unknown(RETRY_FIELDS)
        return RetryPolicy(
            max_retries=retry.whole("max_retries", default=0, least=0, most=MOST_RETRIES),
            delay_s=retry.seconds("delay_s", default=1.0, least=0, most=MOST_TIMEOUT_S),
            max_delay_s=retry.seconds("max_delay_s", default=60.0, least=0, most=MOST_TIMEOUT_S),
        )

    def _edges(self, top: Fields, known: set[NodeId]) -> list[Edge]:
        edges: list[Edge] = []
        written = top.list("edges") if len(top.list("nodes")) <= MOST_NODES else []
        for place, value in enumerate(written):
            path = pointer("edges", place)
            if not isinstance(value, Mapping):
                self.problems.append(Problem(path, f"an edge is an object with source and target, not {quoted(value)}"))
                continue
            fields = Fields(value, path, self.problems)
            fields.refuse_unknown(EDGE_FIELDS)
            source, target = (self._end(fields, end, known) for end in ("source", "target"))
            condition = None if value.get("condition") is None else fields.text("condition", most=1_000_000)
            if source is None or target is None:
                self._check_alone(fields, condition)
                continue
            if (source, target) in self.places.edges:
                first = self.places.edges[source, target]
                self.problems.append(
                    Problem(
                        path, f"there is an edge from {source} to {target} already, at /edges/{first}: join the two"
                    )
                )
                continue
            self.places.edges[source, target] = place
            edges.append(Edge(source, target, condition))
        return edges

    def _check_alone(self, fields: Fields, condition: str | None) -> None:
        """Tell whether the condition of an edge that leads nowhere is one at all; what it asks for cannot be told."""
        try:
            compiled(condition or "`true`")
        except InvalidRequestError as error:
            fields.problem("condition", error.message)

    def _end(self, fields: Fields, end: str, known: set[NodeId]) -> NodeId | None:
        node_id = fields.text(end, most=1_000_000)
        if node_id in known:
            return NodeId(node_id)
        if node_id:
            fields.problem(end, f"there is no node {quoted(node_id)}{nearest(node_id, known)}")
        return None

    def _tell_cycles(self, nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
        ids, pairs = [node.id for node in nodes], [(edge.source, edge.target) for edge in edges]
        at = {
            **{
                pointer("nodes", place): pointer("nodes", self.places.nodes[node.id])
                for place, node in enumerate(nodes)
            },
            **{pointer("edges", place): pointer("edges", self.places.edges[pair]) for place, pair in enumerate(pairs)},
        }
        told = cycle_problems(self.graph, ids, pairs)
        self.problems.extend(Problem(at[problem.path], problem.message) for problem in told)

    def _inputs(self, top: Fields) -> Sequence[InputField]:
        found = []
        for name, value in top.object("inputs").items():
            path = pointer("inputs", name)
            if not NODE_ID.fullmatch(name):
                self.problems.append(Problem(path, f"the name {quoted(name)} cannot be used: letters, digits and _"))
            if not isinstance(value, Mapping):
                self.problems.append(
                    Problem(path, f'an input is an object such as {{"type": "string"}}, not {quoted(value)}')
                )
                continue
            fields = Fields(value, path, self.problems)
            fields.refuse_unknown(INPUT_FIELDS)
            kind = fields.one_of("type", TYPES, default="any")
            default = value.get("default")
            if default is not None and not is_of_type(default, kind):
                fields.problem("default", f"the default is no {kind}")
            found.append(
                InputField(
                    name, kind, fields.boolean("required"), default, fields.text("description", default="", most=5000)
                )
            )
        return tuple(found)


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Sort by place, numbers as numbers."""
    return sorted(dict.fromkeys(problems), key=lambda each: [_rank(part) for part in each.path.split("/")])


def _rank(part: str) -> tuple[int, str]:
    return (len(part), part) if part.isdecimal() else (0, part)
