"""Which data sources want a sync without being asked: what a probe saw, what failed and is due again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import runs
from workstation_pipelines.errors import InvalidRequestError, NotFoundError, ReauthorizeError, RetryableError
from workstation_pipelines.model import Clock, DataSourceId, JobStatus, SourceType, UserId

if TYPE_CHECKING:
    from workstation_pipelines.db.data_sources import DataSource
    from workstation_pipelines.db.health import SourceState
    from workstation_pipelines.sources.contract import Source
    from workstation_pipelines.sync.workspace import Workspace

PROBES_PER_TICK = 300
PROBE_THREADS = 6
"""Probes wait for a vendor most of the time; each holds a database connection only for moments."""

RUNS_PER_TICK = 100
LONGEST_TICK_S = 25.0
"""Dagster gives a tick 60 seconds: one probe may take a few, and creating a run takes up to 0.2."""

SILENT_FOR = timedelta(minutes=5)
"""A running job that has committed nothing for so long is dead or stuck; if it lives, the lease keeps a second one out."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A run that should exist. `probe` is a digest of the token that asks for it, empty when something else does."""

    user_id: UserId
    data_source_id: DataSourceId
    run_key: str
    probe: str = ""
    token: str | None = None


def wishes(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    source_type: SourceType,
    *,
    clock: Clock,
    monotonic: Callable[[], float],
) -> list[Wish]:
    """Probe a few sources, the one probed longest ago first, and return the runs to request.

    A token is stored only once the run that it asked for exists, so a lost request is made again.
    """
    from workstation_pipelines.db import data_sources

    end_s = monotonic() + LONGEST_TICK_S
    found = data_sources.to_probe(workspace.database, source_type, at_most=PROBES_PER_TICK)
    busy = runs.busy_partitions(instance, [str(data_source_id) for _, data_source_id in found], clock)
    wished: list[Wish] = []

    def look(source: tuple[UserId, DataSourceId]) -> None:
        user_id, data_source_id = source
        if monotonic() > end_s or len(wished) >= RUNS_PER_TICK:
            return  # it stays at the front
        # Marked before the look: a source whose probe is a bug then goes to the back, and does not hold up the others.
        _store(workspace, user_id, data_source_id, None)
        wish = None if str(data_source_id) in busy else _look(workspace, instance, user_id, data_source_id)
        if wish is not None and not _is_granted(workspace, instance, wish):
            wished.append(wish)

    with ThreadPoolExecutor(PROBE_THREADS, thread_name_prefix="probe") as threads:
        looks = [threads.submit(look, source) for source in found]
    bugs = [bug for bug in (done.exception() for done in looks) if bug is not None]
    if bugs and not wished:  # else the others' runs come first, and a later tick is loud
        raise bugs[0]
    return wished


def _is_granted(workspace: Workspace, instance: dg.DagsterInstance, wish: Wish) -> bool:
    """Whether the run exists; then its token is stored and asks for nothing more."""
    if not wish.probe:
        run = runs.existing_runs(instance, [wish.run_key]).get(wish.run_key)
        return run is not None and run.status is not dg.DagsterRunStatus.NOT_STARTED
    # By digest, not by key: syncing moves the fence, and with it the key.
    run = runs.newest_probe_run(instance, str(wish.data_source_id))
    if run is None or run.tags[runs.PROBE_TAG] != wish.probe or run.status is dg.DagsterRunStatus.NOT_STARTED:
        return False
    _store(workspace, wish.user_id, wish.data_source_id, wish.token)
    return True


def _look(
    workspace: Workspace, instance: dg.DagsterInstance, user_id: UserId, data_source_id: DataSourceId
) -> Wish | None:
    from workstation_pipelines.db import data_sources, health

    with workspace.database.transaction_with_rls(user_id) as connection:
        state = health.of_source(connection, user_id=user_id, data_source_id=data_source_id)
        if state is None:
            return None
        data_source = data_sources.get(connection, user_id=user_id, data_source_id=data_source_id)
        stored = data_sources.probe_token(connection, user_id=user_id, data_source_id=data_source_id)
    if _is_alive(instance, state) or state.last_job_status is JobStatus.PAUSED:
        return None  # it is gone on with as soon as it may be, see requests.py, or somebody holds it
    key = _key_without_probe(state)
    if key is not None:
        return Wish(user_id, data_source_id, key)
    key, token = _probed(workspace, data_source, state, stored)
    if key is not None:
        return Wish(user_id, data_source_id, key)
    if token is None:
        return None
    if token == stored:
        # The change that asked for the failed sync is still out there.
        did_fail = state.last_job_status is JobStatus.FAILED
        return Wish(user_id, data_source_id, _hourly_key(state, "failed")) if did_fail else None
    digest = blake2b(token.encode(), digest_size=8).hexdigest()
    # The fence counts the syncs: a folder that goes back to how it was wants a run of its own.
    return Wish(user_id, data_source_id, f"{data_source_id}:{data_source.fence}:{digest}", digest, token)


def _is_alive(instance: dg.DagsterInstance, state: SourceState) -> bool:
    """Whether the newest job is under way; a killed one still says so, until the next sync buries it."""
    if state.last_job_status is not JobStatus.RUNNING:
        return False
    if state.last_job_dagster_run_id is not None and runs.is_over(instance, state.last_job_dagster_run_id):
        return False
    return state.heartbeat_at is not None and state.now - state.heartbeat_at < SILENT_FOR


def _key_without_probe(state: SourceState) -> str | None:
    if state.last_job_status is JobStatus.RUNNING:
        return _hourly_key(state, "crashed")
    if state.next_retry_at is not None and state.next_retry_at <= state.now:
        return f"{state.data_source_id}:retry:{int(state.next_retry_at.timestamp())}"
    return None


def _hourly_key(state: SourceState, why: str) -> str:
    """At most one run an hour: what killed a sync, or made it fail, may do so again."""
    return f"{state.data_source_id}:{why}:{state.now:%Y%m%d%H}"


def _key_of_listing(source: Source, data_source: DataSource, state: SourceState) -> str | None:
    """Name a run when everything is to be listed anew, which no probe would ask for."""
    listed_at, every = data_source.last_listed_at, source.reconcile_every
    if data_source.synced_scope not in (None, source.scope):
        return _hourly_key(state, "rescoped")
    if listed_at is not None and every is not None and state.now - listed_at > every:
        return _hourly_key(state, "reconcile")
    return None


def _probed(
    workspace: Workspace, data_source: DataSource, state: SourceState, since: str | None
) -> tuple[str | None, str | None]:
    """Return the key of a run that is due without a probe, or the token of one.

    Neither means that the source cannot be probed now: a sync by hand or by schedule will say why.
    """
    from workstation_pipelines.db import data_sources

    try:
        source = workspace.open_source(data_source)
        try:
            key = _key_of_listing(source, data_source, state)
            return (key, None) if key is not None else (None, source.probe(since, data_source.cursor))
        finally:
            source.close()
    except ReauthorizeError as error:
        with workspace.database.transaction_with_rls(data_source.user_id) as connection:
            data_sources.set_status(
                connection,
                user_id=data_source.user_id,
                data_source_id=data_source.id,
                connection_status="error",
                message=error.message,
                needs_reauth=True,
            )
        return None, None
    except (RetryableError, InvalidRequestError, NotFoundError):
        return None, None


def _store(workspace: Workspace, user_id: UserId, data_source_id: DataSourceId, token: str | None) -> None:
    from workstation_pipelines.db import data_sources

    with workspace.database.transaction_with_rls(user_id) as connection:
        data_sources.set_probed(connection, user_id=user_id, data_source_id=data_source_id, token=token)
