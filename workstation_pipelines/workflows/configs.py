"""Checks the configs and conditions of a workflow: their fields against their block, their references against the graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Definition, Edge, Node
from workstation_pipelines.workflows import references
from workstation_pipelines.workflows.expressions import Mention, Written, compiled
from workstation_pipelines.workflows.graph import Graph
from workstation_pipelines.workflows.problems import Problem, nearest, pointer, quoted

MOST_REFERENCES = 5000
"""In one workflow: each is read when it is saved."""
MOST_LISTED = 1000

_ROOTS = frozenset({"input", "variables", "nodes", "execution"})
_OF_EXECUTION = frozenset({"id", "workflow", "number"})
_OF_ITEM = frozenset({"item", "index"})


@dataclass(frozen=True, slots=True)
class Places:
    """Where nodes and edges stand in the document, by their ids."""

    nodes: dict[str, int]
    edges: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class _Known:
    """What an expression may ask for at its place."""

    roots: frozenset[str]
    upstream: frozenset[str]
    nodes: frozenset[str]
    inputs: frozenset[str]
    variables: frozenset[str]


def problems_of(
    definition: Definition,
    graph: Graph,
    places: Places,
    *,
    blocks: Mapping[str, type[BaseModel]],
    lazy_fields: Mapping[str, frozenset[str]],
) -> Iterator[Problem]:
    """Yield what is wrong in configs and conditions."""
    known = _Known(
        roots=_ROOTS,
        upstream=frozenset(),
        nodes=frozenset(places.nodes),
        inputs=frozenset(field.name for field in definition.inputs),
        variables=frozenset(definition.variables),
    )
    left = MOST_REFERENCES
    for node in definition.nodes:
        path = pointer("nodes", places.nodes[node.id])
        left -= sum(text.count("${") for _, text in references.strings_in(dict(node.config)))
        if left < 0:
            yield Problem(
                "/nodes", f"the workflow holds more than {MOST_REFERENCES:,} references: gather them in variables"
            )
            return
        here = replace(known, upstream=graph.before.get(node.id, known.nodes))
        lazy = lazy_fields.get(node.type, frozenset())
        yield from _of_block(node.type, node.config, blocks, here, path=path, holder=node.id)
        yield from _of_lazy(node, blocks, here, lazy, path)
        yield from _of_references(node, here, lazy, path)
    for edge in definition.edges:
        if edge.condition is not None:
            path = pointer("edges", places.edges[edge.source, edge.target], "condition")
            upstream = graph.before.get(edge.source, known.nodes) | {edge.source}
            yield from _of_condition(edge, replace(known, roots=_ROOTS | {"output"}, upstream=upstream), path)


def _of_block(
    kind: str,
    config: Mapping[str, Any],
    blocks: Mapping[str, type[BaseModel]],
    known: _Known,
    *,
    path: str,
    holder: str,
) -> Iterator[Problem]:
    """Yield what the model of the block says, but for values that are not known before their references are resolved."""
    of = f"node {holder!r}: "
    if not kind:
        return
    if kind not in blocks:
        yield Problem(f"{path}/type", f"{of}there is no block type {quoted(kind)}{nearest(kind, blocks)}")
        return
    expressions: list[Written] = []
    try:
        blocks[kind].model_validate(dict(config), context=expressions)
    except ValidationError as error:
        if error.error_count() > MOST_LISTED:
            yield Problem(f"{path}/config", f"{of}{error.error_count():,} of its values are of the wrong type")
            return
        told = error.errors(include_url=False, include_context=False, include_input=False)
        for each in told:
            problem = _of_field(each, config, blocks[kind])
            if problem is not None:
                yield Problem(f"{path}/config{problem.path}", of + problem.message)
    except InvalidRequestError as error:
        if not references.has_references(dict(config)):
            yield Problem(f"{path}/config", of + error.message[:300])
    if expressions:
        places: dict[str, str] = {}
        for where, text in references.strings_in(dict(config)):
            places.setdefault(text, where)
        for written in dict.fromkeys(expressions):
            if "${" not in written.text:
                here = replace(known, roots=known.roots | _OF_ITEM) if written.of_item else known
                for wrong in _of_mentions(written.text, here, holder=holder):
                    yield Problem(f"{path}/config{places.get(written.text, '')}", of + wrong)


def _of_field(error: Mapping[str, Any], config: Mapping[str, Any], model: type[BaseModel]) -> Problem | None:
    where, value, rest = _found(config, error["loc"])
    name = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        fields = [field.alias or known for known, field in model.model_fields.items()] if len(error["loc"]) == 1 else []
        return Problem(where, f"unknown field {quoted(name)}{nearest(name, fields)}")
    if error["type"] == "missing":
        return Problem(where + pointer(*rest[-1:]), f"{name!r} is missing")
    if references.has_references(value):
        return None
    return Problem(where, error["msg"].removeprefix("Value error, ")[:300])


def _found(config: Any, places: Iterable[str | int]) -> tuple[str, Any, list[str | int]]:
    """Follow a place that pydantic tells as far as it leads; it names variants of a union between names, too."""
    where, value = "", config
    rest: list[str | int] = []
    for place in places:
        if isinstance(value, Mapping) and place in value:
            where, value, rest = where + pointer(place), value[str(place)], []
        elif isinstance(value, list) and isinstance(place, int) and place < len(value):
            where, value, rest = where + pointer(place), value[place], []
        else:
            rest.append(place)
    return where, value, rest


def _of_lazy(
    node: Node, blocks: Mapping[str, type[BaseModel]], known: _Known, lazy: frozenset[str], path: str
) -> Iterator[Problem]:
    """Yield what is wrong with a block within a block: {"type", "config"} in a field that is resolved later."""
    for name in sorted(lazy):
        inner = node.config.get(name)
        if isinstance(inner, Mapping) and isinstance(inner.get("type"), str) and inner["type"] in blocks:
            config = inner.get("config", {})
            if isinstance(config, Mapping):
                at = f"{path}/config{pointer(name)}"
                here = replace(known, roots=known.roots | _OF_ITEM)
                yield from _of_block(inner["type"], config, blocks, here, path=at, holder=node.id)


def _of_references(node: Node, known: _Known, lazy: frozenset[str], path: str) -> Iterator[Problem]:
    for name, value in node.config.items():
        here = replace(known, roots=known.roots | _OF_ITEM) if name in lazy else known
        for where, text in references.strings_in(value, pointer(name)):
            if "${" not in text:
                continue
            told = f"{path}/config{where}"
            try:
                for piece in references.pieces(text):
                    if isinstance(piece, references.Reference) and piece.secret is None:
                        for problem in _of_expression(piece.expression, here, holder=node.id):
                            yield Problem(told, f"node {node.id!r}: {problem}")
            except InvalidRequestError as error:
                yield Problem(told, f"node {node.id!r}: {error.message}")


def _of_condition(edge: Edge, known: _Known, path: str) -> Iterator[Problem]:
    told = f"edge {edge.source} -> {edge.target}: "
    for problem in _of_expression(edge.condition or "", known, holder=edge.source):
        yield Problem(path, told + problem)


def _of_expression(expression: str, known: _Known, *, holder: str) -> Iterator[str]:
    try:
        compiled(expression)
    except InvalidRequestError as error:
        yield error.message
        return
    yield from _of_mentions(expression, known, holder=holder)


def _of_mentions(expression: str, known: _Known, *, holder: str) -> Iterator[str]:
    """Yield what a well-formed expression asks for and cannot have; nothing for one that is malformed."""
    try:
        mentions = compiled(expression).mentions
    except InvalidRequestError:
        return
    for mention in sorted(mentions, key=lambda each: (each.root, each.name or "", each.part or "")):
        told = _wrong(mention, known, holder)
        if told:
            yield told


def _wrong(mention: Mention, known: _Known, holder: str) -> str:
    root, name = mention.root, mention.name
    if root == "secrets":
        return "a secret stands alone in its reference: write exactly ${secrets.NAME}"
    if root not in known.roots:
        return f"an expression does not begin with {quoted(root)}{nearest(root, known.roots)}"
    if name is None:
        return ""
    if root == "input" and name not in known.inputs:
        return f"there is no input {quoted(name)}{nearest(name, known.inputs) or ': declare it under inputs'}"
    if root == "variables" and name not in known.variables:
        return f"there is no variable {quoted(name)}{nearest(name, known.variables) or ': declare it under variables'}"
    if root == "execution" and name not in _OF_EXECUTION:
        return f"an execution has no {quoted(name)}{nearest(name, _OF_EXECUTION)}"
    if root == "nodes" and name not in known.nodes:
        return f"there is no node {quoted(name)}{nearest(name, known.upstream)}"
    if root == "nodes" and name not in known.upstream:
        return f"node {name!r} does not come before {holder!r}: lead an edge from it, directly or through others"
    if root == "nodes" and mention.part not in (None, "output"):
        return f"of a node there is its output alone: write nodes.{name}.output"
    return ""
