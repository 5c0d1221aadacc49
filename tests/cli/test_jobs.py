"""`workstation sync --background` and what `workstation jobs` asks of jobs and answers them."""

from __future__ import annotations

from pathlib import Path

from tests.cli.program import Program

UNKNOWN = "01a20127-0fc3-7687-8fb2-824a7cb23d89"


def test_job_in_the_background_is_asked_for_once_held_resumed_and_cancelled(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    first = workstation("sync", "papers", "--background", "--priority", "7", "--key", "k", "--json")
    assert (first.code, first.value["status"], first.value["priority"]) == (0, "pending", 7)
    job = first.value["id"]
    assert job in workstation("sync", "papers", "--background", "--key", "k").out
    assert "paused" in workstation("jobs", "pause", job).out
    assert [row["id"] for row in workstation("jobs", "list", "--status", "paused", "--json").value] == [job]
    assert workstation("jobs", "resume", job, "--json").value["status"] == "pending"
    assert "cancelled" in workstation("jobs", "cancel", job).out
    shown = workstation("jobs", "show", job, "--json").value
    assert (shown["status"], shown["cancel_requested"], shown["heartbeat_at"]) == ("cancelled", True, None)
    for words in (("resume", job), ("refuse", job), ("cancel", UNKNOWN), ("pause", "no-id")):
        ran = workstation("jobs", *words)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "No job is paused" in workstation("jobs", "list", "--status", "paused").out


def test_question_about_deletes_is_shown_and_answered(workstation: Program, folder: Path) -> None:
    for number in range(25):
        (folder / f"{number}.txt").write_text(f"number {number}")
    workstation.connect("papers", folder)
    workstation("sync", "papers")
    for number in range(25):
        (folder / f"{number}.txt").unlink()
    held = workstation("sync", "papers", "--json")
    assert held.code == 4
    job = held.value["job_id"]
    assert f"workstation jobs confirm {job}" in held.value["message"]
    assert "gone from the source, and kept here: 0.txt" in workstation("jobs", "show", job).out
    assert len(workstation("jobs", "show", job, "--json").value["held_back"]) == 10
    asked = workstation("jobs", "confirm", job, "--json").value
    assert (asked["status"], asked["confirm_deletes"], asked["id"] == job) == ("pending", True, False)
    assert workstation("jobs", "refuse", job).code == 0
    again = workstation("sync", "papers", "--json")
    assert (again.code, again.value["counts"]["deleted"]) == (0, 0)
    assert len(workstation("documents", "list", "--json").value) == 28
