"""A small sync beside a huge one of somebody else: how much longer do 20 items take while another user syncs 100,000?

    python -m benchmarks.fairness [--huge 100000] [--small 20] [--rounds 5] [--json]

Two processes on one server, as two runs are: the huge source is listed and fetched at once, so that nothing but the engine
and the database limits it. Rounds alone and rounds beside it follow each other; each small sync is of a new data source,
timed from the lease to the end of its job, imports left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import workload
from benchmarks.server import private_server
from workstation_pipelines.db import data_sources, vectors
from workstation_pipelines.db.engine import Database
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Content,
    Cursor,
    DataSourceId,
    Delta,
    Item,
    ItemType,
    JobStatus,
    JobType,
    Page,
    SourceType,
    UserId,
)
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.http_call import Call
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.extract import SandboxedExtractor


class Instant:
    """A source that answers at once, with texts of 120 words."""

    source_type: ClassVar[SourceType] = SourceType.LOCAL_FOLDER
    delta: ClassVar[Delta] = Delta.NONE
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = 1000
    fetch_threads: ClassVar[int] = 1
    scope = "all"
    reconcile_every: timedelta | None = None
    provider_calls = 0

    def __init__(self, items: int) -> None:
        self._items = items

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return old_hash == new_hash

    def check(self) -> Account:
        return Account("", "instant", {})

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        return ""

    def start_cursor(self) -> Cursor | None:
        return None

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        for first in range(0, self._items, self.page_size):
            numbers = range(first, min(first + self.page_size, self._items))
            changes = [Change(ChangeKind.UPSERT, str(number), _item(number)) for number in numbers]
            yield Page(changes, complete=numbers.stop == self._items)

    def fetch_calls(self, item: Item) -> Sequence[Call]:
        return ()

    def fetch(self, item: Item) -> Content:
        number = int(item.external_id)
        text = f"paper {number} " + " ".join(f"word{(number * 31 + step) % 5000}" for step in range(120))
        return Content(text.encode(), item.title, item.mime_type, item.external_hash)

    def close(self) -> None:
        pass


def _item(number: int) -> Item:
    name = f"paper {number}.txt"
    return Item(str(number), name, f"made:{number}", ItemType.FILE, name, "text/plain")


def sync(url: str, user: UserId, items: int) -> float:
    """Sync a new data source of so many items; return the seconds."""
    database, extractor, new_id = Database(url), SandboxedExtractor(), Uuid7()
    with database.transaction_with_rls(user) as connection:
        config = vectors.index_config(
            connection,
            user_id=user,
            embedder="benchmark",
            model="shake-128",
            dimensions=workload.DIMENSIONS,
            chunk_tokens=workload.CHUNK_CHARACTERS // 4,
            overlap_tokens=workload.OVERLAP_CHARACTERS // 4,
            new_id=new_id,
        )
        source_id = DataSourceId(new_id())
        row = data_sources.add(
            connection,
            user_id=user,
            data_source_id=source_id,
            name=str(source_id),
            source_type=SourceType.LOCAL_FOLDER,
            config={},
        )
    vectorizer = Vectorizer(workload.CharacterSplitter(), workload.HashedEmbedder(), config)
    began_s = time.perf_counter()
    result = drive(run_sync(SyncParts(database, Instant(items), extractor, vectorizer, new_id), row, SyncRequest()))
    took_s = time.perf_counter() - began_s
    extractor.close()
    database.close()
    if result.status is not JobStatus.COMPLETED:
        raise SystemExit(f"the sync ended {result.status}: {result.message}")
    return took_s


def measure(url: str, huge: int, small: int, rounds: int, niceness: int) -> dict[str, Any]:
    sync(url, UserId("bob"), small)  # warm
    alone = [sync(url, UserId("bob"), small) for _ in range(rounds)]
    command = [sys.executable, "-m", "benchmarks.fairness", "--sync", url, "--huge", str(huge)]
    command += ["--nice", str(niceness)]
    with subprocess.Popen(command) as other:
        _wait_for_documents(url, 2000)
        beside = [sync(url, UserId("bob"), small) for _ in range(rounds)]
        was_running = other.poll() is None
        other.kill()
    after = [sync(url, UserId("bob"), small) for _ in range(rounds)]
    if not was_running:
        raise SystemExit("the huge sync ended first: give it more items")
    # What the other's rows alone cost would show afterwards too.
    medians = statistics.median(alone), statistics.median(beside), statistics.median(after)
    return {
        "alone_s": round(medians[0], 3),
        "beside_s": round(medians[1], 3),
        "after_s": round(medians[2], 3),
        "times": round(medians[1] / medians[0], 2),
        "worst_times": round(max(beside) / medians[0], 2),
        "load": round(os.getloadavg()[0], 1),
    }


def _wait_for_documents(url: str, wanted: int) -> None:
    database = Database(url)
    count = "SELECT count(*) FROM app.documents"
    while database.query_with_rls(UserId("alice"), count)[0][0] < wanted:
        time.sleep(0.1)
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--huge", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nice", type=int, default=0, help="lower the priority of the huge sync by so much")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sync", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sync:
        os.nice(asked.nice)
        sync(asked.sync, UserId("alice"), asked.huge)
        return
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as folder, private_server(Path(folder)) as server:
        server.migrate_template()
        with server.engine_database("bench_fairness") as url:
            figures = measure(url, asked.huge, asked.small, asked.rounds, asked.nice)
    print(json.dumps(figures) if asked.json else "  ".join(f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
