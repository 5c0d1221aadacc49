"""`workstation sync` and `workstation jobs`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import Program

_CORRUPT = b"PK\x03\x04 this is no document"


def test_sync_counts_what_it_did_and_then_finds_nothing_to_do(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    first = workstation("sync", "papers", "--json")
    assert (first.code, first.err) == (0, "")
    assert first.value["status"] == "completed"
    assert (first.value["counts"]["created"], first.value["counts"]["fetched"]) == (3, 3)
    second = workstation("sync", "papers")
    assert (second.code, second.err) == (0, "")
    assert "3 unchanged" in second.out
    assert "0 fetched" in second.out


def test_full_sync_is_recorded_as_one(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    job = workstation("sync", "papers", "--job-type", "full_sync", "--json").value["job_id"]
    assert workstation("jobs", "show", job, "--json").value["job_type"] == "full_sync"


def test_plan_tells_what_would_happen_and_changes_nothing(synced: Program, folder: Path) -> None:
    (folder / "new.md").write_text("# New\n")
    (folder / "recipe.txt").unlink()
    plan = synced("sync", "papers", "--plan", "--json")
    assert (plan.code, plan.value["adds"], plan.value["deletes"], plan.value["unchanged"]) == (0, 1, 1, 2)
    assert "adds: new.md" in synced("sync", "papers", "--plan").out
    assert len(synced("jobs", "list", "--json").value) == 1


def test_failed_item_is_named_and_the_exit_code_says_so(workstation: Program, folder: Path) -> None:
    (folder / "broken.docx").write_bytes(_CORRUPT)
    workstation.connect("papers", folder)
    ran = workstation("sync", "papers")
    assert ran.code == 1
    assert "completed with errors" in ran.out
    assert "broken.docx" in ran.out
    job = workstation("jobs", "list", "--source", "papers", "--json").value[0]
    assert (job["status"], job["items_failed"], job["items_created"]) == ("completed_with_errors", 1, 3)
    shown = workstation("jobs", "show", job["id"], "--json").value
    assert [failure["external_path"] for failure in shown["failures"]] == ["broken.docx"]
    assert "broken.docx" in workstation("jobs", "show", job["id"]).out
    assert workstation("jobs", "list").out.count(job["id"]) == 1


def test_retry_failed_takes_up_what_was_given_up(workstation: Program, folder: Path) -> None:
    (folder / "broken.docx").write_bytes(_CORRUPT)
    workstation.connect("papers", folder)
    workstation("sync", "papers")
    assert workstation("sync", "papers", "--json").value["counts"]["fetched"] == 0
    retried = workstation("sync", "papers", "--retry-failed", "--json")
    assert (retried.code, retried.value["counts"]["failed"]) == (1, 1)
    assert [failure["external_path"] for failure in retried.value["failures"]] == ["broken.docx"]


def test_suspicious_deletes_wait_for_a_confirmation(workstation: Program, folder: Path) -> None:
    for number in range(25):
        (folder / f"{number}.txt").write_text(f"number {number}")
    workstation.connect("papers", folder)
    workstation("sync", "papers")
    for number in range(25):
        (folder / f"{number}.txt").unlink()
    assert "--confirm-deletes" in workstation("sync", "papers", "--plan").out
    held = workstation("sync", "papers")
    assert held.code == 4
    assert "25 of 28 items are gone" in held.out
    assert "workstation sync papers --confirm-deletes" in held.out
    assert len(workstation("documents", "list", "--json").value) == 28
    assert workstation("sync", "papers", "--confirm-deletes").code == 0
    assert len(workstation("documents", "list", "--json").value) == 3


def test_deletes_that_nobody_confirms_never_happen(workstation: Program, folder: Path) -> None:
    for number in range(25):
        (folder / f"{number}.txt").write_text(f"number {number}")
    workstation.connect("papers", folder)
    workstation("sync", "papers")
    for number in range(25):
        (folder / f"{number}.txt").rename(folder.parent / f"{number}.away")
    assert workstation("sync", "papers").code == 4
    (folder / "new.txt").write_text("what is new is still taken\n")
    ran = workstation("sync", "papers", "--json")
    assert (ran.code, ran.value["counts"]["created"], ran.value["counts"]["deleted"]) == (4, 1, 0)
    assert len(workstation("documents", "list", "--json").value) == 29
    for number in range(25):
        (folder.parent / f"{number}.away").rename(folder / f"{number}.txt")
    back = workstation("sync", "papers", "--json")
    assert (back.code, back.value["counts"]["fetched"], back.value["counts"]["deleted"]) == (0, 0, 0)
    assert len(workstation("documents", "list", "--json").value) == 29


def test_folder_that_is_gone_is_unavailable_and_deletes_nothing(synced: Program, folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    ran = synced("sync", "papers")
    assert (ran.code, ran.err.count("\n")) == (5, 1)
    assert "cannot be listed" in ran.err
    assert len(synced("documents", "list", "--json").value) == 3


def test_unknown_source_and_job_are_wrong_input(workstation: Program) -> None:
    assert workstation("sync", "absent").code == 2
    assert workstation("jobs", "list", "--source", "absent").code == 2
    assert workstation("jobs", "show", "01a20127-0fc3-7687-8fb2-824a7cb23d89").code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sync_is_cancelled_and_keeps_what_is_stored(
    workstation: Program, folder: Path, number: signal.Signals
) -> None:
    workstation.connect("papers", folder)
    ran, out, err = _interrupted(workstation, number, "sync", "papers", "--json")
    assert ran == 130
    assert "Traceback" not in err
    assert err.count("\n") == 1
    job = workstation("jobs", "list", "--json").value[0]
    kept = job["items_created"]
    assert job["status"] == "cancelled"
    assert f"the {kept} documents it stored stay" in err
    ended = json.loads(out)
    assert (ended["job_id"], ended["status"], ended["interrupted"]) == (job["id"], "cancelled", True)
    assert len(workstation("documents", "list", "--json").value) == kept == 3
    assert workstation("sync", "papers", "--json").value["counts"]["unchanged"] == 3


def _interrupted(workstation: Program, number: signal.Signals, *arguments: str) -> tuple[int, str, str]:
    """Run the program, pause it before its first commit, send it and its children a signal, let it go on."""
    settings = workstation.settings
    process = subprocess.Popen(
        [sys.executable, "-m", "workstation_pipelines.cli", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "WORKSTATION_HOME": str(settings.home),
            "DATABASE_URL": settings.database_url or "",
            "WORKSTATION_FOLDER_ROOTS": settings.folder_roots_text or "",
            "WORKSTATION_EMBEDDER": "hashing",
            "WORKSTATION_FAULT": "page_before_commit:1:stop",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), process.communicate()
    os.killpg(process.pid, number)
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
