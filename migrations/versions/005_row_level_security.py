"""rls_status and verify_rls(): the database's own proof that no table is left open.

Revision ID: 005_row_level_security
"""

from alembic import op

revision = "005_row_level_security"
down_revision = "002_library"
branch_labels = None
depends_on = None

STATUS = """
CREATE VIEW app.rls_status WITH (security_invoker = true) AS
SELECT n.nspname AS schema_name, c.relname AS table_name,
       c.relrowsecurity AS rls_enabled, c.relforcerowsecurity AS rls_forced,
       (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS policies,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd IN ('*', 'r')) AS covers_select,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd IN ('*', 'a')) AS covers_insert,
       pg_get_userbyid(c.relowner) AS owner,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                  AND a.attname IN ('user_id', 'tenant_id') AND NOT a.attisdropped) AS has_owner_column
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname = 'app';
GRANT SELECT ON app.rls_status TO wp_app;
"""

# One row a finding; no row means safe. The service refuses to start on any row.
VERIFY = """
CREATE FUNCTION app.verify_rls() RETURNS TABLE (problem text, object text) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
WITH tables AS (
    SELECT c.oid, c.relname, c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'app' AND c.relkind IN ('r', 'p')),
owned AS (
    SELECT t.oid, s.* FROM app.rls_status s JOIN tables t ON t.relname = s.table_name WHERE s.has_owner_column),
policies AS (
    SELECT p.*, t.relname FROM pg_policy p JOIN tables t ON t.oid = p.polrelid)
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
UNION ALL SELECT DISTINCT 'policy does not compare the owner', polname || ' on ' || relname
  FROM policies, LATERAL (VALUES (polqual), (polwithcheck)) side (expression)
 WHERE expression IS NOT NULL AND pg_get_expr(expression, polrelid) !~ (
       '^\\((user_id|tenant_id) = \\( SELECT\\s+CASE\\s+WHEN app\\.has_user_context\\(\\) THEN'
       ' current_setting\\(''app\\.\\1''::text, true\\)\\s+ELSE NULL::text\\s+END AS "?case"?\\)\\)$')
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
GRANT EXECUTE ON FUNCTION app.verify_rls() TO wp_app;
"""


def upgrade() -> None:
    op.execute("SET ROLE wp_owner")
    op.execute("SET search_path = app, public")
    op.execute(STATUS)
    op.execute(VERIFY)
    op.execute("RESET ROLE")
