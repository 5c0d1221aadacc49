"""The code location `workflows`: lists the jobs that were used last, and finds every other one by its name when a run needs it.

So loading takes the same time whatever is stored, and a run of a version that was saved a second ago needs no reload.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from workstation_pipelines.defs.resources import RESOURCE_KEY, workspace_resource
from workstation_pipelines.defs.workflow_jobs import compile_job
from workstation_pipelines.errors import InvalidRequestError, NotFoundError, WorkstationError
from workstation_pipelines.workflows import catalog, job_names

if TYPE_CHECKING:
    from workstation_pipelines.db.workflows import VersionOwner
    from workstation_pipelines.settings import Settings
    from workstation_pipelines.sync.workspace import Workspace

LISTED_JOBS = 50
_log = logging.getLogger(__name__)


class StoredWorkflows(dg.RepositoryData):
    """Reads the database when it is asked for jobs, and lists none where that cannot be done: sensors are there all the same."""

    def __init__(
        self,
        load_settings: Callable[[], Settings],
        *,
        sensors: Sequence[dg.SensorDefinition] = (),
        schedules: Sequence[dg.ScheduleDefinition] = (),
        jobs: Sequence[dg.JobDefinition] = (),
    ) -> None:
        """`jobs` are those that sensors and schedules need, listed whatever the database says."""
        self._load_settings = load_settings
        self._workspace = workspace_resource(load_settings)
        self._sensors = sensors
        self._schedules = schedules
        self._fixed = {job.name: job for job in jobs}
        self._found: dict[str, dg.JobDefinition] = {}
        self._listed: Sequence[dg.JobDefinition] | None = None

    def get_all_jobs(self) -> Sequence[dg.JobDefinition]:
        if self._listed is None:
            self._listed = [*self._fixed.values(), *self._recent()]
        return self._listed

    def has_job(self, job_name: str) -> bool:
        try:
            self.get_job(job_name)
        except WorkstationError:
            return False
        return True

    def get_job(self, job_name: str) -> dg.JobDefinition:
        """Return the job of this name, whether it is listed or not.

        Raises NotFoundError, InvalidDefinitionError, and SourceUnavailableError when the database is away.
        """
        if job_name in self._fixed:
            return self._fixed[job_name]
        if job_name not in self._found:
            self._found[job_name] = self._compiled(job_name)
        return self._found[job_name]

    def get_all_sensors(self) -> Sequence[dg.SensorDefinition]:
        return self._sensors

    def get_all_schedules(self) -> Sequence[dg.ScheduleDefinition]:
        return self._schedules

    def get_top_level_resources(self) -> Mapping[str, dg.ResourceDefinition]:
        return {RESOURCE_KEY: self._workspace}

    def get_env_vars_by_top_level_resource(self) -> Mapping[str, frozenset[str]]:
        return {}

    def _compiled(self, job_name: str) -> dg.JobDefinition:
        from workstation_pipelines.db import workflows
        from workstation_pipelines.sync.workspace import Workspace

        name = job_names.read(job_name)
        if name is None:
            raise NotFoundError(f"no job {job_name[:200]!r} among workflows")
        with Workspace.open(self._load_settings()) as workspace:
            owner = workflows.version_by_job(
                workspace.database, job_key=name.job_key, slug=name.slug, version=name.version
            )
            if owner is None:
                raise NotFoundError(f"no workflow version of job {job_name}: it was deleted")
            return self._job_of(workspace, owner)

    def _recent(self) -> Sequence[dg.JobDefinition]:
        from workstation_pipelines.db import workflows
        from workstation_pipelines.sync.workspace import Workspace

        jobs = []
        try:
            with Workspace.open(self._load_settings()) as workspace:
                for owner in workflows.recently_used(workspace.database, at_most=LISTED_JOBS):
                    try:
                        jobs.append(self._job_of(workspace, owner))
                    except (InvalidRequestError, NotFoundError) as error:
                        _log.warning("workflow version %s is not listed: %s", owner.version_id, type(error).__name__)
        except WorkstationError as error:
            _log.warning("no workflow is listed: %s", error.message)
        return jobs

    def _job_of(self, workspace: Workspace, owner: VersionOwner) -> dg.JobDefinition:
        from workstation_pipelines.db import workflows

        place: dict[str, Any] = {"user_id": owner.user_id, "tenant_id": owner.tenant_id}
        with workspace.database.transaction_with_rls(owner.user_id, owner.tenant_id) as connection:
            version = workflows.version_of_id(connection, **place, version_id=owner.version_id)
            workflow = workflows.get(connection, **place, workflow_id=version.workflow_id)
        definition = catalog.read(version.definition)
        return compile_job(workflow.slug, version.version, workflow.job_key, definition, workspace=self._workspace)
