"""Projects, tags and document_tags, with counts of live documents kept by triggers.

Revision ID: 002_library
"""

from alembic import op

from migrations.owner_policy import protect

revision = "002_library"
down_revision = "001_core"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE app.projects (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 200),
    description text NOT NULL DEFAULT '',
    document_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT projects_owner_key UNIQUE (user_id, id),
    CONSTRAINT projects_name_key UNIQUE (user_id, name)
);

CREATE TABLE app.tags (
    id uuid PRIMARY KEY,
    user_id text NOT NULL CHECK (user_id <> ''),
    name text NOT NULL CHECK (name <> '' AND length(name) <= 100),
    document_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tags_owner_key UNIQUE (user_id, id),
    CONSTRAINT tags_name_key UNIQUE (user_id, name)
);

ALTER TABLE app.documents ADD COLUMN project_id uuid,
    ADD CONSTRAINT documents_project_fk FOREIGN KEY (user_id, project_id)
        REFERENCES app.projects (user_id, id) ON DELETE SET NULL (project_id);
CREATE INDEX documents_project ON app.documents (user_id, project_id) WHERE project_id IS NOT NULL;

CREATE TABLE app.document_tags (
    user_id text NOT NULL CHECK (user_id <> ''),
    document_id uuid NOT NULL,
    tag_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT document_tags_pkey PRIMARY KEY (user_id, document_id, tag_id),
    CONSTRAINT document_tags_document_fk FOREIGN KEY (user_id, document_id)
        REFERENCES app.documents (user_id, id) ON DELETE CASCADE,
    CONSTRAINT document_tags_tag_fk FOREIGN KEY (user_id, tag_id)
        REFERENCES app.tags (user_id, id) ON DELETE CASCADE
);
CREATE INDEX document_tags_tag ON app.document_tags (user_id, tag_id);
"""

# Statement-level triggers over transition tables: a batch of 500 documents updates each counter once. Composite foreign
# keys guarantee that a document, its project and its tags have one owner. Since PostgreSQL 18 the trigger of a row that a
# cascade deletes runs as the owner of the tables, whom forced row-level security shows nothing: hence SECURITY DEFINER.
COUNTS = """
CREATE FUNCTION app.count_documents() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE app.projects p SET document_count = p.document_count + d.n
          FROM (SELECT user_id, project_id, count(*) AS n FROM new_rows
                 WHERE project_id IS NOT NULL AND deleted_at IS NULL GROUP BY 1, 2) d
         WHERE p.user_id = d.user_id AND p.id = d.project_id;
    ELSIF TG_OP = 'DELETE' THEN
        UPDATE app.projects p SET document_count = p.document_count - d.n
          FROM (SELECT user_id, project_id, count(*) AS n FROM old_rows
                 WHERE project_id IS NOT NULL AND deleted_at IS NULL GROUP BY 1, 2) d
         WHERE p.user_id = d.user_id AND p.id = d.project_id;
    ELSE
        UPDATE app.projects p SET document_count = p.document_count + d.n
          FROM (SELECT user_id, project_id, sum(sign) AS n FROM (
                    SELECT user_id, project_id, 1 AS sign FROM new_rows
                     WHERE project_id IS NOT NULL AND deleted_at IS NULL
                    UNION ALL
                    SELECT user_id, project_id, -1 FROM old_rows
                     WHERE project_id IS NOT NULL AND deleted_at IS NULL) moved
                 GROUP BY 1, 2 HAVING sum(sign) <> 0) d
         WHERE p.user_id = d.user_id AND p.id = d.project_id;
        UPDATE app.tags t SET document_count = t.document_count + d.n
          FROM (SELECT dt.user_id, dt.tag_id, sum(moved.sign) AS n FROM (
                    SELECT n.user_id, n.id, CASE WHEN n.deleted_at IS NULL THEN 1 ELSE -1 END AS sign
                      FROM new_rows n JOIN old_rows o USING (id)
                     WHERE (n.deleted_at IS NULL) <> (o.deleted_at IS NULL)) moved
                  JOIN app.document_tags dt ON dt.user_id = moved.user_id AND dt.document_id = moved.id
                 GROUP BY 1, 2) d
         WHERE t.user_id = d.user_id AND t.id = d.tag_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON app.documents REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.count_documents();
CREATE TRIGGER count_updated AFTER UPDATE ON app.documents REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.count_documents();
CREATE TRIGGER count_deleted AFTER DELETE ON app.documents REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.count_documents();

-- The documents are locked while their tags are counted: a tombstone that has not committed yet would be missed here, and
-- would itself miss this tag.
CREATE FUNCTION app.count_tags() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE app.tags t SET document_count = t.document_count + d.n
          FROM (SELECT user_id, tag_id, count(*) AS n FROM (
                    SELECT r.user_id, r.tag_id FROM new_rows r
                      JOIN app.documents doc ON doc.user_id = r.user_id AND doc.id = r.document_id
                     WHERE doc.deleted_at IS NULL FOR SHARE OF doc) live
                 GROUP BY 1, 2) d
         WHERE t.user_id = d.user_id AND t.id = d.tag_id;
    ELSE
        -- The tags of a document that is being removed were taken off before it went (untag_live), so whatever finds
        -- no document here belonged to a tombstone, which had stopped counting when it became one.
        UPDATE app.tags t SET document_count = t.document_count - d.n
          FROM (SELECT user_id, tag_id, count(*) AS n FROM (
                    SELECT r.user_id, r.tag_id FROM old_rows r
                      JOIN app.documents doc ON doc.user_id = r.user_id AND doc.id = r.document_id
                     WHERE doc.deleted_at IS NULL FOR SHARE OF doc) live
                 GROUP BY 1, 2) d
         WHERE t.user_id = d.user_id AND t.id = d.tag_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_inserted AFTER INSERT ON app.document_tags REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.count_tags();
CREATE TRIGGER count_deleted AFTER DELETE ON app.document_tags REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION app.count_tags();

CREATE FUNCTION app.untag_live() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM app.document_tags WHERE user_id = OLD.user_id AND document_id = OLD.id;
    RETURN OLD;
END $$;
CREATE TRIGGER untag_live BEFORE DELETE ON app.documents
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL) EXECUTE FUNCTION app.untag_live();
"""

COUNTS_GRANTS = """
GRANT SELECT (user_id, id, document_count), UPDATE (document_count) ON app.projects, app.tags TO wp_counter;
GRANT SELECT (user_id, document_id, tag_id) ON app.document_tags TO wp_counter;
ALTER FUNCTION app.count_documents() OWNER TO wp_counter;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(TABLES)
    op.execute(COUNTS)
    for table in ("projects", "tags", "document_tags"):
        op.execute(protect(table))
    # A tag is put on or taken off; a link that changed its ends would escape the counts.
    op.execute("REVOKE UPDATE ON app.document_tags FROM wp_app")
    op.execute("RESET ROLE")
    # Handing a function to another role needs CREATE on its schema for that role, or a superuser; grant it for a moment.
    op.execute("GRANT CREATE ON SCHEMA app TO wp_counter")
    op.execute(COUNTS_GRANTS)
    op.execute("REVOKE CREATE ON SCHEMA app FROM wp_counter")
