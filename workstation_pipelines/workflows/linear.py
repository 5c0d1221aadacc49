"""The older linear form of a workflow, {"steps": [{"name", "description", "tool"}], "mode", "modelId"}, as a graph.

The steps become a chain of nodes whose ids are made from their names. A step whose `tool` is the name of a block type is that
block with the `config` of the step; any other tool is one of Composio's, called with `config` as its arguments; a step
without a tool asks the language model, with the description as prompt, followed by what the step before gave. At the end
stands an `output` node that gives {"result": what the last step gave}.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

from workstation_pipelines.workflows.problems import InvalidDefinitionError, Problem, nearest, pointer, quoted

STEP_FIELDS = ("name", "description", "tool", "config", "retry", "timeout_s")
MOST_NODES = 500
KEPT = ("$schema", "description", "inputs", "variables", "mode", "model_id", "timeout_s", "max_parallel", "isolation")


def as_graph(document: Mapping[str, Any], *, types: Collection[str]) -> Mapping[str, Any]:
    """Return the graph form of a document, itself if it is in that form already.

    Raises InvalidDefinitionError for steps that cannot be read; what they become is checked by definition.parse.
    """
    if "steps" not in document or "nodes" in document:
        return document
    problems = list(_problems(document))
    if problems:
        raise InvalidDefinitionError(problems)
    graph = {name: document[name] for name in KEPT if name in document}
    if "modelId" in document:
        graph["model_id"] = document["modelId"]
    ids = list(_ids([*(step["name"] for step in document["steps"]), "output"]))
    nodes: list[dict[str, Any]] = []
    previous = "${input}" if document.get("inputs") else ""
    for node_id, step in zip(ids, document["steps"], strict=False):
        nodes.append(_node(node_id, step, previous, types))
        previous = f"${{nodes.{node_id}.output{'.text' if nodes[-1]['type'] == 'llm' else ''}}}"
    nodes.append({"id": ids[-1], "type": "output", "name": "Output", "config": {"values": {"result": previous}}})
    edges = [{"source": source, "target": target} for source, target in pairwise(ids)]
    return {**graph, "nodes": nodes, "edges": edges}


def place_in_steps(path: str, document: Mapping[str, Any], graph: Mapping[str, Any]) -> str:
    """Return where in the linear form stands what `path` leads to in the graph that was made of it."""
    found = re.match(r"/nodes/(\d+)(.*)", path)
    if found is None or int(found[1]) >= len(document["steps"]):
        return path
    step, node, rest = document["steps"][int(found[1])], graph["nodes"][int(found[1])], found[2]
    if node["type"] != step.get("tool") and step.get("tool"):
        rest = rest.replace("/config/arguments", "/config", 1).replace("/config/tool", "/tool", 1)
    elif not step.get("tool") and rest == "/config/prompt" and "prompt" not in (step.get("config") or {}):
        rest = "/description" if step.get("description") else "/name"
    return f"/steps/{found[1]}{rest}"


def _node(node_id: str, step: Mapping[str, Any], previous: str, types: Collection[str]) -> dict[str, Any]:
    node: dict[str, Any] = {"id": node_id, "type": "llm", "name": step["name"]}
    kept = ("description", "retry", "timeout_s") if step.get("tool") else ("retry", "timeout_s")
    node |= {name: step[name] for name in kept if name in step}
    tool, config = step.get("tool"), step.get("config") or {}
    if not tool:
        prompt = step.get("description") or step["name"]
        return node | {"config": {"prompt": f"{prompt}\n\n{previous}" if previous else prompt, **config}}
    if tool in types:
        return node | {"type": tool, "config": config}
    return node | {"type": "composio_tool", "config": {"tool": tool, "arguments": config}}


def _problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    for name in document:
        if name not in (*KEPT, "modelId", "steps"):
            yield Problem(pointer(name), f"unknown field{nearest(name, (*KEPT, 'modelId', 'steps'))}")
    if "modelId" in document and "model_id" in document:
        yield Problem("/modelId", "the model is given twice: leave out modelId or model_id")
    steps = document["steps"]
    if not isinstance(steps, list) or not steps:
        yield Problem("/steps", "give a list of at least one step, each with a name")
        return
    if len(steps) >= MOST_NODES:
        yield Problem("/steps", f"a workflow has at most {MOST_NODES - 1} steps, not {len(steps):,}")
        return
    for place, step in enumerate(steps):
        if not isinstance(step, Mapping):
            yield Problem(pointer("steps", place), f"a step is an object with a name, not {quoted(step)}")
            continue
        for name in step:
            if name not in STEP_FIELDS:
                yield Problem(pointer("steps", place, name), f"unknown field{nearest(name, STEP_FIELDS)}")
        if not isinstance(step.get("name"), str) or not step["name"].strip():
            yield Problem(pointer("steps", place, "name"), "a step needs a name")
        for name in ("description", "tool"):
            if not isinstance(step.get(name), str | None):
                yield Problem(pointer("steps", place, name), "give text")
        if not isinstance(step.get("config"), Mapping | None):
            yield Problem(pointer("steps", place, "config"), "give an object")


def _ids(names: list[str]) -> Iterator[str]:
    """Yield an id for each name, in small letters, unlike all others."""
    taken: set[str] = set()
    for name in names:
        plain = unicodedata.normalize("NFKD", name[:200]).encode("ascii", "ignore").decode().lower()
        base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:50].rstrip("_")
        base = base if base and not base[0].isdigit() else f"step_{base}".rstrip("_")
        chosen, number = base, 2
        while chosen in taken:
            chosen, number = f"{base}_{number}", number + 1
        taken.add(chosen)
        yield chosen
