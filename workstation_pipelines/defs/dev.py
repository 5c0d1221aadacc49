"""Dagster on this machine: its instance for our own commands, one run on the spot, and its web UI with the daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from workstation_pipelines.db import embedded
from workstation_pipelines.defs import home, runs
from workstation_pipelines.defs.runs import RunOutcome
from workstation_pipelines.errors import InvalidRequestError, NotFoundError, SourceUnavailableError
from workstation_pipelines.model import SourceType
from workstation_pipelines.settings import Settings, child_environment


@dataclass(frozen=True, slots=True)
class DagsterHome:
    """A written DAGSTER_HOME. `environment` is what a child process needs on top of ours; it may hold a password."""

    folder: Path
    storage_url: str
    environment: Mapping[str, str]


def prepare(settings: Settings) -> DagsterHome:
    """Start the embedded database if it is wanted, and write dagster.yaml. Idempotent.

    Raises InvalidRequestError, SourceUnavailableError.
    """
    is_embedded = settings.dagster_postgres_url is None
    storage_url = settings.dagster_postgres_url or embedded.ensure_running(settings.home).dagster_url
    folder = home.ensure_dagster_home(settings.dagster_home, storage_url, is_embedded=is_embedded)
    return DagsterHome(folder, storage_url, home.dagster_environment(folder, storage_url))


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the persistent instance; its tables are created by the first who does."""
    prepared = prepare(settings)
    # The URL comes from the settings, so the environment need not hold it in the form that Dagster insists on.
    overrides = {"storage": {"postgres": {"postgres_url": prepared.storage_url}}}
    ref = InstanceRef.from_dir(str(prepared.folder), overrides=overrides)
    with dg.DagsterInstance.from_ref(ref) as instance:
        yield instance


def register(settings: Settings, source_type: SourceType, data_source_id: UUID) -> bool:
    """Let runs name a new data source; False when Dagster's storage cannot be reached, and the sensor does it later."""
    from workstation_pipelines.defs import partitions

    return _best_effort(settings, lambda instance: partitions.register_partition(instance, source_type, data_source_id))


def forget(settings: Settings, source_type: SourceType, data_source_id: UUID) -> bool:
    """Take a removed data source out of the partitions; False when the sensor has to do it later."""
    from workstation_pipelines.defs import partitions

    return _best_effort(settings, lambda instance: partitions.forget_partition(instance, source_type, data_source_id))


def materialize_once(
    settings: Settings,
    data_source_id: UUID,
    assets: Sequence[str] | None = None,
    *,
    full_sync: bool = False,
    confirm_deletes: bool = False,
    log_level: str = "CRITICAL",
) -> RunOutcome:
    """Sync one data source by a Dagster run in this process; the web UI shows it like any other run.

    `assets` are stages, such as ("embeddings",); without them all three. A failed run is an outcome, not an error.
    Raises NotFoundError for an id that nobody has.
    """
    from workstation_pipelines.db import data_sources
    from workstation_pipelines.defs import partitions
    from workstation_pipelines.defs.assets import op_name, stage_key
    from workstation_pipelines.defs.location import sync_definitions
    from workstation_pipelines.defs.resources import workspace_resource
    from workstation_pipelines.sync.workspace import Workspace

    with Workspace.open(settings) as workspace:
        user_id = workspace.database.owner_of(data_source_id)
        if user_id is None:
            raise NotFoundError(f"no data source {data_source_id}: `workstation source list` shows yours")
        with workspace.database.transaction_with_rls(user_id) as connection:
            source = data_sources.get(connection, user_id=user_id, data_source_id=data_source_id)
    source_type = source.source_type
    job = sync_definitions(workspace_resource(lambda: settings)).resolve_job_def(f"{source_type.value}_sync")
    config = {"full_sync": full_sync, "confirm_deletes": confirm_deletes}
    with open_instance(settings) as instance:
        partitions.register_partition(instance, source_type, data_source_id)
        return runs.execute_now(
            instance,
            job,
            partition_key=str(data_source_id),
            tags=runs.tags_of(user_id=user_id, data_source_id=str(data_source_id)),
            run_config=runs.run_config_for(op_name(source_type), config, log_level=log_level),
            assets=None if assets is None else [stage_key(source_type, stage) for stage in assets],
        )


def run_dev(settings: Settings, workspace_file: Path, **watching: Any) -> int:
    """Serve Dagster's web UI on 127.0.0.1 with daemon and code locations until SIGINT or SIGTERM; return its exit code.

    Meanwhile jobs and runs whose process is gone are ended, and code locations that lost their server reloaded; `watching`
    sets the intervals of that, see Watchdog. Waits for everything it started.
    Raises InvalidRequestError, SourceUnavailableError before anything is started.
    """
    from workstation_pipelines.db import run_presence, workflows
    from workstation_pipelines.defs.watchdog import Listing, Watchdog
    from workstation_pipelines.sync.workspace import Workspace

    prepared = prepare(settings)
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace_file), "-h", "127.0.0.1"]
    command += ["-p", str(settings.web_port), "--log-level", "warning"]
    # Opened first: it migrates the embedded database, or says what is wrong with yours.
    with Workspace.open(settings) as workspace, open_instance(settings) as instance:
        instance.upgrade()  # several processes must not create or migrate the tables at once
        watching.setdefault("listing", Listing(partial(workflows.newest_version_at, workspace.database)))
        watchdog = Watchdog(instance, workspace.database, f"http://127.0.0.1:{settings.web_port}", **watching)
        with watchdog.watching(), run_presence.present(workspace.database, runs.DEV):
            return supervise(command, prepared.environment)


def supervise(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program until it ends by itself or we get SIGINT or SIGTERM, and wait for it; return its exit code.

    Each of our signals is passed on as a SIGINT; a program stopped that way counts as 0. The main thread only.
    """
    child: subprocess.Popen[bytes] | None = None
    asked: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # A session of its own: Ctrl-C then reaches us alone, and the stack gets exactly one SIGINT. Dagster stops on that
        # and copies its handling to SIGTERM, so an inherited "ignore" (a shell's `&`) would make it unstoppable.
        child = subprocess.Popen(
            command, env=child_environment(environment), start_new_session=True, preexec_fn=_default_signals
        )
        if asked:  # between the handler and the start
            child.send_signal(signal.SIGINT)
        code = child.wait()
        return 0 if asked else code
    finally:
        if child is not None and child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _best_effort(settings: Settings, change: Callable[[dg.DagsterInstance], None]) -> bool:
    from dagster_postgres.utils import DagsterPostgresException

    try:
        with open_instance(settings) as instance:
            change(instance)
    except (SourceUnavailableError, InvalidRequestError, DagsterPostgresException, OSError):
        return False
    return True


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
