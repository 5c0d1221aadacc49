"""What sources at vendors need to remember: containers, places, the scope last listed; buckets that pace their calls.

Revision ID: 008_source_state
"""

from alembic import op

from migrations.owner_policy import protect

revision = "008_source_state"
down_revision = "006_etl_pipelines"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE app.data_sources
    ADD COLUMN synced_scope text,
    ADD COLUMN last_listed_at timestamptz,
    ADD COLUMN needs_reauth boolean NOT NULL DEFAULT false;
CREATE INDEX data_sources_to_probe ON app.data_sources (source_type, last_probe_at NULLS FIRST, id) WHERE is_active;

-- "C" compares byte by byte, so that a prefix is a range. An index entry has at most 2,704 bytes and a path may be longer.
ALTER TABLE app.sync_items
    ADD COLUMN external_created_at timestamptz,
    ADD COLUMN place text COLLATE "C",
    ADD COLUMN place_start text COLLATE "C" GENERATED ALWAYS AS (left(place, 400)) STORED;
CREATE INDEX sync_items_place ON app.sync_items (user_id, data_source_id, place_start) WHERE place_start IS NOT NULL;

CREATE TABLE app.sync_containers (
    data_source_id uuid NOT NULL,
    last_seen_sweep uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    external_id text NOT NULL CHECK (external_id <> ''),
    parent_external_id text,
    name text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT sync_containers_pkey PRIMARY KEY (user_id, data_source_id, external_id),
    CONSTRAINT sync_containers_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE
);
"""

VIEW = """
CREATE OR REPLACE VIEW app.data_source_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT s.id, s.user_id, s.name, s.source_type, s.connection_status, s.status_message, s.is_active, s.sync_frequency,
       s.external_account, s.project_id, s.last_sync_at, s.last_sync_status, s.total_items_synced,
       (SELECT count(*) FROM app.sync_items i WHERE i.user_id = s.user_id AND i.data_source_id = s.id
           AND i.sync_status = 'synced') AS live_items,
       (SELECT count(*) FROM app.sync_failures f WHERE f.user_id = s.user_id AND f.data_source_id = s.id
           AND f.resolved_at IS NULL) AS open_failures,
       s.needs_reauth
  FROM app.data_sources s;
"""

# Not about users but about what a vendor allows an account: no owner, no content, and reached through two functions only.
# The server's clock alone decides.
RATES = """
CREATE SCHEMA app_private;
CREATE TABLE app_private.rate_buckets (
    bucket text PRIMARY KEY CHECK (length(bucket) <= 500),
    tokens double precision NOT NULL,
    -- When there were so many; in the future while a penalty lasts.
    updated_at timestamptz NOT NULL
);

-- Reserves a place in the queue, at most five seconds long (MOST_WAIT_S of sources/http.py); whoever would have to wait
-- longer is told how long and takes nothing, since a place that is not used would keep others waiting.
CREATE FUNCTION app.rate_take(wanted text, per_s double precision, burst double precision, cost double precision)
    RETURNS double precision LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held app_private.rate_buckets;
    moment timestamptz;
    pace CONSTANT double precision := greatest(per_s, 1e-6);
    level double precision;
    wait_s double precision;
BEGIN
    INSERT INTO app_private.rate_buckets VALUES (wanted, burst, clock_timestamp()) ON CONFLICT (bucket) DO NOTHING;
    SELECT * INTO STRICT held FROM app_private.rate_buckets WHERE bucket = wanted FOR UPDATE;
    moment := clock_timestamp();
    level := least(burst, held.tokens + pace * greatest(0, extract(epoch FROM moment - held.updated_at)));
    wait_s := greatest(0, extract(epoch FROM held.updated_at - moment))
        + greatest(0, least(cost, burst) - level) / pace;
    IF wait_s > 5 THEN
        RETURN least(wait_s * (1 + random() / 10), 3600);
    END IF;
    UPDATE app_private.rate_buckets SET tokens = level - cost, updated_at = greatest(moment, held.updated_at)
     WHERE bucket = wanted;
    RETURN wait_s;
END $$;

-- One call is free when a penalty ends: the vendor said that it would be.
CREATE FUNCTION app.rate_penalise(wanted text, wait_s double precision)
    RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ INSERT INTO app_private.rate_buckets AS b
   VALUES (wanted, 1, clock_timestamp() + make_interval(secs => least(greatest(wait_s, 0), 3600)))
   ON CONFLICT (bucket) DO UPDATE
      SET tokens = least(b.tokens, 1), updated_at = greatest(b.updated_at, excluded.updated_at) $$;
"""

# A source that nobody has connected, or whose grant is gone, has nothing to sync: its row waits.
DUE_SYNCS = """
CREATE OR REPLACE FUNCTION app.due_syncs(wanted text, at_most integer)
    RETURNS TABLE (id uuid, user_id text, data_source_id uuid, schedule_type text, schedule_config jsonb, timezone text,
                   next_run_at timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT r.id, r.user_id, r.data_source_id, r.schedule_type, r.schedule_config, r.timezone, r.next_run_at
     FROM app.scheduled_syncs r JOIN app.data_sources s ON s.user_id = r.user_id AND s.id = r.data_source_id
    WHERE r.is_active AND s.is_active AND s.source_type = wanted AND r.next_run_at <= now()
      AND s.connection_status <> 'disconnected' AND NOT s.needs_reauth
    ORDER BY r.next_run_at, r.id LIMIT at_most $$;
GRANT SELECT (needs_reauth) ON app.data_sources TO wp_counter;
"""

RATES_GRANTS = """
GRANT USAGE ON SCHEMA app_private TO wp_counter;
GRANT SELECT, INSERT, UPDATE ON app_private.rate_buckets TO wp_counter;
ALTER FUNCTION app.rate_take(text, double precision, double precision, double precision) OWNER TO wp_counter;
ALTER FUNCTION app.rate_penalise(text, double precision) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.rate_take(text, double precision, double precision, double precision),
    app.rate_penalise(text, double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.rate_take(text, double precision, double precision, double precision),
    app.rate_penalise(text, double precision) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    op.execute(protect("sync_containers"))
    op.execute(VIEW)
    op.execute(RATES)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(DUE_SYNCS)
    op.execute(RATES_GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
