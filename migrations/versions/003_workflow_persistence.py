"""Executions of workflows: their runs, steps, attempts and timelines.

Revision ID: 003_workflow_persistence
"""

from alembic import op

from migrations.owner_policy import protect, within_tenant

revision = "003_workflow_persistence"
down_revision = "007_workflow_definitions"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE app.workflow_executions (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    workflow_id uuid NOT NULL,
    workflow_version_id uuid NOT NULL,
    version integer NOT NULL,
    -- Frozen: what is saved later changes nothing here.
    definition jsonb NOT NULL,
    input jsonb NOT NULL DEFAULT '{}' CHECK (octet_length(input::text) <= 1200000),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'waiting', 'completed', 'failed',
        'cancelled')),
    mode text NOT NULL DEFAULT 'standard' CHECK (length(mode) <= 100),
    trigger text NOT NULL DEFAULT 'manual' CHECK (trigger IN ('manual', 'schedule', 'retry', 'api')),
    scheduled_workflow_id uuid,
    parent_execution_id uuid,
    root_execution_id uuid NOT NULL,
    -- The newest Dagster run, and how many there were; their rows are workflow_runs.
    dagster_run_id uuid,
    run_number integer NOT NULL DEFAULT 0,
    steps_total integer NOT NULL DEFAULT 0,
    steps_over integer NOT NULL DEFAULT 0,
    progress_percentage numeric(5, 2) NOT NULL DEFAULT 0 CHECK (progress_percentage BETWEEN 0 AND 100),
    output jsonb,
    error_class text NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT '',
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost numeric NOT NULL DEFAULT 0,
    priority integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    cancel_requested boolean NOT NULL DEFAULT false,
    cancel_requested_at timestamptz,
    heartbeat_at timestamptz,
    not_before timestamptz,
    idempotency_key text CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_executions_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT workflow_executions_idempotency_key UNIQUE (tenant_id, user_id, idempotency_key),
    CONSTRAINT workflow_executions_over CHECK (
        (status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)),
    CONSTRAINT workflow_executions_workflow_fk FOREIGN KEY (tenant_id, user_id, workflow_id)
        REFERENCES app.workflows (tenant_id, user_id, id) ON DELETE CASCADE,
    CONSTRAINT workflow_executions_version_fk FOREIGN KEY (tenant_id, user_id, workflow_version_id)
        REFERENCES app.workflow_versions (tenant_id, user_id, id) ON DELETE CASCADE
);
CREATE INDEX workflow_executions_newest ON app.workflow_executions (tenant_id, user_id, created_at DESC, id DESC);
CREATE INDEX workflow_executions_workflow
    ON app.workflow_executions (tenant_id, user_id, workflow_id, created_at DESC, id DESC);
CREATE INDEX workflow_executions_version ON app.workflow_executions (tenant_id, user_id, workflow_version_id);
CREATE INDEX workflow_executions_open ON app.workflow_executions (status, created_at)
    WHERE status IN ('pending', 'running', 'waiting');

-- The id is that of the Dagster run. `is_closed`: its event log was folded into the rows here, and nothing is left of it.
CREATE TABLE app.workflow_runs (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    execution_id uuid NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    dagster_status text NOT NULL DEFAULT '',
    last_storage_id bigint NOT NULL DEFAULT 0,
    is_closed boolean NOT NULL DEFAULT false,
    closed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_runs_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT workflow_runs_number_key UNIQUE (tenant_id, user_id, execution_id, number),
    CONSTRAINT workflow_runs_execution_fk FOREIGN KEY (tenant_id, user_id, execution_id)
        REFERENCES app.workflow_executions (tenant_id, user_id, id) ON DELETE CASCADE
);
CREATE INDEX workflow_runs_open ON app.workflow_runs (created_at) WHERE NOT is_closed;
-- One run at a time works on an execution.
CREATE UNIQUE INDEX workflow_runs_one_open ON app.workflow_runs (tenant_id, user_id, execution_id) WHERE NOT is_closed;

CREATE TABLE app.workflow_steps (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    execution_id uuid NOT NULL,
    node_id text NOT NULL CHECK (node_id <> '' AND length(node_id) <= 60),
    node_type text NOT NULL,
    name text NOT NULL DEFAULT '',
    -- The place in the topological order, from 0.
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'retrying', 'waiting', 'completed',
        'failed', 'skipped', 'cancelled')),
    skip_reason text CHECK (skip_reason IN ('condition', 'upstream_failed', 'not_reached')),
    attempts integer NOT NULL DEFAULT 0,
    output jsonb,
    error_class text NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT '',
    wait_kind text CHECK (wait_kind IN ('approval', 'time', 'sync')),
    wait_until timestamptz,
    wait_token_hash bytea,
    wait_sync_job_id uuid,
    wait_message text NOT NULL DEFAULT '',
    decision jsonb,
    reused_from_execution_id uuid,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost numeric NOT NULL DEFAULT 0,
    started_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_steps_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT workflow_steps_node_key UNIQUE (tenant_id, user_id, execution_id, node_id),
    CONSTRAINT workflow_steps_skipped CHECK ((status = 'skipped') = (skip_reason IS NOT NULL)),
    CONSTRAINT workflow_steps_execution_fk FOREIGN KEY (tenant_id, user_id, execution_id)
        REFERENCES app.workflow_executions (tenant_id, user_id, id) ON DELETE CASCADE
);
CREATE INDEX workflow_steps_waiting ON app.workflow_steps (tenant_id, user_id, execution_id) WHERE status = 'waiting';
CREATE UNIQUE INDEX workflow_steps_token ON app.workflow_steps (tenant_id, user_id, wait_token_hash)
    WHERE wait_token_hash IS NOT NULL;

CREATE TABLE app.block_executions (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    execution_id uuid NOT NULL,
    step_id uuid NOT NULL,
    node_id text NOT NULL,
    attempt integer NOT NULL CHECK (attempt > 0),
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'waiting', 'completed', 'failed', 'cancelled')),
    -- What the block was given, secrets left out.
    input jsonb NOT NULL DEFAULT '{}',
    error_class text NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT '',
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost numeric NOT NULL DEFAULT 0,
    dagster_run_id uuid,
    started_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT block_executions_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT block_executions_attempt_key UNIQUE (tenant_id, user_id, step_id, attempt),
    CONSTRAINT block_executions_over CHECK ((status = 'running') = (completed_at IS NULL)),
    CONSTRAINT block_executions_step_fk FOREIGN KEY (tenant_id, user_id, step_id)
        REFERENCES app.workflow_steps (tenant_id, user_id, id) ON DELETE CASCADE
);
CREATE INDEX block_executions_execution ON app.block_executions (tenant_id, user_id, execution_id, started_at);

-- Changes of status are written by triggers, events of a Dagster run by the mirror, once each by (run, storage id).
CREATE TABLE app.timeline_events (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    execution_id uuid NOT NULL,
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind <> '' AND length(kind) <= 100),
    node_id text NOT NULL DEFAULT '',
    attempt integer,
    message text NOT NULL DEFAULT '' CHECK (length(message) <= 2000),
    detail jsonb NOT NULL DEFAULT '{}',
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dagster_run_id uuid,
    storage_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT timeline_events_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT timeline_events_storage_key UNIQUE (tenant_id, user_id, dagster_run_id, storage_id),
    CONSTRAINT timeline_events_execution_fk FOREIGN KEY (tenant_id, user_id, execution_id)
        REFERENCES app.workflow_executions (tenant_id, user_id, id) ON DELETE CASCADE
);
CREATE INDEX timeline_events_execution ON app.timeline_events (tenant_id, user_id, execution_id, seq);
"""

VIEW = """
CREATE VIEW app.workflow_execution_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT e.id, e.tenant_id, e.user_id, e.workflow_id, e.workflow_version_id, e.version, w.slug, w.name, e.status, e.mode,
       e.trigger, e.scheduled_workflow_id, e.parent_execution_id, e.root_execution_id, e.dagster_run_id, e.run_number,
       e.progress_percentage, e.steps_total, e.steps_over, e.error_class, e.error_message, e.input_tokens, e.output_tokens,
       e.cost, e.priority, e.cancel_requested, e.cancel_requested_at, e.heartbeat_at, e.not_before, e.idempotency_key,
       e.created_at, e.started_at, e.completed_at, e.completed_at - e.started_at AS duration
  FROM app.workflow_executions e
  JOIN app.workflows w ON w.tenant_id = e.tenant_id AND w.user_id = e.user_id AND w.id = e.workflow_id;
GRANT SELECT ON app.workflow_execution_summary TO wp_app;
"""

# What starts and follows runs for everybody: ids and times, nothing else.
ACROSS_USERS = """
CREATE FUNCTION app.execution_owner(execution uuid) RETURNS TABLE (user_id text, tenant_id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT e.user_id, e.tenant_id FROM app.workflow_executions e WHERE e.id = execution $$;

-- The conditions of begin_run(), which asks again: pending and due, or waiting for something of which one has come. Fair
-- among users: nobody's second before everybody's first.
CREATE FUNCTION app.executions_to_start(at_most integer)
    RETURNS TABLE (execution_id uuid, user_id text, tenant_id text) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT e.id, e.user_id, e.tenant_id
     FROM app.workflow_executions e
    WHERE e.status IN ('pending', 'running', 'waiting') AND e.status <> 'running' AND NOT e.cancel_requested
      AND coalesce(e.not_before <= now(), true)
      AND NOT EXISTS (SELECT FROM app.workflow_runs r
                       WHERE r.tenant_id = e.tenant_id AND r.user_id = e.user_id AND r.execution_id = e.id
                         AND NOT r.is_closed)
      AND (e.status = 'pending' OR EXISTS (
           SELECT FROM app.workflow_steps s
            WHERE s.tenant_id = e.tenant_id AND s.user_id = e.user_id AND s.execution_id = e.id AND s.status = 'waiting'
              AND (s.decision IS NOT NULL OR s.wait_until <= now()
                   OR (s.wait_kind = 'sync' AND NOT EXISTS (
                       SELECT FROM app.sync_jobs j
                        WHERE j.user_id = s.user_id AND j.id = s.wait_sync_job_id
                          AND j.status IN ('pending', 'running', 'paused', 'needs_confirmation'))))))
    ORDER BY row_number() OVER (PARTITION BY e.user_id ORDER BY e.priority DESC, e.created_at, e.id),
             e.priority DESC, e.created_at, e.id
    LIMIT at_most $$;

CREATE FUNCTION app.open_workflow_runs(at_most integer)
    RETURNS TABLE (run_id uuid, execution_id uuid, user_id text, tenant_id text, created_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT r.id, r.execution_id, r.user_id, r.tenant_id, r.created_at FROM app.workflow_runs r
    WHERE NOT r.is_closed ORDER BY r.created_at, r.id LIMIT at_most $$;
"""

GRANTS = """
GRANT SELECT (id, tenant_id, user_id, workflow_id, status, priority, not_before, cancel_requested, created_at)
    ON app.workflow_executions TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, execution_id, is_closed, created_at) ON app.workflow_runs TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, execution_id, status, wait_kind, wait_until, wait_sync_job_id, decision)
    ON app.workflow_steps TO wp_counter;
ALTER FUNCTION app.execution_owner(uuid) OWNER TO wp_counter;
ALTER FUNCTION app.executions_to_start(integer) OWNER TO wp_counter;
ALTER FUNCTION app.open_workflow_runs(integer) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.execution_owner(uuid), app.executions_to_start(integer), app.open_workflow_runs(integer)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.execution_owner(uuid), app.executions_to_start(integer), app.open_workflow_runs(integer)
    TO wp_app;
"""

OWNED = ("workflow_executions", "workflow_runs", "workflow_steps", "block_executions", "timeline_events")


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    for table in OWNED:
        op.execute(protect(table))
        op.execute(within_tenant(table))
    op.execute(VIEW)
    op.execute(ACROSS_USERS)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
