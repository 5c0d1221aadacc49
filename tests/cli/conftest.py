"""The program on a fresh database, called in this process as a shell would call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import Program
from tests.conftest import DatabaseUrls
from workstation_pipelines.settings import Settings


@pytest.fixture
def settings(database_urls: DatabaseUrls, tmp_path: Path) -> Settings:
    return Settings(
        WORKSTATION_HOME=tmp_path / "home",
        DATABASE_URL=database_urls.app_url,
        DATABASE_ADMIN_URL=database_urls.admin_url,
        # Nobody listens there: a command that needs Dagster's storage asks for the fixture `dagster_url`.
        DAGSTER_POSTGRES_URL="postgresql://nobody@127.0.0.1:1/dagster",
        WORKSTATION_FOLDER_ROOTS=str(tmp_path),
        WORKSTATION_EMBEDDER="hashing",
    )


@pytest.fixture
def workstation(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(settings, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three short documents."""
    folder = tmp_path / "papers"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "harbour.md").write_text("# Harbour\n\nThe crane lifts containers from the ship.\n")
    (folder / "notes" / "forest.md").write_text("# Forest\n\nOwls hunt mice between the old oaks at night.\n")
    (folder / "recipe.txt").write_text("Knead the dough, then bake the bread for forty minutes.\n")
    return folder


@pytest.fixture
def synced(workstation: Program, folder: Path) -> Program:
    """The program with the folder connected as `papers` and synced."""
    workstation.connect("papers", folder)
    assert workstation("sync", "papers").code == 0
    return workstation
