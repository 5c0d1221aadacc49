"""From saving a workflow to its first block at work, on a real `workstation dev`, with few and with many others stored.

    python -m benchmarks.workflow_start [--others 20,1000] [--rounds 5] [--json]

Each round saves a workflow that nobody has heard of, asks for an execution of it and queues its run from this process, as
the command line does; then it queues a sync of a folder with one file. Nothing may be reloaded for that: the code servers
that answer at the end are those of the beginning.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psutil

from benchmarks.server import private_server
from benchmarks.workflow_kills import free_port
from workstation_pipelines.db import data_sources, workflows
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.defs import dev, partitions, runs, watchdog, workflow_launch
from workstation_pipelines.defs.assets import op_name
from workstation_pipelines.defs.location import sync_definitions
from workstation_pipelines.defs.resources import workspace_resource
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import DataSourceId, SourceType, UserId
from workstation_pipelines.settings import DAGSTER_DRIVER, EmbedderName, Settings, child_environment, with_driver
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import (
    ExecutionId,
    RunOwner,
    TenantId,
    WorkflowId,
    WorkflowVersionId,
)
from workstation_pipelines.workflows import control
from workstation_pipelines.workflows.definition import digest

ROOT = Path(__file__).resolve().parents[1]
ALICE, HOME = UserId("alice"), TenantId("alice")
PATIENCE_S = 300.0
TARGET_S = 10.0
_DEV = """
import sys
from pathlib import Path
from workstation_pipelines.defs.dev import run_dev
from workstation_pipelines.settings import Settings
sys.exit(run_dev(Settings.load(), Path("workspace.yaml"), listing=None))
"""
"""`workstation dev`, but for the reload by which new workflows get a page of their own half a minute later."""

MOST_SLOWER = 1.2


def document(number: int, nodes: int = 5) -> dict[str, Any]:
    """A chain of blocks that call nobody; each number gives another definition."""
    chain = [f"step_{place}" for place in range(nodes)]
    return {
        "nodes": [
            {"id": node, "type": "transform", "config": {"expression": f"`{number}`"}, "name": f"{number} {node}"}
            for node in chain
        ],
        "edges": [{"source": one, "target": two} for one, two in pairwise(chain)],
    }


def save(workspace: Workspace, number: int) -> str:
    slug, written = f"bench-{number}", document(number)
    with workspace.database.transaction_with_rls(ALICE, HOME) as connection:
        workflows.create(
            connection,
            user_id=ALICE,
            tenant_id=HOME,
            workflow_id=WorkflowId(workspace.new_id()),
            version_id=WorkflowVersionId(workspace.new_id()),
            slug=slug,
            name=slug,
            definition=written,
            definition_hash=digest(written),
        )
    return slug


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds since the workflow began to be saved."""

    queued_s: float
    first_block_s: float
    completed_s: float
    phases: dict[str, float]


def start(workspace: Workspace, instance: dg.DagsterInstance, number: int) -> Start:
    began_at = utc_now()
    slug = save(workspace, number)
    execution = control.start(workspace, user_id=ALICE, tenant_id=HOME, workflow=slug)
    run_id = workflow_launch.start_execution(workspace, instance, RunOwner(execution.id, ALICE, HOME))
    queued_s = (utc_now() - began_at).total_seconds()
    first_at = _when(lambda: _moment(workspace, execution.id, "SELECT min(started_at) FROM app.block_executions"))
    last_at = _when(
        lambda: _moment(
            workspace,
            execution.id,
            "SELECT max(completed_at) FROM app.workflow_steps",
            "HAVING bool_and(status = 'completed')",
        )
    )
    told = phases(instance, run_id or "", began_at)
    return Start(queued_s, (first_at - began_at).total_seconds(), (last_at - began_at).total_seconds(), told)


def start_sync(settings: Settings, instance: dg.DagsterInstance, source: DataSource) -> float:
    """Queue a sync; return after how many seconds its run begins."""
    began_at = utc_now()
    job = sync_definitions(workspace_resource(lambda: settings)).resolve_job_def("local_folder_sync")
    config = {"full_sync": False, "confirm_deletes": False}
    run = runs.create_sync_run(
        instance,
        job,
        partition_key=str(source.id),
        tags=runs.tags_of(user_id=ALICE, data_source_id=str(source.id)),
        run_config=runs.run_config_for(op_name(SourceType.LOCAL_FOLDER), config, log_level="CRITICAL"),
    )
    runs.submit_if_forgotten(instance, run)

    def begun() -> datetime | None:
        at_s = phases(instance, run.run_id, began_at).get("PIPELINE_START")
        return began_at + timedelta(seconds=at_s) if at_s is not None else None

    begun_at = _when(begun)
    _when(lambda: utc_now() if runs.is_over(instance, run.run_id) else None)
    return (begun_at - began_at).total_seconds()


def add_source(workspace: Workspace, instance: dg.DagsterInstance, folder: Path) -> DataSource:
    (folder / "notes").mkdir()
    (folder / "notes" / "one.md").write_text("# One\n\nIt is a note.\n")
    with workspace.database.transaction_with_rls(ALICE) as connection:
        source = data_sources.add(
            connection,
            user_id=ALICE,
            data_source_id=DataSourceId(workspace.new_id()),
            source_type=SourceType.LOCAL_FOLDER,
            name="notes",
            config={"path": str(folder / "notes")},
        )
    partitions.register_partition(instance, SourceType.LOCAL_FOLDER, source.id)
    return source


def _moment(workspace: Workspace, execution_id: ExecutionId, select: str, having: str = "") -> datetime | None:
    statement = f"{select} WHERE user_id = :user AND tenant_id = :tenant AND execution_id = :id {having}"
    with workspace.database.transaction_with_rls(ALICE, HOME) as connection:
        from sqlalchemy import text

        found: datetime | None = connection.execute(
            text(statement), {"user": ALICE, "tenant": HOME, "id": execution_id}
        ).scalar()
    return found


def _when(look: Callable[[], datetime | None]) -> datetime:
    began_s = time.monotonic()
    while time.monotonic() - began_s < PATIENCE_S:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise SystemExit("it took too long: see dev.log")


@contextmanager
def stack(folder: Path, settings: Settings) -> Iterator[None]:
    """`workstation dev`, with nothing left of it after the block."""
    environment = child_environment(
        {
            "PYTHONPATH": str(ROOT),
            "WORKSTATION_HOME": str(settings.home),
            "DATABASE_URL": settings.database_url or "",
            "DAGSTER_POSTGRES_URL": settings.dagster_postgres_url or "",
            "WORKSTATION_EMBEDDER": "hashing",
            "WORKSTATION_WEB_PORT": str(settings.web_port),
            "WORKSTATION_FOLDER_ROOTS": str(folder),
        }
    )
    command = [sys.executable, "-c", _DEV]
    with (folder / "dev.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()


def loaded_at(settings: Settings) -> float:
    """When the location of workflows was loaded last, by the web server."""
    question = {"query": "{ workspaceOrError { ... on Workspace { locationEntries { name updatedTimestamp } } } }"}
    answer = httpx.post(f"http://127.0.0.1:{settings.web_port}/graphql", json=question, trust_env=False).json()
    entries = answer["data"]["workspaceOrError"]["locationEntries"]
    return next(float(entry["updatedTimestamp"]) for entry in entries if entry["name"] == runs.WORKFLOWS)


def phases(instance: dg.DagsterInstance, run_id: str, began_at: datetime) -> dict[str, float]:
    """Seconds until each kind of event was first logged."""
    seen: dict[str, float] = {}
    for record in instance.get_records_for_run(run_id).records:
        entry = record.event_log_entry
        if entry.dagster_event is not None:
            seen.setdefault(entry.dagster_event.event_type_value, round(entry.timestamp - began_at.timestamp(), 2))
    return seen


def measure(
    folder: Path, settings: Settings, others: Sequence[int], rounds: int, is_verbose: bool
) -> list[dict[str, Any]]:
    figures = []
    with Workspace.open(settings) as workspace, dev.open_instance(settings) as instance:
        instance.upgrade()
        source = add_source(workspace, instance, folder)
        with stack(folder, settings):
            start(workspace, instance, 0)  # until everything is up
            start_sync(settings, instance, source)
            stored = 1
            for wanted in others:
                for number in range(stored, wanted):
                    save(workspace, number)
                stored = wanted
                reload_s = _reload(settings)
                time.sleep(15)
                before = loaded_at(settings)
                load = os.getloadavg()[0]
                starts, syncs_s = [], []
                for round_ in range(rounds):
                    starts.append(start(workspace, instance, 1_000_000 + wanted * 100 + round_))
                    syncs_s.append(start_sync(settings, instance, source))
                if is_verbose:
                    print(starts[-1].phases)
                figures.append(
                    {
                        "others": wanted,
                        "load": round(load, 1),
                        "queued_s": _median(each.queued_s for each in starts),
                        "first_block_s": _median(each.first_block_s for each in starts),
                        "first_block_worst_s": round(max(each.first_block_s for each in starts), 2),
                        "five_nodes_done_s": _median(each.completed_s for each in starts),
                        "sync_begins_s": _median(iter(syncs_s)),
                        "reload_s": round(reload_s, 2),
                        "reloaded_on_the_way": loaded_at(settings) != before,
                    }
                )
    return figures


def _reload(settings: Settings) -> float:
    began_s = time.monotonic()
    watchdog.reload_location(f"http://127.0.0.1:{settings.web_port}", "workflows")
    return time.monotonic() - began_s


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--others", default="20,1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--verbose", action="store_true", help="say when each kind of event came in the last round")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `timeout` leaves nothing running
    others = [int(each) for each in asked.others.split(",")]
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as made, private_server(Path(made)) as server:
        server.migrate_template()
        with server.engine_database("bench_start") as url, server.floor_database("bench_dagster") as dagster_url:
            settings = Settings(
                WORKSTATION_HOME=Path(made) / "home",
                DATABASE_URL=url,
                DAGSTER_POSTGRES_URL=with_driver(dagster_url, DAGSTER_DRIVER),
                WORKSTATION_EMBEDDER=EmbedderName.HASHING,
                WORKSTATION_WEB_PORT=free_port(),
                WORKSTATION_FOLDER_ROOTS=made,
            )
            try:
                figures = measure(Path(made), settings, others, asked.rounds, asked.verbose)
            except BaseException:
                log = Path(made) / "dev.log"
                sys.stderr.write(log.read_text()[-5000:] if log.exists() else "")
                raise
    for each in figures:
        print(json.dumps(each) if asked.json else "  ".join(f"{name} {value}" for name, value in each.items()))
    slowest = max(each["first_block_s"] for each in figures)
    ratios = {name: figures[-1][name] / figures[0][name] for name in ("first_block_s", "sync_begins_s")}
    told = ", ".join(f"{name} {ratio:.2f} times as long with the most others" for name, ratio in ratios.items())
    print(told, file=sys.stderr)
    if slowest > TARGET_S or max(ratios.values()) > MOST_SLOWER or any(each["reloaded_on_the_way"] for each in figures):
        raise SystemExit(f"too slow: {slowest} s at most; {told}")


if __name__ == "__main__":
    main()
