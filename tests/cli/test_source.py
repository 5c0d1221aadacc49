"""`workstation source`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import USER, Program
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.engine import Database


@pytest.fixture
def registering(workstation: Program, dagster_url: str) -> Program:
    """The program with a Dagster storage of its own."""
    workstation.settings = workstation.settings.model_copy(update={"dagster_postgres_url": dagster_url})
    return workstation


def test_added_source_is_known_here_and_to_dagster_until_removed(registering: Program, folder: Path) -> None:
    from workstation_pipelines.defs import dev, partitions
    from workstation_pipelines.model import SourceType

    arguments = [
        "source",
        "add",
        "local_folder",
        "papers",
        "--path",
        str(folder),
        "--project",
        "Work",
        "--every",
        "daily",
    ]
    added = registering(*arguments, "--json").value
    assert (added["name"], added["sync_frequency"], added["external_account"]) == ("papers", "daily", str(folder))
    assert added["account"]["details"]["files"] == 3
    assert added["is_registered_with_dagster"]
    assert registering("source", "show", "papers", "--json").value["id"] == added["id"]
    with dev.open_instance(registering.settings) as instance:
        assert partitions.known_keys(instance, SourceType.LOCAL_FOLDER) == [added["id"]]
        assert registering("source", "remove", "papers", "--yes").code == 0
        assert partitions.known_keys(instance, SourceType.LOCAL_FOLDER) == []


def test_source_is_added_even_if_dagster_cannot_be_told(workstation: Program, folder: Path) -> None:
    added = workstation("source", "add", "local_folder", "papers", "--path", str(folder))
    assert (added.code, added.err) == (0, "")
    assert "sensor finds the source by itself later" in added.out
    assert [source["name"] for source in workstation("source", "list", "--json").value] == ["papers"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["floppy", "papers", "--path", "/"], "no source type 'floppy' here: choose one of dropbox, gmail"),
        (["gmail", "papers", "--path", "/"], "--path is for local_folder: gmail takes --config JSON"),
        (["local_folder", "papers"], "either --path FOLDER or --config JSON"),
        (["local_folder", "papers", "--path", "/", "--config", "{}"], "either --path FOLDER or --config JSON"),
        (["local_folder", "papers", "--config", "{"], "not JSON"),
        (["local_folder", "papers", "--config", "[]"], "must be a JSON object"),
        (["local_folder", "papers", "--config", "@/nonexistent"], "cannot be read"),
        (["local_folder", "papers", "--config", '{"path": "/", "colour": 1}'], "`colour`"),
        (["local_folder", " papers", "--path", "HERE"], "no blanks at its ends"),
        (["local_folder", "papers", "--path", "/etc"], "outside the folders"),
    ],
)
def test_unusable_source_is_refused_and_not_added(
    workstation: Program, folder: Path, arguments: list[str], complaint: str
) -> None:
    given = [str(folder) if argument == "HERE" else argument for argument in arguments]
    ran = workstation("source", "add", *given)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert complaint in ran.err
    assert workstation("source", "list", "--json").value == []


def test_missing_folder_is_unavailable_and_not_added(workstation: Program, tmp_path: Path) -> None:
    ran = workstation("source", "add", "local_folder", "papers", "--path", str(tmp_path / "absent"))
    assert ran.code == 5
    assert workstation("source", "list", "--json").value == []


def test_second_source_of_a_name_is_refused(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    ran = workstation("source", "add", "local_folder", "papers", "--path", str(folder))
    assert ran.code == 2
    assert "already have a source named 'papers'" in ran.err


def test_config_is_taken_from_a_file(registering: Program, folder: Path, tmp_path: Path) -> None:
    config = {"path": str(folder), "exclude": ["*.txt"]}
    (tmp_path / "papers.json").write_text(json.dumps(config))
    assert registering("source", "add", "local_folder", "papers", "--config", f"@{tmp_path}/papers.json").code == 0
    assert registering("source", "show", "papers", "--json").value["config"] == config


def test_check_tells_what_is_there_and_stores_nothing(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    assert workstation("source", "check", "papers", "--json").value["details"]["files"] == 3
    assert "files" in workstation("source", "check", "papers").out
    assert workstation("documents", "list", "--json").value == []


def test_schedule_makes_and_removes_the_row(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)

    def schedules(*arguments: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = workstation("source", "schedule", "papers", *arguments, "--json").value[
            "schedules"
        ]
        return rows

    assert [row["timezone"] for row in schedules("daily", "--timezone", "Europe/Oslo")] == ["Europe/Oslo"]
    assert [row["schedule_config"]["frequency"] for row in schedules("hourly")] == ["hourly"]
    assert schedules("manual") == []
    assert workstation("source", "schedule", "papers", "daily", "--timezone", "Mars/Olympus").code == 2


def test_list_and_show_are_readable(synced: Program) -> None:
    listed = synced("source", "list").out.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["papers", "local_folder"]]
    assert "config" in synced("source", "show", "papers").out


def test_remove_asks_first(synced: Program) -> None:
    ran = synced("source", "remove", "papers")
    assert ran.code == 4
    assert "3 documents" in ran.err
    assert "--yes" in ran.err
    assert len(synced("documents", "list", "--json").value) == 3


def test_remove_takes_the_documents_and_leaves_the_folder(registering: Program, synced: Program, folder: Path) -> None:
    assert synced is registering  # one program, so that Dagster's storage is there
    assert synced("source", "remove", "papers", "--yes", "--json").value["documents"] == 3
    assert synced("source", "list", "--json").value == []
    assert synced("documents", "list", "--json").value == []
    assert (folder / "recipe.txt").exists()


def test_source_that_is_being_synced_is_not_removed(workstation: Program, folder: Path) -> None:
    source = workstation.connect("papers", folder)
    database = Database(workstation.settings.database_url or "")
    with data_sources.leased(database, source):
        assert workstation("source", "remove", "papers", "--yes").code == 3
        assert workstation("sync", "papers").code == 3
    database.close()
    assert workstation("source", "show", source.name, "--json").value["id"] == str(source.id)
    assert source.user_id == USER
