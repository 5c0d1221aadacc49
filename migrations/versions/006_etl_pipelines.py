"""Data sources, sync jobs, items, the failure ledger and scheduled syncs; views that tell how they stand.

Revision ID: 006_etl_pipelines
"""

from alembic import op

from migrations.owner_policy import protect

revision = "006_etl_pipelines"
down_revision = "005_row_level_security"
branch_labels = None
depends_on = None

SOURCE_TYPES = "('google_drive', 'gmail', 'notion', 'slack', 'dropbox', 'onedrive', 'local_folder')"

TABLES = f"""
CREATE TABLE app.data_sources (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 200),
    source_type text NOT NULL CHECK (source_type IN {SOURCE_TYPES}),
    connection_status text NOT NULL DEFAULT 'connected'
        CHECK (connection_status IN ('connected', 'disconnected', 'error', 'syncing')),
    status_message text NOT NULL DEFAULT '',
    auth_data jsonb,
    config jsonb NOT NULL DEFAULT '{{}}',
    external_account text,
    cursor jsonb,
    fence bigint NOT NULL DEFAULT 0,
    project_id uuid,
    sync_frequency text NOT NULL DEFAULT 'manual' CHECK (sync_frequency IN ('manual', 'hourly', 'daily', 'weekly')),
    is_active boolean NOT NULL DEFAULT true,
    total_items_synced bigint NOT NULL DEFAULT 0,
    last_sync_at timestamptz,
    last_sync_status text,
    last_probe_at timestamptz,
    last_probe_token text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT data_sources_owner_key UNIQUE (user_id, id),
    CONSTRAINT data_sources_name_key UNIQUE (user_id, name),
    CONSTRAINT data_sources_project_fk FOREIGN KEY (user_id, project_id)
        REFERENCES app.projects (user_id, id) ON DELETE SET NULL (project_id),
    CONSTRAINT data_sources_auth_sealed CHECK (auth_data IS NULL OR (auth_data ? 'v' AND auth_data ? 'kid'
        AND auth_data ? 'ct' AND NOT auth_data ?|
            ARRAY['access_token', 'refresh_token', 'token', 'client_secret', 'password']))
);

ALTER TABLE app.documents ADD CONSTRAINT documents_data_source_fk FOREIGN KEY (user_id, data_source_id)
    REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE;
-- Partial, as are documents_project and sync_items_document, so that a look-up by (user_id, id) cannot take them: on a
-- table that was never analysed the planner ties, and a foreign key check that walks a user's whole range is ruinous.
CREATE INDEX documents_data_source ON app.documents (user_id, data_source_id) WHERE data_source_id IS NOT NULL;

CREATE TABLE app.sync_jobs (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    data_source_id uuid NOT NULL,
    job_type text NOT NULL CHECK (job_type IN ('full_sync', 'incremental', 'delta', 'manual')),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'paused', 'needs_confirmation',
        'completed', 'completed_with_errors', 'failed', 'cancelled')),
    items_found bigint NOT NULL DEFAULT 0,
    items_processed bigint NOT NULL DEFAULT 0,
    items_created bigint NOT NULL DEFAULT 0,
    items_updated bigint NOT NULL DEFAULT 0,
    items_unchanged bigint NOT NULL DEFAULT 0,
    items_skipped bigint NOT NULL DEFAULT 0,
    items_deleted bigint NOT NULL DEFAULT 0,
    items_failed bigint NOT NULL DEFAULT 0,
    items_fetched bigint NOT NULL DEFAULT 0,
    bytes_processed bigint NOT NULL DEFAULT 0,
    provider_calls bigint NOT NULL DEFAULT 0,
    chunks_embedded bigint NOT NULL DEFAULT 0,
    chunks_reused bigint NOT NULL DEFAULT 0,
    embedding_tokens bigint NOT NULL DEFAULT 0,
    cost numeric(14, 6) NOT NULL DEFAULT 0,
    pages bigint NOT NULL DEFAULT 0,
    fence bigint,
    error_message text NOT NULL DEFAULT '',
    progress_data jsonb NOT NULL DEFAULT '{{}}',
    not_before timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    heartbeat_at timestamptz,
    dagster_run_id text,
    idempotency_key text,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sync_jobs_owner_key UNIQUE (user_id, id),
    CONSTRAINT sync_jobs_idempotency_key UNIQUE (user_id, idempotency_key),
    CONSTRAINT sync_jobs_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE,
    -- Conservation: an item that was found has exactly one outcome before a job may call itself complete.
    CONSTRAINT sync_jobs_conservation CHECK (status NOT IN ('completed', 'completed_with_errors')
        OR items_found = items_created + items_updated + items_unchanged + items_skipped + items_deleted + items_failed),
    CONSTRAINT sync_jobs_honest_status CHECK ((status <> 'completed' OR items_failed = 0)
        AND (status <> 'completed_with_errors' OR items_failed > 0))
);
CREATE INDEX sync_jobs_data_source ON app.sync_jobs (user_id, data_source_id, created_at DESC);
CREATE UNIQUE INDEX sync_jobs_one_running ON app.sync_jobs (user_id, data_source_id) WHERE status = 'running';

CREATE TABLE app.sync_items (
    data_source_id uuid NOT NULL,
    local_document_id uuid,
    last_sync_job_id uuid,
    last_seen_sweep uuid,
    size_bytes bigint NOT NULL DEFAULT -1,
    external_modified_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    external_id text NOT NULL CHECK (external_id <> ''),
    external_path text NOT NULL,
    external_hash text NOT NULL,
    item_type text NOT NULL CHECK (item_type IN ('file', 'email', 'message', 'page', 'note')),
    mime_type text NOT NULL,
    title text NOT NULL,
    external_url text,
    parent_external_id text,
    sync_status text NOT NULL CHECK (sync_status IN ('synced', 'skipped', 'failed', 'deleted')),
    reason text NOT NULL DEFAULT '',
    CONSTRAINT sync_items_pkey PRIMARY KEY (user_id, data_source_id, external_id),
    CONSTRAINT sync_items_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE,
    CONSTRAINT sync_items_document_fk FOREIGN KEY (user_id, local_document_id)
        REFERENCES app.documents (user_id, id) ON DELETE SET NULL (local_document_id)
);
CREATE INDEX sync_items_document ON app.sync_items (user_id, local_document_id) WHERE local_document_id IS NOT NULL;
CREATE INDEX sync_items_parent ON app.sync_items (user_id, data_source_id, parent_external_id)
    WHERE parent_external_id IS NOT NULL;

CREATE TABLE app.sync_failures (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    data_source_id uuid NOT NULL,
    sync_job_id uuid,
    external_id text NOT NULL,
    external_path text NOT NULL,
    stage text NOT NULL CHECK (stage IN ('list', 'fetch', 'extract', 'chunk', 'embed')),
    error_class text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    next_try_at timestamptz,
    resolved_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sync_failures_owner_key UNIQUE (user_id, id),
    CONSTRAINT sync_failures_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE,
    CONSTRAINT sync_failures_job_fk FOREIGN KEY (user_id, sync_job_id)
        REFERENCES app.sync_jobs (user_id, id) ON DELETE SET NULL (sync_job_id)
);
CREATE INDEX sync_failures_job ON app.sync_failures (user_id, sync_job_id);
-- One open entry an item: a further failure raises its attempts.
CREATE UNIQUE INDEX sync_failures_open ON app.sync_failures (user_id, data_source_id, external_id)
    WHERE resolved_at IS NULL;

CREATE TABLE app.scheduled_syncs (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    data_source_id uuid NOT NULL,
    schedule_type text NOT NULL CHECK (schedule_type IN ('cron', 'interval', 'daily', 'weekly')),
    schedule_config jsonb NOT NULL DEFAULT '{{}}',
    timezone text NOT NULL DEFAULT 'UTC',
    next_run_at timestamptz,
    last_run_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT scheduled_syncs_owner_key UNIQUE (user_id, id),
    CONSTRAINT scheduled_syncs_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE
);
CREATE INDEX scheduled_syncs_data_source ON app.scheduled_syncs (user_id, data_source_id);
CREATE INDEX scheduled_syncs_due ON app.scheduled_syncs (next_run_at) WHERE is_active;
"""

VIEWS = """
CREATE VIEW app.documents_with_metadata WITH (security_invoker = true, security_barrier = true) AS
SELECT d.id, d.user_id, d.title, d.mime_type, d.language, d.size_bytes, d.content_hash, d.live_generation, d.chunk_count,
       d.index_config_id, d.data_source_id, s.name AS data_source_name, s.source_type, d.project_id, p.name AS project_name,
       i.external_id, i.external_path, coalesce(d.external_url, i.external_url) AS external_url, i.sync_status,
       ARRAY(SELECT t.name FROM app.document_tags dt JOIN app.tags t ON t.user_id = dt.user_id AND t.id = dt.tag_id
              WHERE dt.user_id = d.user_id AND dt.document_id = d.id ORDER BY t.name) AS tags,
       d.source_created_at, d.source_modified_at, d.deleted_at, d.created_at, d.updated_at
  FROM app.documents d
  LEFT JOIN app.data_sources s ON s.user_id = d.user_id AND s.id = d.data_source_id
  LEFT JOIN app.projects p ON p.user_id = d.user_id AND p.id = d.project_id
  LEFT JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id;

CREATE VIEW app.project_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT p.id, p.user_id, p.name, p.description, p.document_count,
       coalesce(sum(d.size_bytes), 0)::bigint AS size_bytes, max(d.updated_at) AS last_change_at
  FROM app.projects p
  LEFT JOIN app.documents d ON d.user_id = p.user_id AND d.project_id = p.id AND d.deleted_at IS NULL
 GROUP BY p.id;

CREATE VIEW app.data_source_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT s.id, s.user_id, s.name, s.source_type, s.connection_status, s.status_message, s.is_active, s.sync_frequency,
       s.external_account, s.project_id, s.last_sync_at, s.last_sync_status, s.total_items_synced,
       (SELECT count(*) FROM app.sync_items i WHERE i.user_id = s.user_id AND i.data_source_id = s.id
           AND i.sync_status = 'synced') AS live_items,
       (SELECT count(*) FROM app.sync_failures f WHERE f.user_id = s.user_id AND f.data_source_id = s.id
           AND f.resolved_at IS NULL) AS open_failures
  FROM app.data_sources s;

CREATE VIEW app.sync_job_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT j.id, j.user_id, j.data_source_id, s.name AS data_source_name, s.source_type, j.job_type, j.status, j.pages,
       j.items_found, j.items_created, j.items_updated, j.items_unchanged, j.items_skipped, j.items_deleted,
       j.items_failed, j.items_fetched, j.bytes_processed, j.chunks_embedded, j.chunks_reused, j.embedding_tokens, j.cost,
       j.error_message, j.dagster_run_id, j.created_at, j.started_at, j.completed_at,
       j.completed_at - j.started_at AS duration
  FROM app.sync_jobs j JOIN app.data_sources s ON s.user_id = j.user_id AND s.id = j.data_source_id;

CREATE VIEW app.document_lineage WITH (security_invoker = true, security_barrier = true) AS
SELECT c.user_id, c.document_id || '#' || c.generation || '#' || c.ordinal AS chunk_id,
       c.document_id, c.generation, c.ordinal, c.index_config_id, d.title, d.data_source_id, s.name AS data_source_name,
       s.source_type, i.external_id, i.external_path, i.external_hash, i.last_sync_job_id AS sync_job_id,
       j.dagster_run_id, s.cursor, j.completed_at AS synced_at
  FROM app.chunks c
  JOIN app.documents d ON d.user_id = c.user_id AND d.id = c.document_id AND d.live_generation = c.generation
  LEFT JOIN app.data_sources s ON s.user_id = d.user_id AND s.id = d.data_source_id
  LEFT JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id
  LEFT JOIN app.sync_jobs j ON j.user_id = i.user_id AND j.id = i.last_sync_job_id;

GRANT SELECT ON app.documents_with_metadata, app.project_summary, app.data_source_summary, app.sync_job_summary,
    app.document_lineage TO wp_app;
"""

# What sensors and schedules need to know across users: ids and times, nothing else.
ACROSS_USERS = """
CREATE FUNCTION app.data_source_owner(source uuid) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT user_id FROM app.data_sources WHERE id = source $$;

CREATE FUNCTION app.data_sources_of_type(wanted text)
    RETURNS TABLE (data_source_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT id FROM app.data_sources WHERE source_type = wanted ORDER BY id $$;

CREATE FUNCTION app.sources_to_probe(wanted text, at_most integer)
    RETURNS TABLE (user_id text, data_source_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT user_id, id FROM app.data_sources
    WHERE source_type = wanted AND is_active AND connection_status IN ('connected', 'syncing')
    ORDER BY last_probe_at NULLS FIRST, id LIMIT at_most $$;

CREATE FUNCTION app.due_syncs(wanted text, at_most integer)
    RETURNS TABLE (id uuid, user_id text, data_source_id uuid, schedule_type text, schedule_config jsonb, timezone text,
                   next_run_at timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT r.id, r.user_id, r.data_source_id, r.schedule_type, r.schedule_config, r.timezone, r.next_run_at
     FROM app.scheduled_syncs r JOIN app.data_sources s ON s.user_id = r.user_id AND s.id = r.data_source_id
    WHERE r.is_active AND s.is_active AND s.source_type = wanted AND r.next_run_at <= now()
    ORDER BY r.next_run_at, r.id LIMIT at_most $$;
"""

ACROSS_USERS_GRANTS = """
GRANT SELECT (id, user_id, source_type, is_active, connection_status, last_probe_at) ON app.data_sources TO wp_counter;
GRANT SELECT ON app.scheduled_syncs TO wp_counter;
ALTER FUNCTION app.data_source_owner(uuid) OWNER TO wp_counter;
ALTER FUNCTION app.data_sources_of_type(text) OWNER TO wp_counter;
ALTER FUNCTION app.sources_to_probe(text, integer) OWNER TO wp_counter;
ALTER FUNCTION app.due_syncs(text, integer) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.data_source_owner(uuid), app.data_sources_of_type(text),
    app.sources_to_probe(text, integer), app.due_syncs(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.data_source_owner(uuid), app.data_sources_of_type(text),
    app.sources_to_probe(text, integer), app.due_syncs(text, integer) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    for table in ("data_sources", "sync_jobs", "sync_items", "sync_failures", "scheduled_syncs"):
        op.execute(protect(table))
    op.execute(VIEWS)
    op.execute(ACROSS_USERS)
    op.execute("RESET ROLE")
    # Handing a function to another role needs CREATE on its schema for that role, or a superuser; grant it for a moment.
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(ACROSS_USERS_GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
