"""What is to become of an execution, worked out a second time by the words of docs/workflows.md, by none of our code.

The interpreter reads the JSON of a definition and a script of what each node does at each attempt, and plays one run after
the other; between runs everything that waits is over. It knows nothing of threads, databases or Dagster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jmespath

_MOST_RUNS = 100


@dataclass
class Played:
    """How it ended: `status` and `reason` by node, attempts over all runs, the outputs of completed nodes."""

    status: dict[str, str] = field(default_factory=dict)
    reason: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    execution: str = ""
    output: Any = None
    runs: int = 0
    stood: list[str] = field(default_factory=list)
    """How the execution stood after each run."""


def play(
    document: Mapping[str, Any],
    acts: Mapping[str, list[dict[str, Any]]],
    *,
    input: Mapping[str, Any] | None = None,
    execution: Mapping[str, Any] | None = None,
) -> Played:
    """Play an execution to its end; `acts` are by node and attempt, the last one is repeated."""
    given = {name: declared.get("default") for name, declared in document.get("inputs", {}).items()} | dict(input or {})
    world = _World(document, acts, {"input": given, "execution": execution or {}}, Played())
    for node in document["nodes"]:
        world.played.status[node["id"]] = "pending"
        world.played.attempts[node["id"]] = 0
    while True:
        world.run()
        world.played.stood.append(world.played.execution)
        if world.played.execution != "waiting":
            return world.played
        assert world.played.runs < _MOST_RUNS, "it waits for ever"


@dataclass
class _World:
    document: Mapping[str, Any]
    acts: Mapping[str, list[dict[str, Any]]]
    given: Mapping[str, Any]
    played: Played
    failures: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        self.played.runs += 1
        played = self.played
        again = {node for node, status in played.status.items() if status == "waiting"}
        undecided = {node for node, status in played.status.items() if status == "pending"}
        for node in again:
            self._work(node)
        moved = True
        while moved:
            moved = False
            for node in sorted(undecided):
                verdict = self._verdict(node, undecided)
                if verdict is None:
                    continue
                moved = True
                undecided.discard(node)
                if verdict == "run":
                    self._work(node)
                elif verdict != "held":
                    played.status[node], played.reason[node] = "skipped", verdict
        statuses = set(played.status.values())
        if "failed" in statuses:
            played.execution = "failed"
            for node, status in played.status.items():
                if status in ("waiting", "pending"):
                    played.status[node] = "cancelled"
        elif "waiting" in statuses:
            played.execution = "waiting"
        else:
            played.execution, played.output = "completed", self._result()

    def _verdict(self, node: str, undecided: set[str]) -> str | None:
        """None while a source is still to be decided; "run", "held", or the reason why it is skipped."""
        edges = [edge for edge in self.document["edges"] if edge["target"] == node]
        if not edges:
            return "run"
        if any(edge["source"] in undecided for edge in edges):
            return None
        status, reason = self.played.status, self.played.reason
        if any(status[edge["source"]] in ("waiting", "pending") for edge in edges):
            return "held"
        if all(self._is_not_taken(edge) for edge in edges):
            return "condition"
        bad = [e for e in edges if status[e["source"]] == "failed" or reason.get(e["source"]) == "upstream_failed"]
        return "upstream_failed" if bad else "run"

    def _is_not_taken(self, edge: Mapping[str, Any]) -> bool:
        source = edge["source"]
        if self.played.status[source] == "skipped":
            return self.played.reason[source] == "condition"
        return self.played.status[source] == "completed" and not self._holds(edge, self.played.outputs[source])

    def _holds(self, edge: Mapping[str, Any], output: Any) -> bool:
        if edge.get("condition") is None:
            return True
        scope = self._scope(edge["source"])
        scope["nodes"][edge["source"]] = {"output": output}
        scope["output"] = output
        found = jmespath.search(edge["condition"], scope)
        return not (found is None or found is False or found == "" or found == [] or found == {})

    def _work(self, node: str) -> None:
        """Let a node make attempts until it is over, or waits."""
        described = next(each for each in self.document["nodes"] if each["id"] == node)
        most = described.get("retry", {}).get("max_retries", 0)
        while True:
            self.played.attempts[node] += 1
            act = self._act(described)
            if act["do"] == "complete":
                output = self._output(described, act)
                try:
                    for edge in self.document["edges"]:
                        if edge["source"] == node:
                            self._holds(edge, output)
                except jmespath.exceptions.JMESPathError:
                    act = {"do": "fail"}
                else:
                    self.played.status[node], self.played.outputs[node] = "completed", output
                    return
            if act["do"] == "wait":
                self.played.status[node] = "waiting"
                return
            self.failures[node] = self.failures.get(node, 0) + 1
            if act["do"] == "fail" or self.failures[node] > most:
                self.played.status[node] = "failed"
                return

    def _act(self, described: Mapping[str, Any]) -> Mapping[str, Any]:
        if described["type"] == "output":
            return {"do": "complete"}
        acts = self.acts[described["id"]]
        return acts[min(self.played.attempts[described["id"]], len(acts)) - 1]

    def _output(self, described: Mapping[str, Any], act: Mapping[str, Any]) -> Any:
        scope = self._scope(described["id"])
        if described["type"] == "output":
            return {name: _put_in(value, scope) for name, value in described["config"]["values"].items()}
        edges = [edge for edge in self.document["edges"] if edge["target"] == described["id"]]
        taken = [
            edge["source"]
            for edge in edges
            if self.played.status[edge["source"]] == "completed"
            and self._holds(edge, self.played.outputs[edge["source"]])
        ]
        return {"score": act.get("score", 0), "from": taken, "seen": _put_in(described["config"].get("see"), scope)}

    def _scope(self, node: str) -> dict[str, Any]:
        before: set[str] = set()
        while True:
            more = {
                e["source"] for e in self.document["edges"] if e["target"] == node or e["target"] in before
            } - before
            if not more:
                break
            before |= more
        nodes = {each: {"output": self.played.outputs.get(each)} for each in before}
        return {**self.given, "variables": self.document.get("variables", {}), "nodes": nodes}

    def _result(self) -> Any:
        outputs = self.played.outputs
        named = [node["id"] for node in self.document["nodes"] if node["type"] == "output"]
        if named:
            return {name: value for node in named if node in outputs for name, value in outputs[node].items()}
        inner = {edge["source"] for edge in self.document["edges"]}
        return {node: output for node, output in outputs.items() if node not in inner}


def _put_in(text: Any, scope: Mapping[str, Any]) -> Any:
    """Put values in the place of simple references, `$${` for a literal `${`."""
    if not isinstance(text, str):
        return text
    whole = re.fullmatch(r"\$\{([^{}]*)\}", text)
    if whole:
        return jmespath.search(whole[1], scope)

    def told(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        value = jmespath.search(match[1], scope)
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)

    return re.sub(r"\$\$\{|\$\{([^{}]*)\}", told, text)
