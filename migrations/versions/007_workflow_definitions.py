"""Workflows: definitions with immutable versions, templates, sealed secrets, and their schedules.

Revision ID: 007_workflow_definitions
"""

import json
from pathlib import Path
from uuid import UUID, uuid5

from alembic import op
from sqlalchemy import text

from migrations.owner_policy import OWNER_IS_USER, TENANT_IS_TENANT, protect, within_tenant

revision = "007_workflow_definitions"
down_revision = "018_processed_documents"
branch_labels = None
depends_on = None

# job_key is what Dagster's name of a job ends with: the name is found by it among all users' workflows. It is made of the
# random end of the id, so that nobody chooses it.
TABLES = """
CREATE TABLE app.workflows (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 60),
    job_key text NOT NULL GENERATED ALWAYS AS (right(id::text, 12)) STORED,
    name text NOT NULL CHECK (name <> '' AND length(name) <= 200),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 5000),
    category text NOT NULL DEFAULT '' CHECK (length(category) <= 100),
    tags text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 50),
    is_active boolean NOT NULL DEFAULT true,
    latest_version integer NOT NULL DEFAULT 0,
    -- What it was made from; no foreign key, since a template may go and be another's.
    template_id uuid,
    total_executions bigint NOT NULL DEFAULT 0,
    completed_executions bigint NOT NULL DEFAULT 0,
    failed_executions bigint NOT NULL DEFAULT 0,
    cancelled_executions bigint NOT NULL DEFAULT 0,
    total_duration_s double precision NOT NULL DEFAULT 0,
    total_cost numeric NOT NULL DEFAULT 0,
    total_tokens bigint NOT NULL DEFAULT 0,
    last_executed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflows_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT workflows_slug_key UNIQUE (tenant_id, user_id, slug)
);
CREATE INDEX workflows_tags ON app.workflows USING gin (tags);
CREATE INDEX workflows_newest ON app.workflows (tenant_id, user_id, created_at DESC, id);
CREATE INDEX workflows_job_key ON app.workflows (job_key);

CREATE TABLE app.workflow_versions (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    workflow_id uuid NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    definition jsonb NOT NULL CHECK (octet_length(definition::text) <= 1200000),
    definition_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_versions_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT workflow_versions_number_key UNIQUE (tenant_id, user_id, workflow_id, version),
    CONSTRAINT workflow_versions_workflow_fk FOREIGN KEY (tenant_id, user_id, workflow_id)
        REFERENCES app.workflows (tenant_id, user_id, id) ON DELETE CASCADE
);
CREATE INDEX workflow_versions_newest ON app.workflow_versions (created_at);

-- A system template has neither tenant nor user; nobody but a migration writes one.
CREATE TABLE app.workflow_templates (
    id uuid PRIMARY KEY,
    tenant_id text CHECK (tenant_id <> ''),
    user_id text CHECK (user_id <> ''),
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 60),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 200),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 5000),
    category text NOT NULL DEFAULT '' CHECK (length(category) <= 100),
    tags text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 50),
    definition jsonb NOT NULL CHECK (octet_length(definition::text) <= 1200000),
    is_system boolean NOT NULL DEFAULT false,
    is_public boolean NOT NULL DEFAULT false,
    usage_count bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_templates_system CHECK (is_system = (tenant_id IS NULL) AND is_system = (user_id IS NULL)),
    CONSTRAINT workflow_templates_slug_key UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, slug)
);
CREATE INDEX workflow_templates_shared ON app.workflow_templates (slug) WHERE is_system OR is_public;

CREATE TABLE app.workflow_secrets (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    name text NOT NULL CHECK (name ~ '^[A-Za-z_][A-Za-z0-9_]{0,99}$'),
    sealed_value jsonb NOT NULL CHECK (sealed_value ? 'v' AND sealed_value ? 'kid' AND sealed_value ? 'ct'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT workflow_secrets_name_key UNIQUE (tenant_id, user_id, name)
);

-- Like scheduled_syncs, and kept by the same trigger; `input` is what each execution is given.
CREATE TABLE app.scheduled_workflows (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    workflow_id uuid NOT NULL,
    schedule_type text NOT NULL CHECK (schedule_type IN ('cron', 'interval', 'daily', 'weekly')),
    schedule_config jsonb NOT NULL DEFAULT '{}',
    timezone text NOT NULL DEFAULT 'UTC',
    input jsonb NOT NULL DEFAULT '{}',
    next_run_at timestamptz,
    last_run_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT scheduled_workflows_owner_key UNIQUE (tenant_id, user_id, id),
    CONSTRAINT scheduled_workflows_workflow_fk FOREIGN KEY (tenant_id, user_id, workflow_id)
        REFERENCES app.workflows (tenant_id, user_id, id) ON DELETE CASCADE
);
CREATE INDEX scheduled_workflows_workflow ON app.scheduled_workflows (tenant_id, user_id, workflow_id);
CREATE INDEX scheduled_workflows_due ON app.scheduled_workflows (next_run_at) WHERE is_active;
CREATE TRIGGER reschedule BEFORE INSERT OR UPDATE ON app.scheduled_workflows
    FOR EACH ROW EXECUTE FUNCTION app.reschedule();
"""

# A version is what executions were made from. Deeper than 0 is a deletion that its workflow's deletion brought along.
IMMUTABLE = """
CREATE FUNCTION app.workflow_version_immutable() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'a workflow version never changes, and goes only with its workflow' USING ERRCODE = '42501',
        HINT = 'Save a new version, or delete the workflow.';
END $$;
CREATE TRIGGER no_change BEFORE UPDATE ON app.workflow_versions
    FOR EACH ROW EXECUTE FUNCTION app.workflow_version_immutable();
CREATE TRIGGER no_removal BEFORE DELETE ON app.workflow_versions
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION app.workflow_version_immutable();
"""

# Reading is wider than writing here, so each command has a policy of its own. verify_rls() knows SHARED_READ by its text.
SHARED_READ = (
    f"(({OWNER_IS_USER}) AND ({TENANT_IS_TENANT})) OR ((is_system OR is_public) AND (SELECT app.has_user_context()))"
)
TEMPLATES = f"""
ALTER TABLE app.workflow_templates ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.workflow_templates FORCE ROW LEVEL SECURITY;
CREATE POLICY shared_read ON app.workflow_templates FOR SELECT TO wp_app USING ({SHARED_READ});
CREATE POLICY owner_insert ON app.workflow_templates FOR INSERT TO wp_app WITH CHECK ({OWNER_IS_USER});
CREATE POLICY owner_update ON app.workflow_templates FOR UPDATE TO wp_app
    USING ({OWNER_IS_USER}) WITH CHECK ({OWNER_IS_USER});
CREATE POLICY owner_delete ON app.workflow_templates FOR DELETE TO wp_app USING ({OWNER_IS_USER});
CREATE POLICY tenant_insert ON app.workflow_templates AS RESTRICTIVE FOR INSERT TO wp_app WITH CHECK ({TENANT_IS_TENANT});
CREATE POLICY tenant_update ON app.workflow_templates AS RESTRICTIVE FOR UPDATE TO wp_app
    USING ({TENANT_IS_TENANT}) WITH CHECK ({TENANT_IS_TENANT});
CREATE POLICY tenant_delete ON app.workflow_templates AS RESTRICTIVE FOR DELETE TO wp_app USING ({TENANT_IS_TENANT});
-- Nobody makes a system template, or counts the uses of one, by a statement.
GRANT SELECT, DELETE,
    INSERT (id, tenant_id, user_id, slug, name, description, category, tags, definition, is_public, created_at, updated_at),
    UPDATE (slug, name, description, category, tags, definition, is_public, created_at, updated_at)
    ON app.workflow_templates TO wp_app;
CREATE TRIGGER touch BEFORE UPDATE ON app.workflow_templates FOR EACH ROW EXECUTE FUNCTION app.touch_updated_at();
"""

# What is left in the rows when executions are deleted: the counters of the workflows themselves.
SUMMARY = """
CREATE VIEW app.user_workflow_summary WITH (security_invoker = true, security_barrier = true) AS
SELECT w.tenant_id, w.user_id,
       count(*) AS workflows,
       count(*) FILTER (WHERE w.is_active) AS active_workflows,
       sum(w.total_executions)::bigint AS total_executions,
       sum(w.completed_executions)::bigint AS completed_executions,
       sum(w.failed_executions)::bigint AS failed_executions,
       sum(w.cancelled_executions)::bigint AS cancelled_executions,
       sum(w.completed_executions)::float8 / nullif(sum(w.total_executions), 0)::float8 AS success_rate,
       sum(w.total_duration_s) / nullif(sum(w.total_executions), 0)::float8 AS mean_duration_s,
       sum(w.total_cost) AS total_cost,
       sum(w.total_tokens)::bigint AS total_tokens,
       max(w.last_executed_at) AS last_executed_at
  FROM app.workflows w
 GROUP BY w.tenant_id, w.user_id;
GRANT SELECT ON app.user_workflow_summary TO wp_app;
"""

# Deferred to the end of the transaction, so that the head of the audit log is the last lock that anybody takes. A row of
# counters is updated with every execution, hence the columns.
AUDIT = """
CREATE CONSTRAINT TRIGGER audit_added_or_removed AFTER INSERT OR DELETE ON app.workflows
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION app.audit_change('workflow', 'name,slug,category,tags,is_active', 'is_active');
CREATE CONSTRAINT TRIGGER audit_changed AFTER UPDATE OF name, slug, category, tags, is_active ON app.workflows
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION app.audit_change('workflow', 'name,slug,category,tags,is_active', 'is_active');
CREATE CONSTRAINT TRIGGER audit_added AFTER INSERT ON app.workflow_versions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION app.audit_change('workflow_version', 'definition_hash', 'workflow_id,version,definition_hash');
CREATE CONSTRAINT TRIGGER audit_added_or_changed AFTER INSERT OR UPDATE ON app.workflow_templates
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.user_id IS NOT NULL)
    EXECUTE FUNCTION app.audit_change('workflow_template', 'name,slug,category,tags,definition,is_public', 'is_public');
CREATE CONSTRAINT TRIGGER audit_removed AFTER DELETE ON app.workflow_templates
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.user_id IS NOT NULL)
    EXECUTE FUNCTION app.audit_change('workflow_template', 'name,slug,category,tags,definition,is_public', 'is_public');
CREATE CONSTRAINT TRIGGER audit_change AFTER INSERT OR UPDATE OR DELETE ON app.workflow_secrets
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION app.audit_change('workflow_secret', 'name,sealed_value', '');
CREATE CONSTRAINT TRIGGER audit_added_or_removed AFTER INSERT OR DELETE ON app.scheduled_workflows
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION app.audit_change('workflow_schedule', 'schedule_type', 'workflow_id,schedule_type');
CREATE CONSTRAINT TRIGGER audit_changed
    AFTER UPDATE OF schedule_type, schedule_config, timezone, input, is_active ON app.scheduled_workflows
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION app.audit_change('workflow_schedule', 'schedule_type,schedule_config,timezone,input,is_active',
                                      'workflow_id,schedule_type,is_active');
"""

# What a Dagster location, a schedule and the rotation of keys need to know across users: ids and times, nothing else.
ACROSS_USERS = """
CREATE FUNCTION app.workflow_version_by_job(key text, wanted_slug text, number integer)
    RETURNS TABLE (user_id text, tenant_id text, version_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT v.user_id, v.tenant_id, v.id
     FROM app.workflows w
     JOIN app.workflow_versions v ON v.tenant_id = w.tenant_id AND v.user_id = w.user_id AND v.workflow_id = w.id
    WHERE w.job_key = key AND w.slug = wanted_slug AND v.version = number
    ORDER BY w.created_at, w.id LIMIT 1 $$;

CREATE FUNCTION app.recently_used_workflows(at_most integer)
    RETURNS TABLE (user_id text, tenant_id text, version_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT v.user_id, v.tenant_id, v.id
     FROM app.workflows w
     JOIN app.workflow_versions v ON v.tenant_id = w.tenant_id AND v.user_id = w.user_id AND v.workflow_id = w.id
                                 AND v.version = w.latest_version
    WHERE w.is_active
    ORDER BY greatest(w.last_executed_at, v.created_at) DESC, v.id LIMIT at_most $$;

CREATE FUNCTION app.newest_workflow_version_at() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT max(created_at) FROM app.workflow_versions $$;

-- In turn: who has a thousand rows due does not keep the one of another waiting.
CREATE FUNCTION app.due_workflows(at_most integer)
    RETURNS TABLE (id uuid, user_id text, tenant_id text, next_run_at timestamptz) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT r.id, r.user_id, r.tenant_id, r.next_run_at
     FROM app.scheduled_workflows r
    WHERE r.is_active AND (r.next_run_at IS NULL OR r.next_run_at <= now())
    ORDER BY row_number() OVER (PARTITION BY r.user_id ORDER BY r.next_run_at NULLS FIRST, r.id),
             r.next_run_at NULLS FIRST, r.id
    LIMIT at_most $$;

CREATE FUNCTION app.workflow_secret_owners()
    RETURNS TABLE (user_id text, tenant_id text) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT DISTINCT s.user_id, s.tenant_id FROM app.workflow_secrets s ORDER BY 1, 2 $$;

-- Counts for whoever may read the template, and tells nobody whether it is there.
CREATE FUNCTION app.count_template_use(template uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ UPDATE app.workflow_templates t SET usage_count = t.usage_count + 1
    WHERE t.id = template
      AND (t.is_system OR t.is_public
           OR (t.user_id = app.current_user_id() AND t.tenant_id = current_setting('app.tenant_id', true))) $$;
"""

FUNCTIONS = (
    "workflow_version_by_job(text, text, integer)",
    "recently_used_workflows(integer)",
    "newest_workflow_version_at()",
    "due_workflows(integer)",
    "workflow_secret_owners()",
    "count_template_use(uuid)",
)

# The counters of workflows are for the trigger of executions, which is a later revision's.
GRANTS = """
GRANT SELECT (id, tenant_id, user_id, slug, job_key, latest_version, is_active, created_at, last_executed_at,
              total_executions, completed_executions, failed_executions, cancelled_executions, total_duration_s,
              total_cost, total_tokens),
      UPDATE (last_executed_at, total_executions, completed_executions, failed_executions, cancelled_executions,
              total_duration_s, total_cost, total_tokens)
    ON app.workflows TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, workflow_id, version, created_at) ON app.workflow_versions TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, is_system, is_public, usage_count), UPDATE (usage_count)
    ON app.workflow_templates TO wp_counter;
GRANT SELECT (tenant_id, user_id) ON app.workflow_secrets TO wp_counter;
GRANT SELECT (id, tenant_id, user_id, is_active, next_run_at) ON app.scheduled_workflows TO wp_counter;
"""

# As before, and knowing tenants: the whole function, since it is replaced as a whole.
VERIFY = """
CREATE OR REPLACE FUNCTION app.verify_rls() RETURNS TABLE (problem text, object text) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
WITH tables AS (
    SELECT c.oid, c.relname, c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'app' AND c.relkind IN ('r', 'p')),
owned AS (
    SELECT t.oid, s.* FROM app.rls_status s JOIN tables t ON t.relname = s.table_name WHERE s.has_owner_column),
policies AS (
    SELECT p.*, t.relname FROM pg_policy p JOIN tables t ON t.oid = p.polrelid),
-- Both sides of each policy: the column that it compares with the context, if that is all it does.
compared AS (
    SELECT p.oid, p.polname, p.polrelid, p.polcmd, p.polpermissive, p.relname,
           (regexp_match(pg_get_expr(expression, polrelid),
               '^\\((user_id|tenant_id) = \\( SELECT\\s+CASE\\s+WHEN app\\.has_user_context\\(\\) THEN'
               ' current_setting\\(''app\\.\\1''::text, true\\)\\s+ELSE NULL::text\\s+END AS "?case"?\\)\\)$'))[1] AS owner,
           -- The one policy that shows rows of others, word for word.
           p.relname = 'workflow_templates' AND p.polcmd = 'r' AND p.polpermissive
           AND replace(regexp_replace(pg_get_expr(expression, polrelid), '\\s+', ' ', 'g'), '"', '') =
               '(((user_id = ( SELECT CASE WHEN app.has_user_context() THEN current_setting(''app.user_id''::text, true)'
               ' ELSE NULL::text END AS case)) AND (tenant_id = ( SELECT CASE WHEN app.has_user_context() THEN'
               ' current_setting(''app.tenant_id''::text, true) ELSE NULL::text END AS case))) OR'
               ' ((is_system OR is_public) AND ( SELECT app.has_user_context() AS has_user_context)))' AS is_shared_read
      FROM policies p, LATERAL (VALUES (p.polqual), (p.polwithcheck)) side (expression)
     WHERE expression IS NOT NULL)
SELECT 'current role is superuser or has BYPASSRLS', current_user::text FROM pg_roles
 WHERE rolname = current_user AND (rolsuper OR rolbypassrls)
UNION ALL SELECT 'current role can become a role that bypasses RLS', r.rolname FROM pg_roles r
 WHERE (r.rolsuper OR r.rolbypassrls) AND r.rolname <> current_user AND pg_has_role(current_user, r.oid, 'MEMBER')
UNION ALL SELECT 'current role owns a table', relname FROM tables WHERE pg_has_role(current_user, relowner, 'MEMBER')
UNION ALL SELECT 'table without an owner column', table_name FROM app.rls_status
 WHERE NOT has_owner_column
UNION ALL SELECT 'RLS not enabled', table_name FROM owned WHERE NOT rls_enabled
UNION ALL SELECT 'RLS not forced', table_name FROM owned WHERE NOT rls_forced
UNION ALL SELECT 'no policy for reading or writing', table_name FROM owned WHERE NOT (covers_select AND covers_insert)
UNION ALL SELECT 'policy for PUBLIC', polname || ' on ' || relname FROM policies WHERE 0 = ANY (polroles)
UNION ALL SELECT 'write policy without WITH CHECK', polname || ' on ' || relname FROM policies
 WHERE polcmd IN ('*', 'a', 'w') AND polwithcheck IS NULL
UNION ALL SELECT DISTINCT 'policy does not compare the owner', polname || ' on ' || relname FROM compared
 -- What restricts may compare either; what permits, and compares the tenant alone, opens a colleague's rows.
 WHERE owner IS DISTINCT FROM 'user_id' AND (owner IS NULL OR polpermissive)
   AND NOT is_shared_read
UNION ALL SELECT DISTINCT 'tenant does not restrict', t.relname
  FROM tables t, unnest(ARRAY['r', 'a', 'w', 'd']) command
 WHERE EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
   AND NOT EXISTS (SELECT FROM policies p
                    WHERE p.polrelid = t.oid AND NOT p.polpermissive AND p.polcmd::text IN ('*', command)
                      AND to_regrole('wp_app') = ANY (p.polroles)
                      AND NOT EXISTS (SELECT FROM compared c WHERE c.oid = p.oid AND c.owner IS DISTINCT FROM 'tenant_id'))
   -- Where reading has the one policy above, that holds the tenant, unless another lets the user read whatever the tenant.
   AND NOT (command = 'r' AND t.relname = 'workflow_templates' AND NOT EXISTS (
       SELECT FROM compared c WHERE c.polrelid = t.oid AND c.polpermissive AND c.polcmd IN ('*', 'r') AND c.owner = 'user_id'))
UNION ALL SELECT 'view without security_invoker', c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'app' AND c.relkind = 'v' AND NOT coalesce(c.reloptions::text, '') ~* 'security_invoker=(true|on|1|yes)'
UNION ALL SELECT 'materialized view', c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'app' AND c.relkind = 'm'
UNION ALL SELECT 'TRUNCATE, REFERENCES or TRIGGER granted', relname FROM tables
 WHERE has_table_privilege(current_user, oid, 'TRUNCATE, REFERENCES, TRIGGER')
UNION ALL SELECT 'SECURITY DEFINER function without a pinned search_path or open to PUBLIC', p.proname
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = 'app' AND p.prosecdef
   AND (NOT coalesce(p.proconfig::text, '') LIKE '%search_path=%pg_temp%'
        OR p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))
UNION ALL SELECT 'foreign key or unique key without the owner column', con.conname
  FROM pg_constraint con JOIN pg_class c ON c.oid = con.conrelid JOIN owned o ON o.oid = con.conrelid
 -- An id alone gives nothing away, since nobody can guess it. A primary key of several columns may be guessed.
 WHERE (con.contype = 'u' OR (con.contype = 'p' AND cardinality(con.conkey) > 1)
        OR (con.contype = 'f' AND con.confrelid IN (SELECT oid FROM owned)))
   AND NOT EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = con.conrelid AND t.attnum = ANY (con.conkey)
                      AND t.attname IN ('user_id', 'tenant_id'))
UNION ALL SELECT 'foreign key or unique key without the owner column', i.indexrelid::regclass::text
  FROM pg_index i JOIN owned o ON o.oid = i.indrelid
 WHERE i.indisunique AND NOT i.indisprimary
   AND NOT EXISTS (SELECT FROM pg_constraint con WHERE con.conindid = i.indexrelid)
   AND NOT EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = i.indrelid AND t.attnum = ANY (i.indkey::int2[])
                      AND t.attname IN ('user_id', 'tenant_id'))
$$;
"""

TEMPLATE_FILES = Path(__file__).resolve().parent.parent / "workflow_templates"
TEMPLATE_NAMESPACE = UUID("6f7c1f5e-9d0b-5e0a-8f39-2f1f0d6c7a10")

OWNED = ("workflows", "workflow_versions", "workflow_secrets", "scheduled_workflows")


def upgrade() -> None:
    op.execute("GRANT EXECUTE ON FUNCTION app.audit_change() TO wp_owner")  # to make triggers of it
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    op.execute(IMMUTABLE)
    _add_system_templates()
    for table in OWNED:
        op.execute(protect(table))
        op.execute(within_tenant(table))
    op.execute(TEMPLATES)
    op.execute(SUMMARY)
    op.execute(AUDIT)
    op.execute(ACROSS_USERS)
    op.execute(GRANTS)
    op.execute(VERIFY)
    op.execute("RESET ROLE")
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION app.{function} OWNER TO wp_counter")
        op.execute(f"REVOKE EXECUTE ON FUNCTION app.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION app.{function} TO wp_app")
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")


def _add_system_templates() -> None:
    """Store the templates of this revision; once row-level security is forced, not even the tables' owner could."""
    statement = text(
        """
        INSERT INTO app.workflow_templates (id, slug, name, description, category, tags, definition, is_system, is_public)
        VALUES (:id, :slug, :name, :description, :category, :tags, CAST(:definition AS jsonb), true, true)"""
    )
    for path in sorted(TEMPLATE_FILES.glob("*.json")):
        template = json.loads(path.read_text(encoding="utf-8"))
        values = {name: template[name] for name in ("slug", "name", "description", "category", "tags")}
        definition = json.dumps(template["definition"])
        template_id = uuid5(TEMPLATE_NAMESPACE, template["slug"])
        op.get_bind().execute(statement, {"id": template_id, "definition": definition, **values})
