"""What happens inside the streaming op: a sync's progress as Dagster's events, its errors as Dagster's outcomes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import dagster as dg

from workstation_pipelines.defs import checks, runs
from workstation_pipelines.errors import BusyError, NotFoundError, ReauthorizeError, RetryableError, WorkstationError
from workstation_pipelines.model import Counts, JobStatus, JobType, Progress, SourceType, SyncJobId

if TYPE_CHECKING:
    from collections.abc import Generator

    from workstation_pipelines.db.data_sources import DataSource
    from workstation_pipelines.model import JobResult
    from workstation_pipelines.sync.run import SyncRequest
    from workstation_pipelines.sync.workspace import Workspace

STAGES = ("items", "documents", "embeddings")
OBSERVE_EVERY_S = 15.0
"""An observation is a row of the event log for ever; the live progress is the sync job's row."""

MAX_RETRIES = 3
LONGEST_WAIT_S = 120.0

Event = dg.MaterializeResult[None] | dg.AssetCheckResult

_SHOWN = {
    "items": ("found", "created", "updated", "unchanged", "skipped", "deleted", "failed", "fetched", "bytes_fetched"),
    "documents": ("created", "updated", "deleted", "skipped", "failed", "fetched", "bytes_fetched"),
    "embeddings": ("chunks_embedded", "chunks_reused", "embedding_tokens"),
}
_PACKAGE = Path(__file__).parents[1]


class SyncConfig(dg.Config):
    """`full_sync` reads every item again; `confirm_deletes` lets a sync delete what it held back as suspicious.

    `sync_job_id` names a waiting sync job, whose row says what to do; without it the run writes a job of its own.
    """

    full_sync: bool = False
    confirm_deletes: bool = False
    sync_job_id: str | None = None


def events(
    context: dg.AssetExecutionContext, workspace: Workspace, source_type: SourceType, config: SyncConfig
) -> Iterator[Event]:
    """Do what the run selected: stages of one data source, or only checks, without a partition of all sources."""
    wanted = [stage for stage in STAGES if dg.AssetKey([source_type.value, stage]) in context.selected_asset_keys]
    wanted_checks = sorted(
        context.selected_asset_check_keys, key=lambda key: (STAGES.index(key.asset_key.path[-1]), key.name)
    )
    if not context.has_partition_key:
        if wanted:
            raise dg.Failure("Choose a partition: one data source's id.", allow_retries=False)
        with as_outcomes(context, source_type.value):
            yield from checks.results(wanted_checks, checks.examine_all(workspace, source_type))
        return
    with as_outcomes(context, context.partition_key):
        data_source = _data_source(workspace, context.partition_key)
        if "items" in wanted:
            yield from _sync(context, workspace, data_source, config, wanted)
        elif wanted:
            yield from _rework(context, workspace, data_source, wanted)
        healthy = checks.examine(workspace, data_source.user_id, data_source.id)
        yield from checks.results(wanted_checks, [healthy] if healthy else [])


def _data_source(workspace: Workspace, partition_key: str) -> DataSource:
    from workstation_pipelines.db import data_sources

    data_source_id = UUID(partition_key)
    owner = workspace.database.owner_of(data_source_id)
    if owner is None:
        raise NotFoundError(f"no data source {data_source_id}: it was removed")
    with workspace.database.transaction_with_rls(owner) as connection:
        return data_sources.get(connection, user_id=owner, data_source_id=data_source_id)


def _sync(
    context: dg.AssetExecutionContext,
    workspace: Workspace,
    data_source: DataSource,
    config: SyncConfig,
    wanted: Iterable[str],
) -> Iterator[Event]:
    request = _request(context, workspace, data_source, config)
    items = dg.AssetKey([data_source.source_type.value, "items"])
    observe = Observer(context, items)
    left = list(wanted)
    with closing(workspace.sync(data_source, request)) as syncing:
        told = _Told(syncing)
        try:
            for progress in told:
                if progress.finished_stage in left:
                    left.remove(progress.finished_stage)
                    yield _materialized(data_source, progress.finished_stage, progress)
                else:
                    observe(progress)
        except BusyError:
            if request.job_id is not None:  # it waits on, and is started once the source is free
                runs.end_as_withdrawn(context)
            raise _busy(workspace, data_source) from None
    result = told.result
    if result.status is JobStatus.CANCELLED:
        runs.end_as_cancelled(context)
    for stage in left:  # paused, or waiting for a confirmation: what is committed counts, and a check says the rest
        progress = Progress(result.job_id, result.pages, result.counts)
        yield _materialized(data_source, stage, progress, status=result.status)


def _request(
    context: dg.AssetExecutionContext, workspace: Workspace, data_source: DataSource, config: SyncConfig
) -> SyncRequest:
    """Return what to sync. A job that waits is started; one that was stopped meanwhile ends the run as cancelled.

    When the job has ended otherwise, this is a retry, or a person runs the run again: the same is done by a job of its own.
    """
    from workstation_pipelines.db import sync_jobs
    from workstation_pipelines.sync.run import SyncRequest

    run_id = context.run.run_id
    if config.sync_job_id is None:
        job_type = JobType.FULL_SYNC if config.full_sync else JobType.INCREMENTAL
        return SyncRequest(job_type=job_type, dagster_run_id=run_id, confirm_deletes=config.confirm_deletes)
    job_id = SyncJobId(UUID(config.sync_job_id))
    with workspace.database.transaction_with_rls(data_source.user_id) as connection:
        row = sync_jobs.get(connection, user_id=data_source.user_id, job_id=job_id)
    is_held = row.status == JobStatus.PAUSED and row.not_before is None
    if is_held or row.status == JobStatus.CANCELLED:
        runs.end_as_withdrawn(context)
    is_waiting = row.status in (JobStatus.PENDING, JobStatus.PAUSED)
    return SyncRequest(
        job_type=JobType(row.job_type),
        job_id=job_id if is_waiting else None,
        dagster_run_id=run_id,
        confirm_deletes=row.confirm_deletes,
    )


class _Told:
    """Iterates over a sync's progress and keeps what it returns at its end."""

    result: JobResult

    def __init__(self, syncing: Generator[Progress, None, JobResult]) -> None:
        self._syncing = syncing

    def __iter__(self) -> Iterator[Progress]:
        self.result = yield from self._syncing


class Observer:
    """Logs an observation of the asset for a progress, if the last one is long enough ago."""

    def __init__(
        self, context: dg.AssetExecutionContext, asset: dg.AssetKey, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._context = context
        self._asset = asset
        self._monotonic = monotonic
        self._last_s = monotonic()

    def __call__(self, progress: Progress) -> None:
        now_s = self._monotonic()
        if now_s - self._last_s < OBSERVE_EVERY_S:
            return
        self._last_s = now_s
        self._context.log_event(
            dg.AssetObservation(
                self._asset,
                partition=self._context.partition_key,
                metadata=_metadata("items", progress.counts, progress.pages, progress.job_id),
            )
        )


def _materialized(
    data_source: DataSource, stage: str, progress: Progress, *, status: JobStatus | None = None
) -> dg.MaterializeResult[None]:
    metadata = _metadata(stage, progress.counts, progress.pages, progress.job_id)
    if status is not None:
        metadata["status"] = status.value
    return dg.MaterializeResult(asset_key=[data_source.source_type.value, stage], metadata=metadata)


def _metadata(stage: str, counts: Counts, pages: int, job_id: SyncJobId) -> dict[str, dg.RawMetadataValue]:
    shown: dict[str, dg.RawMetadataValue] = {name: getattr(counts, name) for name in _SHOWN[stage]}
    return shown | {"pages": pages, "sync_job": str(job_id)}


def _rework(
    context: dg.AssetExecutionContext, workspace: Workspace, data_source: DataSource, wanted: Iterable[str]
) -> Iterator[Event]:
    """Mend what the database says is stale. Chunks and vectors are made together, so either stage alone does both."""
    from workstation_pipelines.sync.index import Reworked, reindex

    done = Reworked()
    batches = reindex(
        workspace.database,
        workspace.vectorizer(data_source.user_id),
        user_id=data_source.user_id,
        data_source_id=data_source.id,
    )
    for batch in batches:
        done = done.plus(batch)
        context.log.info("reworked %d documents", done.documents)
    for stage in wanted:
        yield dg.MaterializeResult(asset_key=[data_source.source_type.value, stage], metadata=asdict(done))


def _busy(workspace: Workspace, data_source: DataSource) -> dg.Failure:
    """Not skipped: a run that did nothing must not look like one that synced. Not retried: the holder does the work."""
    from workstation_pipelines.db import health

    with workspace.database.transaction_with_rls(data_source.user_id) as connection:
        state = health.of_source(connection, user_id=data_source.user_id, data_source_id=data_source.id)
    is_running = state is not None and state.last_job_status is JobStatus.RUNNING
    holder = f"sync job {state.last_job_id}" if state and is_running else "a sync that is just starting or ending"
    run = (
        f" of Dagster run {state.last_job_dagster_run_id}"
        if state and is_running and state.last_job_dagster_run_id
        else ""
    )
    return dg.Failure(
        f"BusyError: data source {data_source.id} is held by {holder}{run}; nothing was done here. Wait for it to end.",
        allow_retries=False,
    )


@contextmanager
def as_outcomes(context: dg.AssetExecutionContext | dg.OpExecutionContext, subject: str) -> Iterator[None]:
    """Translate errors into Dagster's outcomes with the error's class and ids only.

    Dagster stores exceptions in clear, and their texts and causes may quote names or content: `sync_jobs` has the
    message, for the owner alone.
    """
    try:
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except RetryableError as error:
        wait_s = min(max(error.wait_s, 2.0**context.retry_number), LONGEST_WAIT_S)
        context.log.warning("%s for %s: trying again in %.0f s", type(error).__name__, subject, wait_s)
        raise dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=wait_s) from None
    except ReauthorizeError:
        raise dg.Failure(
            f"ReauthorizeError: data source {subject} must be connected again by its owner.", allow_retries=False
        ) from None
    except WorkstationError as error:
        raise dg.Failure(
            f"{type(error).__name__} for {subject}: its newest job has the message, `workstation jobs list` or"
            " `workstation process list` shows it.",
            allow_retries=False,
        ) from None
    except Exception as bug:  # noqa: BLE001 - a process rim: re-raised without what it quotes
        raise dg.Failure(
            f"{type(bug).__name__} for {subject}: this is a bug; the frames say where.",
            metadata={"frames": frames_of(bug)},
            allow_retries=False,
        ) from None


def frames_of(error: BaseException) -> list[str]:
    """Return where an error arose, outermost first: files, lines and functions, without values or messages."""
    summary = traceback.extract_tb(error.__traceback__)
    return [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in summary]


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(_PACKAGE.parent)) if path.is_relative_to(_PACKAGE) else path.name
