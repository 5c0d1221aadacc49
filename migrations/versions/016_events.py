"""Events that somebody should know of, and the webhooks that tell them.

Revision ID: 016_events
"""

from alembic import op

from migrations.owner_policy import protect

revision = "016_events"
down_revision = "015_index_outbox"
branch_labels = None
depends_on = None

TABLES = """
-- What may pass between two syncs before somebody should know: NULL follows sync_frequency, 0 is no objective.
ALTER TABLE app.data_sources ADD COLUMN freshness_minutes integer
    CONSTRAINT data_sources_freshness CHECK (freshness_minutes = 0 OR freshness_minutes BETWEEN 5 AND 527040);

-- What a paused job waits for, besides its owner.
ALTER TABLE app.sync_jobs ADD COLUMN paused_by text
    CONSTRAINT sync_jobs_paused_by CHECK (paused_by IN ('vendor', 'budget'));

CREATE TABLE app.events (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    kind text NOT NULL CHECK (kind ~ '^[a-z_]{1,50}$'),
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
    data_source_id uuid,
    sync_job_id uuid,
    message text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    dedup_key text NOT NULL CHECK (length(dedup_key) BETWEEN 1 AND 300),
    occurrences integer NOT NULL DEFAULT 1 CHECK (occurrences > 0),
    last_occurred_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    seen_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT events_owner_key UNIQUE (user_id, id),
    CONSTRAINT events_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE,
    CONSTRAINT events_sync_job_fk FOREIGN KEY (user_id, sync_job_id)
        REFERENCES app.sync_jobs (user_id, id) ON DELETE SET NULL (sync_job_id)
);
-- One open event of a kind about one thing: what happens again counts up and does not flood.
CREATE UNIQUE INDEX events_open ON app.events (user_id, dedup_key) WHERE resolved_at IS NULL;
CREATE INDEX events_newest ON app.events (user_id, created_at DESC, id);
CREATE INDEX events_data_source ON app.events (user_id, data_source_id, kind) WHERE data_source_id IS NOT NULL;
CREATE INDEX events_sync_job ON app.events (user_id, sync_job_id) WHERE sync_job_id IS NOT NULL;

CREATE TABLE app.webhooks (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 200),
    url text NOT NULL CHECK (length(url) <= 2000),
    -- '*' stands for every kind.
    kinds text[] NOT NULL CHECK (cardinality(kinds) > 0),
    sealed_secret jsonb NOT NULL CHECK (sealed_secret ? 'v' AND sealed_secret ? 'kid' AND sealed_secret ? 'ct'
        AND NOT sealed_secret ? 'secret'),
    is_active boolean NOT NULL DEFAULT true,
    disabled_reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhooks_owner_key UNIQUE (user_id, id),
    CONSTRAINT webhooks_name_key UNIQUE (user_id, name)
);

CREATE TABLE app.webhook_deliveries (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    webhook_id uuid NOT NULL,
    event_id uuid,
    occasion text NOT NULL CHECK (occasion IN ('opened', 'resolved', 'test')),
    payload jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    -- While one is being sent this is when its sender is given up for dead.
    next_try_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    given_up_at timestamptz,
    response_code integer,
    last_error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_deliveries_owner_key UNIQUE (user_id, id),
    CONSTRAINT webhook_deliveries_webhook_fk FOREIGN KEY (user_id, webhook_id)
        REFERENCES app.webhooks (user_id, id) ON DELETE CASCADE,
    CONSTRAINT webhook_deliveries_event_fk FOREIGN KEY (user_id, event_id)
        REFERENCES app.events (user_id, id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_webhook ON app.webhook_deliveries (user_id, webhook_id, created_at DESC);
CREATE INDEX webhook_deliveries_event ON app.webhook_deliveries (user_id, event_id) WHERE event_id IS NOT NULL;
CREATE INDEX webhook_deliveries_due ON app.webhook_deliveries (next_try_at)
    WHERE delivered_at IS NULL AND given_up_at IS NULL;
"""

VIEW = """
-- A source that was never connected, or is switched off, owes nobody a sync. One never synced counts from its creation.
CREATE VIEW app.source_freshness WITH (security_invoker = true, security_barrier = true) AS
SELECT s.user_id, s.id AS data_source_id, o.objective_minutes,
       coalesce(s.last_sync_at, s.created_at) + make_interval(mins => o.objective_minutes) AS due_at,
       coalesce(coalesce(s.last_sync_at, s.created_at) + make_interval(mins => o.objective_minutes) < now(), false)
           AS is_missed
  FROM app.data_sources s
 CROSS JOIN LATERAL (
       SELECT CASE WHEN s.is_active AND s.connection_status <> 'disconnected' THEN
                  nullif(coalesce(s.freshness_minutes, CASE s.sync_frequency
                      WHEN 'hourly' THEN 180 WHEN 'daily' THEN 1560 WHEN 'weekly' THEN 11520 END), 0)
              END AS objective_minutes) o;
GRANT SELECT ON app.source_freshness TO wp_app, wp_counter;
"""

# Both run as whoever calls them: a user under row-level security, or one of the triggers below.
OPEN_AND_RESOLVE = """
CREATE FUNCTION app.open_event(event_id uuid, owner text, event_kind text, event_severity text, source uuid, job uuid,
                               event_message text, event_detail jsonb, same_as text)
    RETURNS uuid LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS
$$ INSERT INTO app.events AS e (id, user_id, kind, severity, data_source_id, sync_job_id, message, detail, dedup_key)
   VALUES (event_id, owner, event_kind, event_severity, source, job, left(event_message, 2000), event_detail, same_as)
   ON CONFLICT (user_id, dedup_key) WHERE resolved_at IS NULL DO UPDATE
      SET occurrences = e.occurrences + 1, last_occurred_at = now(), severity = event_severity, sync_job_id = job,
          message = left(event_message, 2000), detail = event_detail
   RETURNING e.id $$;

CREATE FUNCTION app.resolve_events(owner text, source uuid, event_kinds text[])
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS
$$ UPDATE app.events SET resolved_at = now()
    WHERE user_id = owner AND data_source_id = source AND kind = ANY (event_kinds) AND resolved_at IS NULL $$;

GRANT EXECUTE ON FUNCTION
    app.open_event(uuid, text, text, text, uuid, uuid, text, jsonb, text), app.resolve_events(text, uuid, text[])
    TO wp_app, wp_counter;
"""

# SECURITY DEFINER: a status may be changed by a function that works for all users, or by a cascade, and the event must
# be written all the same. The owner is that of the row, which row-level security has let through.
TRIGGERS = """
CREATE FUNCTION app.note_job_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_kind text;
    found_severity text;
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.status = 'needs_confirmation' THEN
        PERFORM app.resolve_events(NEW.user_id, NEW.data_source_id, ARRAY['confirmation_needed']);
    END IF;
    IF NEW.status = 'failed' THEN
        found_kind := 'sync_failed'; found_severity := 'error';
    ELSIF NEW.status = 'needs_confirmation' THEN
        found_kind := 'confirmation_needed'; found_severity := 'warning';
    ELSIF NEW.status = 'paused' AND NEW.paused_by = 'budget' THEN
        found_kind := 'budget_reached'; found_severity := 'warning';
    ELSIF NEW.status = 'paused' AND NOT NEW.pause_requested THEN  -- who asked for it knows
        found_kind := 'sync_paused'; found_severity := 'info';
    END IF;
    -- Not when it merely goes on: one that pauses every hour is one thing to know.
    IF NEW.status IN ('completed', 'completed_with_errors', 'failed', 'cancelled') THEN
        PERFORM app.resolve_events(NEW.user_id, NEW.data_source_id, ARRAY['sync_paused', 'budget_reached']);
    END IF;
    IF NEW.status IN ('completed', 'completed_with_errors') THEN
        PERFORM app.resolve_events(NEW.user_id, NEW.data_source_id, ARRAY['sync_failed']);
    END IF;
    IF found_kind IS NOT NULL THEN
        PERFORM app.open_event(gen_random_uuid(), NEW.user_id, found_kind, found_severity, NEW.data_source_id, NEW.id,
            coalesce(nullif(NEW.error_message, ''), 'sync job ' || NEW.id || ' is ' || NEW.status), '{}',
            found_kind || ':' || NEW.data_source_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted AFTER INSERT ON app.sync_jobs FOR EACH ROW
    WHEN (NEW.status <> 'pending') EXECUTE FUNCTION app.note_job_status();
CREATE TRIGGER note_status AFTER UPDATE OF status ON app.sync_jobs FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION app.note_job_status();

CREATE FUNCTION app.note_source_state() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.needs_reauth AND (TG_OP = 'INSERT' OR NOT OLD.needs_reauth) THEN
        PERFORM app.open_event(gen_random_uuid(), NEW.user_id, 'reauthorization_needed', 'error', NEW.id, NULL,
            coalesce(nullif(NEW.status_message, ''), 'the account must be connected again'), '{}',
            'reauthorization_needed:' || NEW.id);
    ELSIF TG_OP = 'UPDATE' AND OLD.needs_reauth AND NOT NEW.needs_reauth THEN
        PERFORM app.resolve_events(NEW.user_id, NEW.id, ARRAY['reauthorization_needed']);
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.last_sync_at IS DISTINCT FROM OLD.last_sync_at THEN
        UPDATE app.events SET resolved_at = now()
         WHERE user_id = NEW.user_id AND data_source_id = NEW.id AND kind = 'freshness_missed' AND resolved_at IS NULL
           AND NOT EXISTS (SELECT FROM app.source_freshness f
                            WHERE f.user_id = NEW.user_id AND f.data_source_id = NEW.id AND f.is_missed);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted AFTER INSERT ON app.data_sources FOR EACH ROW
    WHEN (NEW.needs_reauth) EXECUTE FUNCTION app.note_source_state();
CREATE TRIGGER note_state AFTER UPDATE OF needs_reauth, last_sync_at ON app.data_sources FOR EACH ROW
    WHEN (OLD.needs_reauth <> NEW.needs_reauth OR OLD.last_sync_at IS DISTINCT FROM NEW.last_sync_at)
    EXECUTE FUNCTION app.note_source_state();

-- A webhook is locked against its removal, which would otherwise fail the sync that raised the event. It is not told of
-- its own troubles.
CREATE FUNCTION app.queue_deliveries() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    said CONSTANT text := CASE TG_OP WHEN 'INSERT' THEN 'opened' ELSE 'resolved' END;
BEGIN
    INSERT INTO app.webhook_deliveries (id, user_id, webhook_id, event_id, occasion, payload)
    SELECT gen_random_uuid(), w.user_id, w.id, NEW.id, said, jsonb_build_object(
               'type', NEW.kind || '.' || said, 'timestamp', now(),
               'data', jsonb_build_object('event_id', NEW.id, 'kind', NEW.kind, 'severity', NEW.severity,
                   'message', NEW.message, 'data_source_id', NEW.data_source_id, 'sync_job_id', NEW.sync_job_id,
                   'occurrences', NEW.occurrences, 'created_at', NEW.created_at, 'resolved_at', NEW.resolved_at))
      FROM app.webhooks w
     WHERE w.user_id = NEW.user_id AND w.is_active AND w.kinds && ARRAY[NEW.kind, '*']
       AND NEW.detail ->> 'webhook_id' IS DISTINCT FROM w.id::text
       FOR KEY SHARE;
    RETURN NULL;
END $$;
CREATE TRIGGER queue_opened AFTER INSERT ON app.events FOR EACH ROW
    WHEN (NEW.resolved_at IS NULL) EXECUTE FUNCTION app.queue_deliveries();
CREATE TRIGGER queue_resolved AFTER UPDATE OF resolved_at ON app.events FOR EACH ROW
    WHEN (OLD.resolved_at IS NULL AND NEW.resolved_at IS NOT NULL) EXECUTE FUNCTION app.queue_deliveries();
"""

ACROSS_USERS = """
-- Sources that miss their objective and have no event of this miss, and open events whose source keeps it again. An event
-- that its owner has resolved by hand is not opened again before the next miss.
CREATE FUNCTION app.freshness_changes(at_most integer)
    RETURNS TABLE (user_id text, data_source_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT f.user_id, f.data_source_id FROM app.source_freshness f
    WHERE CASE WHEN f.is_missed THEN
              NOT EXISTS (SELECT FROM app.events e WHERE e.user_id = f.user_id AND e.data_source_id = f.data_source_id
                   AND e.kind = 'freshness_missed' AND (e.resolved_at IS NULL OR e.created_at >= f.due_at))
          ELSE EXISTS (SELECT FROM app.events e WHERE e.user_id = f.user_id AND e.data_source_id = f.data_source_id
                   AND e.kind = 'freshness_missed' AND e.resolved_at IS NULL) END
    ORDER BY f.due_at NULLS FIRST, f.data_source_id LIMIT at_most $$;

-- Each webhook's oldest first, and one of each webhook before a second of any.
CREATE FUNCTION app.due_deliveries(at_most integer)
    RETURNS TABLE (user_id text, webhook_id uuid, delivery_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT due.user_id, due.webhook_id, due.id FROM (
       SELECT d.user_id, d.webhook_id, d.id, d.next_try_at,
              row_number() OVER (PARTITION BY d.user_id, d.webhook_id ORDER BY d.created_at, d.id) AS turn
         FROM app.webhook_deliveries d JOIN app.webhooks w ON w.user_id = d.user_id AND w.id = d.webhook_id
        WHERE d.delivered_at IS NULL AND d.given_up_at IS NULL AND d.next_try_at <= now() AND w.is_active) due
    ORDER BY due.turn, due.next_try_at, due.id LIMIT at_most $$;

CREATE FUNCTION app.webhook_owners() RETURNS TABLE (user_id text) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT DISTINCT w.user_id FROM app.webhooks w ORDER BY 1 $$;
"""

GRANTS = """
GRANT SELECT (id, user_id, is_active, connection_status, created_at, last_sync_at, sync_frequency, freshness_minutes)
    ON app.data_sources TO wp_counter;
GRANT SELECT (id, user_id, kind, data_source_id, dedup_key, occurrences, resolved_at, created_at),
      INSERT (id, user_id, kind, severity, data_source_id, sync_job_id, message, detail, dedup_key),
      UPDATE (occurrences, last_occurred_at, severity, sync_job_id, message, detail, resolved_at)
    ON app.events TO wp_counter;
GRANT SELECT (id, user_id, kinds, is_active), UPDATE (updated_at) ON app.webhooks TO wp_counter;
GRANT SELECT (id, user_id, webhook_id, next_try_at, delivered_at, given_up_at, created_at),
      INSERT (id, user_id, webhook_id, event_id, occasion, payload) ON app.webhook_deliveries TO wp_counter;
ALTER FUNCTION app.note_job_status() OWNER TO wp_counter;
ALTER FUNCTION app.note_source_state() OWNER TO wp_counter;
ALTER FUNCTION app.queue_deliveries() OWNER TO wp_counter;
ALTER FUNCTION app.freshness_changes(integer) OWNER TO wp_counter;
ALTER FUNCTION app.due_deliveries(integer) OWNER TO wp_counter;
ALTER FUNCTION app.webhook_owners() OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.note_job_status(), app.note_source_state(), app.queue_deliveries(),
    app.freshness_changes(integer), app.due_deliveries(integer), app.webhook_owners() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.freshness_changes(integer), app.due_deliveries(integer), app.webhook_owners() TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    for table in ("events", "webhooks", "webhook_deliveries"):
        op.execute(protect(table))
    op.execute(VIEW)
    op.execute(OPEN_AND_RESOLVE)
    op.execute(TRIGGERS)
    op.execute(ACROSS_USERS)
    op.execute("RESET ROLE")
    # Handing a function to another role needs CREATE on its schema for that role, or a superuser; grant it for a moment.
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
