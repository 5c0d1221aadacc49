"""Rules that change, filter and file documents on their way in.

Revision ID: 012_transformations
"""

from alembic import op

from migrations.owner_policy import protect

revision = "012_transformations"
down_revision = "011_metering"
branch_labels = None
depends_on = None

SOURCE_TYPES = "('google_drive', 'gmail', 'notion', 'slack', 'dropbox', 'onedrive', 'local_folder')"
TYPES = (
    "('regex_replace', 'remove_boilerplate', 'remove_signature', 'remove_quoted_mail', 'redact', 'map_fields', 'filter',"
    " 'set_title', 'assign_project', 'add_tags', 'language_filter', 'strip_html', 'truncate')"
)

TABLES = f"""
CREATE TABLE app.etl_transformations (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 100),
    source_type text CHECK (source_type IN {SOURCE_TYPES}),
    data_source_id uuid,
    transformation_type text NOT NULL CHECK (transformation_type IN {TYPES}),
    config jsonb NOT NULL DEFAULT '{{}}' CHECK (jsonb_typeof(config) = 'object'),
    execution_order integer NOT NULL DEFAULT 100,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT etl_transformations_owner_key UNIQUE (user_id, id),
    CONSTRAINT etl_transformations_name_key UNIQUE (user_id, name),
    CONSTRAINT etl_transformations_one_scope CHECK (source_type IS NULL OR data_source_id IS NULL),
    CONSTRAINT etl_transformations_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE
);
CREATE INDEX etl_transformations_data_source ON app.etl_transformations (user_id, data_source_id)
    WHERE data_source_id IS NOT NULL;

-- Under which rules a document was made, and what it was made from. extracted_text is NULL where it equals the text, and
-- where it is forgotten; extracted holds title, language and headings as they were before the rules.
ALTER TABLE app.documents
    ADD COLUMN is_original_forgotten boolean NOT NULL DEFAULT false,
    ADD COLUMN rules_hash text NOT NULL DEFAULT '',
    ADD COLUMN project_assigned_by text CHECK (project_assigned_by IN ('source', 'rule', 'user')),
    ADD COLUMN extracted jsonb,
    ADD COLUMN extracted_text text;
ALTER TABLE app.documents ALTER COLUMN extracted_text SET STORAGE EXTERNAL;
-- Who has no rules has no entries here, and finds so at once.
CREATE INDEX documents_ruled ON app.documents (user_id, data_source_id) WHERE rules_hash <> '';

ALTER TABLE app.document_tags
    ADD COLUMN assigned_by text NOT NULL DEFAULT 'user' CHECK (assigned_by IN ('user', 'rule'));
GRANT UPDATE (assigned_by) ON app.document_tags TO wp_app;

-- rules_hash is of the rules that left an item out, or could not be applied to it; reason_detail names the rule.
ALTER TABLE app.sync_items
    ADD COLUMN is_refetch_due boolean NOT NULL DEFAULT false,
    ADD COLUMN listed_mime_type text,
    ADD COLUMN rules_hash text NOT NULL DEFAULT '',
    ADD COLUMN reason_detail text NOT NULL DEFAULT '';
CREATE INDEX sync_items_ruled ON app.sync_items (user_id, data_source_id) WHERE rules_hash <> '';
CREATE INDEX sync_items_refetch ON app.sync_items (user_id, data_source_id, external_id) WHERE is_refetch_due;

-- The rules under which titles and paths of its items were last looked through for what redactions take away.
ALTER TABLE app.data_sources ADD COLUMN names_rules_hash text NOT NULL DEFAULT '';

ALTER TABLE app.sync_failures DROP CONSTRAINT sync_failures_stage_check;
ALTER TABLE app.sync_failures ADD CONSTRAINT sync_failures_stage_check
    CHECK (stage IN ('list', 'fetch', 'extract', 'rules', 'chunk', 'embed'));
"""

# The one definition of which rules a source has and whether they are the same as before: type, settings and order count,
# names and ids do not. '' is no rules at all. The prefix changes when a release changes what rules do.
VIEW = """
CREATE VIEW app.data_source_rules WITH (security_invoker = true, security_barrier = true) AS
SELECT s.user_id, s.id AS data_source_id,
       coalesce((SELECT '1:' || md5(string_agg(t.transformation_type || ' ' || t.config::text, E'\\n'
                                               ORDER BY t.execution_order, t.id))
                   FROM app.etl_transformations t
                  WHERE t.user_id = s.user_id AND t.is_active
                    AND coalesce(t.source_type = s.source_type, true)
                    AND coalesce(t.data_source_id = s.id, true)), '') AS rules_hash
  FROM app.data_sources s;
GRANT SELECT ON app.data_source_rules TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    op.execute(protect("etl_transformations"))
    op.execute(VIEW)
    op.execute("RESET ROLE")
