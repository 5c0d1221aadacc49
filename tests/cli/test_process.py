"""`workstation process`: files and URLs of no source, as a person and as a script sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import Program
from tests.fakes.server import Answer
from tests.sources.http_stage import PlainVendor
from workstation_pipelines.settings import Settings


@pytest.fixture
def site() -> Iterator[PlainVendor]:
    with PlainVendor() as site:
        site.fail("page", answer=Answer(200, b"<h1>Tides</h1><p>The tide rises twice a day.</p>", _HTML), times=9)
        yield site


_HTML = {"Content-Type": "text/html; charset=utf-8"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"fetch_loopback": True})


def test_files_and_urls_become_documents_like_any_other(workstation: Program, folder: Path, site: PlainVendor) -> None:
    recipe, url = str(folder / "recipe.txt"), f"{site.url}/page"
    wanted = ("process", "add", recipe, str(folder / "notes" / "forest.md"), url, "--project", "tax", "--tag", "new")
    added = workstation(*wanted)
    assert added.code == 0, added.err
    assert "completed: 3 documents, 3 done, 0 skipped, 0 failed, 0 pending" in added.out
    again = workstation(*wanted, "--json").value
    assert (again["status"], again["documents_skipped"], again["embedding_tokens"]) == ("completed", 3, 0)
    listed = workstation("documents", "list", "--project", "tax", "--tag", "new", "--json").value
    assert {(each["external_path"], each["title"], each["status"]) for each in listed} == {
        (recipe, "recipe", "synced"), (str(folder / "notes" / "forest.md"), "Forest", "synced"), (url, "Tides", "synced"),
    }  # fmt: skip
    found = workstation("search", "bread dough oven", "--json").value
    assert found["hits"][0]["external_path"] == recipe
    assert workstation("documents", "show", "recipe.txt").code == 0
    assert "searchable" in workstation("why", recipe).out
    assert "searchable" in workstation("why", url).out
    assert workstation("check").code == 0
    assert workstation("--user", "mallory", "process", "list", "--json").value == []
    assert workstation("--user", "mallory", "process", "show", again["id"]).code == 2


def test_what_fails_is_named_and_decides_the_exit_code(workstation: Program, folder: Path) -> None:
    gone = str(folder / "gone.txt")
    added = workstation("process", "add", str(folder / "recipe.txt"), gone, "https://10.0.0.1/x")
    assert added.code == 1
    assert f"failed: {gone}: there is no file" in added.out
    assert "failed: https://10.0.0.1/x: https://10.0.0.1/x leads into a private network" in added.out
    [job] = workstation("process", "list", "--json").value
    shown = workstation("process", "show", job["id"], "--status", "failed", "--json").value
    assert [(each["ordinal"], each["reason"]) for each in shown["outcomes"]] == [(1, "gone"), (2, "refused")]
    told = workstation("why", gone)
    assert "there is no file" in told.out
    assert "bulk document processing" in workstation("process", "list").out
    assert workstation("process", "show", "x").code == 2


def test_background_job_waits_is_resumed_here_or_cancelled(workstation: Program, folder: Path) -> None:
    recipe = str(folder / "recipe.txt")
    waiting = workstation("process", "add", recipe, "--background", "--key", "k", "--json").value
    assert workstation("process", "add", recipe, "--key", "k", "--json").value["id"] == waiting["id"]
    assert waiting["status"] == "pending"
    resumed = workstation("process", "resume", waiting["id"])
    assert (resumed.code, "1 done" in resumed.out) == (0, True)
    assert workstation("process", "resume", waiting["id"]).code == 2  # it is over
    other = workstation("process", "add", recipe, "--background", "--json").value
    assert workstation("process", "cancel", other["id"], "--json").value["status"] == "cancelled"
