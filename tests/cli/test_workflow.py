"""`workstation workflow`: workflows are saved, seen, copied, taken elsewhere and begun from templates."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Program, Ran

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "workflows"

NODES: list[dict[str, Any]] = [
    {"id": "begin", "type": "transform", "config": {"expression": "input.topic"}},
    {"id": "end", "type": "output", "config": {"values": {"topic": "${nodes.begin.output}"}}},
]
DEFINITION: dict[str, Any] = {
    "inputs": {"topic": {"type": "string", "required": True, "description": "What about."}},
    "nodes": NODES,
    "edges": [{"source": "begin", "target": "end", "condition": "output != 'nothing'"}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "My First.json"
    file.write_text(json.dumps(DEFINITION))
    return file


def _saved(workstation: Program, file: Path, *more: str) -> dict[str, Any]:
    value: dict[str, Any] = workstation("workflow", "save", str(file), *more, "--json").value
    return value


def test_workflow_lives_from_save_to_delete(workstation: Program, file: Path) -> None:
    assert "templates list" in workstation("workflow", "list").out
    first = workstation(
        "workflow", "save", str(file), "--name", "Topic", "--category", "demo", "--tag", "a", "--tag", "b"
    )
    assert first.out.startswith("Saved my-first, version 1.")
    assert "unchanged: version 1" in workstation("workflow", "save", str(file)).out
    file.write_text(json.dumps({**DEFINITION, "mode": "other"}))
    again = _saved(workstation, file)
    assert (again["version"], again["is_new"], again["is_new_version"]) == (2, False, True)
    assert (again["workflow"]["name"], again["workflow"]["tags"]) == ("Topic", ["a", "b"])

    shown = workstation("workflow", "show", "my-first").out
    for part in ("my-first: Topic", "2 of 2", "topic (string, required) What about.", "begin if output != 'nothing'"):
        assert part in shown
    assert "mode" not in workstation("workflow", "show", "my-first", "--version", "1", "--definition").value
    told = workstation("workflow", "show", "my-first", "--json").value
    assert [each["version"] for each in told["versions"]] == [2, 1]

    assert "cannot be run" in workstation("workflow", "deactivate", "my-first").out
    assert workstation("workflow", "list", "--active", "--json").value == []
    assert [row["slug"] for row in workstation("workflow", "list", "--tag", "b", "--json").value] == ["my-first"]
    assert workstation("workflow", "activate", "my-first", "--json").value["is_active"] is True
    assert "Topic" in workstation("workflow", "list", "--category", "demo", "--order", "name", "--ascending").out
    assert workstation("workflow", "list", "--order", "size").code == 2

    assert "Copied my-first to second" in workstation("workflow", "clone", "my-first", "--slug", "second").out
    assert workstation("workflow", "clone", "my-first", "--slug", "second").code == 2
    assert workstation("workflow", "delete", "second").code == 4
    assert workstation("workflow", "delete", "second", "--yes").out == "Deleted second.\n"
    assert workstation("workflow", "show", "second").code == 2


def test_exported_workflow_is_imported_elsewhere(
    workstation: Program, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _saved(workstation, file, "--name", "Topic", "--description", "D", "--category", "demo", "--tag", "x")
    exported = workstation("workflow", "export", "my-first")
    assert set(exported.value) == {"slug", "name", "description", "category", "tags", "definition"}
    assert exported.out == workstation("workflow", "export", "my-first", "--version", "1", "--json").out
    assert "unchanged" in _from_stdin(workstation, monkeypatch, exported.out, "import", "-").out

    workstation.settings = workstation.settings.model_copy(update={"tenant": "another"})
    assert workstation("workflow", "show", "my-first").code == 2
    there = _from_stdin(workstation, monkeypatch, exported.out, "import", "-", "--json").value
    assert (there["is_new"], there["workflow"]["tenant_id"]) == (True, "another")
    assert workstation("workflow", "export", "my-first").out == exported.out
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(DEFINITION))
    assert "--slug" in workstation("workflow", "import", str(bare)).err
    assert workstation("workflow", "import", str(bare), "--slug", "other").code == 0


def _from_stdin(workstation: Program, monkeypatch: pytest.MonkeyPatch, text: str, *words: str) -> Ran:
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return workstation("workflow", *words)


def test_every_problem_of_a_definition_is_told_with_its_place(workstation: Program, file: Path, tmp_path: Path) -> None:
    broken = {**DEFINITION, "nodes": [{**NODES[0], "type": "transfrom"}, {**NODES[1], "config": {}}]}
    file.write_text(json.dumps(broken))
    ran = workstation("workflow", "save", str(file))
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert {line.partition(": ")[0] for line in ran.out.splitlines()} == {"/nodes/0/type", "/nodes/1/config/values"}
    told = workstation("workflow", "save", str(file), "--json").value["error"]
    assert [each["path"] for each in told["problems"]] == ["/nodes/0/type", "/nodes/1/config/values"]
    assert workstation("workflow", "list", "--json").value == []
    for content, complaint in (
        ("{", "not JSON"),
        ("[" * 100_000, ""),
        ('{"definition": {}, "sluggish": 1}', "sluggish"),
    ):
        file.write_text(content)
        refused = workstation("workflow", "save", str(file))
        assert (refused.code, complaint in refused.err) == (2, True)
    assert "cannot be read" in workstation("workflow", "save", str(tmp_path)).err


def test_examples_can_be_saved(workstation: Program) -> None:
    for example in sorted(_EXAMPLES.glob("*.json")):
        assert _saved(workstation, example)["workflow"]["slug"] == example.stem


def test_templates_are_published_used_and_taken_back(workstation: Program, file: Path) -> None:
    _saved(workstation, file, "--name", "Topic", "--tag", "mine")
    assert "every user" in workstation("workflow", "templates", "publish", "my-first").out
    (own,) = workstation("workflow", "templates", "list", "--own", "--json").value
    assert (own["slug"], own["is_public"], own["tags"]) == ("my-first", True, ["mine"])

    hers = Program(workstation.settings.model_copy(update={"user": "someone"}), workstation._capsys)
    assert "public" in hers("workflow", "templates", "list", "--tag", "mine").out
    assert "input  topic" in hers("workflow", "templates", "show", "my-first").out
    made = hers("workflow", "templates", "use", "my-first", "--slug", "hers", "--json").value
    assert (made["slug"], made["name"], made["template_id"]) == ("hers", "Topic", own["id"])
    assert "choose another" in hers("workflow", "templates", "use", "my-first", "--slug", "hers").err
    for words in (("unpublish", "my-first"), ("remove", "my-first", "--yes")):
        assert "is not yours" in hers("workflow", "templates", *words).err

    assert "yours alone" in workstation("workflow", "templates", "unpublish", "my-first").out
    assert hers("workflow", "templates", "show", "my-first").code == 2
    assert workstation("workflow", "templates", "show", "my-first", "--json").value["usage_count"] == 1
    again = workstation("workflow", "templates", "publish", "my-first", "--private", "--json").value
    assert (again["id"], again["is_public"]) == (own["id"], False)
    assert "Removed" in workstation("workflow", "templates", "remove", "my-first", "--yes").out
    assert hers("workflow", "show", "hers").code == 0


def test_schedules_of_a_workflow_live_from_add_to_remove(workstation: Program, file: Path) -> None:
    _saved(workstation, file)
    assert "schedule add" in workstation("workflow", "schedule", "list").out
    added = workstation(
        "workflow", "schedule", "add", "my-first", "--daily", "07:00", "-i", "topic=tides", "--json"
    ).value
    assert (added["input"], added["schedule_type"]) == ({"topic": "tides"}, "daily")
    assert "'topic' is missing" in workstation("workflow", "schedule", "add", "my-first", "--daily", "07:00").err
    assert "daily at 07:00" in workstation("workflow", "schedule", "list", "--workflow", "my-first").out
    assert "Paused" in workstation("workflow", "schedule", "pause", added["id"]).out
    assert workstation("workflow", "schedule", "resume", added["id"], "--json").value["is_active"] is True
    assert "schedule list" in workstation("workflow", "schedule", "pause", "nonsense").err
    assert "Removed" in workstation("workflow", "schedule", "remove", added["id"]).out
    assert workstation("workflow", "schedule", "remove", added["id"]).code == 2
