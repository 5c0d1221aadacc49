"""Reprocessing in a process of its own that may be killed, and searchers who look all the while."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkstemp
from uuid import UUID

from tests.sync.parts import DigestEmbedder
from tests.sync.syncing import _FORKS, Running, index_config, new_id, vectorizer
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.index import search
from workstation_pipelines.model import IndexConfig, ProcessingJobId, Scope, UserId
from workstation_pipelines.sync import builds, reprocess
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.processing import ProcessingResult
from workstation_pipelines.sync.reprocess import ReprocessingParts
from workstation_pipelines.sync.vectorize import Vectorizer

ALICE = UserId("alice")
SEARCHERS = 8


def choose(database: Database, config: IndexConfig | None, selection: Selection | None = None) -> ProcessingJobId:
    return reprocess.choose(
        database,
        vectorizer(database, "alice", DigestEmbedder()),
        user_id=ALICE,
        selection=selection or Selection(),
        index_config_id=config.id if config else None,
        new_id=new_id,
    )


def work(
    database: Database, job_id: ProcessingJobId, *, fault: str | None = None, using: Vectorizer | None = None
) -> ProcessingResult:
    """Reprocess in this process."""
    using = using or vectorizer(database, "alice", DigestEmbedder())
    working = reprocess.run_reprocessing(
        ReprocessingParts(database, using, Faults(fault)), user_id=ALICE, job_id=job_id
    )
    while True:
        try:
            next(working)
        except StopIteration as end:
            result: ProcessingResult = end.value
            return result


def start(app_url: str, job_id: ProcessingJobId, fault: str) -> Running:
    """Reprocess in a process of its own."""
    handle, name = mkstemp(suffix=".outcome")
    os.close(handle)
    process = _FORKS.Process(target=_work_and_tell, args=(app_url, job_id, fault, name))
    process.start()
    return Running(process, Path(name))


def _work_and_tell(app_url: str, job_id: ProcessingJobId, fault: str, outcome_file: str) -> None:
    database = Database(app_url, pool_size=2)
    try:
        outcome = work(database, job_id, fault=fault).status.value
    except WorkstationError as error:
        outcome = type(error).__name__
    except Exception:
        Path(outcome_file).write_text(traceback.format_exc())
        raise
    finally:
        database.close()
    Path(outcome_file).write_text(outcome)


def start_build_step(app_url: str, step: str, build_id: UUID, fault: str) -> Running:
    """Build, or switch to, an index build in a process of its own."""
    handle, name = mkstemp(suffix=".outcome")
    os.close(handle)
    process = _FORKS.Process(target=_build_and_tell, args=(app_url, step, build_id, fault, name))
    process.start()
    return Running(process, Path(name))


def _build_and_tell(app_url: str, step: str, build_id: UUID, fault: str, outcome_file: str) -> None:
    database = Database(app_url, pool_size=2)
    using, faults = vectorizer(database, "alice", DigestEmbedder()), Faults(fault)
    try:
        if step == "switch":
            builds.switch(database, using, user_id=ALICE, build_id=build_id, new_id=new_id, faults=faults)
        else:
            for _ in builds.grow(database, using, user_id=ALICE, build_id=build_id, faults=faults):
                pass
    except Exception:
        Path(outcome_file).write_text(traceback.format_exc())
        raise
    finally:
        database.close()
    Path(outcome_file).write_text("done")


@dataclass
class Seen:
    """What searchers saw: how often they looked, and each answer that was not every document in one version."""

    searches: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def searching(app_url: str, documents: set[UUID]) -> Iterator[Seen]:
    """Search for what each of `documents` has, by words and by vectors, in eight threads until the end."""
    database = Database(app_url, pool_size=SEARCHERS)
    config = index_config(database, "alice")
    seen, stop = Seen(), threading.Event()

    def look(mode: str) -> None:
        while not stop.is_set():
            try:
                result = search.search(
                    database,
                    DigestEmbedder(),
                    config,
                    "everywhere",
                    Scope(ALICE),
                    limit=100,
                    mode=mode,
                    embedder_of=lambda other: DigestEmbedder(other.model),
                )
                versions = {(hit.document_id, hit.id.split("#")[1]) for hit in result.hits}
                found = [document_id for document_id, _ in versions]
                if sorted(found) != sorted(documents) or result.notice:
                    seen.wrong.append(f"{mode}: {len(found)} versions of {len(set(found))} documents {result.notice}")
            except Exception as error:  # noqa: BLE001 - it is told to the test
                seen.wrong.append(repr(error))
            seen.searches += 1
            stop.wait(0.05)

    threads = [threading.Thread(target=look, args=(mode,)) for mode in ("text", "vector") * (SEARCHERS // 2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        database.close()
