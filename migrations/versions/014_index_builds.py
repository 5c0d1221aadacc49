"""Index settings by scope, and a second index beside the live one: to compare with, to switch to and to go back from.

Revision ID: 014_index_builds
"""

from alembic import op

from migrations.owner_policy import protect

revision = "014_index_builds"
down_revision = "013_processing"
branch_labels = None
depends_on = None

TABLES = """
-- The highest generation ever given out for a document, where that is not the live one: a number is not used twice.
ALTER TABLE app.documents ADD COLUMN allotted_generation integer NOT NULL DEFAULT 0;

-- Which index config somebody wants for a document, a data source, a project, or (none of them named) everything.
CREATE TABLE app.index_settings (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    document_id uuid,
    data_source_id uuid,
    project_id uuid,
    index_config_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT index_settings_owner_key UNIQUE (user_id, id),
    CONSTRAINT index_settings_one_scope CHECK (num_nonnulls(document_id, data_source_id, project_id) <= 1),
    CONSTRAINT index_settings_scope_key
        UNIQUE NULLS NOT DISTINCT (user_id, document_id, data_source_id, project_id),
    CONSTRAINT index_settings_document_fk FOREIGN KEY (user_id, document_id)
        REFERENCES app.documents (user_id, id) ON DELETE CASCADE,
    CONSTRAINT index_settings_data_source_fk FOREIGN KEY (user_id, data_source_id)
        REFERENCES app.data_sources (user_id, id) ON DELETE CASCADE,
    CONSTRAINT index_settings_project_fk FOREIGN KEY (user_id, project_id)
        REFERENCES app.projects (user_id, id) ON DELETE CASCADE,
    CONSTRAINT index_settings_index_config_fk FOREIGN KEY (user_id, index_config_id)
        REFERENCES app.index_configs (user_id, id)
);
CREATE INDEX index_settings_data_source ON app.index_settings (user_id, data_source_id) WHERE data_source_id IS NOT NULL;
CREATE INDEX index_settings_project ON app.index_settings (user_id, project_id) WHERE project_id IS NOT NULL;

CREATE TABLE app.index_builds (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    project_id uuid NOT NULL,
    index_config_id uuid NOT NULL,
    previous_index_config_id uuid,
    status text NOT NULL DEFAULT 'building' CHECK (status IN ('building', 'ready', 'live', 'dropped')),
    chunks_embedded bigint NOT NULL DEFAULT 0,
    chunks_reused bigint NOT NULL DEFAULT 0,
    embedding_tokens bigint NOT NULL DEFAULT 0,
    results jsonb,
    switched_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT index_builds_owner_key UNIQUE (user_id, id),
    CONSTRAINT index_builds_project_fk FOREIGN KEY (user_id, project_id)
        REFERENCES app.projects (user_id, id) ON DELETE CASCADE,
    CONSTRAINT index_builds_index_config_fk FOREIGN KEY (user_id, index_config_id)
        REFERENCES app.index_configs (user_id, id),
    CONSTRAINT index_builds_previous_config_fk FOREIGN KEY (user_id, previous_index_config_id)
        REFERENCES app.index_configs (user_id, id)
);
CREATE UNIQUE INDEX index_builds_one_open ON app.index_builds (user_id, project_id)
    WHERE status IN ('building', 'ready');

-- A row stands for chunks that are kept although no search of the live index shows them: those of `generation` until the
-- switch, those of `previous_generation` after it. Whoever changes a document's text deletes both. The
-- configs are copies of what the build, the document and its settings refer to.
CREATE TABLE app.index_build_documents (
    build_id uuid NOT NULL,
    document_id uuid NOT NULL,
    index_config_id uuid NOT NULL,
    previous_index_config_id uuid,
    own_index_config_id uuid,
    generation integer NOT NULL,
    chunk_count integer NOT NULL,
    previous_generation integer,
    previous_chunk_count integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    CONSTRAINT index_build_documents_pkey PRIMARY KEY (user_id, build_id, document_id),
    CONSTRAINT index_build_documents_build_fk FOREIGN KEY (user_id, build_id)
        REFERENCES app.index_builds (user_id, id) ON DELETE CASCADE,
    CONSTRAINT index_build_documents_document_fk FOREIGN KEY (user_id, document_id)
        REFERENCES app.documents (user_id, id) ON DELETE CASCADE
);
CREATE INDEX index_build_documents_document ON app.index_build_documents (user_id, document_id);

CREATE TABLE app.saved_questions (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    project_id uuid NOT NULL,
    question text NOT NULL CHECK (question <> '' AND length(question) <= 2000),
    expected_document_ids uuid[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT saved_questions_owner_key UNIQUE (user_id, id),
    CONSTRAINT saved_questions_question_key UNIQUE (user_id, project_id, question),
    CONSTRAINT saved_questions_project_fk FOREIGN KEY (user_id, project_id)
        REFERENCES app.projects (user_id, id) ON DELETE CASCADE
);
"""

# What is wanted where nobody chose (wanted_index_config_id is null) is a setting of the program, not a row.
VIEW = """
CREATE VIEW app.document_index_settings WITH (security_invoker = true, security_barrier = true) AS
SELECT d.id AS document_id, d.user_id, d.title, d.data_source_id, d.project_id, d.index_config_id,
       coalesce(own.index_config_id, source.index_config_id, project.index_config_id, everything.index_config_id)
           AS wanted_index_config_id,
       CASE WHEN own.index_config_id IS NOT NULL THEN 'document' WHEN source.index_config_id IS NOT NULL THEN 'source'
            WHEN project.index_config_id IS NOT NULL THEN 'project'
            WHEN everything.index_config_id IS NOT NULL THEN 'everything' ELSE 'default' END AS wanted_by
  FROM app.documents d
  LEFT JOIN app.index_settings own ON own.user_id = d.user_id AND own.document_id = d.id
  LEFT JOIN app.index_settings source ON source.user_id = d.user_id AND source.data_source_id = d.data_source_id
  LEFT JOIN app.index_settings project ON project.user_id = d.user_id AND project.project_id = d.project_id
  LEFT JOIN app.index_settings everything ON everything.user_id = d.user_id
       AND num_nonnulls(everything.document_id, everything.data_source_id, everything.project_id) = 0
 WHERE d.deleted_at IS NULL;
GRANT SELECT ON app.document_index_settings TO wp_app;
"""

ACROSS_USERS = """
CREATE FUNCTION app.builds_to_purge(switched_before timestamptz, at_most integer)
    RETURNS TABLE (user_id text, build_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT b.user_id, b.id FROM app.index_builds b
    WHERE (b.status = 'dropped' OR b.status = 'live' AND b.switched_at < switched_before)
      AND EXISTS (SELECT FROM app.index_build_documents d WHERE d.user_id = b.user_id AND d.build_id = b.id)
    ORDER BY b.id LIMIT at_most $$;
GRANT SELECT (id, user_id, status, switched_at) ON app.index_builds TO wp_counter;
GRANT SELECT (user_id, build_id) ON app.index_build_documents TO wp_counter;
"""

ACROSS_USERS_GRANTS = """
ALTER FUNCTION app.builds_to_purge(timestamptz, integer) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.builds_to_purge(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.builds_to_purge(timestamptz, integer) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    for table in ("index_settings", "index_builds", "index_build_documents", "saved_questions"):
        op.execute(protect(table))
    op.execute(VIEW)
    op.execute(ACROSS_USERS)
    op.execute("RESET ROLE")
    # Handing a function to another role needs CREATE on its schema for that role, or a superuser; grant it for a moment.
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(ACROSS_USERS_GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
