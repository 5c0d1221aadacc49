"""Workflows: definitions with immutable versions, templates, sealed secrets, and their schedules.

Revision ID: 007_workflow_definitions
"""

from alembic import op

from migrations.owner_policy import protect, within_tenant

revision = "007_workflow_definitions"
down_revision = "018_processed_documents"
branch_labels = None
depends_on = None

# job_key is what Dagster's name of a job ends with: the name is found by it among all users' workflows.
TABLES = """
CREATE TABLE app.workflows (
    id uuid PRIMARY KEY,
    tenant_id text NOT NULL CHECK (tenant_id <> ''),
    user_id text NOT NULL CHECK (user_id <> ''),
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(slug) <= 60),
    job_key text NOT NULL CHECK (job_key ~ '^[0-9a-f]{12}$'),
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

OWNED = ("workflows", "workflow_versions", "workflow_secrets", "scheduled_workflows")


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    for table in (*OWNED, "workflow_templates"):
        op.execute(protect(table))
        op.execute(within_tenant(table))
    op.execute("RESET ROLE")
