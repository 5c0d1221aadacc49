"""One sync of a folder by the engine, measured; a process of its own.

    python -m benchmarks.engine FOLDER APP_URL OUT [--full] [--embedder hashed|minilm]

Everything is the product's own but the splitter and the embedder, which are the floor's (see workload.py); with
`minilm` these are the product's as well, and the time spent inside onnxruntime is told.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.measured import measured
from workstation_pipelines.db import data_sources, vectors
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.identity import Uuid7, utc_now
from workstation_pipelines.index.contract import Embedder, Splitter
from workstation_pipelines.model import (
    DataSourceId,
    IndexConfig,
    JobStatus,
    JobType,
    NewId,
    SourceType,
    UserId,
)
from workstation_pipelines.sources.local_folder.connector import LocalFolder
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.extract import SandboxedExtractor, detect_mime_type

USER = UserId("bench")
_NAME = "corpus"


def sync(folder: Path, url: str, splitter: Splitter, embedder: Embedder, *, full: bool) -> dict[str, Any]:
    """Sync once, adding the data source on the first run; return the job's status and counts."""
    new_id = Uuid7()
    database = Database(url)
    extractor = SandboxedExtractor()
    try:
        source, config = _ready(database, folder, embedder, new_id)
        opened = LocalFolder(source.config, clock=utc_now, new_id=new_id, detect=detect_mime_type)
        parts = SyncParts(database, opened, extractor, Vectorizer(splitter, embedder, config), new_id)
        job_type = JobType.FULL_SYNC if full else JobType.INCREMENTAL
        result = drive(run_sync(parts, source, SyncRequest(job_type)))
        if result.status is not JobStatus.COMPLETED:
            raise SystemExit(f"the sync ended {result.status}: {result.message}")
        return {name: getattr(result.counts, name) for name in type(result.counts).__slots__}
    finally:
        extractor.close()
        database.close()


def _ready(database: Database, folder: Path, embedder: Embedder, new_id: NewId) -> tuple[DataSource, IndexConfig]:
    with database.transaction_with_rls(USER) as connection:
        config = vectors.index_config(
            connection,
            user_id=USER,
            embedder=embedder.name,
            model=embedder.model,
            dimensions=embedder.dimensions,
            chunk_tokens=workload.CHUNK_CHARACTERS // 4,
            overlap_tokens=workload.OVERLAP_CHARACTERS // 4,
            new_id=new_id,
        )
        try:
            source = data_sources.named(connection, user_id=USER, name=_NAME)
        except NotFoundError:
            source = data_sources.add(
                connection,
                user_id=USER,
                data_source_id=DataSourceId(new_id()),
                name=_NAME,
                source_type=SourceType.LOCAL_FOLDER,
                config={"path": str(folder)},
            )
        return source, config


class _Timed:
    """An onnxruntime session that counts the seconds spent in it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.spent_s = 0.0

    def run(self, *arguments: Any) -> Any:
        began_s = time.perf_counter()
        try:
            return self._session.run(*arguments)
        finally:
            self.spent_s += time.perf_counter() - began_s


def _with_minilm(folder: Path, url: str, out: Path, *, full: bool) -> None:
    from workstation_pipelines.index.minilm.embedder import MiniLmEmbedder
    from workstation_pipelines.index.minilm.tokens import TokenCounter
    from workstation_pipelines.text.chunk import TokenSplitter

    embedder = MiniLmEmbedder(threads=os.cpu_count() or 1)
    embedder._session = timed = _Timed(embedder._session)
    with measured(out) as told:
        told["counts"] = sync(folder, url, TokenSplitter(TokenCounter()), embedder, full=full)
        told["onnxruntime_s"] = timed.spent_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("url")
    parser.add_argument("out", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--embedder", choices=["hashed", "minilm"], default="hashed")
    asked = parser.parse_args()
    if asked.embedder == "minilm":
        _with_minilm(asked.folder, asked.url, asked.out, full=asked.full)
        return
    with measured(asked.out) as told:
        splitter, embedder = workload.CharacterSplitter(), workload.HashedEmbedder()
        told["counts"] = sync(asked.folder, asked.url, splitter, embedder, full=asked.full)


if __name__ == "__main__":
    main()
