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
-- For housekeeping, which goes from user to user, and through the tenants of each.
CREATE INDEX workflow_executions_ended ON app.workflow_executions (user_id, tenant_id, completed_at)
    WHERE completed_at IS NOT NULL;
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

# Whatever writes them: what is over stays as it ended, numbers of attempts and runs only grow, and an execution keeps the
# definition and the input that it began with.
GUARDS = """
CREATE FUNCTION app.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% %: %', TG_TABLE_NAME, OLD.id, TG_ARGV[0] USING ERRCODE = '55000';
END $$;
CREATE TRIGGER keep_end BEFORE UPDATE OF status ON app.workflow_executions FOR EACH ROW
    WHEN (OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION app.refuse_change('it is over and stays so');
CREATE TRIGGER keep_begin BEFORE UPDATE OF definition, input ON app.workflow_executions FOR EACH ROW
    WHEN (NEW.definition <> OLD.definition OR NEW.input <> OLD.input)
    EXECUTE FUNCTION app.refuse_change('its definition and input stay as it began with them');
CREATE TRIGGER keep_number BEFORE UPDATE OF run_number ON app.workflow_executions FOR EACH ROW
    WHEN (NEW.run_number < OLD.run_number) EXECUTE FUNCTION app.refuse_change('the number of its runs only grows');
CREATE TRIGGER keep_end BEFORE UPDATE OF is_closed ON app.workflow_runs FOR EACH ROW
    WHEN (OLD.is_closed AND NOT NEW.is_closed) EXECUTE FUNCTION app.refuse_change('it is closed and stays so');
CREATE TRIGGER keep_end BEFORE UPDATE OF status ON app.workflow_steps FOR EACH ROW
    WHEN (OLD.status IN ('completed', 'failed', 'skipped', 'cancelled') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION app.refuse_change('it is over and stays so');
CREATE TRIGGER keep_number BEFORE UPDATE OF attempts ON app.workflow_steps FOR EACH ROW
    WHEN (NEW.attempts < OLD.attempts) EXECUTE FUNCTION app.refuse_change('the number of its attempts only grows');
CREATE TRIGGER keep_end BEFORE UPDATE OF status ON app.block_executions FOR EACH ROW
    WHEN (OLD.status <> 'running' AND NEW.status <> OLD.status)
    EXECUTE FUNCTION app.refuse_change('it is over and stays so');
"""

# All SECURITY DEFINER, as those of sync_jobs: the rows they write are the database's own, and a cascade may reach them.
# Costs go from an attempt to its step and on to its execution. Once a statement, so that ending a large execution writes
# its row once; and a statement that changes nothing would set off the next.
NOTE_ATTEMPTS = """
CREATE FUNCTION app.note_attempts() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF EXISTS (SELECT FROM changed n WHERE n.input_tokens <> 0 OR n.output_tokens <> 0 OR n.cost <> 0) THEN
            UPDATE app.workflow_steps s
               SET input_tokens = s.input_tokens + d.input_tokens, output_tokens = s.output_tokens + d.output_tokens,
                   cost = s.cost + d.cost
              FROM (SELECT n.step_id, sum(n.input_tokens) AS input_tokens, sum(n.output_tokens) AS output_tokens,
                           sum(n.cost) AS cost FROM changed n GROUP BY n.step_id) d
             WHERE s.id = d.step_id;
        END IF;
        INSERT INTO app.timeline_events (id, tenant_id, user_id, execution_id, kind, node_id, attempt, dagster_run_id)
        SELECT gen_random_uuid(), n.tenant_id, n.user_id, n.execution_id, 'attempt.' || n.status, n.node_id, n.attempt,
               n.dagster_run_id
          FROM changed n ORDER BY n.started_at, n.node_id;
    ELSE
        IF EXISTS (SELECT FROM changed n JOIN before o USING (id)
                    WHERE (n.input_tokens, n.output_tokens, n.cost) <> (o.input_tokens, o.output_tokens, o.cost)) THEN
            UPDATE app.workflow_steps s
               SET input_tokens = s.input_tokens + d.input_tokens, output_tokens = s.output_tokens + d.output_tokens,
                   cost = s.cost + d.cost
              FROM (SELECT n.step_id, sum(n.input_tokens - o.input_tokens) AS input_tokens,
                           sum(n.output_tokens - o.output_tokens) AS output_tokens, sum(n.cost - o.cost) AS cost
                      FROM changed n JOIN before o USING (id) GROUP BY n.step_id) d
             WHERE s.id = d.step_id;
        END IF;
        INSERT INTO app.timeline_events (id, tenant_id, user_id, execution_id, kind, node_id, attempt, detail,
                                         dagster_run_id)
        SELECT gen_random_uuid(), n.tenant_id, n.user_id, n.execution_id, 'attempt.' || n.status, n.node_id, n.attempt,
               jsonb_strip_nulls(jsonb_build_object('error_class', nullif(n.error_class, ''))), n.dagster_run_id
          FROM changed n JOIN before o USING (id) WHERE n.status <> o.status ORDER BY n.started_at, n.node_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted AFTER INSERT ON app.block_executions REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_attempts();
CREATE TRIGGER note_updated AFTER UPDATE ON app.block_executions REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_attempts();
"""

# A step that is copied from another execution is over when it is inserted. An approval is asked for by an event, which is
# resolved when it was decided, or the step waits no more.
NOTE_STEPS = """
CREATE FUNCTION app.note_steps() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    step record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE app.workflow_executions e
           SET steps_over = e.steps_over + d.steps_over,
               progress_percentage = least(100, round(100.0 * (e.steps_over + d.steps_over) / greatest(e.steps_total, 1), 2)),
               input_tokens = e.input_tokens + d.input_tokens, output_tokens = e.output_tokens + d.output_tokens,
               cost = e.cost + d.cost
          FROM (SELECT n.execution_id, sum(n.input_tokens) AS input_tokens, sum(n.output_tokens) AS output_tokens,
                       sum(n.cost) AS cost,
                       count(*) FILTER (WHERE n.status IN ('completed', 'failed', 'skipped', 'cancelled')) AS steps_over
                  FROM changed n GROUP BY n.execution_id) d
         WHERE e.id = d.execution_id
           AND (d.steps_over <> 0 OR d.input_tokens <> 0 OR d.output_tokens <> 0 OR d.cost <> 0);
        INSERT INTO app.timeline_events (id, tenant_id, user_id, execution_id, kind, node_id, detail)
        SELECT gen_random_uuid(), n.tenant_id, n.user_id, n.execution_id,
               CASE WHEN n.reused_from_execution_id IS NULL THEN 'step.' || n.status ELSE 'step.reused' END, n.node_id,
               jsonb_strip_nulls(jsonb_build_object('from_execution_id', n.reused_from_execution_id))
          FROM changed n WHERE n.status <> 'pending' ORDER BY n.ordinal;
        RETURN NULL;
    END IF;
    UPDATE app.workflow_executions e
       SET steps_over = e.steps_over + d.steps_over,
           progress_percentage = least(100, round(100.0 * (e.steps_over + d.steps_over) / greatest(e.steps_total, 1), 2)),
           input_tokens = e.input_tokens + d.input_tokens, output_tokens = e.output_tokens + d.output_tokens,
           cost = e.cost + d.cost
      FROM (SELECT n.execution_id, sum(n.input_tokens - o.input_tokens) AS input_tokens,
                   sum(n.output_tokens - o.output_tokens) AS output_tokens, sum(n.cost - o.cost) AS cost,
                   count(*) FILTER (WHERE n.status IN ('completed', 'failed', 'skipped', 'cancelled'))
                   - count(*) FILTER (WHERE o.status IN ('completed', 'failed', 'skipped', 'cancelled')) AS steps_over
              FROM changed n JOIN before o USING (id) GROUP BY n.execution_id) d
     WHERE e.id = d.execution_id
       AND (d.steps_over <> 0 OR d.input_tokens <> 0 OR d.output_tokens <> 0 OR d.cost <> 0);
    INSERT INTO app.timeline_events (id, tenant_id, user_id, execution_id, kind, node_id, attempt, detail)
    SELECT gen_random_uuid(), n.tenant_id, n.user_id, n.execution_id, 'step.' || n.status, n.node_id,
           nullif(n.attempts, 0), jsonb_strip_nulls(jsonb_build_object(
               'error_class', nullif(n.error_class, ''), 'reason', n.skip_reason,
               'waits_for', CASE WHEN n.status = 'waiting' THEN n.wait_kind END,
               'until', CASE WHEN n.status = 'waiting' THEN n.wait_until END))
      FROM changed n JOIN before o USING (id) WHERE n.status <> o.status ORDER BY n.ordinal;
    IF NOT EXISTS (SELECT FROM changed n WHERE n.wait_kind IS NOT NULL OR n.decision IS NOT NULL) THEN
        RETURN NULL;
    END IF;
    INSERT INTO app.timeline_events (id, tenant_id, user_id, execution_id, kind, node_id, detail)
    SELECT gen_random_uuid(), n.tenant_id, n.user_id, n.execution_id, 'step.decided', n.node_id,
           jsonb_strip_nulls(jsonb_build_object('approved', n.decision -> 'approved', 'expired', n.decision -> 'expired',
                                                'status', n.decision -> 'status'))
      FROM changed n JOIN before o USING (id) WHERE n.decision IS NOT NULL AND o.decision IS NULL ORDER BY n.ordinal;
    FOR step IN
        SELECT n.user_id, n.tenant_id, n.id, n.execution_id, n.node_id, n.wait_until,
               n.status = 'waiting' AND n.decision IS NULL AS is_asked
          FROM changed n JOIN before o USING (id)
         WHERE n.wait_kind = 'approval' AND (n.status, n.decision IS NULL) <> (o.status, o.decision IS NULL)
           AND 'waiting' IN (n.status, o.status) ORDER BY n.ordinal
    LOOP
        IF step.is_asked THEN
            PERFORM app.open_event(gen_random_uuid(), step.user_id, 'approval_needed', 'warning', NULL, NULL,
                'step ' || step.node_id || ' of execution ' || step.execution_id || ' waits for an approval',
                jsonb_strip_nulls(jsonb_build_object(
                    'execution_id', step.execution_id, 'step_id', step.id, 'node_id', step.node_id,
                    'tenant_id', step.tenant_id, 'until', step.wait_until)),
                'approval_needed:' || step.execution_id || ':' || step.node_id);
        ELSE
            UPDATE app.events SET resolved_at = now()
             WHERE user_id = step.user_id AND resolved_at IS NULL
               AND dedup_key = 'approval_needed:' || step.execution_id || ':' || step.node_id;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted AFTER INSERT ON app.workflow_steps REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_steps();
CREATE TRIGGER note_updated AFTER UPDATE ON app.workflow_steps REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_steps();
"""

# The end of an execution is counted, told to the webhooks that asked for it, and remembered while the workflow fails.
NOTE_EXECUTIONS = """
CREATE FUNCTION app.note_execution() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    INSERT INTO app.timeline_events (id, tenant_id, user_id, execution_id, kind, detail, dagster_run_id)
    VALUES (gen_random_uuid(), NEW.tenant_id, NEW.user_id, NEW.id, 'execution.' || NEW.status,
            jsonb_strip_nulls(jsonb_build_object(
                'error_class', nullif(NEW.error_class, ''), 'run_number', nullif(NEW.run_number, 0))),
            NEW.dagster_run_id);
    IF TG_OP = 'INSERT' OR NEW.status NOT IN ('completed', 'failed', 'cancelled') THEN
        RETURN NULL;
    END IF;
    UPDATE app.workflows
       SET total_executions = total_executions + 1,
           completed_executions = completed_executions + (NEW.status = 'completed')::int,
           failed_executions = failed_executions + (NEW.status = 'failed')::int,
           cancelled_executions = cancelled_executions + (NEW.status = 'cancelled')::int,
           total_duration_s = total_duration_s
               + extract(epoch FROM NEW.completed_at - coalesce(NEW.started_at, NEW.completed_at)),
           total_cost = total_cost + NEW.cost, total_tokens = total_tokens + NEW.input_tokens + NEW.output_tokens,
           last_executed_at = greatest(last_executed_at, NEW.completed_at)
     WHERE id = NEW.workflow_id;
    IF NEW.status = 'failed' THEN
        PERFORM app.open_event(gen_random_uuid(), NEW.user_id, 'workflow_failed', 'error', NULL, NULL,
            'execution ' || NEW.id || ' failed' || coalesce(': ' || nullif(NEW.error_class, ''), ''),
            jsonb_build_object('workflow_id', NEW.workflow_id, 'execution_id', NEW.id, 'tenant_id', NEW.tenant_id),
            'workflow_failed:' || NEW.workflow_id);
    ELSIF NEW.status = 'completed' THEN
        UPDATE app.events SET resolved_at = now()
         WHERE user_id = NEW.user_id AND dedup_key = 'workflow_failed:' || NEW.workflow_id AND resolved_at IS NULL;
    END IF;
    INSERT INTO app.webhook_deliveries (id, user_id, webhook_id, occasion, payload)
    SELECT gen_random_uuid(), w.user_id, w.id, 'notice', jsonb_build_object(
               'type', 'workflow_' || NEW.status, 'timestamp', now(),
               'data', jsonb_build_object('kind', 'workflow_' || NEW.status, 'execution_id', NEW.id,
                   'workflow_id', NEW.workflow_id, 'workflow_version', NEW.version, 'status', NEW.status,
                   'error_class', NEW.error_class, 'trigger', NEW.trigger, 'cost_usd', NEW.cost,
                   'input_tokens', NEW.input_tokens, 'output_tokens', NEW.output_tokens,
                   'duration_s', extract(epoch FROM NEW.completed_at - NEW.started_at),
                   'created_at', NEW.created_at, 'completed_at', NEW.completed_at))
      FROM app.webhooks w
     WHERE w.user_id = NEW.user_id AND w.is_active AND w.kinds && ARRAY['workflow_' || NEW.status, '*']
       FOR KEY SHARE;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted AFTER INSERT ON app.workflow_executions
    FOR EACH ROW EXECUTE FUNCTION app.note_execution();
CREATE TRIGGER note_status AFTER UPDATE OF status ON app.workflow_executions FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION app.note_execution();

-- Nobody can decide or mend what is gone.
CREATE FUNCTION app.forget_execution_events() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE app.events SET resolved_at = now()
     WHERE user_id = OLD.user_id AND resolved_at IS NULL
       AND CASE TG_TABLE_NAME WHEN 'workflows' THEN dedup_key = 'workflow_failed:' || OLD.id
           ELSE kind = 'approval_needed' AND starts_with(dedup_key, 'approval_needed:' || OLD.id || ':') END;
    RETURN NULL;
END $$;
CREATE TRIGGER forget_events AFTER DELETE ON app.workflow_executions FOR EACH ROW
    WHEN (OLD.status IN ('pending', 'running', 'waiting')) EXECUTE FUNCTION app.forget_execution_events();
CREATE TRIGGER forget_events AFTER DELETE ON app.workflows FOR EACH ROW
    WHEN (OLD.failed_executions > 0) EXECUTE FUNCTION app.forget_execution_events();
"""

# Every failure is told as a notice, so the event that the first one opens tells nobody once more. An approval says whose.
OCCASIONS = """
ALTER TABLE app.webhook_deliveries DROP CONSTRAINT webhook_deliveries_occasion_check,
    ADD CONSTRAINT webhook_deliveries_occasion_check CHECK (occasion IN ('opened', 'resolved', 'test', 'notice'));
"""
QUEUE_DELIVERIES = """
CREATE OR REPLACE FUNCTION app.queue_deliveries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    said CONSTANT text := CASE TG_OP WHEN 'INSERT' THEN 'opened' ELSE 'resolved' END;
BEGIN
    IF NEW.kind = 'workflow_failed' THEN
        RETURN NULL;
    END IF;
    INSERT INTO app.webhook_deliveries (id, user_id, webhook_id, event_id, occasion, payload)
    SELECT gen_random_uuid(), w.user_id, w.id, NEW.id, said, jsonb_build_object(
               'type', NEW.kind || '.' || said, 'timestamp', now(),
               'data', jsonb_build_object('event_id', NEW.id, 'kind', NEW.kind, 'severity', NEW.severity,
                   'message', NEW.message, 'data_source_id', NEW.data_source_id, 'sync_job_id', NEW.sync_job_id,
                   'occurrences', NEW.occurrences, 'created_at', NEW.created_at, 'resolved_at', NEW.resolved_at)
               || CASE NEW.kind WHEN 'approval_needed' THEN NEW.detail ELSE '{}' END)
      FROM app.webhooks w
     WHERE w.user_id = NEW.user_id AND w.is_active AND w.kinds && ARRAY[NEW.kind, '*']
       AND NEW.detail ->> 'webhook_id' IS DISTINCT FROM w.id::text
       FOR KEY SHARE;
    RETURN NULL;
END $$;
"""

# Deferred, so that the lock of the user's audit log is the last that a transaction takes, and held for its commit alone.
AUDIT = """
CREATE FUNCTION app.audit_workflow_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    execution uuid;
    detail jsonb;
BEGIN
    IF TG_TABLE_NAME = 'workflow_executions' THEN
        execution := NEW.id;
        detail := jsonb_build_object('workflow_id', NEW.workflow_id, 'version', NEW.version, 'trigger', NEW.trigger,
                                     'run_number', NEW.run_number, 'cancel_requested', NEW.cancel_requested);
    ELSIF TG_TABLE_NAME = 'workflow_steps' THEN
        execution := NEW.execution_id;
        detail := jsonb_build_object('step_id', NEW.id, 'node_id', NEW.node_id, 'attempt', NEW.attempts);
    ELSE
        execution := NEW.execution_id;
        detail := jsonb_build_object('attempt_id', NEW.id, 'node_id', NEW.node_id, 'attempt', NEW.attempt);
    END IF;
    PERFORM app.audit_append_for(NEW.user_id, jsonb_build_array(jsonb_build_object(
        'action', TG_ARGV[0] || '.' || NEW.status, 'subject', 'execution:' || execution, 'detail', detail)));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER audit_inserted AFTER INSERT ON app.workflow_executions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.audit_workflow_status('execution');
CREATE CONSTRAINT TRIGGER audit_status AFTER UPDATE OF status, cancel_requested ON app.workflow_executions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.cancel_requested <> NEW.cancel_requested)
    EXECUTE FUNCTION app.audit_workflow_status('execution');
CREATE CONSTRAINT TRIGGER audit_inserted AFTER INSERT ON app.workflow_steps DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status <> 'pending') EXECUTE FUNCTION app.audit_workflow_status('step');
CREATE CONSTRAINT TRIGGER audit_status AFTER UPDATE OF status ON app.workflow_steps DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION app.audit_workflow_status('step');
CREATE CONSTRAINT TRIGGER audit_inserted AFTER INSERT ON app.block_executions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION app.audit_workflow_status('attempt');
CREATE CONSTRAINT TRIGGER audit_status AFTER UPDATE OF status ON app.block_executions DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION app.audit_workflow_status('attempt');
"""

# What starts and follows runs for everybody: ids and times, nothing else.
ACROSS_USERS = """
CREATE FUNCTION app.execution_owner(execution uuid) RETURNS TABLE (user_id text, tenant_id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT e.user_id, e.tenant_id FROM app.workflow_executions e WHERE e.id = execution $$;

-- The conditions of begin_run(), which asks again: pending and due, or waiting for something of which one has come. A sync
-- that wants an answer goes on by itself no more than one that has failed. Fair among users: nobody's second before
-- everybody's first.
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
                          AND j.status IN ('pending', 'running', 'paused'))))))
    ORDER BY row_number() OVER (PARTITION BY e.user_id ORDER BY e.priority DESC, e.created_at, e.id),
             e.priority DESC, e.created_at, e.id
    LIMIT at_most $$;

CREATE FUNCTION app.open_workflow_runs(at_most integer)
    RETURNS TABLE (run_id uuid, execution_id uuid, user_id text, tenant_id text, created_at timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT r.id, r.execution_id, r.user_id, r.tenant_id, r.created_at FROM app.workflow_runs r
    WHERE NOT r.is_closed ORDER BY r.created_at, r.id LIMIT at_most $$;

-- What the mirror looks at: open runs, those at work first and the others by chance, so that each gets its turn; and what
-- should not be, executions that nothing works on though they run or are to end.
CREATE FUNCTION app.workflow_runs_to_mirror(at_most integer, execution uuid)
    RETURNS TABLE (run_id uuid, execution_id uuid, user_id text, tenant_id text, is_open boolean, dagster_status text,
                   age_s double precision, unchanged_s double precision, asked_to_stop_s double precision,
                   silent_s double precision)
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ (SELECT r.id, r.execution_id, r.user_id, r.tenant_id, true, r.dagster_status, extract(epoch FROM now() - r.created_at),
           extract(epoch FROM now() - r.updated_at),
           CASE WHEN e.cancel_requested THEN extract(epoch FROM now() - e.cancel_requested_at) END,
           CASE WHEN e.status = 'running' THEN extract(epoch FROM now() - e.heartbeat_at) END
      FROM app.workflow_runs r
      JOIN app.workflow_executions e ON e.tenant_id = r.tenant_id AND e.user_id = r.user_id AND e.id = r.execution_id
     WHERE NOT r.is_closed AND (execution IS NULL OR r.execution_id = execution)
     ORDER BY e.status = 'running' OR e.cancel_requested DESC, random() LIMIT at_most)
    UNION ALL
   (SELECT e.dagster_run_id, e.id, e.user_id, e.tenant_id, false, '', 0, 0, NULL, NULL
      FROM app.workflow_executions e
     WHERE e.status IN ('pending', 'running', 'waiting') AND (e.status = 'running' OR e.cancel_requested)
       AND (execution IS NULL OR e.id = execution)
       AND NOT EXISTS (SELECT FROM app.workflow_runs r
                        WHERE r.tenant_id = e.tenant_id AND r.user_id = e.user_id AND r.execution_id = e.id
                          AND NOT r.is_closed)
     LIMIT at_most) $$;
"""

TRIGGER_GRANTS = """
GRANT SELECT (steps_total, steps_over, input_tokens, output_tokens, cost),
      UPDATE (steps_over, progress_percentage, input_tokens, output_tokens, cost) ON app.workflow_executions TO wp_counter;
GRANT SELECT (input_tokens, output_tokens, cost), UPDATE (input_tokens, output_tokens, cost)
    ON app.workflow_steps TO wp_counter;
GRANT SELECT (id, total_executions, completed_executions, failed_executions, cancelled_executions, total_duration_s,
              total_cost, total_tokens, last_executed_at),
      UPDATE (total_executions, completed_executions, failed_executions, cancelled_executions, total_duration_s, total_cost,
              total_tokens, last_executed_at) ON app.workflows TO wp_counter;
GRANT INSERT (id, tenant_id, user_id, execution_id, kind, node_id, attempt, detail, dagster_run_id)
    ON app.timeline_events TO wp_counter;
ALTER FUNCTION app.note_attempts() OWNER TO wp_counter;
ALTER FUNCTION app.note_steps() OWNER TO wp_counter;
ALTER FUNCTION app.note_execution() OWNER TO wp_counter;
ALTER FUNCTION app.forget_execution_events() OWNER TO wp_counter;
ALTER FUNCTION app.audit_workflow_status() OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.note_attempts(), app.note_steps(), app.note_execution(), app.forget_execution_events(),
    app.audit_workflow_status(), app.refuse_change() FROM PUBLIC;
"""

# For housekeeping, which is done for everybody. Loose index scans: one step a user or tenant, however many rows each has.
HOUSEKEEPING = """
CREATE OR REPLACE FUNCTION app.users_with_rows(after text, at_most integer) RETURNS TABLE (user_id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE
    of_documents AS (
        (SELECT r.user_id FROM app.documents r WHERE r.user_id > after ORDER BY r.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT r.user_id FROM app.documents r WHERE r.user_id > o.user_id ORDER BY r.user_id LIMIT 1)
          FROM of_documents o WHERE o.user_id IS NOT NULL),
    of_data_sources AS (
        (SELECT r.user_id FROM app.data_sources r WHERE r.user_id > after ORDER BY r.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT r.user_id FROM app.data_sources r WHERE r.user_id > o.user_id ORDER BY r.user_id LIMIT 1)
          FROM of_data_sources o WHERE o.user_id IS NOT NULL),
    of_processing_jobs AS (
        (SELECT r.user_id FROM app.processing_jobs r WHERE r.user_id > after ORDER BY r.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT r.user_id FROM app.processing_jobs r WHERE r.user_id > o.user_id ORDER BY r.user_id LIMIT 1)
          FROM of_processing_jobs o WHERE o.user_id IS NOT NULL),
    of_uploads AS (
        (SELECT r.user_id FROM app.uploads r WHERE r.user_id > after ORDER BY r.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT r.user_id FROM app.uploads r WHERE r.user_id > o.user_id ORDER BY r.user_id LIMIT 1)
          FROM of_uploads o WHERE o.user_id IS NOT NULL),
    of_executions AS (
        (SELECT r.user_id FROM app.workflow_executions r WHERE r.completed_at IS NOT NULL AND r.user_id > after
          ORDER BY r.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT r.user_id FROM app.workflow_executions r WHERE r.completed_at IS NOT NULL AND r.user_id > o.user_id
                 ORDER BY r.user_id LIMIT 1)
          FROM of_executions o WHERE o.user_id IS NOT NULL)
SELECT seen.user_id FROM (
    (SELECT o.user_id FROM of_documents o WHERE o.user_id IS NOT NULL LIMIT at_most)
    UNION
    (SELECT o.user_id FROM of_data_sources o WHERE o.user_id IS NOT NULL LIMIT at_most)
    UNION
    (SELECT o.user_id FROM of_processing_jobs o WHERE o.user_id IS NOT NULL LIMIT at_most)
    UNION
    (SELECT o.user_id FROM of_uploads o WHERE o.user_id IS NOT NULL LIMIT at_most)
    UNION
    (SELECT o.user_id FROM of_executions o WHERE o.user_id IS NOT NULL LIMIT at_most)) seen
 ORDER BY seen.user_id LIMIT at_most $$;
"""
TENANTS = """
CREATE FUNCTION app.tenants_with_executions() RETURNS TABLE (tenant_id text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE
    owner AS (SELECT app.current_user_id() AS user_id),
    seen AS (
        (SELECT r.tenant_id FROM app.workflow_executions r
          WHERE r.completed_at IS NOT NULL AND r.user_id = (SELECT o.user_id FROM owner o)
          ORDER BY r.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT r.tenant_id FROM app.workflow_executions r
                 WHERE r.completed_at IS NOT NULL AND r.user_id = (SELECT o.user_id FROM owner o)
                   AND r.tenant_id > s.tenant_id ORDER BY r.tenant_id LIMIT 1)
          FROM seen s WHERE s.tenant_id IS NOT NULL)
SELECT s.tenant_id FROM seen s WHERE s.tenant_id IS NOT NULL ORDER BY 1 $$;
"""

GRANTS = """
GRANT SELECT (completed_at) ON app.workflow_executions TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, workflow_id, status, priority, not_before, cancel_requested, cancel_requested_at,
              heartbeat_at, dagster_run_id, created_at)
    ON app.workflow_executions TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, execution_id, dagster_status, is_closed, created_at, updated_at)
    ON app.workflow_runs TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, execution_id, status, wait_kind, wait_until, wait_sync_job_id, decision)
    ON app.workflow_steps TO wp_counter;
ALTER FUNCTION app.execution_owner(uuid) OWNER TO wp_counter;
ALTER FUNCTION app.executions_to_start(integer) OWNER TO wp_counter;
ALTER FUNCTION app.open_workflow_runs(integer) OWNER TO wp_counter;
ALTER FUNCTION app.tenants_with_executions() OWNER TO wp_counter;
ALTER FUNCTION app.workflow_runs_to_mirror(integer, uuid) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.execution_owner(uuid), app.executions_to_start(integer), app.open_workflow_runs(integer),
    app.workflow_runs_to_mirror(integer, uuid), app.tenants_with_executions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.execution_owner(uuid), app.executions_to_start(integer), app.open_workflow_runs(integer),
    app.workflow_runs_to_mirror(integer, uuid), app.tenants_with_executions() TO wp_app;
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
    op.execute(GUARDS)
    op.execute(NOTE_ATTEMPTS)
    op.execute(NOTE_STEPS)
    op.execute(NOTE_EXECUTIONS)
    op.execute(OCCASIONS)
    op.execute(AUDIT)
    op.execute(ACROSS_USERS)
    op.execute(TENANTS)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(QUEUE_DELIVERIES)
    op.execute(HOUSEKEEPING)
    op.execute(TRIGGER_GRANTS)
    op.execute(GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
