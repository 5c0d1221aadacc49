"""A folder, a database, an ephemeral Dagster instance, and runs of the real definitions over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.defs import partitions
from workstation_pipelines.defs.assets import op_name, stage_key
from workstation_pipelines.defs.location import sync_definitions
from workstation_pipelines.model import Content, Cursor, DataSourceId, Delta, Item, JobType, Page, SourceType, UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources.contract import Account, Known, Source
from workstation_pipelines.sources.local_folder.connector import LocalFolder
from workstation_pipelines.sync.workspace import Workspace

ALICE = UserId("alice")
FOLDER = SourceType.LOCAL_FOLDER


def nothing(_what: object) -> None:
    """The default of every hook."""


class Watched:
    """A local folder that counts what is asked of it and may be interrupted: `before_page` gets the number of the page."""

    source_type: ClassVar[SourceType] = FOLDER
    delta: ClassVar[Delta] = LocalFolder.delta
    proves_absence: ClassVar[bool] = LocalFolder.proves_absence
    page_size: ClassVar[int] = 2
    fetch_threads: ClassVar[int] = 1

    def __init__(self, place: Place, source: LocalFolder) -> None:
        self._place = place
        self._source = source
        source.page_size = 2  # type: ignore[misc]  # small pages, so that there are several

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return LocalFolder.same_content(old_hash, new_hash)

    def check(self) -> Account:
        return self._source.check()

    def start_cursor(self) -> Cursor | None:
        return self._source.start_cursor()

    def close(self) -> None:
        self._source.close()

    @property
    def scope(self) -> str:
        return self._source.scope

    @property
    def reconcile_every(self) -> timedelta | None:
        return self._place.reconcile_every

    @property
    def provider_calls(self) -> int:
        return self._source.provider_calls

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        self._place.before_probe(since)
        return self._source.probe(since, cursor)

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        for number, page in enumerate(self._source.pages(cursor, known, job_type), 1):
            self._place.before_page(number)
            yield page

    def fetch_calls(self, item: Item) -> tuple[()]:
        return self._source.fetch_calls(item)

    def fetch(self, item: Item) -> Content:
        self._place.fetched.append(item.external_path)
        return self._source.fetch(item)


class _Workspace(Workspace):
    place: Place

    def open_source(self, data_source: DataSource) -> Source:
        source = super().open_source(data_source)
        assert isinstance(source, LocalFolder)
        self.place.opened += 1
        return Watched(self.place, source)


class _Opened:
    """Stands where a WorkspaceResource does, and keeps its workspace for the next run."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def open(self) -> Workspace:
        return self.workspace


class Place:
    """`before_page`, `before_probe`: what a test does in the middle. `fetched`, `opened`: what was asked of the source."""

    def __init__(self, root: Path, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.folder = root
        self.instance = instance
        self.database = Database(settings.database_url or "")
        self.workspace = _Workspace(settings, self.database)
        self.workspace.place = self
        self.resource = _Opened(self.workspace)
        self.definitions = sync_definitions(dg.ResourceDefinition.hardcoded_resource(self.resource))
        self.before_page: Callable[[int], None] = nothing
        self.before_probe: Callable[[str | None], None] = nothing
        self.reconcile_every: timedelta | None = None
        self.fetched: list[str] = []
        self.opened = 0
        self.data_source = self.add_source("notes", root)
        partitions.register_partition(instance, FOLDER, self.data_source.id)

    def add_source(self, name: str, path: Path) -> DataSource:
        with self.database.transaction_with_rls(ALICE) as connection:
            return data_sources.add(
                connection,
                user_id=ALICE,
                data_source_id=DataSourceId(uuid4()),
                name=name,
                source_type=FOLDER,
                config={"path": str(path)},
            )

    def write(self, *names: str, text: str = "Some words about {}.") -> None:
        for name in names:
            (self.folder / name).write_text(text.format(name))

    def run(
        self,
        *stages: str,
        config: Mapping[str, Any] | None = None,
        data_source_id: UUID | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run the sync job for stages, all by default, in this process."""
        self.fetched.clear()
        self.opened = 0
        return self.definitions.resolve_job_def("local_folder_sync").execute_in_process(
            instance=self.instance,
            partition_key=str(data_source_id or self.data_source.id),
            asset_selection=[stage_key(FOLDER, stage) for stage in stages] or None,
            run_config={"ops": {op_name(FOLDER): {"config": dict(config or {})}}},
            raise_on_error=False,
            tags=dict(tags or {}),
        )

    def run_checks(self) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def("local_folder_checks").execute_in_process(
            instance=self.instance, raise_on_error=False
        )

    def ask(self, statement: str, **parameters: Any) -> Sequence[Any]:
        """Run a statement as Alice and return all rows."""
        return self.database.query_with_rls(ALICE, statement, parameters)

    def jobs(self) -> list[str]:
        return [row[0] for row in self.ask("SELECT status FROM app.sync_jobs ORDER BY created_at, id")]


def materialised(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Metadata by stage, in the order of the events."""
    return {
        event.materialization.asset_key.path[-1]: {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }


def evaluated(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    return {name for name, evaluation in evaluated(result).items() if not evaluation.passed}


def status(place: Place, result: dg.ExecuteInProcessResult) -> str:
    run = place.instance.get_run_by_id(result.run_id)
    assert run is not None
    return run.status.value


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The text that Dagster shows for the failed step."""
    event = next(event for event in result.all_events if event.is_step_failure)
    error = event.step_failure_data.error
    assert error is not None
    return error.to_string()


def create(place: Place, request: dg.RunRequest, *, submit: bool) -> dg.DagsterRun:
    """Do what the daemon does with a request: create its run, then submit it."""
    partition_key = request.partition_key or request.tags["dagster/partition"]
    origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("sync"), "__repository__")
    code = ReconstructableRepository.for_module("workstation_pipelines.definitions", "defs")
    job = place.definitions.resolve_job_def("local_folder_sync")
    run = place.instance.create_run_for_job(
        job_def=job,
        run_config=request.run_config,
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={
            **(request.tags or {}),
            "dagster/run_key": request.run_key or "",
            "dagster/partition": partition_key,
        },
        remote_job_origin=origin.get_job_origin(job.name),
        job_code_origin=code.get_reconstructable_job(job.name).get_python_origin(),
    )
    if submit:
        place.instance.submit_run(run.run_id, workspace=None)  # type: ignore[arg-type]  # the queue needs none
    return run


def end(place: Place, run: dg.DagsterRun) -> None:
    """Let a queued run be over."""
    place.instance.report_run_canceled(run)
