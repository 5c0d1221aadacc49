"""`workstation workflow run` and what comes of it: watched, decided on, retried, cancelled, looked back at."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.cli.program import Program
from tests.fakes.server import Answer, FakeVendor, Request
from workstation_pipelines.commands.exits import ExitCode

UNKNOWN = "00000000-0000-7000-8000-000000000000"


class _Counter(FakeVendor):
    """Says how often it was asked."""

    provider = "counter"

    def answer(self, request: Request) -> Answer:
        return Answer.of({"asked": len(self.requests)})

    def is_write(self, request: Request) -> bool:
        return False

    def violation(self, request: Request, answer: Answer) -> str | None:
        return None


@pytest.fixture
def counter() -> Iterator[_Counter]:
    with _Counter() as counter:
        yield counter


@pytest.fixture
def definition(tmp_path: Path, counter: _Counter) -> Path:
    """Asks the counter, then a person; the second branch is for large numbers alone."""
    file = tmp_path / "ask.json"
    document: dict[str, Any] = {
        "inputs": {"floor": {"type": "integer", "default": 0}, "note": {"type": "string", "default": ""}},
        "mode": "checking",
        "nodes": [
            {"id": "fetch", "type": "http_request", "config": {"url": f"{counter.url}/n", "parse": "json"}},
            {"id": "large", "type": "transform", "config": {"expression": "nodes.fetch.output.body.asked"}},
            {"id": "person", "type": "approval", "config": {"message": "Is ${nodes.fetch.output.body.asked} good?"}},
            {
                "id": "end",
                "type": "output",
                "config": {"values": {"said": "${nodes.person.output.comment}", "note": "${input.note}"}},
            },
        ],
        "edges": [
            {"source": "fetch", "target": "large", "condition": "output.body.asked > `100`"},
            {"source": "fetch", "target": "person", "condition": "output.body.asked > input.floor"},
            {"source": "person", "target": "end"},
        ],
    }
    file.write_text(json.dumps(document))
    return file


@pytest.fixture
def here(workstation: Program, dagster_url: str, definition: Path) -> Program:
    """The program with Dagster's storage at hand, which no daemon serves, and the workflow saved."""
    workstation.settings = workstation.settings.model_copy(
        update={"dagster_postgres_url": dagster_url, "fetch_http": True, "fetch_loopback": True}
    )
    assert workstation("workflow", "save", str(definition)).code == 0
    return workstation


def test_execution_is_run_watched_decided_retried_and_looked_back_at(here: Program, counter: _Counter) -> None:
    planned = here("workflow", "run", "ask", "--plan")
    for part in ("nothing was started", "large (may be skipped)", "have not been run: fetch, large, person, end"):
        assert part in planned.out
    assert here("workflow", "run", "ask", "--plan", "--json").value["outline"]["calls"]
    assert here("workflow", "history", "--json").value == []

    asked = here("workflow", "run", "ask", "-i", "note=7", "--here", "--watch", "--idempotency-key", "once")
    assert asked.code == ExitCode.NEEDS_CONFIRMATION
    lines = asked.out.splitlines()
    execution = lines[-1].split()[-2]
    assert lines[-1] == f"    workstation workflow approve {execution} person"
    assert "large: skipped (condition)" in lines
    assert any(line.startswith("fetch: completed (") for line in lines)
    assert "Is 1 good?" in asked.out
    again = here("workflow", "run", "ask", "-i", "note=7", "--idempotency-key", "once", "--json").value
    assert (again["id"], again["status"], again["input"]) == (execution, "waiting", {"floor": 0, "note": "7"})
    assert "1 waiting (1 for an approval)" in here("status").out
    token = here("workflow", "approve", execution, "person", "--new-token", "--json").value["token"]
    guest = Program(here.settings.model_copy(update={"user": "guest"}), here._capsys)
    assert guest("workflow", "approve", execution, "person").code == 2
    assert guest("workflow", "approve", "--token", "x" + token).code == 2
    assert "Approved person" in guest("workflow", "approve", "--token", token, "--comment", "Fine.").out
    assert "has been decided" in here("workflow", "approve", execution, "person", "--reject").err
    for words in (("approve", execution), ("approve", "x", "person")):
        assert here("workflow", *words).code == 2

    assert here("workflow", "retry", execution).code == 2  # it is not over
    watched = here("workflow", "watch", execution, "--json")
    assert watched.code == ExitCode.UNAVAILABLE  # decided, and nobody there to go on
    told = [json.loads(line) for line in watched.out.splitlines()]
    assert {"fetch", "large", "person"} == {each["node"] for each in told if "node" in each}

    _goes_on_with_the_next_run(here, execution)


def _goes_on_with_the_next_run(here: Program, execution: str) -> None:
    """A later run of the same execution, then a retry of it and its place in the books."""
    done = here("workflow", "watch", execution, "--here", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["status"] == "completed"
    shown = here("workflow", "history", execution)
    for part in (
        "ask v1: completed",
        "4 of 4 steps",
        "attempt 1 of fetch",
        "execution.completed",
    ):
        assert part in shown.out
    value = here("workflow", "history", execution, "--json").value
    assert value["output"] == {"said": "Fine.", "note": "7"}
    assert [each["node_id"] for each in value["attempts"]] == ["fetch", "person", "person", "end"]
    assert "definition" not in value

    assert "nothing has failed" in here("workflow", "retry", execution).err
    retried = here("workflow", "retry", execution, "--from", "person", "--here", "--wait", "--json")
    assert retried.code == ExitCode.NEEDS_CONFIRMATION
    assert [step["node_id"] for step in retried.value["steps"] if step["is_reused"]] == ["fetch"]
    refused = here("workflow", "approve", retried.value["id"], "person", "--reject", "--json").value
    assert refused["wait"]["decision"]["approved"] is False
    failed = here("workflow", "watch", retried.value["id"], "--here")
    assert (failed.code, "failed: person (InvalidRequestError)" in failed.out) == (1, True)
    assert [row["status"] for row in here("workflow", "history", "ask", "--errors", "--json").value] == ["failed"]
    assert "1 failed in the last 24 hours" in here("status").out
    stats = here("workflow", "stats", "ask", "--json").value
    assert (stats["figures"]["completed_executions"], stats["by_mode"][0]["mode"]) == (1, "checking")
    assert "success rate" in here("workflow", "stats").out
    assert "took before" in here("workflow", "run", "ask", "--plan").out


def test_what_waits_for_a_dagster_is_cancelled_one_by_one_or_all(workstation: Program, definition: Path) -> None:
    """Without Dagster's storage: rows alone, which a sensor takes up later."""
    assert workstation("workflow", "save", str(definition)).code == 0
    started = [workstation("workflow", "run", "ask", "--json").value for _ in range(2)]
    assert {each["status"] for each in started} == {"pending"}
    waits = workstation("workflow", "run", "ask", "--priority", "5")
    assert "waits for `workstation dev`" in waits.out
    assert workstation("workflow", "watch", started[0]["id"]).code == ExitCode.UNAVAILABLE
    assert "cannot be reached" in workstation("workflow", "run", "ask", "--here").err
    assert "1 cancelled" in workstation("workflow", "cancel", started[0]["id"]).out
    assert workstation("workflow", "cancel", started[0]["id"], "--json").value["status"] == "cancelled"
    others = workstation("workflow", "cancel", "--workflow", "ask", "--status", "pending", "--json").value
    assert [each["status"] for each in others] == ["cancelled"] * 3
    assert workstation("workflow", "cancel", "--older-than", "1d", "--json").value == []
    for words in (("cancel",), ("cancel", UNKNOWN), ("cancel", UNKNOWN, "--status", "pending"), ("watch", "x")):
        assert workstation("workflow", *words).code == 2
    assert "no input" in workstation("workflow", "run", "ask", "-i", "nothing").err
    assert "floor" in workstation("workflow", "run", "ask", "-i", 'floor="x"').err
    assert workstation("workflow", "deactivate", "ask").code == 0
    assert "activate" in workstation("workflow", "run", "ask").err
    assert "activate" in workstation("workflow", "retry", started[0]["id"]).err
    assert "is over" in workstation("workflow", "cancel", "--status", "completed").err


def test_what_is_only_queued_is_cancelled_at_once(here: Program) -> None:
    """No daemon serves the queue, so that nothing else would end it."""
    queued = here("workflow", "run", "ask", "--json").value
    assert (queued["status"], queued["run_number"]) == ("pending", 1)
    assert here("workflow", "cancel", queued["id"], "--json").value["status"] == "cancelled"


def test_secrets_are_set_from_stdin_and_never_shown(workstation: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = SecretStr(workstation("keys", "new").out.split()[-1])
    workstation.settings = workstation.settings.model_copy(update={"token_keys": keys})
    monkeypatch.setattr("sys.stdin", io.StringIO("hush-hush\n"))
    assert "${secrets.apollo}" in workstation("workflow", "secret", "set", "apollo").out
    listed = workstation("workflow", "secret", "list")
    assert ("apollo" in listed.out, "hush" in listed.out) == (True, False)
    assert [row["name"] for row in workstation("workflow", "secret", "list", "--json").value] == ["apollo"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert workstation("workflow", "secret", "set", "other").code == 2
    assert "Removed" in workstation("workflow", "secret", "remove", "apollo").out
    assert workstation("workflow", "secret", "remove", "apollo").code == 2
