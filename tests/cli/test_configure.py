"""`workstation source configure`: other settings for a source that is there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.cli.program import Program
from tests.fakes.dropbox import FakeDropbox
from workstation_pipelines.defs import dev
from workstation_pipelines.settings import Vendor
from workstation_pipelines.sources.sealing import new_key


def paths(workstation: Program) -> list[str]:
    return sorted(row["external_path"] for row in workstation("documents", "list", "--json").value)


def test_narrower_settings_drop_what_left_and_wider_ones_bring_it_back(synced: Program, folder: Path) -> None:
    ran = synced("source", "configure", "papers", "--config", json.dumps({"path": str(folder), "exclude": ["notes/"]}))
    assert (ran.code, ran.err) == (0, "")
    assert "The next sync lists everything" in ran.out
    assert len(paths(synced)) == 3
    assert "2 to delete" in synced("sync", "papers", "--plan").out
    assert synced("sync", "papers").code == 0
    assert paths(synced) == ["recipe.txt"]
    (folder / "notes" / "forest.md").unlink()
    ran = synced("source", "configure", "papers", "--config", json.dumps({"path": str(folder)}), "--json")
    assert (ran.code, ran.value["lists_everything"], ran.value["config"]) == (0, True, {"path": str(folder)})
    assert synced("sync", "papers").code == 0
    assert paths(synced) == ["notes/harbour.md", "recipe.txt"]


def test_same_choice_in_other_words_lists_nothing_anew(synced: Program, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"path": str(folder), "exclude": []}))
    ran = synced("source", "configure", "papers", "--config", f"@{tmp_path}/config.json")
    assert "goes on as before" in ran.out
    assert synced("source", "show", "papers", "--json").value["config"]["exclude"] == []


@pytest.mark.parametrize(
    ("config", "code", "complaint"),
    [
        ("{", 2, "not JSON"),
        ("[]", 2, "must be a JSON object"),
        ('{"path": "HERE", "colour": 1}', 2, "`colour`"),
        ('{"path": "HERE/absent"}', 5, "absent"),
    ],
)
def test_unusable_settings_leave_the_stored_ones(
    synced: Program, folder: Path, config: str, code: int, complaint: str
) -> None:
    before = synced("source", "show", "papers", "--json").value
    ran = synced("source", "configure", "papers", "--config", config.replace("HERE", str(folder)))
    assert (ran.code, ran.err.count("\n")) == (code, 1), ran
    assert complaint in ran.err
    assert synced("source", "show", "papers", "--json").value == before


def test_another_folder_is_another_source(workstation: Program, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "register", lambda *_: True)  # telling Dagster takes seconds
    workstation("source", "add", "local_folder", "papers", "--path", str(folder))
    ran = workstation("source", "configure", "papers", "--config", json.dumps({"path": str(folder / "notes")}))
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "nothing was changed" in ran.err
    assert workstation("source", "show", "papers", "--json").value["config"] == {"path": str(folder)}


def test_unknown_source_is_wrong_input(workstation: Program) -> None:
    assert workstation("source", "configure", "papers", "--config", "{}").code == 2


@pytest.fixture
def dropbox(workstation: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDropbox]:
    """A Dropbox for the program, with the source `letters` that is not connected and picks a folder that is not there."""
    monkeypatch.setattr(dev, "register", lambda *_: True)  # telling Dagster takes seconds
    with FakeDropbox() as dropbox:
        vendor = Vendor(api_url=dropbox.url, content_url=dropbox.url)
        workstation.settings = workstation.settings.model_copy(
            update={"dropbox": vendor, "token_keys": SecretStr(new_key("first"))}
        )
        workstation("source", "add", "dropbox", "letters", "--config", '{"folders": ["/Nowhere"]}')
        yield dropbox


def connect(workstation: Program, monkeypatch: pytest.MonkeyPatch, token: str = "test-token") -> Any:  # noqa: S107
    monkeypatch.setattr("sys.stdin", io.StringIO(token + "\n"))
    return workstation("source", "connect", "letters", "--token-stdin")


def test_settings_that_hinder_connecting_can_be_mended_before(
    workstation: Program, dropbox: FakeDropbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropbox.space.put("/Team/plan.txt", b"plan")
    refused = connect(workstation, monkeypatch)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "`workstation source configure letters` changes" in refused.err
    ran = workstation("source", "configure", "letters", "--config", '{"folders": ["/Team"]}')
    assert ran.code == 0
    assert "which is not connected" in ran.out
    assert "Next: workstation source connect letters" in ran.out
    assert connect(workstation, monkeypatch).code == 0
    ran = workstation("source", "configure", "letters", "--config", '{"folders": ["/Nowhere"]}')
    assert ran.code == 2
    assert workstation("source", "show", "letters", "--json").value["config"] == {"folders": ["/Team"]}


def test_settings_can_be_mended_while_access_is_withdrawn(
    workstation: Program, dropbox: FakeDropbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    workstation("source", "configure", "letters", "--config", "{}")
    assert connect(workstation, monkeypatch).code == 0
    dropbox.tokens.clear()
    assert workstation("source", "check", "letters").code == 5
    ran = workstation("source", "configure", "letters", "--config", '{"include_shared": false}')
    assert ran.code == 0
    assert "Next: workstation source connect letters" in ran.out
    refused = workstation("source", "check", "letters")
    assert "`workstation source connect letters`" in refused.err
