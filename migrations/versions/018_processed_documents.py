"""Processed documents obey rules and budgets, and can be deleted and had back.

Revision ID: 018_processed_documents
"""

from alembic import op

revision = "018_processed_documents"
down_revision = "017_audit"
branch_labels = None
depends_on = None

# Why a document of no data source is hidden: the others have an item that says it.
COLUMNS = """
ALTER TABLE app.documents ADD COLUMN deleted_reason text NOT NULL DEFAULT ''
    CONSTRAINT documents_deleted_reason CHECK (deleted_reason IN ('', 'removed_by_user', 'filtered'));
ALTER TABLE app.processing_jobs ADD COLUMN paused_by text
    CONSTRAINT processing_jobs_paused_by CHECK (paused_by IN ('service', 'budget'));
"""

# A row without a data source is for processed documents, which the rules of one source or type are not meant for. Who has
# no such rules has no such row.
VIEW = """
CREATE OR REPLACE VIEW app.data_source_rules WITH (security_invoker = true, security_barrier = true) AS
SELECT s.user_id, s.id AS data_source_id,
       coalesce((SELECT '1:' || md5(string_agg(t.transformation_type || ' ' || t.config::text, E'\\n'
                                               ORDER BY t.execution_order, t.id))
                   FROM app.etl_transformations t
                  WHERE t.user_id = s.user_id AND t.is_active
                    AND coalesce(t.source_type = s.source_type, true)
                    AND coalesce(t.data_source_id = s.id, true)), '') AS rules_hash
  FROM app.data_sources s
 UNION ALL
SELECT t.user_id, NULL, '1:' || md5(string_agg(t.transformation_type || ' ' || t.config::text, E'\\n'
                                               ORDER BY t.execution_order, t.id))
  FROM app.etl_transformations t
 WHERE t.is_active AND t.source_type IS NULL AND t.data_source_id IS NULL
 GROUP BY t.user_id;
"""

# SECURITY DEFINER as the triggers of sync_jobs: a status may be changed by whatever way, and the event is written.
TRIGGER = """
CREATE FUNCTION app.note_processing_status() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status = 'paused' AND NEW.paused_by = 'budget' THEN
        PERFORM app.open_event(gen_random_uuid(), NEW.user_id, 'budget_reached', 'warning', NULL, NULL,
            NEW.error_message, jsonb_build_object('processing_job_id', NEW.id), 'budget_reached:' || NEW.id);
    ELSIF NEW.status IN ('completed', 'completed_with_errors', 'failed', 'cancelled') THEN
        UPDATE app.events SET resolved_at = now()
         WHERE user_id = NEW.user_id AND dedup_key = 'budget_reached:' || NEW.id AND resolved_at IS NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_status AFTER UPDATE OF status ON app.processing_jobs FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION app.note_processing_status();
"""

# What a run's budget has stopped waits until its owner resumes it; the rest goes on by itself.
ACROSS_USERS = """
CREATE OR REPLACE FUNCTION app.processing_jobs_to_start(at_most integer)
    RETURNS TABLE (processing_job_id uuid, user_id text, kind text, attempt integer) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT id, user_id, kind, attempt FROM app.processing_jobs
    WHERE status IN ('pending', 'paused') AND coalesce(not_before <= now(), paused_by IS DISTINCT FROM 'budget')
    ORDER BY created_at, id LIMIT at_most $$;
"""

GRANTS = """
GRANT SELECT (paused_by) ON app.processing_jobs TO wp_counter;
ALTER FUNCTION app.note_processing_status() OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.note_processing_status() FROM PUBLIC;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(COLUMNS)
    op.execute(VIEW)
    op.execute(TRIGGER)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(ACROSS_USERS)
    op.execute(GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
