"""A place to run Dagster's definitions in: real application database, Dagster's storage in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.conftest import DatabaseUrls
from tests.defs.place import Place
from workstation_pipelines.settings import EmbedderName, Settings


@pytest.fixture(scope="module")
def quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: Dagster's SQLite storage waits for the disk after each event."""
    in_memory = Path("/dev/shm")
    is_usable = in_memory.is_dir() and os.access(in_memory, os.W_OK)
    with tempfile.TemporaryDirectory(dir=in_memory if is_usable else tmp_path_factory.getbasetemp()) as folder:
        yield Path(folder)


@pytest.fixture
def settings(tmp_path: Path, database_urls: DatabaseUrls) -> Settings:
    return Settings(
        WORKSTATION_HOME=tmp_path / "home",
        DATABASE_URL=database_urls.app_url,
        WORKSTATION_FOLDER_ROOTS=str(tmp_path),
        WORKSTATION_EMBEDDER=EmbedderName.HASHING,
    )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def place(tmp_path: Path, settings: Settings, instance: dg.DagsterInstance) -> Iterator[Place]:
    folder = tmp_path / "notes"
    folder.mkdir()
    place = Place(folder, settings, instance)
    yield place
    place.workspace.close()


@pytest.fixture(scope="module")
def queued(quick_folder: Path) -> Iterator[dg.DagsterInstance]:
    """With a queue, as in production: what is submitted stays QUEUED, since no daemon runs. Shared, as it is slow to make."""
    queue = {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"}
    with dg.DagsterInstance.local_temp(str(quick_folder), overrides={"run_coordinator": queue}) as instance:
        yield instance
