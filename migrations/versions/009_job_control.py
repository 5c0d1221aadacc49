"""Jobs that can be asked for, paused, resumed, confirmed and stopped, and the traces of who lives.

Revision ID: 009_job_control
"""

from alembic import op

revision = "009_job_control"
down_revision = "008_source_state"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE app.sync_jobs
    ADD COLUMN priority integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
    ADD COLUMN confirm_deletes boolean NOT NULL DEFAULT false,
    ADD COLUMN pause_requested boolean NOT NULL DEFAULT false,
    -- When the oldest cancel or pause was requested that a running job has not yet followed.
    ADD COLUMN stop_requested_at timestamptz,
    -- Someone looked at the deletes this job held back, and wants none of them.
    ADD COLUMN deletes_refused boolean NOT NULL DEFAULT false,
    -- The pending job that does what this one was to do: a request keeps its key though another does the work.
    ADD COLUMN merged_into uuid,
    ADD CONSTRAINT sync_jobs_merged_fk FOREIGN KEY (user_id, merged_into)
        REFERENCES app.sync_jobs (user_id, id) ON DELETE SET NULL (merged_into);
CREATE INDEX sync_jobs_merged ON app.sync_jobs (user_id, merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX sync_jobs_open ON app.sync_jobs (status, created_at) WHERE status IN ('pending', 'running', 'paused');

-- The job that held back the deletion of this item last; what it says counts while the item stays away.
ALTER TABLE app.sync_items ADD COLUMN absent_job_id uuid;
CREATE INDEX sync_items_absent ON app.sync_items (user_id, data_source_id, absent_job_id)
    WHERE absent_job_id IS NOT NULL;
"""

VIEW = """
CREATE OR REPLACE VIEW app.sync_job_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT j.id, j.user_id, j.data_source_id, s.name AS data_source_name, s.source_type, j.job_type, j.status, j.pages,
       j.items_found, j.items_created, j.items_updated, j.items_unchanged, j.items_skipped, j.items_deleted,
       j.items_failed, j.items_fetched, j.bytes_processed, j.chunks_embedded, j.chunks_reused, j.embedding_tokens, j.cost,
       j.error_message, j.dagster_run_id, j.created_at, j.started_at, j.completed_at,
       j.completed_at - j.started_at AS duration,
       j.priority, j.confirm_deletes, j.cancel_requested, j.pause_requested, j.stop_requested_at, j.deletes_refused,
       j.not_before, j.heartbeat_at, j.merged_into
  FROM app.sync_jobs j JOIN app.data_sources s ON s.user_id = j.user_id AND s.id = j.data_source_id;
"""

# Of those that were asked to stop, and of those that no longer say that they live.
ACROSS_USERS = """
CREATE FUNCTION app.silent_sync_jobs(silent_s double precision, unheeded_s double precision, at_most integer)
    RETURNS TABLE (sync_job_id uuid, user_id text, data_source_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT id, user_id, data_source_id FROM app.sync_jobs
    WHERE status = 'running' AND (coalesce(heartbeat_at, created_at) < now() - make_interval(secs => silent_s)
                                  OR stop_requested_at < now() - make_interval(secs => unheeded_s))
    ORDER BY coalesce(heartbeat_at, created_at), id LIMIT at_most $$;
"""

ACROSS_USERS_GRANTS = """
GRANT SELECT (id, user_id, data_source_id, status, heartbeat_at, stop_requested_at, created_at)
    ON app.sync_jobs TO wp_counter;
ALTER FUNCTION app.silent_sync_jobs(double precision, double precision, integer) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.silent_sync_jobs(double precision, double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.silent_sync_jobs(double precision, double precision, integer) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(COLUMNS)
    op.execute(VIEW)
    op.execute(ACROSS_USERS)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(ACROSS_USERS_GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
