"""How the nodes of an execution stand in the memory of its run, and what each is given when it is its turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from workstation_pipelines.workflow_model import Definition, Execution, Json, NodeId, Step, StepStatus
from workstation_pipelines.workflows import flow
from workstation_pipelines.workflows.flow import Decision, NodeState


class Turns:
    """Begins with the rows as the run found them. Steps that Dagster itself skips stay pending here, as they do in the rows.

    Safe to share between threads: a node is changed by its own thread alone, and read by others once it is over.
    """

    def __init__(self, definition: Definition, execution: Execution, found: Sequence[Step]) -> None:
        self._definition = definition
        self._execution = execution
        self._steps = {step.node_id: step for step in found}
        self.outputs: dict[NodeId, Json] = {}
        self.states: dict[NodeId, NodeState] = {}
        for node in definition.nodes:  # in topological order, since conditions may look at earlier outputs
            self.changed(self._steps[node.id])

    def step(self, node_id: NodeId) -> Step:
        return self._steps[node_id]

    def decision(self, node_id: NodeId) -> Decision:
        """Return what is to become of a node that is not over, whatever its own state."""
        return flow.decide(self._definition, node_id, {**self.states, node_id: flow.PENDING})

    def scope(self, node_id: NodeId) -> Mapping[str, Any]:
        """Return what its expressions are evaluated on: the same in every run, whatever else is over by then."""
        execution = self._execution
        return flow.scope_of(
            self._definition,
            node_id,
            input=execution.input,
            outputs=dict(self.outputs),
            execution={"id": str(execution.id), "workflow": execution.slug, "number": execution.version},
        )

    def inputs(self, sources: Sequence[NodeId]) -> Mapping[str, Json]:
        return {source: self.outputs[source] for source in sources}

    def taken(self, node_id: NodeId) -> Sequence[bool]:
        """Return which of its conditions a completed node makes true."""
        return self.states[node_id].conditions

    def taken_with(self, node_id: NodeId, output: Json) -> Sequence[bool]:
        """Return which of its conditions an output would make true. Raises InvalidRequestError naming the edge."""
        return flow.taken_conditions(self._definition, node_id, self.scope(node_id), output)

    def changed(self, step: Step) -> None:
        """Take in a step as its row is now."""
        taken: Sequence[bool] = ()
        if step.status is StepStatus.COMPLETED:
            taken = self.taken_with(step.node_id, step.output)
            self.outputs[step.node_id] = step.output
        self._steps[step.node_id] = step
        self.states[step.node_id] = NodeState(step.status, step.skip_reason, taken)

    def completed(self, node_id: NodeId, output: Json, taken: Sequence[bool]) -> None:
        self.outputs[node_id] = output
        self._steps[node_id] = replace(self._steps[node_id], status=StepStatus.COMPLETED, output=output)
        self.states[node_id] = NodeState(StepStatus.COMPLETED, None, taken)

    def stands(self, node_id: NodeId, status: StepStatus) -> None:
        """Note the status of a step that has none of the outcomes above."""
        self._steps[node_id] = replace(self._steps[node_id], status=status)
        self.states[node_id] = NodeState(status)
