"""A run on the spot, on Dagster's real storage in PostgreSQL: what the demo and the first screen of the web UI show."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from tests.conftest import DatabaseUrls
from tests.defs.place import ALICE, FOLDER
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.defs import dev, partitions
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import DataSourceId
from workstation_pipelines.settings import EmbedderName, Settings
from workstation_pipelines.sync.workspace import Workspace


@pytest.fixture
def settings(tmp_path: Path, database_urls: DatabaseUrls, dagster_url: str) -> Settings:
    return Settings(
        WORKSTATION_HOME=tmp_path / "home",
        DATABASE_URL=database_urls.app_url,
        DAGSTER_POSTGRES_URL=dagster_url,
        WORKSTATION_FOLDER_ROOTS=str(tmp_path),
        WORKSTATION_EMBEDDER=EmbedderName.HASHING,
    )


@pytest.fixture
def notes(tmp_path: Path, settings: Settings) -> DataSource:
    (tmp_path / "notes").mkdir()
    for name in ("a.md", "b.md"):
        (tmp_path / "notes" / name).write_text(f"Some words about {name}.")
    with Workspace.open(settings) as workspace, workspace.database.transaction_with_rls(ALICE) as connection:
        return data_sources.add(
            connection,
            user_id=ALICE,
            data_source_id=DataSourceId(uuid4()),
            name="notes",
            source_type=FOLDER,
            config={"path": str(tmp_path / "notes")},
        )


def test_run_on_the_spot_is_kept_with_job_partition_and_location(
    settings: Settings, notes: DataSource, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = dev.materialize_once(settings, notes.id)

    assert outcome.is_success
    assert outcome.metadata["items"]["created"] == 2
    assert outcome.metadata["embeddings"]["chunks_embedded"] == 2
    assert outcome.failed_checks == ()
    assert capfd.readouterr() == ("", "")
    with dev.open_instance(settings) as instance:
        [run] = instance.get_runs()
        assert (run.run_id, run.job_name) == (outcome.run_id, "local_folder_sync")
        assert run.tags["dagster/partition"] == str(notes.id)
        assert run.tags["workstation/user"] == "alice"
        assert run.remote_job_origin is not None
        assert run.remote_job_origin.location_name == "sync"
        event = instance.get_latest_materialization_event(dg.AssetKey(["local_folder", "documents"]))
        assert event is not None
        assert event.run_id == run.run_id
        assert partitions.known_keys(instance, FOLDER) == [str(notes.id)]

    again = dev.materialize_once(settings, notes.id)
    assert (again.metadata["items"]["fetched"], again.metadata["items"]["unchanged"]) == (0, 2)
    rework = dev.materialize_once(settings, notes.id, ["embeddings"])
    assert rework.metadata == {"embeddings": {"documents": 0, "chunks": 0, "embedded": 0, "reused": 0, "tokens": 0}}


def test_failed_run_is_an_outcome(settings: Settings, notes: DataSource, tmp_path: Path) -> None:
    with Workspace.open(settings) as workspace, workspace.database.transaction_with_rls(ALICE) as connection:
        broken = data_sources.add(
            connection,
            user_id=ALICE,
            data_source_id=DataSourceId(uuid4()),
            name="broken",
            source_type=FOLDER,
            config={"path": "not absolute"},
        )
    outcome = dev.materialize_once(settings, broken.id)
    assert (outcome.is_success, outcome.status, outcome.metadata) == (False, "FAILURE", {})


def test_unknown_source_starts_no_run(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="source list"):
        dev.materialize_once(settings, uuid4())


def test_registering_is_best_effort(settings: Settings, notes: DataSource) -> None:
    assert dev.register(settings, FOLDER, notes.id)
    assert dev.forget(settings, FOLDER, notes.id)
    away = settings.model_copy(
        update={"dagster_postgres_url": "postgresql+psycopg2://nobody@127.0.0.1:1/dagster?connect_timeout=1"}
    )
    assert not dev.register(away, FOLDER, notes.id)


_SUPERVISOR = """
import sys
from workstation_pipelines.defs.dev import supervise
sys.exit(supervise([sys.executable, "-c", sys.argv[1]], {"MARK": "passed on"}))
"""
_CHILD = """
import os, time
try:
    print(os.environ["MARK"], flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_supervised_program_stops_cleanly_even_where_a_shell_ignored_interrupts(number: signal.Signals) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISOR, _CHILD],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert supervisor.stdout is not None
    with supervisor:
        assert supervisor.stdout.readline() == "passed on\n"
        supervisor.send_signal(number)
        assert supervisor.stdout.readline() == "interrupted\n"
    assert supervisor.returncode == 0


def test_supervised_program_that_fails_gives_its_code() -> None:
    assert dev.supervise([sys.executable, "-c", "raise SystemExit(7)"], {}) == 7
