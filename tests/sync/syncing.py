"""One sync, in this process or in one of its own that may be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from dataclasses import dataclass, field
from decimal import Decimal
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import mkstemp
from typing import ClassVar

import psutil

from tests.sync.parts import DIMENSIONS, DigestEmbedder, FixedSplitter, PlainExtractor
from tests.sync.scripted import ScriptedSource
from workstation_pipelines.db import data_sources, index_settings, vectors
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.identity import Uuid7, utc_now
from workstation_pipelines.model import (
    BudgetPeriod,
    BudgetUnit,
    DataSourceId,
    IndexConfig,
    IndexConfigId,
    JobResult,
    JobType,
    Limit,
    UserId,
)
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sources.local_folder.connector import LocalFolder
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.vectorize import Vectorizer

new_id = Uuid7()

TOKEN_PRICE = Decimal("0.00000002")

# A server process that has imported everything forks each child: a kill test then costs its sync, not its imports.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.sync.syncing", "tests.sync.mutants", "workstation_pipelines.sync.run"])


class SmallPagedFolder(LocalFolder):
    page_size: ClassVar[int] = 3


@dataclass(frozen=True)
class Wish:
    """A sync to do: `place` is a folder, or the JSON file of a scripted account."""

    app_url: str
    place: str
    user: str = "alice"
    job_type: str = "manual"
    confirm_deletes: bool = True
    fault: str | None = None
    mutant: str | None = None
    budget_tokens: int | None = None


def open_source(wish: Wish) -> Source:
    if wish.place.endswith(".json"):
        return ScriptedSource(Path(wish.place))
    return SmallPagedFolder({"path": wish.place}, clock=utc_now, new_id=new_id)


def data_source(database: Database, wish: Wish) -> DataSource:
    user_id = UserId(wish.user)
    with database.transaction_with_rls(user_id) as connection:
        for found in data_sources.all_of(connection, user_id=user_id):
            if found.name == wish.place:
                return found
        return data_sources.add(
            connection,
            user_id=user_id,
            data_source_id=DataSourceId(new_id()),
            name=wish.place,
            source_type=open_source(wish).source_type,
            config={},
        )


def sync_parts(database: Database, wish: Wish, embedder: DigestEmbedder) -> SyncParts:
    return SyncParts(
        database=database,
        source=open_source(wish),
        extractor=PlainExtractor(),
        vectorizer=vectorizer(database, wish.user, embedder),
        new_id=new_id,
        faults=Faults(wish.fault),
    )


def vectorizer(database: Database, user: str, embedder: DigestEmbedder) -> Vectorizer:
    """The vectorizer of the default settings, which leads to those of any other config."""
    config = index_config(database, user, embedder.model)

    def other(index_config_id: IndexConfigId) -> Vectorizer:
        with database.transaction_with_rls(UserId(user)) as connection:
            wanted = index_settings.config(connection, user_id=UserId(user), index_config_id=index_config_id)
        return Vectorizer(FixedSplitter(wanted.chunk_tokens), DigestEmbedder(wanted.model), wanted, TOKEN_PRICE)

    return Vectorizer(FixedSplitter(), embedder, config, TOKEN_PRICE, others=other)


def index_config(database: Database, user: str, model: str = "test", chunk_characters: int = 40) -> IndexConfig:
    with database.transaction_with_rls(UserId(user)) as connection:
        return vectors.index_config(
            connection,
            user_id=UserId(user),
            embedder=DigestEmbedder.name,
            model=model,
            dimensions=DIMENSIONS,
            chunk_tokens=chunk_characters,
            overlap_tokens=0,
            new_id=new_id,
        )


def sync(wish: Wish, embedder: DigestEmbedder | None = None) -> JobResult:
    """Sync in this process."""
    database = Database(wish.app_url, pool_size=2)
    try:
        limits = [] if wish.budget_tokens is None else [_of_run(wish.budget_tokens)]
        request = SyncRequest(job_type=JobType(wish.job_type), confirm_deletes=wish.confirm_deletes, limits=limits)
        parts = sync_parts(database, wish, embedder or DigestEmbedder())
        return drive(run_sync(parts, data_source(database, wish), request))
    finally:
        database.close()


def _of_run(tokens: int) -> Limit:
    return Limit(BudgetPeriod.RUN, BudgetUnit.TOKENS, Decimal(tokens))


@dataclass
class Running:
    """A sync in a process of its own."""

    process: BaseProcess
    outcome_file: Path = field(repr=False)

    def wait(self) -> str:
        """Return the job's status, the name of the error that ended it, or `killed`."""
        self.process.join(60)
        assert self.process.exitcode is not None, "the sync hangs"
        if self.process.exitcode == -signal.SIGKILL:
            return "killed"
        outcome = self.outcome_file.read_text()
        assert self.process.exitcode == 0, outcome
        return outcome

    def wait_until_stopped(self) -> None:
        """Return when the process has stopped itself at its fault."""
        assert self.process.pid is not None
        watched = psutil.Process(self.process.pid)
        while watched.status() != psutil.STATUS_STOPPED:
            assert self.process.is_alive(), self.wait()
            self.process.join(0.01)

    def go_on(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)


def start(wish: Wish) -> Running:
    """Sync in a process of its own."""
    handle, name = mkstemp(suffix=".outcome")
    os.close(handle)
    process = _FORKS.Process(target=_sync_and_tell, args=(wish, name))
    process.start()
    return Running(process, Path(name))


def _sync_and_tell(wish: Wish, outcome_file: str) -> None:
    if wish.mutant:
        from tests.sync import mutants

        mutants.apply(wish.mutant)
    try:
        outcome = sync(wish).status.value
    except WorkstationError as error:
        outcome = type(error).__name__
    except Exception:
        Path(outcome_file).write_text(traceback.format_exc())
        raise
    Path(outcome_file).write_text(outcome)
