"""A real `workstation dev` through the deaths that Dagster itself does not survive: what it says is true again soon after."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import psutil
import pytest

from tests.conftest import DatabaseUrls
from tests.defs.place import ALICE, FOLDER
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.engine import Database
from workstation_pipelines.defs import dev
from workstation_pipelines.model import DataSourceId
from workstation_pipelines.settings import EmbedderName, Settings, child_environment

_ROOT = Path(__file__).resolve().parents[2]
_DEV = """
import sys
from datetime import timedelta
from pathlib import Path
from workstation_pipelines.defs.dev import run_dev
from workstation_pipelines.settings import Settings
sys.exit(run_dev(Settings.load(), Path("workspace.yaml"), locations_every_s=1, jobs_every_s=1, grace=timedelta(seconds=5)))
"""
PATIENCE_S = 240.0


class Stack:
    """`workstation dev` with the watchdog in a hurry, whose runs stop still as soon as their job has started."""

    def __init__(self, process: subprocess.Popen[bytes], database: Database, instance: dg.DagsterInstance) -> None:
        self.process = process
        self.database = database
        self.instance = instance

    def ask_for_sync(self) -> UUID:
        job_id = uuid4()
        self.database.query_with_rls(
            ALICE,
            """INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type)
               SELECT :id, user_id, id, 'manual' FROM app.data_sources""",
            {"id": job_id},
        )
        return job_id

    def job(self, job_id: UUID) -> tuple[str, str | None]:
        [row] = self.database.query_with_rls(
            ALICE, "SELECT status, dagster_run_id FROM app.sync_jobs WHERE id = :id", {"id": job_id}
        )
        return row.status, row.dagster_run_id

    def run_status(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status.value

    def stopped_worker(self, job_id: UUID) -> tuple[psutil.Process, str]:
        """Wait until a run has started the job and stands still; return its process and id.

        A run that the change of the source asked for stands still just so, and holds the source: it is killed.
        """
        found: list[tuple[psutil.Process, str]] = []

        def look() -> bool:
            stopped = [each for each in self.processes() if each.status() == psutil.STATUS_STOPPED]
            status, run_id = self.job(job_id)  # after the processes: whoever stands still has written it
            for each in stopped:
                if status == "running" and run_id is not None and is_of_run(each, run_id):
                    found.append((each, run_id))
                elif status == "pending":
                    each.kill()
            return bool(found)

        within(look)
        return found[0]

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def is_settled(self, job_id: UUID, run_id: str) -> bool:
        return self.job(job_id)[0] == "failed" and self.run_status(run_id) == "FAILURE"


def is_of_run(process: psutil.Process, run_id: str) -> bool:
    """Tell by what captures the output of a run's process."""
    return any(run_id in word for child in process.children() for word in child.cmdline())


def within(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < PATIENCE_S:
        with suppress(psutil.NoSuchProcess):
            if holds():
                return
        time.sleep(0.25)
    raise AssertionError("it does not hold in time")


@contextmanager
def running(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    environment = child_environment(
        {
            "PYTHONPATH": str(_ROOT),
            "WORKSTATION_HOME": str(settings.home),
            "DATABASE_URL": settings.database_url or "",
            "DAGSTER_POSTGRES_URL": settings.dagster_postgres_url or "",
            "WORKSTATION_FOLDER_ROOTS": settings.folder_roots_text or "",
            "WORKSTATION_EMBEDDER": settings.embedder.value,
            "WORKSTATION_WEB_PORT": str(settings.web_port),
            "WORKSTATION_FAULT": "job_started:1:stop",
        }
    )
    process = subprocess.Popen([sys.executable, "-c", _DEV], cwd=_ROOT, env=environment)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
def stack(tmp_path: Path, database_urls: DatabaseUrls, dagster_url: str) -> Iterator[Stack]:
    settings = Settings(
        WORKSTATION_HOME=tmp_path / "home",
        DATABASE_URL=database_urls.app_url,
        DAGSTER_POSTGRES_URL=dagster_url,
        WORKSTATION_FOLDER_ROOTS=str(tmp_path),
        WORKSTATION_EMBEDDER=EmbedderName.HASHING,
        WORKSTATION_WEB_PORT=free_port(),
    )
    (tmp_path / "notes").mkdir()
    database = Database(database_urls.app_url)
    with database.transaction_with_rls(ALICE) as connection:
        data_sources.add(
            connection,
            user_id=ALICE,
            data_source_id=DataSourceId(uuid4()),
            name="notes",
            source_type=FOLDER,
            config={"path": str(tmp_path / "notes")},
        )
    with dev.open_instance(settings) as instance:
        instance.upgrade()
        with running(settings) as process:
            yield Stack(process, database, instance)
    database.close()


@pytest.mark.slow
def test_jobs_and_runs_agree_after_every_kill(stack: Stack) -> None:
    first = stack.ask_for_sync()
    worker, run_id = stack.stopped_worker(first)
    worker.kill()
    within(lambda: stack.is_settled(first, run_id))

    second = stack.ask_for_sync()
    worker, run_id = stack.stopped_worker(second)
    code_server = worker.parent()
    assert code_server is not None
    assert "grpc" in " ".join(code_server.cmdline())
    code_server.kill()
    worker.kill()
    within(lambda: stack.is_settled(second, run_id))

    third = stack.ask_for_sync()  # which only sensors of a reloaded code location start
    worker, run_id = stack.stopped_worker(third)
    worker.kill()
    within(lambda: stack.is_settled(third, run_id))
