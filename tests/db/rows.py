"""Rows to test with, stored by the same statements that the engine uses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID, uuid4

import numpy as np
from sqlalchemy import Connection

from workstation_pipelines.db import (
    attempts,
    data_sources,
    documents,
    events,
    execution_control,
    executions,
    index_namespaces,
    index_outbox,
    library,
    metering,
    processing,
    sync_containers,
    sync_failures,
    sync_items,
    sync_jobs,
    timeline,
    transformations,
    uploads,
    vectors,
    webhooks,
    wire,
    workflow_schedules,
    workflow_secrets,
    workflow_templates,
    workflows,
)
from workstation_pipelines.db.data_sources import DataSource, Lease
from workstation_pipelines.db.documents import ChunkWrite, DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.executions import NewStep
from workstation_pipelines.db.sync_items import ItemWrite
from workstation_pipelines.db.timeline import TimelineEvent
from workstation_pipelines.db.transformations import Transformation
from workstation_pipelines.model import (
    Chunk,
    Container,
    DataSourceId,
    DocumentId,
    EventKind,
    IndexConfig,
    IndexConfigId,
    Item,
    ItemFailure,
    ItemType,
    JobType,
    Measure,
    ProcessingJobId,
    ProcessingKind,
    Severity,
    SourceType,
    SyncJobId,
    SyncStatus,
    Usage,
    UserId,
    WebhookId,
)
from workstation_pipelines.workflow_model import (
    ExecutionId,
    NodeId,
    StepId,
    TemplateId,
    TenantId,
    WorkflowId,
    WorkflowVersionId,
)

DIMENSIONS = 4

APPEND_ONLY = frozenset({"audit_logs"})
"""Tables whose rows the database writes by itself, and that nobody may change."""

UNCHANGED = frozenset({"workflow_versions"})
"""Tables whose rows are written once, and go with what they belong to."""


class Owner(TypedDict):
    """Whose rows of workflows are meant."""

    user_id: UserId
    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class Library:
    """The ids of one row of each kind, all of one user."""

    user_id: UserId
    source: DataSource
    lease: Lease
    config: IndexConfig
    job_id: SyncJobId
    document_id: DocumentId
    project_id: UUID
    tag_id: UUID
    processing_job_id: ProcessingJobId


def add_source(connection: Connection, user_id: UserId, name: str = "notes") -> DataSource:
    return data_sources.add(
        connection,
        user_id=user_id,
        data_source_id=DataSourceId(uuid4()),
        name=name,
        source_type=SourceType.LOCAL_FOLDER,
        config={"folder": "/notes"},
    )


def lease_of(source: DataSource) -> Lease:
    """A lease as the next statements check it, without the lock behind it."""
    return Lease(source.id, source.user_id, source.fence)


def config_of(connection: Connection, user_id: UserId, model: str = "test") -> IndexConfig:
    return vectors.index_config(
        connection,
        user_id=user_id,
        embedder="hashing",
        model=model,
        dimensions=DIMENSIONS,
        chunk_tokens=256,
        overlap_tokens=32,
        new_id=uuid4,
    )


def item(external_id: str, **changes: Any) -> Item:
    described: dict[str, Any] = {
        "external_id": external_id,
        "external_path": f"folder/{external_id}",
        "external_hash": f"md5:{external_id}",
        "item_type": ItemType.FILE,
        "title": external_id,
        "mime_type": "text/plain",
        **changes,
    }
    return Item(**described)


def item_write(
    external_id: str,
    status: SyncStatus = SyncStatus.SYNCED,
    document_id: DocumentId | None = None,
    *,
    reason: str = "",
    **changes: Any,
) -> ItemWrite:
    described = item(external_id, **changes)
    return ItemWrite(described, described.external_hash, described.mime_type, status, reason, document_id)


def vector_of(text: str) -> bytes:
    """A unit vector that depends on the text, as one halfvec value."""
    seed = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=4 * DIMENSIONS).digest(), dtype=np.uint32)
    vector = (seed / 2**32 + 0.01).astype(np.float32)
    return wire.halfvecs((vector / np.linalg.norm(vector)).reshape(1, DIMENSIONS))[0]


def text_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def document_write(
    text: str,
    *,
    config_id: IndexConfigId,
    document_id: DocumentId | None = None,
    is_new: bool = True,
    generation: int = 1,
    title: str = "title",
    chunk_size: int = 10,
    with_vectors: bool = True,
) -> DocumentWrite:
    """A document whose chunks are its text in slices of `chunk_size` characters."""
    starts = range(0, len(text), chunk_size)
    pieces = [text[start : start + chunk_size] for start in starts]
    chunks = [
        ChunkWrite(
            Chunk(ordinal, piece, start, start + len(piece), "", 3),
            text_hash(piece),
            {"lexeme": 1},
            vector_of(piece) if with_vectors else None,
        )
        for ordinal, (start, piece) in enumerate(zip(starts, pieces, strict=True))
    ]
    return DocumentWrite(
        id=document_id or DocumentId(uuid4()),
        is_new=is_new,
        title=title,
        title_lexemes={"title": 1},
        mime_type="text/plain",
        external_url=None,
        size_bytes=len(text),
        source_created_at=None,
        source_modified_at=None,
        content_hash=hashlib.sha256(text.encode()).hexdigest(),
        language="en",
        text=text,
        generation=generation,
        index_config_id=config_id,
        chunks=chunks,
    )


def store(
    connection: Connection,
    user_id: UserId,
    writes: Sequence[DocumentWrite],
    *,
    data_source_id: UUID | None = None,
    project_id: UUID | None = None,
) -> None:
    documents.store(
        connection,
        user_id=user_id,
        data_source_id=data_source_id,
        project_id=project_id,
        writes=writes,
        packer=wire.TsvectorPacker(),
    )


def failure(external_id: str, *, permanent: bool = False, message: str = "it timed out") -> ItemFailure:
    return ItemFailure(external_id, f"folder/{external_id}", "fetch", "RetryableError", "timeout", message, permanent)


def populate(database: Database, user_id: UserId) -> Library:
    """Store at least one row in every table of the schema for this user."""
    with database.transaction_with_rls(user_id) as connection:
        source = add_source(connection, user_id)
        lease = lease_of(source)
        config = config_of(connection, user_id)
        job_id = SyncJobId(uuid4())
        sync_jobs.start(
            connection, lease, job_id=job_id, job_type=JobType.FULL_SYNC, progress={"page": 1}, dagster_run_id=None
        )
        project = library.ensure_project(connection, user_id=user_id, name="project", new_id=uuid4)
        tag = library.ensure_tag(connection, user_id=user_id, name="tag", new_id=uuid4)
        write = document_write(f"{user_id}'s text", config_id=config.id, title=f"{user_id}'s title")
        store(connection, user_id, [write], data_source_id=source.id, project_id=project)
        library.tag(connection, user_id=user_id, document_id=write.id, tag_id=tag)
        writes = [item_write("a.txt", document_id=write.id), item_write("b.txt", SyncStatus.FAILED, reason="timeout")]
        sync_items.write(connection, lease, job_id=job_id, sweep_id=None, writes=writes)
        sync_containers.write(connection, lease, sweep_id=None, containers=[Container("folder", "notes")])
        sync_failures.record(connection, lease, job_id=job_id, failures=[failure("b.txt")], new_id=uuid4)
        webhook_id = WebhookId(uuid4())
        webhooks.add(
            connection,
            user_id=user_id,
            webhook_id=webhook_id,
            name="pager",
            url="https://pager.example/hook",
            kinds=["*"],
            sealed_secret={"v": 1, "kid": "k1", "wk": "", "ct": ""},
        )
        events.open_event(  # which the webhook is told of
            connection,
            user_id=user_id,
            kind=EventKind.SYNC_FAILED,
            severity=Severity.ERROR,
            message="it failed",
            about=source.id,
            data_source_id=source.id,
            sync_job_id=job_id,
            new_id=uuid4,
        )
        connection.exec_driver_sql(
            "INSERT INTO app.scheduled_syncs (id, user_id, data_source_id, schedule_type) VALUES (%s, %s, %s, 'daily')",
            (uuid4(), user_id, source.id),
        )
        usage = Usage("embed", "openai", "small", 100, Decimal("0.00000002"), "tokens", source.id, write.id, job_id)
        metering.record(connection, user_id=user_id, usages=[usage])
        took = Measure("embed", "duration_s", 1, 0.5, 0.5)
        metering.observe(connection, user_id=user_id, data_source_id=source.id, measures=[took])
        connection.exec_driver_sql(
            "INSERT INTO app.budgets (id, user_id, data_source_id, period, unit, amount)"
            " VALUES (%s, %s, %s, 'month', 'tokens', 1000000)",
            (uuid4(), user_id, source.id),
        )
        processing_id = processing.enqueue(
            connection,
            user_id=user_id,
            job_id=ProcessingJobId(uuid4()),
            kind=ProcessingKind.BULK_DOCUMENT_PROCESSING,
            subjects=["/notes/a.txt"],
            config={},
            project_id=project,
        )
        rule = Transformation("no numbers", "redact", {"kinds": ["phone"]}, data_source_id=source.id, is_active=False)
        transformations.add(connection, user_id=user_id, transformation_id=uuid4(), rule=rule)
        uploads.add(connection, user_id=user_id, upload_id=uuid4(), name="a.txt", mime_type="", body=b"some text")
        _add_build(connection, user_id, project, write.id, config.id)
        namespace = add_index(connection, user_id)
        index_outbox.intend(connection, namespace, documents=[index_outbox.Sent(write.id, 1, 1)])
        _add_workflow(connection, user_id, TenantId(user_id))
    return Library(user_id, source, lease, config, job_id, write.id, project, tag, processing_id)


def add_workflow(
    connection: Connection, user_id: UserId, tenant_id: TenantId, slug: str = "digest", **definition: Any
) -> workflows.Workflow:
    """Save a workflow with one version."""
    return workflows.create(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        workflow_id=WorkflowId(uuid4()),
        version_id=WorkflowVersionId(uuid4()),
        slug=slug,
        name=f"{user_id}'s {slug}",
        definition=definition or {"nodes": [], "edges": []},
        definition_hash=hashlib.sha256(repr(definition).encode()).hexdigest(),
        tags=["daily"],
    )


def _add_workflow(connection: Connection, user_id: UserId, tenant_id: TenantId) -> None:
    workflow = add_workflow(connection, user_id, tenant_id)
    workflow_templates.create(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        template_id=TemplateId(uuid4()),
        slug="digest",
        name=f"{user_id}'s template",
        definition={"nodes": []},
    )
    sealed = {"v": 1, "kid": "k1", "wk": "", "ct": ""}
    workflow_secrets.put(
        connection, user_id=user_id, tenant_id=tenant_id, secret_id=uuid4(), name="TOKEN", sealed_value=sealed
    )
    workflow_schedules.add(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        schedule_id=uuid4(),
        workflow_id=workflow.id,
        schedule_type="daily",
        config={"at": "07:00"},
        timezone="UTC",
        next_at=datetime(2026, 1, 2, 7, tzinfo=UTC),
        input={},
    )
    version = workflows.version(connection, user_id=user_id, tenant_id=tenant_id, workflow_id=workflow.id)
    add_execution(connection, user_id, tenant_id, version.id)


def add_execution(
    connection: Connection, user_id: UserId, tenant_id: TenantId, version_id: WorkflowVersionId
) -> ExecutionId:
    """Write an execution with a step that an attempt is made at."""
    owner = Owner(user_id=user_id, tenant_id=tenant_id)
    execution_id, run_id, step_id = ExecutionId(uuid4()), uuid4(), StepId(uuid4())
    executions.create(
        connection,
        **owner,
        execution_id=execution_id,
        version_id=version_id,
        input={},
        steps=[NewStep(step_id, NodeId("first"), "transform", "First", 0)],
    )
    execution_control.begin_run(connection, **owner, execution_id=execution_id, run_id=run_id)
    attempts.begin(connection, **owner, step_id=step_id, block_id=uuid4(), dagster_run_id=run_id, input={})
    began = TimelineEvent("run.started", datetime.now(UTC), dagster_run_id=run_id, storage_id=1)
    timeline.add_many(connection, **owner, execution_id=execution_id, events=[began])
    return execution_id


def add_index(connection: Connection, user_id: UserId, name: str = "index") -> index_namespaces.IndexNamespace:
    """Open an index outside the database, with the user's live documents in its outbox."""
    return index_namespaces.open_namespace(
        connection,
        user_id=user_id,
        namespace_id=uuid4(),
        index_name=name,
        host="https://index.example",
        dimensions=384,
    )


def _add_build(
    connection: Connection, user_id: UserId, project_id: UUID, document_id: DocumentId, config_id: IndexConfigId
) -> None:
    build_id = uuid4()
    for statement, values in (
        ("index_settings (id, user_id, project_id, index_config_id)", (uuid4(), user_id, project_id, config_id)),
        (
            "index_builds (id, user_id, project_id, index_config_id, status)",
            (build_id, user_id, project_id, config_id, "dropped"),
        ),
        ("saved_questions (id, user_id, project_id, question)", (uuid4(), user_id, project_id, "where?")),
        (
            "index_build_documents (build_id, user_id, document_id, index_config_id, generation, chunk_count)",
            (build_id, user_id, document_id, config_id, 2, 0),
        ),
    ):
        places = ", ".join(["%s"] * len(values))
        connection.exec_driver_sql(f"INSERT INTO app.{statement} VALUES ({places})", values)  # noqa: S608 - constants
