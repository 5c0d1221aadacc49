"""What an index outside the database still has to be told, what it has been told, and for whom there is one at all.

Revision ID: 015_index_outbox
"""

from alembic import op

from migrations.owner_policy import protect

revision = "015_index_outbox"
down_revision = "014_index_builds"
branch_labels = None
depends_on = None

TABLES = """
-- The id is the name of the namespace in the index: it tells nothing of whose it is.
CREATE TABLE app.index_namespaces (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    store text NOT NULL DEFAULT 'pinecone' CHECK (store IN ('pinecone')),
    index_name text NOT NULL CHECK (index_name <> ''),
    host text NOT NULL,
    status text NOT NULL DEFAULT 'copying' CHECK (status IN ('copying', 'ready')),
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT index_namespaces_owner_key UNIQUE (user_id, id),
    CONSTRAINT index_namespaces_name_key UNIQUE (user_id, store, index_name)
);

-- Never starts again for a document: a late confirmation of an old state must not match the row of a new one.
CREATE SEQUENCE app.index_outbox_seq;
GRANT USAGE ON SEQUENCE app.index_outbox_seq TO wp_app;

-- A row says that a document is to be compared with the index, not what has changed: however often it changes, it is one row.
-- No foreign key to documents: the row that tells of a removal outlives its document.
CREATE TABLE app.index_outbox (
    namespace_id uuid NOT NULL,
    document_id uuid NOT NULL,
    claim uuid,
    seq bigint NOT NULL DEFAULT nextval('app.index_outbox_seq'),
    attempts integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    last_error text NOT NULL DEFAULT '',
    CONSTRAINT index_outbox_pkey PRIMARY KEY (user_id, namespace_id, document_id),
    CONSTRAINT index_outbox_namespace_fk FOREIGN KEY (user_id, namespace_id)
        REFERENCES app.index_namespaces (user_id, id) ON DELETE CASCADE
);
CREATE INDEX index_outbox_due ON app.index_outbox (next_try_at);

-- Which vectors the index may hold, written before they are sent: <document_id>#<generation>#<0 to chunk_count - 1>.
CREATE TABLE app.index_sent (
    namespace_id uuid NOT NULL,
    document_id uuid NOT NULL,
    generation integer NOT NULL,
    chunk_count integer NOT NULL,
    lsn bigint,
    sent_at timestamptz NOT NULL DEFAULT now(),
    is_visible boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    user_id text NOT NULL CHECK (user_id <> ''),
    CONSTRAINT index_sent_pkey PRIMARY KEY (user_id, namespace_id, document_id, generation),
    CONSTRAINT index_sent_namespace_fk FOREIGN KEY (user_id, namespace_id)
        REFERENCES app.index_namespaces (user_id, id) ON DELETE CASCADE
);
CREATE INDEX index_sent_unseen ON app.index_sent (user_id, namespace_id) WHERE NOT is_visible;
"""

# Whoever opens a namespace holds the owner's lock alone while they note all documents: a writer either finds the namespace,
# or its documents are among those noted. For a user without a namespace a statement costs the lock and one look-up.
# SECURITY DEFINER as for the counts of 002: a cascade runs these as the owner of the tables.
TRIGGERS = """
CREATE FUNCTION app.note_documents_for_index() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner text;
BEGIN
    FOR owner IN SELECT DISTINCT r.user_id FROM changed_rows r ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('index of ' || owner, 0));
        CONTINUE WHEN NOT EXISTS (SELECT FROM app.index_namespaces n WHERE n.user_id = owner);
        IF TG_OP = 'UPDATE' THEN
            INSERT INTO app.index_outbox (user_id, namespace_id, document_id)
            SELECT n.user_id, n.id, c.id
              FROM changed_rows c JOIN old_rows o ON o.id = c.id JOIN app.index_namespaces n ON n.user_id = c.user_id
             WHERE c.user_id = owner
               AND (c.live_generation, c.chunk_count, c.index_config_id, c.deleted_at, c.project_id, c.data_source_id,
                    c.mime_type, c.source_modified_at) IS DISTINCT FROM
                   (o.live_generation, o.chunk_count, o.index_config_id, o.deleted_at, o.project_id, o.data_source_id,
                    o.mime_type, o.source_modified_at)
             ORDER BY c.id, n.id
            ON CONFLICT (user_id, namespace_id, document_id)
               DO UPDATE SET seq = DEFAULT, next_try_at = now();
        ELSE
            INSERT INTO app.index_outbox (user_id, namespace_id, document_id)
            SELECT n.user_id, n.id, c.id
              FROM changed_rows c JOIN app.index_namespaces n ON n.user_id = c.user_id
             WHERE c.user_id = owner ORDER BY c.id, n.id
            ON CONFLICT (user_id, namespace_id, document_id)
               DO UPDATE SET seq = DEFAULT, next_try_at = now();
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted_for_index AFTER INSERT ON app.documents REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_documents_for_index();
CREATE TRIGGER note_updated_for_index AFTER UPDATE ON app.documents
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_documents_for_index();
CREATE TRIGGER note_deleted_for_index AFTER DELETE ON app.documents REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_documents_for_index();

CREATE FUNCTION app.note_tags_for_index() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owner text;
BEGIN
    FOR owner IN SELECT DISTINCT r.user_id FROM changed_rows r ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('index of ' || owner, 0));
        INSERT INTO app.index_outbox (user_id, namespace_id, document_id)
        SELECT DISTINCT n.user_id, n.id, c.document_id
          FROM changed_rows c JOIN app.index_namespaces n ON n.user_id = c.user_id
         WHERE c.user_id = owner ORDER BY c.document_id, n.id
        ON CONFLICT (user_id, namespace_id, document_id)
           DO UPDATE SET seq = DEFAULT, next_try_at = now();
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER note_inserted_for_index AFTER INSERT ON app.document_tags REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_tags_for_index();
CREATE TRIGGER note_deleted_for_index AFTER DELETE ON app.document_tags REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.note_tags_for_index();
"""

# For whoever sweeps what syncs have left behind: owners and ids of namespaces, nothing of documents.
ACROSS_USERS = """
CREATE FUNCTION app.indexes_behind(at_most integer)
    RETURNS TABLE (user_id text, namespace_id uuid) LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS
$$ SELECT o.user_id, o.namespace_id FROM app.index_outbox o
    WHERE o.next_try_at <= now() AND (o.claimed_until IS NULL OR o.claimed_until < now())
    GROUP BY 1, 2 ORDER BY min(o.next_try_at), 1, 2 LIMIT at_most $$;
"""

GRANTS = """
GRANT SELECT (user_id, id) ON app.index_namespaces TO wp_counter;
GRANT SELECT (user_id, namespace_id, document_id, seq, next_try_at, claimed_until),
      INSERT (user_id, namespace_id, document_id), UPDATE (seq, next_try_at) ON app.index_outbox TO wp_counter;
GRANT USAGE ON SEQUENCE app.index_outbox_seq TO wp_counter;
ALTER FUNCTION app.note_documents_for_index() OWNER TO wp_counter;
ALTER FUNCTION app.note_tags_for_index() OWNER TO wp_counter;
ALTER FUNCTION app.indexes_behind(integer) OWNER TO wp_counter;
REVOKE EXECUTE ON FUNCTION app.indexes_behind(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION app.indexes_behind(integer) TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    for table in ("index_namespaces", "index_outbox", "index_sent"):
        op.execute(protect(table))
    op.execute(TRIGGERS)
    op.execute(ACROSS_USERS)
    op.execute("RESET ROLE")
    # Handing a function to another role needs CREATE on its schema for that role, or a superuser; grant it for a moment.
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
