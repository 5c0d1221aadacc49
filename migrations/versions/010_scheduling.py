"""Schedules that are honoured however they were written, and the sync jobs that wait for somebody to start them.

Revision ID: 010_scheduling
"""

from alembic import op

revision = "010_scheduling"
down_revision = "009_job_control"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE app.scheduled_syncs ADD COLUMN error text NOT NULL DEFAULT '';
ALTER TABLE app.data_sources ADD COLUMN sync_timezone text NOT NULL DEFAULT 'UTC';
-- The one row of a source that its sync_frequency made.
CREATE UNIQUE INDEX scheduled_syncs_frequency ON app.scheduled_syncs (user_id, data_source_id)
    WHERE schedule_config ? 'frequency';
"""

# What is due when is computed in Python alone: here a row only loses a time that its schedule did not make. Whoever
# changes the schedule and the time together keeps the time. One beyond the calendar could not even be read.
RESCHEDULE = """
CREATE FUNCTION app.reschedule() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.schedule_type, NEW.schedule_config, NEW.timezone)
               IS DISTINCT FROM (OLD.schedule_type, OLD.schedule_config, OLD.timezone)
           OR (NEW.is_active AND NOT OLD.is_active) THEN
            IF NEW.next_run_at IS NOT DISTINCT FROM OLD.next_run_at THEN
                NEW.next_run_at := NULL;
            END IF;
            IF NEW.error = OLD.error THEN
                NEW.error := '';
            END IF;
        END IF;
    END IF;
    IF NEW.next_run_at NOT BETWEEN '2000-01-01 00:00Z' AND '9000-01-01 00:00Z' THEN
        NEW.next_run_at := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER reschedule BEFORE INSERT OR UPDATE ON app.scheduled_syncs
    FOR EACH ROW EXECUTE FUNCTION app.reschedule();
"""

# A new row is due at once, and then every hour from now, or every day or week at this time of day. An unknown time zone
# fails the statement that names it.
FREQUENCY = """
CREATE FUNCTION app.schedule_by_frequency() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    local CONSTANT timestamp := now() AT TIME ZONE NEW.sync_timezone;
    at CONSTANT text := to_char(local, 'HH24:MI');
BEGIN
    DELETE FROM app.scheduled_syncs
     WHERE user_id = NEW.user_id AND data_source_id = NEW.id AND schedule_config ? 'frequency'
       AND (schedule_config ->> 'frequency' IS DISTINCT FROM NEW.sync_frequency OR timezone <> NEW.sync_timezone);
    IF NEW.sync_frequency <> 'manual' THEN
        INSERT INTO app.scheduled_syncs
            (id, user_id, data_source_id, schedule_type, schedule_config, timezone, next_run_at)
        VALUES (gen_random_uuid(), NEW.user_id, NEW.id,
                CASE NEW.sync_frequency WHEN 'hourly' THEN 'interval' ELSE NEW.sync_frequency END,
                jsonb_build_object('frequency', NEW.sync_frequency) || CASE NEW.sync_frequency
                    WHEN 'hourly' THEN '{"minutes": 60}'
                    WHEN 'daily' THEN jsonb_build_object('at', at)
                    ELSE jsonb_build_object('at', at, 'weekday', to_char(local, 'FMday')) END,
                NEW.sync_timezone, now())
        ON CONFLICT (user_id, data_source_id) WHERE schedule_config ? 'frequency' DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER schedule_new AFTER INSERT ON app.data_sources
    FOR EACH ROW WHEN (NEW.sync_frequency <> 'manual') EXECUTE FUNCTION app.schedule_by_frequency();
-- Also when the same frequency is said again: its row may have been removed since.
CREATE TRIGGER schedule_by_frequency AFTER UPDATE OF sync_frequency, sync_timezone ON app.data_sources
    FOR EACH ROW EXECUTE FUNCTION app.schedule_by_frequency();
"""

# A row without a time is to be given one.
DUE_SYNCS = """
CREATE OR REPLACE FUNCTION app.due_syncs(wanted text, at_most integer)
    RETURNS TABLE (id uuid, user_id text, data_source_id uuid, schedule_type text, schedule_config jsonb, timezone text,
                   next_run_at timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT r.id, r.user_id, r.data_source_id, r.schedule_type, r.schedule_config, r.timezone, r.next_run_at
     FROM app.scheduled_syncs r JOIN app.data_sources s ON s.user_id = r.user_id AND s.id = r.data_source_id
    WHERE r.is_active AND s.source_type = wanted
      AND (r.next_run_at IS NULL OR (r.next_run_at <= now() AND s.is_active
           AND s.connection_status <> 'disconnected' AND NOT s.needs_reauth))
    ORDER BY r.next_run_at NULLS FIRST, r.id LIMIT at_most $$;
"""

# A job paused by request has no time to wait for, and one whose source is being synced waits for that. Fair among users:
# nobody's second before everybody's first.
WAITING = """
CREATE FUNCTION app.waiting_sync_jobs(started uuid[], at_most integer)
    RETURNS TABLE (sync_job_id uuid, user_id text, data_source_id uuid, source_type text, priority integer,
                   not_before timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT j.id, j.user_id, j.data_source_id, s.source_type, j.priority, j.not_before
     FROM app.sync_jobs j JOIN app.data_sources s ON s.user_id = j.user_id AND s.id = j.data_source_id
    WHERE j.id <> ALL (started)
      AND (j.status = 'pending' OR (j.status = 'paused' AND j.not_before <= now() AND NOT j.pause_requested))
      AND NOT EXISTS (SELECT FROM app.sync_jobs r
                       WHERE r.user_id = j.user_id AND r.data_source_id = j.data_source_id AND r.status = 'running')
    ORDER BY row_number() OVER (PARTITION BY j.user_id ORDER BY j.priority DESC, j.created_at, j.id),
             j.priority DESC, j.created_at, j.id
    LIMIT at_most $$;

CREATE FUNCTION app.unwanted_sync_jobs(asked uuid[])
    RETURNS TABLE (sync_job_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT each FROM unnest(asked) AS each LEFT JOIN app.sync_jobs j ON j.id = each
    WHERE j.id IS NULL OR j.status NOT IN ('pending', 'running', 'paused')
       OR (j.status = 'paused' AND (j.not_before IS NULL OR j.pause_requested)) $$;

CREATE FUNCTION app.running_sync_jobs(beating_s double precision)
    RETURNS TABLE (sync_job_id uuid, user_id text, data_source_id uuid, dagster_run_id text, is_beating boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT id, user_id, data_source_id, dagster_run_id,
          coalesce(heartbeat_at > now() - make_interval(secs => beating_s), false)
     FROM app.sync_jobs WHERE status = 'running' AND dagster_run_id IS NOT NULL $$;
"""

WAITING_GRANTS = """
GRANT SELECT (id, user_id, data_source_id, status, priority, not_before, created_at, heartbeat_at, dagster_run_id,
              pause_requested)
    ON app.sync_jobs TO wp_counter;
ALTER FUNCTION app.waiting_sync_jobs(uuid[], integer) OWNER TO wp_counter;
ALTER FUNCTION app.unwanted_sync_jobs(uuid[]) OWNER TO wp_counter;
ALTER FUNCTION app.running_sync_jobs(double precision) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.waiting_sync_jobs(uuid[], integer), app.unwanted_sync_jobs(uuid[]),
    app.running_sync_jobs(double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.waiting_sync_jobs(uuid[], integer), app.unwanted_sync_jobs(uuid[]),
    app.running_sync_jobs(double precision) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(COLUMNS)
    op.execute(RESCHEDULE)
    op.execute(FREQUENCY)
    op.execute(WAITING)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(DUE_SYNCS)
    op.execute(WAITING_GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
