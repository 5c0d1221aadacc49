"""flow.py, asked in any order, comes to what the independent interpreter of workflow_reference.py comes to."""

# ruff: noqa: S311 - chance here is no secret
from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pure.workflow_reference import Played, play
from tests.workflows.dags import SCRIPTED, ScriptedConfig, acts_of, documents, random_document
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Definition, ExecutionStatus, NodeId, StepStatus
from workstation_pipelines.workflows import definition as definitions
from workstation_pipelines.workflows import flow, references
from workstation_pipelines.workflows.blocks.contract import BlockConfig
from workstation_pipelines.workflows.flow import Action, NodeState


class OutputConfig(BlockConfig):
    values: dict[str, Any]


CONFIGS: dict[str, type[BlockConfig]] = {SCRIPTED: ScriptedConfig, "output": OutputConfig}


def parsed(document: dict[str, Any]) -> Definition:
    return definitions.parse(document, blocks=CONFIGS)


class Engine:
    """Runs a definition by flow.py alone, the nodes whose turn it is in an order of chance."""

    def __init__(self, document: dict[str, Any], random: Random, input: dict[str, Any]) -> None:
        self.definition = parsed(document)
        self.acts = acts_of(document)
        self.random = random
        self.input = input
        self.played = Played(attempts={node.id: 0 for node in self.definition.nodes})
        self.failures: dict[str, int] = {}
        self.states = {node.id: flow.PENDING for node in self.definition.nodes}
        self.outputs: dict[NodeId, Any] = {}

    def run(self) -> ExecutionStatus:
        waiting = [node_id for node_id, state in self.states.items() if state.status is StepStatus.WAITING]
        for node_id in self.random.sample(waiting, len(waiting)):
            self.states[node_id] = NodeState(StepStatus.RUNNING)
        running = waiting
        while True:
            asked = [
                (node_id, decision)
                for node_id, decision in flow.decisions(self.definition, self.states).items()
                if decision.action in (Action.RUN, Action.SKIP)
            ]
            if not asked and not running:
                break
            turn = self.random.randrange(len(asked) + len(running))
            if turn >= len(asked):
                self._end(running.pop(turn - len(asked)))
                continue
            node_id, decision = asked[turn]
            assert flow.decide(self.definition, node_id, self.states) == decision
            if decision.action is Action.SKIP:
                self.states[node_id] = NodeState(StepStatus.SKIPPED, decision.reason)
            else:
                self.states[node_id] = NodeState(StepStatus.RUNNING)
                running.append(node_id)
        status, self.played.output = flow.final(self.definition, self.states, self.outputs)
        return status

    def _end(self, node_id: NodeId) -> None:
        """Make one attempt; one that is to be tried again stays at work for as long."""
        node = self.definition.node(node_id)
        sources = flow.decide(self.definition, node_id, {**self.states, node_id: flow.PENDING}).sources
        scope = flow.scope_of(self.definition, node_id, input=self.input, outputs=self.outputs, execution={})
        config = references.resolve(node.config, scope, {}).value
        self.played.attempts[node_id] += 1
        act = {"do": "complete"}
        if node.type == SCRIPTED:
            act = config["acts"][min(self.played.attempts[node_id], len(config["acts"])) - 1]
        if act["do"] == "wait":
            self.states[node_id] = NodeState(StepStatus.WAITING)
            return
        if act["do"] == "complete":
            output = config.get("values")
            if node.type == SCRIPTED:
                output = {"score": act["score"], "from": list(sources), "seen": config.get("see")}
            try:
                taken = flow.taken_conditions(self.definition, node_id, scope, output)
            except InvalidRequestError:
                act = {"do": "fail"}
            else:
                self.outputs[node_id] = output
                self.states[node_id] = NodeState(StepStatus.COMPLETED, conditions=taken)
                return
        self.failures[node_id] = self.failures.get(node_id, 0) + 1
        if act["do"] == "fail" or self.failures[node_id] > node.retry.max_retries:
            self.states[node_id] = NodeState(StepStatus.FAILED)
            return
        self._end(node_id)


def played_by_flow(document: dict[str, Any], random: Random, input: dict[str, Any]) -> Played:
    engine = Engine(document, random, input)
    status = ExecutionStatus.WAITING
    while status is ExecutionStatus.WAITING:
        status = engine.run()
        engine.played.stood.append(status.value)
    if status is ExecutionStatus.FAILED:
        for node_id, state in engine.states.items():
            if not state.status.is_over:
                engine.states[node_id] = NodeState(StepStatus.CANCELLED)
    engine.played.status = {str(node_id): state.status.value for node_id, state in engine.states.items()}
    reasons = {str(node_id): state.skip_reason for node_id, state in engine.states.items()}
    engine.played.reason = {node_id: reason.value for node_id, reason in reasons.items() if reason}
    engine.played.outputs = {str(node_id): output for node_id, output in engine.outputs.items()}
    engine.played.execution, engine.played.runs = status.value, len(engine.played.stood)
    return engine.played


@settings(max_examples=150, deadline=None)
@given(documents(), st.integers(0, 2**32 - 1), st.booleans())
def test_order_of_chance_comes_to_what_the_reference_comes_to(document: dict[str, Any], seed: int, is_on: bool) -> None:
    input = {"is_on": is_on}
    assert played_by_flow(document, Random(seed), input) == play(document, acts_of(document), input=input)


def test_random_workflows_are_rich() -> None:
    seen: Counter[str] = Counter()
    for seed in range(100):
        document = random_document(Random(seed))
        played = play(document, acts_of(document), input={"is_on": True})
        seen.update({f"execution {played.execution}", *played.status.values(), *played.reason.values(), *played.stood})
    expected = ("execution completed", "execution failed", "waiting", "cancelled", "condition", "upstream_failed")
    assert min(seen[each] for each in expected) > 15, seen
