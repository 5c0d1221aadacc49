"""The tables of the schema `app` as SQLAlchemy sees them; a test holds them against the migrations, column by column."""

from __future__ import annotations

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR
from sqlalchemy.schema import SchemaItem

metadata = MetaData(schema="app")


def _id(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, Uuid, nullable=nullable)


def _text(*names: str, nullable: bool = False) -> list[Column[object]]:
    return [Column(name, Text, nullable=nullable) for name in names]


def _int(*names: str) -> list[Column[object]]:
    return [Column(name, Integer, nullable=False) for name in names]


def _bigint(*names: str) -> list[Column[object]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _bool(*names: str) -> list[Column[object]]:
    return [Column(name, Boolean, nullable=False) for name in names]


def _moment(*names: str, nullable: bool = True) -> list[Column[object]]:
    return [Column(name, DateTime(timezone=True), nullable=nullable) for name in names]


def _json(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, JSONB, nullable=nullable)


def _owner_key(table: str) -> UniqueConstraint:
    return UniqueConstraint("user_id", "id", name=f"{table}_owner_key")


def _belongs_to(name: str, column: str, parent: str, on_delete: str | None = None) -> ForeignKeyConstraint:
    parent_columns = [f"app.{parent}.user_id", f"app.{parent}.id"]
    return ForeignKeyConstraint(["user_id", column], parent_columns, name=name, ondelete=on_delete)


def _table(name: str, *items: SchemaItem | list[Column[object]]) -> Table:
    flat = [part for item in items for part in (item if isinstance(item, list) else [item])]
    return Table(name, metadata, *_text("user_id"), *flat, *_moment("created_at", "updated_at", nullable=False))


def _entity(name: str, *items: SchemaItem | list[Column[object]]) -> Table:
    return _table(name, Column("id", Uuid, primary_key=True), *items, _owner_key(name))


index_configs = _entity(
    "index_configs",
    _text("embedder", "model"),
    _int("dimensions", "chunk_tokens", "overlap_tokens"),
    UniqueConstraint(
        "user_id",
        "embedder",
        "model",
        "dimensions",
        "chunk_tokens",
        "overlap_tokens",
        name="index_configs_same_key",
    ),
)

projects = _entity(
    "projects",
    _text("name", "description"),
    _int("document_count"),
    UniqueConstraint("user_id", "name", name="projects_name_key"),
)

tags = _entity("tags", _text("name"), _int("document_count"), UniqueConstraint("user_id", "name", name="tags_name_key"))

data_sources = _entity(
    "data_sources",
    _text("name", "source_type", "connection_status", "status_message", "sync_frequency", "sync_timezone"),
    _text("external_account", "last_sync_status", "last_probe_token", "synced_scope", nullable=True),
    _text("names_rules_hash"),
    _json("auth_data", nullable=True),
    _json("config"),
    _json("cursor", nullable=True),
    _bigint("fence", "total_items_synced"),
    Column("freshness_minutes", Integer),
    _id("project_id", nullable=True),
    _bool("is_active", "needs_reauth"),
    _moment("last_sync_at", "last_probe_at", "last_listed_at"),
    UniqueConstraint("user_id", "name", name="data_sources_name_key"),
    _belongs_to("data_sources_project_fk", "project_id", "projects", "SET NULL (project_id)"),
    Index(
        "data_sources_to_probe",
        "source_type",
        text("last_probe_at NULLS FIRST"),
        "id",
        postgresql_where=text("is_active"),
    ),
)

documents = _entity(
    "documents",
    _id("data_source_id", nullable=True),
    _id("index_config_id", nullable=True),
    _id("project_id", nullable=True),
    _int("live_generation", "chunk_count", "allotted_generation"),
    _bigint("size_bytes"),
    _moment("source_created_at", "source_modified_at", "deleted_at"),
    _text("content_hash", "mime_type", "title", "text"),
    _text("language", "external_url", "origin", nullable=True),
    _id("parent_document_id", nullable=True),
    _bool("is_original_forgotten"),
    _text("rules_hash", "deleted_reason"),
    _text("project_assigned_by", "extracted_text", nullable=True),
    _json("extracted", nullable=True),
    Column("title_tsv", TSVECTOR, nullable=False),
    _json("headings"),
    _belongs_to("documents_index_config_fk", "index_config_id", "index_configs"),
    _belongs_to("documents_project_fk", "project_id", "projects", "SET NULL (project_id)"),
    _belongs_to("documents_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    _belongs_to("documents_parent_fk", "parent_document_id", "documents", "CASCADE"),
    Index("documents_project", "user_id", "project_id", postgresql_where=text("project_id IS NOT NULL")),
    Index("documents_data_source", "user_id", "data_source_id", postgresql_where=text("data_source_id IS NOT NULL")),
    Index("documents_ruled", "user_id", "data_source_id", postgresql_where=text("rules_hash <> ''::text")),
    Index("documents_parent", "user_id", "parent_document_id", postgresql_where=text("parent_document_id IS NOT NULL")),
    Index(
        "documents_origin",
        "user_id",
        "origin",
        unique=True,
        postgresql_where=text("data_source_id IS NULL AND origin IS NOT NULL"),
    ),
)

chunks = _table(
    "chunks",
    _id("document_id"),
    _id("index_config_id"),
    _int("generation", "ordinal", "start_offset", "end_offset", "token_count"),
    _bool("is_ann_indexed"),
    Column("text_hash", LargeBinary, nullable=False),
    _text("heading_path", "text"),
    Column("embedding", HALFVEC, nullable=True),
    Column("tsv", TSVECTOR, nullable=False),
    PrimaryKeyConstraint("user_id", "document_id", "generation", "ordinal", name="chunks_pkey"),
    _belongs_to("chunks_document_fk", "document_id", "documents", "CASCADE"),
    Index("chunks_text_hash", "user_id", "index_config_id", "text_hash"),
    Index("chunks_unpromoted", "user_id", postgresql_where=text("NOT is_ann_indexed")),
    Index(
        "chunks_ann_384",
        literal_column("((embedding)::halfvec(384))").label("embedding_384"),
        postgresql_using="hnsw",
        postgresql_ops={"embedding_384": "halfvec_cosine_ops"},
        postgresql_where=text("is_ann_indexed AND vector_dims(embedding) = 384"),
    ),
)

document_tags = _table(
    "document_tags",
    _id("document_id"),
    _id("tag_id"),
    _text("assigned_by"),
    PrimaryKeyConstraint("user_id", "document_id", "tag_id", name="document_tags_pkey"),
    _belongs_to("document_tags_document_fk", "document_id", "documents", "CASCADE"),
    _belongs_to("document_tags_tag_fk", "tag_id", "tags", "CASCADE"),
    Index("document_tags_tag", "user_id", "tag_id"),
)

etl_transformations = _entity(
    "etl_transformations",
    _text("name", "transformation_type"),
    _text("source_type", nullable=True),
    _id("data_source_id", nullable=True),
    _json("config"),
    _int("execution_order"),
    _bool("is_active"),
    UniqueConstraint("user_id", "name", name="etl_transformations_name_key"),
    _belongs_to("etl_transformations_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    Index(
        "etl_transformations_data_source",
        "user_id",
        "data_source_id",
        postgresql_where=text("data_source_id IS NOT NULL"),
    ),
)

sync_jobs = _entity(
    "sync_jobs",
    _id("data_source_id"),
    _text("job_type", "status", "error_message"),
    _bigint(
        *(f"items_{outcome}" for outcome in ("found", "processed", "created", "updated", "unchanged")),
        *(f"items_{outcome}" for outcome in ("skipped", "deleted", "failed", "fetched")),
        *("bytes_processed", "provider_calls", "chunks_embedded", "chunks_reused", "embedding_tokens", "pages"),
    ),
    Column("fence", BigInteger),
    Column("cost", Numeric, nullable=False),
    _json("progress_data"),
    _bool("cancel_requested", "pause_requested", "confirm_deletes", "deletes_refused"),
    _int("priority"),
    _id("merged_into", nullable=True),
    _text("dagster_run_id", "idempotency_key", "paused_by", nullable=True),
    _moment("not_before", "heartbeat_at", "stop_requested_at", "started_at", "completed_at"),
    UniqueConstraint("user_id", "idempotency_key", name="sync_jobs_idempotency_key"),
    _belongs_to("sync_jobs_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    _belongs_to("sync_jobs_merged_fk", "merged_into", "sync_jobs", "SET NULL (merged_into)"),
    Index("sync_jobs_merged", "user_id", "merged_into", postgresql_where=text("merged_into IS NOT NULL")),
    Index(
        "sync_jobs_open",
        "status",
        text("created_at"),
        postgresql_where=text("status IN ('pending', 'running', 'paused')"),
    ),
    Index("sync_jobs_data_source", "user_id", "data_source_id", text("created_at DESC")),
    Index(
        "sync_jobs_one_running",
        "user_id",
        "data_source_id",
        unique=True,
        postgresql_where=text("status = 'running'"),
    ),
)

sync_items = _table(
    "sync_items",
    _id("data_source_id"),
    _id("local_document_id", nullable=True),
    _id("last_sync_job_id", nullable=True),
    _id("last_seen_sweep", nullable=True),
    _id("absent_job_id", nullable=True),
    _bigint("size_bytes"),
    _moment("external_modified_at", "external_created_at"),
    Column("place", Text(collation="C")),
    Column("place_start", Text(collation="C"), Computed('"left"(place, 400)')),
    _text("external_id", "external_path", "external_hash", "item_type", "mime_type", "title", "sync_status", "reason"),
    _text("external_url", "parent_external_id", "listed_mime_type", nullable=True),
    _bool("is_refetch_due"),
    _text("rules_hash", "reason_detail"),
    PrimaryKeyConstraint("user_id", "data_source_id", "external_id", name="sync_items_pkey"),
    _belongs_to("sync_items_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    _belongs_to("sync_items_document_fk", "local_document_id", "documents", "SET NULL (local_document_id)"),
    Index(
        "sync_items_document", "user_id", "local_document_id", postgresql_where=text("local_document_id IS NOT NULL")
    ),
    Index(
        "sync_items_parent",
        "user_id",
        "data_source_id",
        "parent_external_id",
        postgresql_where=text("parent_external_id IS NOT NULL"),
    ),
    Index("sync_items_ruled", "user_id", "data_source_id", postgresql_where=text("rules_hash <> ''::text")),
    Index(
        "sync_items_refetch",
        "user_id",
        "data_source_id",
        "external_id",
        postgresql_where=text("is_refetch_due"),
    ),
    Index(
        "sync_items_place",
        "user_id",
        "data_source_id",
        "place_start",
        postgresql_where=text("place_start IS NOT NULL"),
    ),
    Index(
        "sync_items_absent",
        "user_id",
        "data_source_id",
        "absent_job_id",
        postgresql_where=text("absent_job_id IS NOT NULL"),
    ),
)

sync_containers = _table(
    "sync_containers",
    _id("data_source_id"),
    _id("last_seen_sweep", nullable=True),
    _text("external_id", "name"),
    _text("parent_external_id", nullable=True),
    _json("details"),
    PrimaryKeyConstraint("user_id", "data_source_id", "external_id", name="sync_containers_pkey"),
    _belongs_to("sync_containers_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
)

sync_failures = _entity(
    "sync_failures",
    _id("data_source_id"),
    _id("sync_job_id", nullable=True),
    _text("external_id", "external_path", "stage", "error_class", "reason", "message"),
    _int("attempts"),
    _moment("next_try_at", "resolved_at"),
    _belongs_to("sync_failures_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    _belongs_to("sync_failures_job_fk", "sync_job_id", "sync_jobs", "SET NULL (sync_job_id)"),
    Index("sync_failures_job", "user_id", "sync_job_id"),
    Index(
        "sync_failures_open",
        "user_id",
        "data_source_id",
        "external_id",
        unique=True,
        postgresql_where=text("resolved_at IS NULL"),
    ),
)

scheduled_syncs = _entity(
    "scheduled_syncs",
    _id("data_source_id"),
    _text("schedule_type", "timezone", "error"),
    _json("schedule_config"),
    _moment("next_run_at", "last_run_at"),
    _bool("is_active"),
    _belongs_to("scheduled_syncs_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    Index("scheduled_syncs_data_source", "user_id", "data_source_id"),
    Index("scheduled_syncs_due", "next_run_at", postgresql_where=text("is_active")),
    Index(
        "scheduled_syncs_frequency",
        "user_id",
        "data_source_id",
        unique=True,
        postgresql_where=text("schedule_config ? 'frequency'"),
    ),
)

processing_jobs = _entity(
    "processing_jobs",
    _text("kind", "status", "error_message"),
    _json("config"),
    _id("project_id", nullable=True),
    _bigint(*(f"documents_{outcome}" for outcome in ("total", "done", "skipped", "failed"))),
    _bigint("chunks_embedded", "chunks_reused", "embedding_tokens"),
    Column("cost", Numeric(14, 6), nullable=False),
    _int("attempt", "lost_attempts"),
    _bool("cancel_requested"),
    _text("dagster_run_id", "idempotency_key", "paused_by", nullable=True),
    _moment("not_before", "heartbeat_at", "started_at", "completed_at"),
    UniqueConstraint("user_id", "idempotency_key", name="processing_jobs_idempotency_key"),
    _belongs_to("processing_jobs_project_fk", "project_id", "projects", "SET NULL (project_id)"),
    Index("processing_jobs_newest", "user_id", text("created_at DESC")),
    Index("processing_jobs_project", "user_id", "project_id", postgresql_where=text("project_id IS NOT NULL")),
    Index(
        "processing_jobs_open",
        text("created_at"),
        "id",
        postgresql_where=text("status IN ('pending', 'paused', 'running')"),
    ),
)

processing_outcomes = _table(
    "processing_outcomes",
    _id("processing_job_id"),
    _id("document_id", nullable=True),
    _int("ordinal", "attempts"),
    Column("duration_s", Double, nullable=False),
    _text("subject", "status", "reason", "message"),
    PrimaryKeyConstraint("user_id", "processing_job_id", "ordinal", name="processing_outcomes_pkey"),
    _belongs_to("processing_outcomes_job_fk", "processing_job_id", "processing_jobs", "CASCADE"),
    _belongs_to("processing_outcomes_document_fk", "document_id", "documents", "SET NULL (document_id)"),
    Index(
        "processing_outcomes_pending",
        "user_id",
        "processing_job_id",
        "ordinal",
        postgresql_where=text("status = 'pending'"),
    ),
    Index("processing_outcomes_document", "user_id", "document_id", postgresql_where=text("document_id IS NOT NULL")),
)

uploads = _entity(
    "uploads",
    _text("name", "mime_type", "content_hash"),
    Column("body", LargeBinary, nullable=False),
    Index("uploads_oldest", "user_id", text("created_at")),
)

audit_logs = _table(
    "audit_logs",
    _bigint("seq"),
    _text("action", "subject"),
    _json("detail"),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("user_id", "seq", name="audit_logs_pkey"),
    Index("audit_logs_subject", "user_id", "subject", "seq", postgresql_where=text("subject <> ''")),
)

index_settings = _entity(
    "index_settings",
    _id("document_id", nullable=True),
    _id("data_source_id", nullable=True),
    _id("project_id", nullable=True),
    _id("index_config_id"),
    UniqueConstraint(
        "user_id",
        "document_id",
        "data_source_id",
        "project_id",
        name="index_settings_scope_key",
        postgresql_nulls_not_distinct=True,
    ),
    _belongs_to("index_settings_document_fk", "document_id", "documents", "CASCADE"),
    _belongs_to("index_settings_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    _belongs_to("index_settings_project_fk", "project_id", "projects", "CASCADE"),
    _belongs_to("index_settings_index_config_fk", "index_config_id", "index_configs"),
    Index(
        "index_settings_data_source", "user_id", "data_source_id", postgresql_where=text("data_source_id IS NOT NULL")
    ),
    Index("index_settings_project", "user_id", "project_id", postgresql_where=text("project_id IS NOT NULL")),
)

index_builds = _entity(
    "index_builds",
    _id("project_id"),
    _id("index_config_id"),
    _id("previous_index_config_id", nullable=True),
    _text("status"),
    _bigint("chunks_embedded", "chunks_reused", "embedding_tokens"),
    _json("results", nullable=True),
    _moment("switched_at"),
    _belongs_to("index_builds_project_fk", "project_id", "projects", "CASCADE"),
    _belongs_to("index_builds_index_config_fk", "index_config_id", "index_configs"),
    _belongs_to("index_builds_previous_config_fk", "previous_index_config_id", "index_configs"),
    Index(
        "index_builds_one_open",
        "user_id",
        "project_id",
        unique=True,
        postgresql_where=text("status = ANY (ARRAY['building'::text, 'ready'::text])"),
    ),
)

index_build_documents = _table(
    "index_build_documents",
    _id("build_id"),
    _id("document_id"),
    _id("index_config_id"),
    _id("previous_index_config_id", nullable=True),
    _id("own_index_config_id", nullable=True),
    _int("generation", "chunk_count"),
    Column("previous_generation", Integer),
    Column("previous_chunk_count", Integer),
    PrimaryKeyConstraint("user_id", "build_id", "document_id", name="index_build_documents_pkey"),
    _belongs_to("index_build_documents_build_fk", "build_id", "index_builds", "CASCADE"),
    _belongs_to("index_build_documents_document_fk", "document_id", "documents", "CASCADE"),
    Index("index_build_documents_document", "user_id", "document_id"),
)

saved_questions = _entity(
    "saved_questions",
    _id("project_id"),
    _text("question"),
    Column("expected_document_ids", ARRAY(Uuid), nullable=False),
    UniqueConstraint("user_id", "project_id", "question", name="saved_questions_question_key"),
    _belongs_to("saved_questions_project_fk", "project_id", "projects", "CASCADE"),
)

index_namespaces = _entity(
    "index_namespaces",
    _text("store", "index_name", "host", "status"),
    _int("dimensions"),
    UniqueConstraint("user_id", "store", "index_name", name="index_namespaces_name_key"),
)

index_outbox = _table(
    "index_outbox",
    _id("namespace_id"),
    _id("document_id"),
    _id("claim", nullable=True),
    _bigint("seq"),
    _int("attempts"),
    _moment("next_try_at", nullable=False),
    _moment("claimed_until"),
    _text("last_error"),
    PrimaryKeyConstraint("user_id", "namespace_id", "document_id", name="index_outbox_pkey"),
    _belongs_to("index_outbox_namespace_fk", "namespace_id", "index_namespaces", "CASCADE"),
    Index("index_outbox_due", "next_try_at"),
)

index_sent = _table(
    "index_sent",
    _id("namespace_id"),
    _id("document_id"),
    _int("generation", "chunk_count"),
    Column("lsn", BigInteger),
    _moment("sent_at", nullable=False),
    _bool("is_visible"),
    PrimaryKeyConstraint("user_id", "namespace_id", "document_id", "generation", name="index_sent_pkey"),
    _belongs_to("index_sent_namespace_fk", "namespace_id", "index_namespaces", "CASCADE"),
    Index("index_sent_unseen", "user_id", "namespace_id", postgresql_where=text("NOT is_visible")),
)

billing_records = _table(
    "billing_records",
    _moment("hour", nullable=False),
    _id("data_source_id", nullable=True),
    _id("document_id", nullable=True),
    _id("job_id", nullable=True),
    _bigint("quantity"),
    _text("step", "provider", "model", "unit", "currency"),
    Column("unit_price", Numeric),
    Column("is_priced", Boolean, Computed("(unit_price IS NOT NULL)"), nullable=False),
    Column("cost", Numeric, Computed("COALESCE((quantity)::numeric * unit_price, (0)::numeric)"), nullable=False),
    UniqueConstraint(
        "user_id",
        "hour",
        "document_id",
        "job_id",
        "data_source_id",
        "step",
        "provider",
        "model",
        "unit",
        "unit_price",
        name="billing_records_same_key",
        postgresql_nulls_not_distinct=True,
    ),
    Index("billing_records_job", "user_id", "job_id", postgresql_where=text("job_id IS NOT NULL")),
)

observability_metrics = _table(
    "observability_metrics",
    _moment("hour", nullable=False),
    _id("data_source_id", nullable=True),
    _bigint("count"),
    Column("sum", Double, nullable=False),
    Column("max", Double, nullable=False),
    _text("step", "name"),
    UniqueConstraint(
        "user_id",
        "hour",
        "data_source_id",
        "step",
        "name",
        name="observability_metrics_same_key",
        postgresql_nulls_not_distinct=True,
    ),
)

budgets = _entity(
    "budgets",
    _id("data_source_id", nullable=True),
    _text("period", "unit"),
    Column("amount", Numeric, nullable=False),
    _bool("is_active"),
    UniqueConstraint(
        "user_id", "data_source_id", "period", "unit", name="budgets_same_key", postgresql_nulls_not_distinct=True
    ),
    _belongs_to("budgets_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
)

events = _entity(
    "events",
    _text("kind", "severity", "message", "dedup_key"),
    _id("data_source_id", nullable=True),
    _id("sync_job_id", nullable=True),
    _json("detail"),
    _int("occurrences"),
    _moment("last_occurred_at", nullable=False),
    _moment("resolved_at", "seen_at"),
    _belongs_to("events_data_source_fk", "data_source_id", "data_sources", "CASCADE"),
    _belongs_to("events_sync_job_fk", "sync_job_id", "sync_jobs", "SET NULL (sync_job_id)"),
    Index("events_open", "user_id", "dedup_key", unique=True, postgresql_where=text("resolved_at IS NULL")),
    Index("events_newest", "user_id", text("created_at DESC"), "id"),
    Index(
        "events_data_source", "user_id", "data_source_id", "kind", postgresql_where=text("data_source_id IS NOT NULL")
    ),
    Index("events_sync_job", "user_id", "sync_job_id", postgresql_where=text("sync_job_id IS NOT NULL")),
)

webhooks = _entity(
    "webhooks",
    _text("name", "url", "disabled_reason"),
    Column("kinds", ARRAY(Text), nullable=False),
    _json("sealed_secret"),
    _bool("is_active"),
    UniqueConstraint("user_id", "name", name="webhooks_name_key"),
)

webhook_deliveries = _entity(
    "webhook_deliveries",
    _id("webhook_id"),
    _id("event_id", nullable=True),
    _text("occasion", "last_error"),
    _json("payload"),
    _int("attempts"),
    Column("response_code", Integer),
    _moment("next_try_at", nullable=False),
    _moment("delivered_at", "given_up_at"),
    _belongs_to("webhook_deliveries_webhook_fk", "webhook_id", "webhooks", "CASCADE"),
    _belongs_to("webhook_deliveries_event_fk", "event_id", "events", "CASCADE"),
    Index("webhook_deliveries_webhook", "user_id", "webhook_id", text("created_at DESC")),
    Index("webhook_deliveries_event", "user_id", "event_id", postgresql_where=text("event_id IS NOT NULL")),
    Index(
        "webhook_deliveries_due",
        "next_try_at",
        postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"),
    ),
)


def _tenant_table(name: str, *items: SchemaItem | list[Column[object]]) -> Table:
    """A table whose rows belong to a user within a tenant."""
    return _table(name, Column("id", Uuid, primary_key=True), *_text("tenant_id"), *items)


def _tenant_entity(name: str, *items: SchemaItem | list[Column[object]]) -> Table:
    """A table of a tenant's users whose rows others refer to."""
    return _tenant_table(name, *items, UniqueConstraint("tenant_id", "user_id", "id", name=f"{name}_owner_key"))


def _within(name: str, column: str, parent: str) -> ForeignKeyConstraint:
    parent_columns = [f"app.{parent}.{part}" for part in ("tenant_id", "user_id", "id")]
    return ForeignKeyConstraint(["tenant_id", "user_id", column], parent_columns, name=name, ondelete="CASCADE")


workflows = _tenant_entity(
    "workflows",
    _text("slug", "name", "description", "category"),
    Column("job_key", Text, Computed('"right"((id)::text, 12)')),
    Column("tags", ARRAY(Text), nullable=False),
    _bool("is_active"),
    _int("latest_version"),
    _id("template_id", nullable=True),
    _bigint("total_executions", "completed_executions", "failed_executions", "cancelled_executions", "total_tokens"),
    Column("total_duration_s", Double, nullable=False),
    Column("total_cost", Numeric, nullable=False),
    _moment("last_executed_at"),
    UniqueConstraint("tenant_id", "user_id", "slug", name="workflows_slug_key"),
    Index("workflows_tags", "tags", postgresql_using="gin"),
    Index("workflows_newest", "tenant_id", "user_id", text("created_at DESC"), "id"),
    Index("workflows_job_key", "job_key"),
)

workflow_versions = _tenant_entity(
    "workflow_versions",
    _id("workflow_id"),
    _int("version"),
    _json("definition"),
    _text("definition_hash"),
    UniqueConstraint("tenant_id", "user_id", "workflow_id", "version", name="workflow_versions_number_key"),
    _within("workflow_versions_workflow_fk", "workflow_id", "workflows"),
    Index("workflow_versions_newest", text("created_at")),
)

workflow_templates = Table(
    "workflow_templates",
    metadata,
    Column("id", Uuid, primary_key=True),
    *_text("tenant_id", "user_id", nullable=True),
    *_text("slug", "name", "description", "category"),
    Column("tags", ARRAY(Text), nullable=False),
    _json("definition"),
    *_bool("is_system", "is_public"),
    *_bigint("usage_count"),
    *_moment("created_at", "updated_at", nullable=False),
    UniqueConstraint(
        "tenant_id", "user_id", "slug", name="workflow_templates_slug_key", postgresql_nulls_not_distinct=True
    ),
    Index("workflow_templates_shared", "slug", postgresql_where=text("is_system OR is_public")),
)

workflow_secrets = _tenant_table(
    "workflow_secrets",
    _text("name"),
    _json("sealed_value"),
    UniqueConstraint("tenant_id", "user_id", "name", name="workflow_secrets_name_key"),
)

scheduled_workflows = _tenant_entity(
    "scheduled_workflows",
    _id("workflow_id"),
    _text("schedule_type", "timezone", "error"),
    _json("schedule_config"),
    _json("input"),
    _moment("next_run_at", "last_run_at"),
    _bool("is_active"),
    _within("scheduled_workflows_workflow_fk", "workflow_id", "workflows"),
    Index("scheduled_workflows_workflow", "tenant_id", "user_id", "workflow_id"),
    Index("scheduled_workflows_due", text("next_run_at"), postgresql_where=text("is_active")),
)

workflow_executions = _tenant_entity(
    "workflow_executions",
    _id("workflow_id"),
    _id("workflow_version_id"),
    _int("version", "run_number", "steps_total", "steps_over", "priority"),
    _json("definition"),
    _json("input"),
    _json("output", nullable=True),
    _text("status", "mode", "trigger", "error_class", "error_message"),
    _text("idempotency_key", nullable=True),
    _id("scheduled_workflow_id", nullable=True),
    _id("parent_execution_id", nullable=True),
    _id("root_execution_id"),
    _id("dagster_run_id", nullable=True),
    Column("progress_percentage", Numeric(5, 2), nullable=False),
    _bigint("input_tokens", "output_tokens"),
    Column("cost", Numeric, nullable=False),
    _bool("cancel_requested"),
    _moment("cancel_requested_at", "heartbeat_at", "not_before", "started_at", "completed_at"),
    UniqueConstraint("tenant_id", "user_id", "idempotency_key", name="workflow_executions_idempotency_key"),
    _within("workflow_executions_workflow_fk", "workflow_id", "workflows"),
    _within("workflow_executions_version_fk", "workflow_version_id", "workflow_versions"),
    Index("workflow_executions_newest", "tenant_id", "user_id", text("created_at DESC"), text("id DESC")),
    Index(
        "workflow_executions_workflow",
        "tenant_id",
        "user_id",
        "workflow_id",
        text("created_at DESC"),
        text("id DESC"),
    ),
    Index("workflow_executions_version", "tenant_id", "user_id", "workflow_version_id"),
    Index(
        "workflow_executions_ended",
        "user_id",
        "tenant_id",
        "completed_at",
        postgresql_where=text("completed_at IS NOT NULL"),
    ),
    Index(
        "workflow_executions_open",
        "status",
        text("created_at"),
        postgresql_where=text("status IN ('pending', 'running', 'waiting')"),
    ),
)

workflow_runs = _tenant_entity(
    "workflow_runs",
    _id("execution_id"),
    _int("number"),
    _text("dagster_status"),
    _bigint("last_storage_id"),
    _bool("is_closed"),
    _moment("closed_at"),
    UniqueConstraint("tenant_id", "user_id", "execution_id", "number", name="workflow_runs_number_key"),
    _within("workflow_runs_execution_fk", "execution_id", "workflow_executions"),
    Index("workflow_runs_open", text("created_at"), postgresql_where=text("NOT is_closed")),
    Index(
        "workflow_runs_one_open",
        "tenant_id",
        "user_id",
        "execution_id",
        unique=True,
        postgresql_where=text("NOT is_closed"),
    ),
)

workflow_steps = _tenant_entity(
    "workflow_steps",
    _id("execution_id"),
    _text("node_id", "node_type", "name", "status", "error_class", "error_message", "wait_message"),
    _int("ordinal", "attempts"),
    _text("skip_reason", "wait_kind", nullable=True),
    _json("output", nullable=True),
    _json("decision", nullable=True),
    Column("wait_token_hash", LargeBinary),
    _id("wait_sync_job_id", nullable=True),
    _id("reused_from_execution_id", nullable=True),
    _bigint("input_tokens", "output_tokens"),
    Column("cost", Numeric, nullable=False),
    _moment("wait_until", "started_at", "completed_at"),
    UniqueConstraint("tenant_id", "user_id", "execution_id", "node_id", name="workflow_steps_node_key"),
    _within("workflow_steps_execution_fk", "execution_id", "workflow_executions"),
    Index(
        "workflow_steps_waiting",
        "tenant_id",
        "user_id",
        "execution_id",
        postgresql_where=text("status = 'waiting'"),
    ),
    Index(
        "workflow_steps_token",
        "tenant_id",
        "user_id",
        "wait_token_hash",
        unique=True,
        postgresql_where=text("wait_token_hash IS NOT NULL"),
    ),
)

block_executions = _tenant_entity(
    "block_executions",
    _id("execution_id"),
    _id("step_id"),
    _text("node_id", "status", "error_class", "error_message"),
    _int("attempt"),
    _json("input"),
    _bigint("input_tokens", "output_tokens"),
    Column("cost", Numeric, nullable=False),
    _id("dagster_run_id", nullable=True),
    _moment("started_at", nullable=False),
    _moment("completed_at"),
    UniqueConstraint("tenant_id", "user_id", "step_id", "attempt", name="block_executions_attempt_key"),
    _within("block_executions_step_fk", "step_id", "workflow_steps"),
    Index("block_executions_execution", "tenant_id", "user_id", "execution_id", text("started_at")),
)

timeline_events = _tenant_entity(
    "timeline_events",
    _id("execution_id"),
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    _text("kind", "node_id", "message"),
    Column("attempt", Integer),
    _json("detail"),
    _moment("occurred_at", nullable=False),
    _id("dagster_run_id", nullable=True),
    Column("storage_id", BigInteger),
    UniqueConstraint("tenant_id", "user_id", "dagster_run_id", "storage_id", name="timeline_events_storage_key"),
    _within("timeline_events_execution_fk", "execution_id", "workflow_executions"),
    Index("timeline_events_execution", "tenant_id", "user_id", "execution_id", "seq"),
)
