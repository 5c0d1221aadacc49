"""Syncs of each vendor's fake, which answers after 20 ms: calls against the least the protocol allows, items a second, memory.

    python -m benchmarks.sources [--items 10000] [--latency-ms 20] [--only gmail,slack] [--json]

The fake runs in a process of its own, the sync in another, so that neither's memory or lock counts for the other. Rates
are not paced here: what is measured is the connector and the engine, not a vendor's limits.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.measured import measured
from benchmarks.server import private_server
from tests.sources import stages
from tests.sources.standing import Connection, index_config
from workstation_pipelines.db.engine import Database
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.index.hashing import HashingEmbedder
from workstation_pipelines.model import Delta, JobStatus, SourceType
from workstation_pipelines.sources import source_class
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.extract import SandboxedExtractor

LISTED_AT_ONCE = {"google_drive": 1000, "gmail": 500, "notion": 100, "slack": 200, "dropbox": 2000, "onedrive": 200}
"""The most that one listing call of each vendor shows, or, for OneDrive, is asked to show."""

VENDORS = [name for name in stages.ALL if source_class(SourceType(name)).delta is not Delta.NONE]
PHASES = ("initial", "unchanged", "delta")


def serve(source_type: str, items: int, latency_s: float) -> None:
    """Fill a fake and answer commands on stdin with a JSON line each."""
    stage = stages.stage_of(SourceType(source_type))
    vendor = stage.vendor
    if vendor is None:
        raise SystemExit(f"{source_type} has no vendor")
    keys = [stage.create(f"item {number:05}", _words(number)) for number in range(items)]
    vendor.latency_s = latency_s
    vendor.is_checked = False  # tests hold every answer against the contract, which takes longer than answering
    print(json.dumps({"urls": stage.urls(), "config": dict(stage.config)}), flush=True)
    for line in sys.stdin:
        if line.startswith("edit"):
            for number, key in enumerate(keys[:: max(len(keys) // int(line.split()[1]), 1)]):
                stage.edit(key, f"edited {number} " + _words(number))
        told = {"requests": len(vendor.requests), "broken": vendor.violations[:3], "writes": len(vendor.writes)}
        vendor.requests.clear()
        print(json.dumps(told), flush=True)
    vendor.close()


def _words(number: int) -> str:
    return f"paper {number} " + " ".join(f"word{(number * 31 + step) % 5000}" for step in range(120))


def sync(connection: Connection, out: Path) -> None:
    database = Database(connection.app_url)
    extractor = SandboxedExtractor()
    row = connection.row(database)
    config = index_config(database)
    with measured(out) as told:
        parts = SyncParts(
            database=database,
            source=connection.open(),
            extractor=extractor,
            vectorizer=Vectorizer(workload.CharacterSplitter(), HashingEmbedder(), config),
            new_id=Uuid7(),
        )
        result = drive(run_sync(parts, row, SyncRequest()))
        if result.status is not JobStatus.COMPLETED:
            raise SystemExit(f"the sync ended {result.status}: {result.message}")
        told["counts"] = {name: getattr(result.counts, name) for name in type(result.counts).__slots__}
    extractor.close()
    database.close()


def measure(source_type: str, app_url: str, items: int, latency_s: float, work: Path) -> dict[str, Any]:
    """Run the three phases against one fake and return their figures."""
    command = [sys.executable, "-m", "benchmarks.sources", "--serve", source_type, "--items", str(items)]
    figures: dict[str, Any] = {"source": source_type, "items": items}
    with subprocess.Popen(
        [*command, "--latency-ms", str(latency_s * 1000)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as fake:
        if fake.stdin is None or fake.stdout is None:
            raise AssertionError("both were asked for")
        place = json.loads(fake.stdout.readline())
        connection = {"app_url": app_url, "source_type": source_type, "name": source_type, **place}
        for phase in PHASES:
            fake.stdin.write(f"edit {items // 100}\n" if phase == "delta" else "count\n")
            fake.stdin.flush()
            fake.stdout.readline()
            out = work / f"{source_type}-{phase}.json"
            subprocess.run(
                [sys.executable, "-m", "benchmarks.sources", "--sync", json.dumps(connection), "--out", str(out)],
                check=True,
            )
            fake.stdin.write("count\n")
            fake.stdin.flush()
            told = json.loads(fake.stdout.readline())
            if told["broken"] or told["writes"]:
                raise SystemExit(f"{source_type} {phase}: {told}")
            figures[phase] = _figures(source_type, json.loads(out.read_text()), told["requests"])
        fake.stdin.close()
    return figures


def _figures(source_type: str, told: dict[str, Any], requests: int) -> dict[str, Any]:
    counts = told["counts"]
    # Slack has no feed: whatever is within its window is listed again.
    least = counts["fetched"] + max(math.ceil(counts["found"] / LISTED_AT_ONCE[source_type]), 1)
    return {
        "calls": requests,
        "calls_over_least": round(requests / max(least, 1), 3),
        "fetched": counts["fetched"],
        "work_s": round(told["work_s"], 2),
        "items_per_s": round(counts["found"] / told["work_s"], 1),
        "own_cpu_s": round(told["client_cpu_s"], 2),
        "peak_rss_mb": round(told["peak_rss_bytes"] / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--only", default=",".join(VENDORS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--sync", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.items, asked.latency_ms / 1000)
        return
    if asked.sync:
        told = json.loads(asked.sync)
        sync(Connection(**{**told, "source_type": SourceType(told["source_type"])}), asked.out)
        return
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as folder, private_server(Path(folder)) as server:
        server.migrate_template()
        for source_type in asked.only.split(","):
            with server.engine_database(f"bench_{source_type}") as url:
                app_url = url.replace("postgres@", "wp_app@", 1)
                figures = measure(source_type, app_url, asked.items, asked.latency_ms / 1000, Path(folder))
            if asked.json:
                print(json.dumps(figures), flush=True)
                continue
            for phase in PHASES:
                cells = "  ".join(f"{name} {value}" for name, value in figures[phase].items())
                print(f"{source_type:12}  {phase:9}  {cells}", flush=True)


if __name__ == "__main__":
    main()
