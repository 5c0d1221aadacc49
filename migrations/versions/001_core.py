"""Roles, the tenant context, index configs, documents and chunks.

Revision ID: 001_core
"""

from alembic import op

from migrations.owner_policy import protect

revision = "001_core"
down_revision = None
branch_labels = None
depends_on = None

ROLES = """
DO $$ BEGIN
    FOR attempt IN 1..20 LOOP
        BEGIN
            -- wp_owner owns everything and only migrates; wp_app is what the service and the run workers log in as;
            -- wp_counter owns the few functions that must see more than one user's rows, and nobody logs in as it.
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wp_owner') THEN
                CREATE ROLE wp_owner NOLOGIN NOBYPASSRLS; END IF;
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wp_app') THEN
                CREATE ROLE wp_app LOGIN NOBYPASSRLS NOINHERIT; END IF;
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'wp_counter') THEN
                CREATE ROLE wp_counter NOLOGIN BYPASSRLS; END IF;
            IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                EXECUTE format('GRANT wp_owner, wp_app, wp_counter TO %I', current_user); END IF;
            EXECUTE format('GRANT CREATE ON DATABASE %I TO wp_owner', current_database());
            ALTER ROLE wp_app SET row_security = on;
            ALTER ROLE wp_app SET search_path = app, public;
            ALTER ROLE wp_app SET idle_in_transaction_session_timeout = '10min';
            ALTER ROLE wp_app SET lock_timeout = '30s';
            EXIT;
        -- Roles belong to the server, advisory locks to a database: another database's upgrade may be at the same roles.
        -- Each of these errors comes after waiting for that transaction to end, so the next attempt sees its work.
        EXCEPTION WHEN duplicate_object OR unique_violation OR internal_error THEN
            IF attempt = 20 THEN RAISE; END IF;
        END;
    END LOOP;
END $$;
"""

SCHEMAS = """
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO wp_owner, wp_app, wp_counter;
CREATE SCHEMA app AUTHORIZATION wp_owner;
GRANT USAGE ON SCHEMA app TO wp_app, wp_counter;
GRANT SELECT ON public.alembic_version TO wp_app;
SET ROLE wp_owner;
ALTER DEFAULT PRIVILEGES FOR ROLE wp_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
"""

CONTEXT = """
CREATE FUNCTION app.set_current_user_id(uid text, tenant text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF uid IS NULL OR length(uid) > 200 OR uid !~ '^[A-Za-z0-9_.:|@-]+$' THEN
        RAISE EXCEPTION 'invalid user id' USING ERRCODE = '22023',
            HINT = 'A user id has 1 to 200 of the characters A-Z a-z 0-9 _ . : | @ -';
    END IF;
    PERFORM set_config('app.user_id', uid, true);
    PERFORM set_config('app.tenant_id', coalesce(tenant, uid), true);
END $$;

CREATE FUNCTION app.current_user_id() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT nullif(current_setting('app.user_id', true), '') $$;

CREATE FUNCTION app.has_user_context() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(current_setting('app.user_id', true), '') = '' THEN
        RAISE EXCEPTION 'no user context' USING ERRCODE = '42501',
            HINT = 'Call app.set_current_user_id(user id) in this transaction first.';
    END IF;
    RETURN true;
END $$;

CREATE FUNCTION app.touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS
$$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;

GRANT EXECUTE ON FUNCTION app.set_current_user_id(text, text), app.current_user_id(), app.has_user_context()
    TO wp_app, wp_counter;
"""

TABLES = """
CREATE TABLE app.index_configs (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    embedder text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    chunk_tokens integer NOT NULL CHECK (chunk_tokens > 0),
    overlap_tokens integer NOT NULL CHECK (overlap_tokens >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT index_configs_owner_key UNIQUE (user_id, id),
    CONSTRAINT index_configs_same_key UNIQUE (user_id, embedder, model, dimensions, chunk_tokens, overlap_tokens)
);

CREATE TABLE app.documents (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    data_source_id uuid,
    index_config_id uuid,
    live_generation integer NOT NULL DEFAULT 0,
    chunk_count integer NOT NULL DEFAULT 0,
    size_bytes bigint NOT NULL DEFAULT 0,
    source_created_at timestamptz,
    source_modified_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    content_hash text NOT NULL,
    mime_type text NOT NULL,
    language text,
    title text NOT NULL,
    title_tsv tsvector NOT NULL,
    external_url text,
    headings jsonb NOT NULL DEFAULT '[]',
    text text NOT NULL,
    CONSTRAINT documents_owner_key UNIQUE (user_id, id),
    CONSTRAINT documents_index_config_fk FOREIGN KEY (user_id, index_config_id)
        REFERENCES app.index_configs (user_id, id)
);

CREATE TABLE app.chunks (
    document_id uuid NOT NULL,
    index_config_id uuid NOT NULL,
    generation integer NOT NULL,
    ordinal integer NOT NULL,
    start_offset integer NOT NULL,
    end_offset integer NOT NULL,
    token_count integer NOT NULL,
    is_ann_indexed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    text_hash bytea NOT NULL,
    heading_path text NOT NULL,
    text text NOT NULL,
    embedding halfvec,
    tsv tsvector NOT NULL,
    CONSTRAINT chunks_pkey PRIMARY KEY (user_id, document_id, generation, ordinal),
    CONSTRAINT chunks_document_fk FOREIGN KEY (user_id, document_id)
        REFERENCES app.documents (user_id, id) ON DELETE CASCADE,
    CONSTRAINT chunks_offsets_check CHECK (0 <= start_offset AND start_offset < end_offset)
);
-- Finds the embedding of a text that was embedded before, and serves the exact search of one user.
CREATE INDEX chunks_text_hash ON app.chunks (user_id, index_config_id, text_hash);
-- A chunk is about 3 KB. Kept in line, a load neither compresses nor writes a second table.
ALTER TABLE app.chunks SET (toast_tuple_target = 8160);
-- The slow half of storing a long text is compressing it; disk is cheaper.
ALTER TABLE app.documents ALTER COLUMN text SET STORAGE EXTERNAL;
"""

# An approximate index over what `index optimise` has promoted. A load never inserts into it: with 20,000 live rows that
# costs about a hundred times the load itself.
ANN = """
CREATE INDEX chunks_ann_384 ON app.chunks USING hnsw ((embedding::halfvec(384)) halfvec_cosine_ops)
    WHERE is_ann_indexed AND vector_dims(embedding) = 384;
-- What is searched exactly beside it.
CREATE INDEX chunks_unpromoted ON app.chunks (user_id) WHERE NOT is_ann_indexed;
"""


def upgrade() -> None:
    op.execute(ROLES)
    op.execute(SCHEMAS)
    op.execute("SET search_path = app, public")
    op.execute(CONTEXT)
    op.execute(TABLES)
    op.execute(ANN)
    for table in ("index_configs", "documents", "chunks"):
        op.execute(protect(table))
    op.execute("RESET ROLE")
