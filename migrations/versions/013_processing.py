"""Documents processed in bulk: jobs, an outcome for each subject, uploads, and where a document without a source is from.

Revision ID: 013_processing
"""

from alembic import op

from migrations.owner_policy import protect

revision = "013_processing"
down_revision = "012_transformations"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE app.processing_jobs (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    kind text NOT NULL CHECK (kind IN ('bulk_document_processing', 'document_reprocessing')),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'paused', 'completed',
        'completed_with_errors', 'failed', 'cancelled')),
    config jsonb NOT NULL DEFAULT '{}',
    project_id uuid,
    documents_total bigint NOT NULL DEFAULT 0,
    documents_done bigint NOT NULL DEFAULT 0,
    documents_skipped bigint NOT NULL DEFAULT 0,
    documents_failed bigint NOT NULL DEFAULT 0,
    chunks_embedded bigint NOT NULL DEFAULT 0,
    chunks_reused bigint NOT NULL DEFAULT 0,
    embedding_tokens bigint NOT NULL DEFAULT 0,
    cost numeric(14, 6) NOT NULL DEFAULT 0,
    -- How often it was started, and the fence: only the newest attempt may record anything.
    attempt integer NOT NULL DEFAULT 0,
    -- How often in a row an attempt ended without anybody hearing of it.
    lost_attempts integer NOT NULL DEFAULT 0,
    error_message text NOT NULL DEFAULT '',
    cancel_requested boolean NOT NULL DEFAULT false,
    not_before timestamptz,
    heartbeat_at timestamptz,
    dagster_run_id text,
    idempotency_key text,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT processing_jobs_owner_key UNIQUE (user_id, id),
    CONSTRAINT processing_jobs_idempotency_key UNIQUE (user_id, idempotency_key),
    CONSTRAINT processing_jobs_project_fk FOREIGN KEY (user_id, project_id)
        REFERENCES app.projects (user_id, id) ON DELETE SET NULL (project_id),
    -- Conservation: every subject has exactly one outcome before a job may call itself complete.
    CONSTRAINT processing_jobs_conservation CHECK (
        documents_total >= documents_done + documents_skipped + documents_failed
        AND (status NOT IN ('completed', 'completed_with_errors')
             OR documents_total = documents_done + documents_skipped + documents_failed)),
    CONSTRAINT processing_jobs_honest_status CHECK ((status <> 'completed' OR documents_failed = 0)
        AND (status <> 'completed_with_errors' OR documents_failed > 0))
);
CREATE INDEX processing_jobs_newest ON app.processing_jobs (user_id, created_at DESC);
CREATE INDEX processing_jobs_open ON app.processing_jobs (created_at, id) WHERE status IN ('pending', 'paused', 'running');
CREATE INDEX processing_jobs_project ON app.processing_jobs (user_id, project_id) WHERE project_id IS NOT NULL;

CREATE TABLE app.processing_outcomes (
    processing_job_id uuid NOT NULL,
    ordinal integer NOT NULL,
    document_id uuid,
    attempts integer NOT NULL DEFAULT 0,
    duration_s double precision NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    subject text NOT NULL CHECK (subject <> ''),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'done', 'skipped', 'failed')),
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    CONSTRAINT processing_outcomes_pkey PRIMARY KEY (user_id, processing_job_id, ordinal),
    CONSTRAINT processing_outcomes_job_fk FOREIGN KEY (user_id, processing_job_id)
        REFERENCES app.processing_jobs (user_id, id) ON DELETE CASCADE,
    CONSTRAINT processing_outcomes_document_fk FOREIGN KEY (user_id, document_id)
        REFERENCES app.documents (user_id, id) ON DELETE SET NULL (document_id)
);
CREATE INDEX processing_outcomes_pending ON app.processing_outcomes (user_id, processing_job_id, ordinal)
    WHERE status = 'pending';
CREATE INDEX processing_outcomes_document ON app.processing_outcomes (user_id, document_id)
    WHERE document_id IS NOT NULL;

-- Bytes that wait to be processed; they go when their outcome is known.
CREATE TABLE app.uploads (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 500),
    mime_type text NOT NULL,
    content_hash text NOT NULL,
    body bytea NOT NULL CHECK (length(body) <= 52428800),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uploads_owner_key UNIQUE (user_id, id)
);
ALTER TABLE app.uploads ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX uploads_oldest ON app.uploads (user_id, created_at);
"""

# A document of no data source is known by its origin: `file:`, `url:` or `upload:` and what names it, or `inside:` and
# the document that it was found in, to which it belongs. Partial, like the other indexes of this table: see 006_etl_pipelines.
ORIGINS = """
ALTER TABLE app.documents
    ADD COLUMN origin text CHECK (octet_length(origin) BETWEEN 1 AND 2000),
    ADD COLUMN parent_document_id uuid,
    ADD CONSTRAINT documents_parent_fk FOREIGN KEY (user_id, parent_document_id)
        REFERENCES app.documents (user_id, id) ON DELETE CASCADE;
CREATE UNIQUE INDEX documents_origin ON app.documents (user_id, origin)
    WHERE data_source_id IS NULL AND origin IS NOT NULL;
CREATE INDEX documents_parent ON app.documents (user_id, parent_document_id) WHERE parent_document_id IS NOT NULL;
"""

VIEWS = """
CREATE OR REPLACE VIEW app.documents_with_metadata WITH (security_invoker = true, security_barrier = true) AS
SELECT d.id, d.user_id, d.title, d.mime_type, d.language, d.size_bytes, d.content_hash, d.live_generation, d.chunk_count,
       d.index_config_id, d.data_source_id, s.name AS data_source_name, s.source_type, d.project_id, p.name AS project_name,
       i.external_id,
       coalesce(i.external_path, CASE WHEN d.origin LIKE 'file:%' OR d.origin LIKE 'url:%'
                                      THEN substr(d.origin, strpos(d.origin, ':') + 1)
                                      WHEN d.origin IS NOT NULL THEN d.title END) AS external_path,
       coalesce(d.external_url, i.external_url) AS external_url,
       coalesce(i.sync_status, CASE WHEN d.origin IS NULL THEN NULL
                                    WHEN d.deleted_at IS NULL THEN 'synced' ELSE 'deleted' END) AS sync_status,
       ARRAY(SELECT t.name FROM app.document_tags dt JOIN app.tags t ON t.user_id = dt.user_id AND t.id = dt.tag_id
              WHERE dt.user_id = d.user_id AND dt.document_id = d.id ORDER BY t.name) AS tags,
       d.source_created_at, d.source_modified_at, d.deleted_at, d.created_at, d.updated_at, d.origin
  FROM app.documents d
  LEFT JOIN app.data_sources s ON s.user_id = d.user_id AND s.id = d.data_source_id
  LEFT JOIN app.projects p ON p.user_id = d.user_id AND p.id = d.project_id
  LEFT JOIN app.sync_items i ON i.user_id = d.user_id AND i.local_document_id = d.id;

CREATE VIEW app.processing_job_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT j.id, j.user_id, j.kind, j.status, j.config, j.project_id, p.name AS project_name, j.documents_total,
       j.documents_done, j.documents_skipped, j.documents_failed,
       j.documents_total - j.documents_done - j.documents_skipped - j.documents_failed AS documents_pending,
       j.chunks_embedded, j.chunks_reused, j.embedding_tokens, j.cost, j.attempt, j.error_message, j.cancel_requested,
       j.not_before, j.heartbeat_at, j.dagster_run_id, j.created_at, j.started_at, j.completed_at,
       j.completed_at - j.started_at AS duration
  FROM app.processing_jobs j LEFT JOIN app.projects p ON p.user_id = j.user_id AND p.id = j.project_id;

GRANT SELECT ON app.processing_job_summary TO wp_app;
"""

# What starts and buries jobs for everybody: ids, kinds and numbers of attempts.
ACROSS_USERS = """
CREATE FUNCTION app.processing_job_owner(job uuid) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT user_id FROM app.processing_jobs WHERE id = job $$;

CREATE FUNCTION app.processing_jobs_to_start(at_most integer)
    RETURNS TABLE (processing_job_id uuid, user_id text, kind text, attempt integer) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT id, user_id, kind, attempt FROM app.processing_jobs
    WHERE status IN ('pending', 'paused') AND coalesce(not_before <= now(), true)
    ORDER BY created_at, id LIMIT at_most $$;

CREATE FUNCTION app.silent_processing_jobs(silent_s double precision, at_most integer)
    RETURNS TABLE (processing_job_id uuid, user_id text, attempt integer) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT id, user_id, attempt FROM app.processing_jobs
    WHERE status = 'running'
      AND heartbeat_at < now() - make_interval(secs => silent_s)
    ORDER BY created_at, id LIMIT at_most $$;
"""

ACROSS_USERS_GRANTS = """
GRANT SELECT (id, user_id, kind, status, attempt, not_before, heartbeat_at, created_at) ON app.processing_jobs
    TO wp_counter;
ALTER FUNCTION app.processing_job_owner(uuid) OWNER TO wp_counter;
ALTER FUNCTION app.processing_jobs_to_start(integer) OWNER TO wp_counter;
ALTER FUNCTION app.silent_processing_jobs(double precision, integer) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.processing_job_owner(uuid), app.processing_jobs_to_start(integer),
    app.silent_processing_jobs(double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.processing_job_owner(uuid), app.processing_jobs_to_start(integer),
    app.silent_processing_jobs(double precision, integer) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    op.execute(ORIGINS)
    for table in ("processing_jobs", "processing_outcomes", "uploads"):
        op.execute(protect(table))
    op.execute(VIEWS)
    op.execute(ACROSS_USERS)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(ACROSS_USERS_GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
