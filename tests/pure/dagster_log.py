"""A simulator of what Dagster does with the op graph of a workflow, and of the event log that it leaves.

Only Dagster's own rules stand here: an op with a fan-in runs once all ops before it are over, is skipped when every output
that leads to it is missing, and is given up without an event when one before it has failed or was given up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from workstation_pipelines.workflow_model import Definition, Edge
from workstation_pipelines.workflows import flow
from workstation_pipelines.workflows.mirror import EventKind, StepEvent

FAILS = "fails"
RETRIES = "retries"
BEGUN_AT = datetime(2026, 1, 1, tzinfo=UTC)

Act = Callable[[str, int, Mapping[str, frozenset[str]]], "frozenset[str] | str"]
"""What an op does when it is called: from its name, its attempt in this run, and the outputs of those that have succeeded,
to the outputs that it yields, or FAILS or RETRIES."""


@dataclass
class SimulatedRun:
    """One run over a graph. `events` grow in the order of their storage ids; `status` is Dagster's once it is over."""

    definition: Definition
    act: Act
    shuffle: random.Random
    max_parallel: int = 4
    events: list[StepEvent] = field(default_factory=list)
    status: str = "STARTED"
    outputs: dict[str, frozenset[str]] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    _given_up: set[str] = field(default_factory=set)
    _skipped: set[str] = field(default_factory=set)
    _attempts: dict[str, int] = field(default_factory=dict)

    def go(self) -> SimulatedRun:
        """Run to the end."""
        in_flight: list[str] = []
        while True:
            in_flight += self._startable(in_flight)[: self.max_parallel - len(in_flight)]
            if not in_flight:
                break
            for name in in_flight:
                if self._attempts.get(name, 0) == 0:
                    self._write(EventKind.STARTED, name)
                    self._attempts[name] = 1
            name = self.shuffle.choice(in_flight)
            if self._finish(name):
                in_flight.remove(name)
        self.status = "FAILURE" if self._failed else "SUCCESS"
        return self

    def _finish(self, name: str) -> bool:
        done = self.act(name, self._attempts[name], self.outputs)
        if done == RETRIES:
            self._write(EventKind.UP_FOR_RETRY, name)
            self._attempts[name] += 1
            self._write(EventKind.RESTARTED, name)
            return False
        if isinstance(done, str):
            self._failed.add(name)
            self._write(EventKind.FAILED, name, error_class="InvalidRequestError")
            return True
        for output in sorted(done):
            self._write(EventKind.OUTPUT, name, output=output)
        self.outputs[name] = done
        self._write(EventKind.SUCCEEDED, name)
        return True

    def _startable(self, in_flight: Sequence[str]) -> list[str]:
        """Skip and give up what is to be, and return what is ready."""
        while True:
            before = len(self._skipped) + len(self._given_up)
            ready: list[str] = []
            for node in self.definition.nodes:
                if self._is_over(node.id) or node.id in in_flight:
                    continue
                edges = self.definition.into(node.id)
                if not all(self._is_over(edge.source) for edge in edges):
                    continue
                missing = [
                    edge
                    for edge in edges
                    if edge.source not in self._failed | self._given_up
                    and self._output(edge) not in self.outputs.get(edge.source, ())
                ]
                if edges and len(missing) == len(edges):
                    self._skipped.add(node.id)
                    self._write(EventKind.SKIPPED, node.id)
                elif any(edge.source in self._failed | self._given_up for edge in edges):
                    self._given_up.add(node.id)
                else:
                    ready.append(node.id)
            if len(self._skipped) + len(self._given_up) == before:
                self.shuffle.shuffle(ready)
                return ready

    def _output(self, edge: Edge) -> str:
        if edge.condition is None:
            return "out"
        return f"if_{flow.conditions_of(self.definition, edge.source).index(edge.condition) + 1}"

    def _is_over(self, name: str) -> bool:
        return name in self.outputs or name in self._failed | self._given_up | self._skipped

    def _write(self, kind: EventKind, name: str, *, output: str = "", error_class: str = "") -> None:
        # Other runs write to the same table, so that ids have gaps.
        storage_id = (self.events[-1].storage_id if self.events else 0) + self.shuffle.randint(1, 3)
        at = BEGUN_AT + timedelta(seconds=storage_id)
        self.events.append(StepEvent(storage_id, kind, name, output, at, error_class))
