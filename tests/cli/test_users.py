"""Two users of one database: no command of the one shows or changes anything of the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import Program
from workstation_pipelines.model import UserId


@pytest.fixture
def shared(synced: Program, tmp_path: Path) -> Program:
    """`dev` has papers, tagged and in a project; bob has a folder of his own under the same name."""
    synced("documents", "tag", "recipe.txt", "food")
    synced("documents", "assign", "recipe.txt", "Kitchen")
    (tmp_path / "bobs").mkdir()
    (tmp_path / "bobs" / "diary.md").write_text("# Diary\n\nBob bakes bread, too.\n")
    synced.connect("papers", tmp_path / "bobs", user_id=UserId("bob"))
    assert synced("--user", "bob", "sync", "papers").code == 0
    return synced


def test_bob_sees_nothing_of_anothers(shared: Program, folder: Path) -> None:
    hidden = [each["id"] for each in shared("documents", "list", "--json").value]
    hidden += [each["id"] for each in shared("source", "list", "--json").value]
    hidden += [each["id"] for each in shared("jobs", "list", "--json").value]
    hidden += ["Kitchen", "food", "Knead", str(folder)]
    for command in (
        ["source", "list"],
        ["source", "show", "papers"],
        ["source", "check", "papers"],
        ["documents", "list"],
        ["documents", "list", "--source", "papers"],
        ["projects", "list"],
        ["tags", "list"],
        ["jobs", "list"],
        ["search", "bread dough"],
        ["search", "bread dough", "--mode", "vector"],
        ["check"],
        ["sync", "papers", "--plan"],
        ["why", "recipe.txt"],
    ):
        for options in ([], ["--json"]):
            told = shared("--user", "bob", *command, *options).out
            assert (command, [secret for secret in hidden if secret in told]) == (command, [])


def test_bob_cannot_reach_anothers_documents_and_jobs_by_id(shared: Program) -> None:
    document = shared("documents", "show", "recipe.txt", "--json").value["id"]
    source = shared("source", "show", "papers", "--json").value["id"]
    job = shared("jobs", "list", "--json").value[0]["id"]
    for command in (
        ["documents", "show", document],
        ["documents", "tag", document, "mine"],
        ["documents", "untag", document, "food"],
        ["documents", "assign", document, "Mine"],
        ["documents", "delete", document, "--yes"],
        ["documents", "list", "--source", source],
        ["source", "show", source],
        ["source", "schedule", source, "hourly"],
        ["source", "remove", source, "--yes"],
        ["sync", source],
        ["jobs", "show", job],
        ["search", "bread", "--project", "Kitchen"],
        ["check", "--source", source],
    ):
        assert shared("--user", "bob", *command).code == 2, command
    assert shared("--user", "bob", "why", document, "--json").value["items"] == []
    kept = shared("documents", "show", document, "--json").value
    assert (kept["tags"], kept["project"]) == (["food"], "Kitchen")


def test_repair_mends_ones_own_only(shared: Program) -> None:
    assert shared("--user", "bob", "check", "--json").value["found"]["documents"] == 1
    assert shared("check", "--json").value["found"]["documents"] == 3
