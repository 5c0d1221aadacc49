"""Due rows through a daemon that is killed: starts each of 1,000 schedules once, on a real daemon and real storage.

    python -m benchmarks.due_rows [--rows 1000] [--kill-at 380] [--json]

The queue is closed, so that every run stays queued and nothing is synced. At the first tick all rows are due; when so many
runs exist the daemon is killed with SIGKILL and started again. In the end there must be as many runs as rows, each with
a key of its own, and every row must have moved on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import yaml

from benchmarks.server import connect, private_server
from workstation_pipelines.defs import home
from workstation_pipelines.settings import DAGSTER_DRIVER, child_environment, libpq_url, with_driver

ROOT = Path(__file__).resolve().parents[1]
USERS = 50
PATIENCE_S = 1800.0

_FILL = """
INSERT INTO app.data_sources (id, user_id, name, source_type, config)
SELECT gen_random_uuid(), 'user' || n % {users}, 'folder ' || n, 'local_folder', '{{"path": "/nowhere"}}'
  FROM generate_series(1, {rows}) n;
INSERT INTO app.scheduled_syncs (id, user_id, data_source_id, schedule_type, schedule_config, next_run_at)
SELECT gen_random_uuid(), user_id, id, 'interval', '{{"minutes": 720}}', now() - interval '1 minute' FROM app.data_sources;
"""
_KEYS = "SELECT count(*), count(DISTINCT value) FROM run_tags WHERE key = 'dagster/run_key'"
_MOVED = "SELECT count(*) FROM app.scheduled_syncs WHERE next_run_at > now() AND last_run_at IS NOT NULL"


@contextmanager
def daemon(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon with its code servers, none of which outlives the block."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(ROOT / "workspace.yaml")]
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        found = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        for child in found:
            child.kill()


def measure(folder: Path, admin_url: str, dagster_url: str, rows: int, kill_at: int) -> dict[str, Any]:
    dagster_home = home.ensure_dagster_home(folder / "dagster", dagster_url, is_embedded=True)
    configuration = yaml.safe_load((dagster_home / "dagster.yaml").read_text())
    configuration["concurrency"]["runs"]["max_concurrent_runs"] = 0
    (dagster_home / "dagster.yaml").write_text(yaml.safe_dump(configuration))
    environment = child_environment(
        {
            **home.dagster_environment(dagster_home, dagster_url),
            "PYTHONPATH": str(ROOT),
            "WORKSTATION_HOME": str(folder),
            "WORKSTATION_FOLDER_ROOTS": "/nowhere",
            "DATABASE_URL": admin_url.replace("postgres@", "wp_app@", 1),
        }
    )
    home.initialise_instance(dagster_home)
    with connect(admin_url) as ours, psycopg.connect(libpq_url(dagster_url), autocommit=True) as dagsters:
        ours.execute(_FILL.format(rows=rows, users=USERS).encode())

        def created() -> int:
            return _numbers(dagsters, _KEYS)[0]

        with daemon(folder, environment) as first:
            begun_s = _until(lambda: created() > 0)
            _until(lambda: created() >= kill_at)
            at_kill = created()
            first.kill()
        with daemon(folder, environment):
            finished_s = _until(lambda: _numbers(ours, _MOVED)[0] >= rows)
        runs, keys = _numbers(dagsters, _KEYS)
        return {
            "rows": rows,
            "runs_at_kill": at_kill,
            "runs": runs,
            "distinct_keys": keys,
            "rows_advanced": _numbers(ours, _MOVED)[0],
            "seconds_to_first_run": round(begun_s, 1),
            "seconds_from_restart_to_all_advanced": round(finished_s, 1),
        }


def _numbers(connection: psycopg.Connection[Any], statement: str) -> list[int]:
    [row] = connection.execute(statement.encode()).fetchall()
    return [int(each) for each in row]


def _until(holds: Callable[[], bool]) -> float:
    began_s = time.monotonic()
    while not holds():
        if time.monotonic() - began_s > PATIENCE_S:
            raise SystemExit("it took too long: see daemon.log")
        time.sleep(0.2)
    return time.monotonic() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--kill-at", type=int, default=380)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as made, private_server(Path(made)) as server:
        server.migrate_template()
        with server.engine_database("bench_rows") as url, server.floor_database("bench_dagster") as dagster_url:
            dagster_url = with_driver(dagster_url, DAGSTER_DRIVER)
            figures = measure(Path(made), url, dagster_url, asked.rows, asked.kill_at)
    print(json.dumps(figures) if asked.json else "  ".join(f"{name} {value}" for name, value in figures.items()))
    if not figures["runs"] == figures["distinct_keys"] == figures["rows_advanced"] == asked.rows:
        raise SystemExit("some schedule was started twice, or not at all")


if __name__ == "__main__":
    main()
