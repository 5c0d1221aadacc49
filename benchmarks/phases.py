"""Runs one measured process: to its end, or until its load is so far that it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.server import Server, connect

_TIMEOUT_S = 900
_POLL_S = 0.005
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one process did. `work_s` leaves out its start and imports; `told` is what else it said of itself."""

    work_s: float
    client_cpu_s: float
    server_cpu_s: float | None
    peak_rss_bytes: int
    wal_bytes: int
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float | None:
        return None if self.server_cpu_s is None else self.client_cpu_s + self.server_cpu_s


@dataclass(frozen=True, slots=True)
class KillPoint:
    """When to kill: at a share of the WAL that a whole load writes, or as soon as any chunk is visible to others."""

    wal_share: float | None = None

    def __str__(self) -> str:
        return "first visible rows" if self.wal_share is None else f"{self.wal_share:.0%} of the WAL"


class PhaseRunner:
    """Starts `python -m benchmarks.<module>` with a folder and a database, on one server."""

    def __init__(self, server: Server, out: Path) -> None:
        self._server = server
        self._out = out

    def run(self, module: str, folder: Path, url: str, *options: str) -> Measurement:
        """Run to the end. Raises CalledProcessError when the process fails."""
        before_lsn = self._checkpointed(url)
        cpu_before_s = self._server.cpu_s()
        command = self._command(module, folder, url, options)
        subprocess.run(command, check=True, cwd=_ROOT, timeout=_TIMEOUT_S)
        cpu_after_s = self._server.cpu_s()
        told = json.loads(self._out.read_text())
        return Measurement(
            work_s=told["work_s"],
            client_cpu_s=told["client_cpu_s"],
            server_cpu_s=None if cpu_before_s is None or cpu_after_s is None else cpu_after_s - cpu_before_s,
            peak_rss_bytes=told["peak_rss_bytes"] + told["children_peak_rss_bytes"],
            wal_bytes=_wal_since(url, before_lsn),
            told=told,
        )

    def run_and_kill(self, module: str, folder: Path, url: str, at: KillPoint, *, whole_wal_bytes: int) -> float | None:
        """Kill the process and its children at `at`; return after how many seconds of work, None if it had ended."""
        before_lsn = self._checkpointed(url)
        self._out.unlink(missing_ok=True)
        process = subprocess.Popen(self._command(module, folder, url, ()), cwd=_ROOT, start_new_session=True)
        with connect(url) as probe:
            while process.poll() is None:
                if at.wal_share is None:
                    is_there = probe.execute("SELECT EXISTS (SELECT FROM app.chunks)").fetchone() == (True,)
                else:
                    is_there = _wal_since(url, before_lsn, probe) > at.wal_share * whole_wal_bytes
                if is_there:
                    os.killpg(process.pid, signal.SIGKILL)
                    killed_at = time.time()
                    process.wait()
                    began_at: float = json.loads(self._out.read_text())["began_at"]
                    return killed_at - began_at
                time.sleep(_POLL_S)
        if process.returncode != 0:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        return None

    def _command(self, module: str, folder: Path, url: str, options: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", f"benchmarks.{module}", str(folder), url, str(self._out), *options]

    def _checkpointed(self, url: str) -> str:
        with connect(url) as connection:
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        return str(row[0]) if row else ""


def _wal_since(url: str, lsn: str, probe: Any = None) -> int:
    # The insert position also moves with rows that are not committed yet.
    statement = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)"
    if probe is not None:
        return int(probe.execute(statement, [lsn]).fetchone()[0])
    with connect(url) as connection:
        row: Any = connection.execute(statement, [lsn]).fetchone()
        return int(row[0])
