"""The audit log: append-only, with a hash chain for every user.

Revision ID: 017_audit
"""

from alembic import op

from migrations.owner_policy import OWNER_IS_USER

revision = "017_audit"
down_revision = "016_events"
branch_labels = None
depends_on = None

# The id is made of nothing that a user could choose; (user_id, seq) is the chain.
TABLES = """
CREATE TABLE app.audit_logs (
    user_id text NOT NULL CHECK (user_id <> ''),
    seq bigint NOT NULL CHECK (seq > 0),
    action text NOT NULL CHECK (action <> '' AND length(action) <= 100),
    subject text NOT NULL DEFAULT '' CHECK (length(subject) <= 300),
    detail jsonb NOT NULL DEFAULT '{}',
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT audit_logs_pkey PRIMARY KEY (user_id, seq),
    CONSTRAINT audit_logs_unchanged CHECK (updated_at = created_at)
);
CREATE INDEX audit_logs_subject ON app.audit_logs (user_id, subject, seq) WHERE subject <> '';
ALTER TABLE app.audit_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.audit_logs FORCE ROW LEVEL SECURITY;
CREATE TABLE app_private.audit_heads (
    user_id text PRIMARY KEY CHECK (user_id <> ''),
    seq bigint NOT NULL,
    hash bytea NOT NULL
);
"""

# wp_app is granted reading alone: what is appended goes through the functions below.
POLICIES = f"""
CREATE POLICY owner_all ON app.audit_logs FOR ALL TO wp_app USING ({OWNER_IS_USER}) WITH CHECK ({OWNER_IS_USER});
GRANT SELECT ON app.audit_logs TO wp_app;
"""

IMMUTABLE = """
CREATE FUNCTION app.audit_immutable() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = '42501';
END $$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON app.audit_logs
    FOR EACH ROW EXECUTE FUNCTION app.audit_immutable();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON app.audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION app.audit_immutable();

-- jsonb writes its keys in one order, so the text of an array of the fields is canonical.
CREATE FUNCTION app.audit_digest(owner text, seq bigint, at timestamptz, action text, subject text, detail jsonb, prev bytea)
    RETURNS bytea LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS
$$ SELECT sha256(prev || convert_to(
       jsonb_build_array(owner, seq, extract(epoch FROM at), action, subject, detail)::text, 'UTF8')) $$;
"""

# One lock of the user's head and one update of it a batch: row by row the head would be rewritten for each entry.
APPEND = """
CREATE FUNCTION app.audit_append_for(owner text, entries jsonb) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head record;
    entry jsonb;
    at timestamptz := clock_timestamp();
    last_seq bigint;
    last_hash bytea;
    next_hash bytea;
    seqs bigint[] := '{}';
    prevs bytea[] := '{}';
    hashes bytea[] := '{}';
BEGIN
    IF coalesce(owner, '') = '' THEN
        RAISE EXCEPTION 'no user context' USING ERRCODE = '42501';
    END IF;
    IF jsonb_array_length(entries) > 5000 THEN
        RAISE EXCEPTION 'more than 5000 audit entries at once' USING ERRCODE = '22023';
    END IF;
    INSERT INTO app_private.audit_heads VALUES (owner, 0, ''::bytea) ON CONFLICT DO NOTHING;
    SELECT h.seq, h.hash INTO head FROM app_private.audit_heads h WHERE h.user_id = owner FOR UPDATE;
    last_seq := head.seq;
    last_hash := head.hash;
    FOR entry IN SELECT value FROM jsonb_array_elements(entries) LOOP
        last_seq := last_seq + 1;
        next_hash := app.audit_digest(owner, last_seq, at, entry ->> 'action', coalesce(entry ->> 'subject', ''),
                                      coalesce(entry -> 'detail', '{}'), last_hash);
        seqs := seqs || last_seq;
        prevs := prevs || last_hash;
        hashes := hashes || next_hash;
        last_hash := next_hash;
    END LOOP;
    INSERT INTO app.audit_logs (user_id, seq, action, subject, detail, prev_hash, hash, created_at, updated_at)
    SELECT owner, chain.seq, e.value ->> 'action', coalesce(e.value ->> 'subject', ''), coalesce(e.value -> 'detail', '{}'),
           chain.prev, chain.hash, at, at
      FROM unnest(seqs, prevs, hashes) WITH ORDINALITY AS chain (seq, prev, hash, n)
      JOIN jsonb_array_elements(entries) WITH ORDINALITY AS e (value, n) USING (n);
    UPDATE app_private.audit_heads SET seq = last_seq, hash = last_hash WHERE user_id = owner;
    RETURN last_seq;
END $$;

CREATE FUNCTION app.audit_append(entries jsonb) RETURNS bigint LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT app.audit_append_for(app.current_user_id(), entries) $$;

-- The head betrays that entries were cut off at the end, which a chain alone does not show.
CREATE FUNCTION app.audit_verify() RETURNS TABLE (seq bigint, problem text) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
WITH owner AS (SELECT app.current_user_id() AS user_id),
chain AS (
    SELECT a.*, lag(a.seq, 1, 0::bigint) OVER by_seq AS seq_before, lag(a.hash, 1, ''::bytea) OVER by_seq AS hash_before
      FROM app.audit_logs a JOIN owner o ON o.user_id = a.user_id WINDOW by_seq AS (ORDER BY a.seq)),
head AS (
    SELECT h.seq, h.hash FROM app_private.audit_heads h JOIN owner o ON o.user_id = h.user_id)
SELECT c.seq, 'entries are missing before this one' FROM chain c WHERE c.seq <> c.seq_before + 1
UNION ALL
SELECT c.seq, 'this entry was changed' FROM chain c
 WHERE c.hash <> app.audit_digest(c.user_id, c.seq, c.created_at, c.action, c.subject, c.detail, c.prev_hash)
UNION ALL
SELECT c.seq, 'this entry does not follow the one before' FROM chain c
 WHERE c.seq = c.seq_before + 1 AND c.prev_hash <> c.hash_before
UNION ALL
SELECT h.seq, 'entries are missing at the end' FROM head h
 WHERE h.seq > 0 AND NOT EXISTS (SELECT FROM chain c WHERE c.seq = h.seq AND c.hash = h.hash)
ORDER BY 1 $$;

CREATE FUNCTION app.audit_head() RETURNS TABLE (seq bigint, hash bytea) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT h.seq, h.hash FROM app_private.audit_heads h WHERE h.user_id = app.current_user_id() $$;
"""

# Rows that people change are audited by the database, so that it counts however they are changed. The detail names the
# columns that changed and, of those in the trigger's third argument, their values: never names, texts or secrets.
TRIGGERS = """
CREATE FUNCTION app.audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject text := TG_ARGV[0];
    watched text[] := string_to_array(TG_ARGV[1], ',');
    shown text[] := string_to_array(TG_ARGV[2], ',');
    before jsonb := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE to_jsonb(OLD) END;
    after jsonb := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE to_jsonb(NEW) END;
    changed jsonb;
    verb text := CASE TG_OP WHEN 'INSERT' THEN 'added' WHEN 'DELETE' THEN 'removed' ELSE 'changed' END;
    detail jsonb;
BEGIN
    SELECT coalesce(jsonb_agg(name ORDER BY name), '[]') INTO changed
      FROM unnest(watched) AS name WHERE before -> name IS DISTINCT FROM after -> name;
    IF TG_OP = 'UPDATE' AND changed = '[]' THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(jsonb_object_agg(name, coalesce(after -> name, before -> name)), '{}') INTO detail
      FROM unnest(shown) AS name;
    IF TG_OP = 'UPDATE' THEN
        detail := detail || jsonb_build_object('changed', changed);
    END IF;
    PERFORM app.audit_append_for(
        coalesce(after ->> 'user_id', before ->> 'user_id'),
        jsonb_build_array(jsonb_build_object(
            'action', subject || '.' || verb,
            'subject', subject || ':' || coalesce(after ->> 'id', before ->> 'id'),
            'detail', detail)));
    RETURN NULL;
END $$;
CREATE TRIGGER audit_change AFTER INSERT OR UPDATE OR DELETE ON app.data_sources FOR EACH ROW EXECUTE FUNCTION
    app.audit_change('source', 'name,config,external_account,is_active,project_id,sync_frequency', 'source_type');
CREATE TRIGGER audit_change AFTER INSERT OR UPDATE OR DELETE ON app.budgets FOR EACH ROW EXECUTE FUNCTION
    app.audit_change('budget', 'data_source_id,period,unit,amount,is_active', 'data_source_id,period,unit,amount');
CREATE TRIGGER audit_change AFTER INSERT OR UPDATE OR DELETE ON app.webhooks FOR EACH ROW EXECUTE FUNCTION
    app.audit_change('webhook', 'name,url,kinds,sealed_secret,is_active', 'is_active');
CREATE TRIGGER audit_change AFTER INSERT OR UPDATE OR DELETE ON app.scheduled_syncs FOR EACH ROW EXECUTE FUNCTION
    app.audit_change('schedule', 'schedule_type,schedule_config,timezone,is_active', 'data_source_id,schedule_type');
"""

# What somebody asked of a job, and the jobs that somebody's consent started; not what jobs do by themselves.
JOBS = """
CREATE TRIGGER audit_asked AFTER UPDATE ON app.sync_jobs FOR EACH ROW
    WHEN (OLD.cancel_requested <> NEW.cancel_requested OR OLD.pause_requested <> NEW.pause_requested
          OR OLD.deletes_refused <> NEW.deletes_refused)
    EXECUTE FUNCTION app.audit_change('job', 'cancel_requested,pause_requested,deletes_refused', 'data_source_id,status');
CREATE TRIGGER audit_confirmed AFTER INSERT ON app.sync_jobs FOR EACH ROW WHEN (NEW.confirm_deletes)
    EXECUTE FUNCTION app.audit_change('job', 'confirm_deletes', 'data_source_id,confirm_deletes');
"""

# For housekeeping, which is done for everybody. A loose index scan: one step a user, however many rows each has.
USERS = """
CREATE FUNCTION app.users_with_rows(after text, at_most integer) RETURNS TABLE (user_id text)
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
          FROM of_uploads o WHERE o.user_id IS NOT NULL)
SELECT seen.user_id FROM (
    (SELECT o.user_id FROM of_documents o WHERE o.user_id IS NOT NULL LIMIT at_most)
    UNION
    (SELECT o.user_id FROM of_data_sources o WHERE o.user_id IS NOT NULL LIMIT at_most)
    UNION
    (SELECT o.user_id FROM of_processing_jobs o WHERE o.user_id IS NOT NULL LIMIT at_most)
    UNION
    (SELECT o.user_id FROM of_uploads o WHERE o.user_id IS NOT NULL LIMIT at_most)) seen
 ORDER BY seen.user_id LIMIT at_most $$;
"""

GRANTS = """
GRANT SELECT (user_id) ON app.documents, app.processing_jobs, app.uploads TO wp_counter;
GRANT SELECT, INSERT ON app.audit_logs TO wp_counter;
GRANT SELECT, INSERT, UPDATE ON app_private.audit_heads TO wp_counter;
ALTER FUNCTION app.audit_append_for(text, jsonb) OWNER TO wp_counter;
ALTER FUNCTION app.audit_append(jsonb) OWNER TO wp_counter;
ALTER FUNCTION app.audit_verify() OWNER TO wp_counter;
ALTER FUNCTION app.audit_head() OWNER TO wp_counter;
ALTER FUNCTION app.audit_change() OWNER TO wp_counter;
ALTER FUNCTION app.users_with_rows(text, integer) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.audit_append_for(text, jsonb), app.audit_append(jsonb), app.audit_verify(), app.audit_head(),
    app.audit_change(), app.audit_immutable(), app.users_with_rows(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.audit_append(jsonb), app.audit_verify(), app.audit_head(),
    app.users_with_rows(text, integer) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    op.execute(POLICIES)
    op.execute(IMMUTABLE)
    op.execute(APPEND)
    op.execute(TRIGGERS)
    op.execute(JOBS)
    op.execute(USERS)
    op.execute(
        "GRANT EXECUTE ON FUNCTION app.audit_digest(text, bigint, timestamptz, text, text, jsonb, bytea) TO wp_counter"
    )
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
