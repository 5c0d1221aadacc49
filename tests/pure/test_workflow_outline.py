"""The outline tells the order, what runs in parallel, whom it calls, and what it may take."""

from __future__ import annotations

from typing import Any

import pytest

from workstation_pipelines.workflow_model import Definition, NodeId
from workstation_pipelines.workflows.catalog import read
from workstation_pipelines.workflows.outline import outline

CALLS = {"llm": "the model", "http_request": "the web"}


def _prompt(text: str) -> dict[str, Any]:
    return {"type": "llm", "config": {"prompt": text}}


@pytest.fixture(scope="module")
def definition() -> Definition:
    inner = {"type": "llm", "config": {"prompt": "${item}" + "x" * 40}}
    return read(
        {
            "inputs": {"topic": {}},
            "variables": {"style": "y" * 20},
            "max_parallel": 2,
            "nodes": [
                {"id": "end", "type": "output", "config": {"values": {}}},
                {
                    "id": "ask",
                    "retry": {"max_retries": 2},
                    **_prompt("x" * 20 + "${input.topic}${variables.style}${nodes.get.output}"),
                },
                {"id": "get", "type": "http_request", "config": {"url": "https://example.org"}},
                {"id": "alone", "type": "merge"},
                {"id": "each", "type": "for_each", "config": {"items": "nodes.get.output", "block": inner}},
                {"id": "maybe", "type": "merge"},
            ],
            "edges": [
                {"source": "get", "target": "ask"},
                {"source": "get", "target": "each"},
                {"source": "ask", "target": "maybe", "condition": "output.text"},
                {"source": "maybe", "target": "end"},
            ],
        }
    )


def test_levels_are_what_may_run_in_parallel(definition: Definition) -> None:
    found = outline(definition, calls=CALLS, medians_s={})
    assert [[node.id for node in level] for level in found.levels] == [
        ["get", "alone"],
        ["ask", "each"],
        ["maybe"],
        ["end"],
    ]
    nodes = {node.id: node for level in found.levels for node in level}
    assert [node_id for node_id, node in nodes.items() if node.is_conditional] == ["maybe", "end"]
    assert (nodes[NodeId("ask")].most_attempts, nodes[NodeId("get")].most_attempts) == (3, 1)
    assert found.calls == {"the web": 1, "the model": 2}


def test_tokens_are_estimated_from_what_is_known_before(definition: Definition) -> None:
    found = outline(definition, calls=CALLS, medians_s={}, input={"topic": "z" * 40})
    tokens = {
        str(node.id): node.prompt_tokens for level in found.levels for node in level if node.prompt_tokens is not None
    }
    assert (found.model_calls, tokens["ask"], found.prompt_tokens) == (2, 20, sum(tokens.values()))
    assert tokens["each"] >= 10


def test_time_is_that_of_the_longest_way_or_of_the_work_that_is_shared(definition: Definition) -> None:
    medians_s = {"get": 1.0, "alone": 0.5, "ask": 4.0, "each": 2.0, "maybe": 0.25, "end": 0.25}
    assert outline(definition, calls={}, medians_s=medians_s).estimate_s == 5.5
    assert outline(definition, calls={}, medians_s=medians_s | {"alone": 20.0, "each": 19.0}).estimate_s == 22.25
    unknown = outline(definition, calls={}, medians_s={"get": 1.0})
    assert (unknown.estimate_s, unknown.unknown) == (None, ["alone", "ask", "each", "maybe", "end"])
