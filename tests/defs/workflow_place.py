"""Workflows run as the jobs that they compile to: real application database, Dagster's storage in memory, no daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from sqlalchemy import text

from workstation_pipelines.db import execution_control, executions, steps, workflows
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.executions import NewStep
from workstation_pipelines.defs import disagreements, mirroring, workflow_jobs
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import (
    Execution,
    ExecutionId,
    ExecutionStatus,
    Owner,
    Step,
    StepId,
    TenantId,
    WorkflowId,
    WorkflowVersionId,
)
from workstation_pipelines.workflows import catalog
from workstation_pipelines.workflows.definition import digest

ALICE = UserId("alice")
HOME = TenantId("home")
OWNER = Owner(user_id=ALICE, tenant_id=HOME)


class Opened:
    """Stands where a WorkspaceResource does, and keeps its workspace for the next run."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def open(self) -> Workspace:
        return self.workspace


class WorkflowPlace:
    """Alice's workflows, and runs of their executions one after the other."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.database = Database(settings.database_url or "")
        self.workspace = Workspace(settings, self.database)
        self.resource = dg.ResourceDefinition.hardcoded_resource(Opened(self.workspace))

    def save(self, document: Mapping[str, Any], slug: str = "digest") -> WorkflowVersionId:
        """Save a workflow, or another version of it."""
        version_id = WorkflowVersionId(uuid4())
        written: dict[str, Any] = {"definition": document, "definition_hash": digest(document)}
        with self.database.transaction_with_rls(ALICE, HOME) as connection:
            if workflows.exists(connection, **OWNER, slug=slug):
                known = workflows.by_slug(connection, **OWNER, slug=slug)
                return workflows.add_version(
                    connection, **OWNER, workflow_id=known.id, version_id=version_id, **written
                ).id
            workflows.create(
                connection,
                **OWNER,
                workflow_id=WorkflowId(uuid4()),
                version_id=version_id,
                slug=slug,
                name=slug,
                **written,
            )
        return version_id

    def ask_for(
        self, version_id: WorkflowVersionId, document: Mapping[str, Any], input: Mapping[str, Any] | None = None
    ) -> ExecutionId:
        definition = catalog.read(document)
        given = {field.name: field.default for field in definition.inputs} | dict(input or {})
        new = [
            NewStep(StepId(uuid4()), node.id, node.type, node.name, place)
            for place, node in enumerate(definition.nodes)
        ]
        with self.database.transaction_with_rls(ALICE, HOME) as connection:
            return executions.create(
                connection,
                **OWNER,
                execution_id=ExecutionId(uuid4()),
                version_id=version_id,
                input=given,
                steps=new,
            ).id

    def begin_run(self, execution_id: ExecutionId) -> str:
        run_id = uuid4()
        with self.database.transaction_with_rls(ALICE, HOME) as connection:
            number = execution_control.begin_run(connection, **OWNER, execution_id=execution_id, run_id=run_id)
        assert number is not None
        return str(run_id)

    def run(self, execution_id: ExecutionId, run_id: str | None = None) -> dg.DagsterRun:
        """Let a run work on an execution in this process, as the process that the daemon launches would."""
        run_id = run_id or self.begin_run(execution_id)
        execution = self.execution(execution_id)
        with self.database.transaction_with_rls(ALICE, HOME) as connection:
            workflow = workflows.get(connection, **OWNER, workflow_id=execution.workflow_id)
        definition = catalog.read(execution.definition)
        job = workflow_jobs.compile_job(
            workflow.slug, execution.version, workflow.job_key, definition, workspace=self.resource
        )
        tags = {workflow_jobs.EXECUTION_TAG: str(execution_id)}
        run = self.instance.create_run_for_job(job, run_id=run_id, tags=tags)
        execute_run(InMemoryJob(job), run, self.instance)
        ended = self.instance.get_run_by_id(run_id)
        assert ended is not None
        return ended

    def close(self, execution_id: ExecutionId) -> ExecutionStatus:
        """Let the mirror write down how the newest run has ended, and see that then all agrees."""
        done = mirroring.mirror(self.database, self.instance, only=execution_id)
        assert done == mirroring.Mirrored(looked_at=1, closed=1)
        assert disagreements.disagreements(self.database, self.instance, **OWNER) == []
        return self.execution(execution_id).status

    def run_to_the_end(self, execution_id: ExecutionId) -> Execution:
        self.run(execution_id)
        while self.close(execution_id) is ExecutionStatus.WAITING:
            self.run(execution_id)
        return self.execution(execution_id)

    def execution(self, execution_id: ExecutionId) -> Execution:
        with self.database.transaction_with_rls(ALICE, HOME) as connection:
            return executions.get(connection, **OWNER, execution_id=execution_id)

    def ask(self, statement: str) -> Sequence[Any]:
        """Run a statement as Alice at home and return all rows."""
        with self.database.transaction_with_rls(ALICE, HOME) as connection:
            result = connection.execute(text(statement))
            return result.all() if result.returns_rows else []

    def steps(self, execution_id: ExecutionId) -> dict[str, Step]:
        with self.database.transaction_with_rls(ALICE, HOME) as connection:
            found = steps.of_execution(connection, **OWNER, execution_id=execution_id)
        return {step.node_id: step for step in found}
