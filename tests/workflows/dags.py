"""Random workflows whose nodes do what a script says, for tests of all that runs, mirrors or decides.

A node of the type `scripted` has its script in its config: what it does at each attempt, the last one again after that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any, Literal

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from workstation_pipelines.errors import InvalidRequestError, RetryableError
from workstation_pipelines.workflow_model import BlockResult, Wait, WaitKind
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig, BlockType

SCRIPTED = "scripted"

CONDITIONS = (
    *(
        "output.score > `3`",
        "output.score <= `3`",
        "output.score == `7`",
        "`true`",
        "`false`",
        "input.is_on",
        "!(input.is_on)",
    ),
    *("contains(output.from, 'n0')", "output.seen", "variables.limit < output.score", "output.missing"),
)
BROKEN_CONDITION = "length(output.score)"
"""It is well-formed and cannot be evaluated on a number: the node that it leaves fails."""


class Act(BaseModel):
    """What a node does at one attempt; `wait` asks to be called again by the next run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    do: Literal["complete", "retry", "fail", "wait"]
    score: int = 0


class ScriptedConfig(BlockConfig):
    """`see` is given back in the output as it was resolved."""

    acts: list[Act] = Field(min_length=1)
    see: Any = None


def scripted(call: BlockCall[ScriptedConfig]) -> BlockResult | Wait:
    """Do what the script says for this attempt. The output tells the score, whose outputs were given, and what was seen."""
    act = call.config.acts[min(call.attempt, len(call.config.acts)) - 1]
    if act.do == "complete":
        return BlockResult({"score": act.score, "from": list(call.inputs), "seen": call.config.see})
    if act.do == "wait":
        return Wait(WaitKind.TIME, until=call.clock())
    if act.do == "retry":
        raise RetryableError(f"attempt {call.attempt} of {call.node_id} fails by its script", wait_s=0.0)
    raise InvalidRequestError(f"{call.node_id} fails by its script at attempt {call.attempt}")


SCRIPTED_BLOCK = BlockType(scripted, ScriptedConfig, "does what its script says")


@contextmanager
def scripted_blocks() -> Iterator[None]:
    """Have the registry know `scripted` for a while."""
    assert isinstance(BLOCKS, dict)
    BLOCKS[SCRIPTED] = SCRIPTED_BLOCK
    try:
        yield
    finally:
        del BLOCKS[SCRIPTED]


def random_document(
    random: Random, *, most_nodes: int = 25, least_nodes: int = 1, with_waits: bool = True, with_failures: bool = True
) -> dict[str, Any]:
    """Return a valid workflow of nodes n0, n1, .. in any order: fan-in and fan-out, conditions, retries, waits, failures."""
    count = random.randint(least_nodes, most_nodes)
    before: dict[str, set[str]] = {}
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    for number in range(count):
        node_id = f"n{number}"
        sources = random.sample(sorted(before), min(len(before), random.choice((0, 1, 1, 1, 2, 2, 3, 5))))
        before[node_id] = set(sources).union(*(before[source] for source in sources))
        nodes.append(_node(random, node_id, sorted(before[node_id]), with_waits, with_failures))
        edges += [
            {"source": source, "target": node_id} | _condition(random, source, with_failures) for source in sources
        ]
    nodes += _output(random, before, edges)
    random.shuffle(nodes)
    random.shuffle(edges)
    return {
        "inputs": {"is_on": {"type": "boolean", "default": True}},
        "variables": {"limit": 5, "unused": "${nodes.nobody}"},
        "max_parallel": random.randint(1, 8),
        "nodes": nodes,
        "edges": edges,
    }


def documents(*, most_nodes: int = 25, **bounds: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Yield random_document() of these bounds; what fails is shrunk to fewer nodes."""
    sizes, seeds = st.integers(1, most_nodes), st.integers(0, 2**32 - 1)
    return st.builds(lambda size, seed: random_document(Random(seed), most_nodes=size, **bounds), sizes, seeds)  # noqa: S311


def acts_of(document: Mapping[str, Any]) -> Mapping[str, list[dict[str, Any]]]:
    """Return the script of each scripted node."""
    return {node["id"]: node["config"]["acts"] for node in document["nodes"] if node["type"] == SCRIPTED}


def _node(random: Random, node_id: str, before: list[str], with_waits: bool, with_failures: bool) -> dict[str, Any]:
    config: dict[str, Any] = {"acts": _acts(random, with_waits, with_failures)}
    if before and random.random() < 0.5:
        seen = random.choice(before)
        config["see"] = random.choice(
            (f"${{nodes.{seen}.output.score}}", f"score ${{nodes.{seen}.output.score}}!", f"$${{nodes.{seen}}}")
        )
    node: dict[str, Any] = {"id": node_id, "type": SCRIPTED, "config": config}
    if random.random() < 0.9:
        node["retry"] = {"max_retries": random.randint(1, 3), "delay_s": 0, "max_delay_s": 0}
    return node


def _acts(random: Random, with_waits: bool, with_failures: bool) -> list[dict[str, Any]]:
    acts: list[dict[str, Any]] = []
    if with_waits and random.random() < 0.08:
        acts.append({"do": "wait"})
    if with_failures:
        acts += [{"do": "retry"}] * random.choice((0,) * 14 + (1, 1, 1, 1, 2, 4))
    if acts and with_waits and random.random() < 0.2:
        acts.append({"do": "wait"})
    fails = with_failures and random.random() < 0.03
    return [*acts, {"do": "fail"} if fails else {"do": "complete", "score": random.randint(0, 9)}]


def _condition(random: Random, source: str, with_failures: bool) -> dict[str, str]:
    if random.random() < 0.55:
        return {}
    if with_failures and random.random() < 0.01:
        return {"condition": BROKEN_CONDITION}
    return {"condition": random.choice((*CONDITIONS, f"nodes.{source}.output.score > `2`"))}


def _output(random: Random, before: Mapping[str, set[str]], edges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if random.random() < 0.6:
        return []
    sources = random.sample(sorted(before), random.randint(1, min(3, len(before))))
    edges.extend({"source": source, "target": "result"} for source in sources)
    values = {source: f"${{nodes.{source}.output.score}}" for source in sources}
    return [{"id": "result", "type": "output", "config": {"values": values}}]
