"""The row-level security that every table of the schema `app` gets in the migration that creates it.

The owner is read inline in a sub-select, so that it is evaluated once a statement and a prover can see through it. The
CASE raises when no user context is set: a forgotten context is an error, never an empty answer.
"""

OWNER_IS_USER = "user_id = (SELECT CASE WHEN app.has_user_context() THEN current_setting('app.user_id', true) END)"


def protect(table: str) -> str:
    """Return the statements that enable and force RLS on app.`table`, let wp_app use its own rows, and keep updated_at."""
    return f"""
        ALTER TABLE app.{table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE app.{table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY owner_all ON app.{table} FOR ALL TO wp_app
            USING ({OWNER_IS_USER}) WITH CHECK ({OWNER_IS_USER});
        GRANT SELECT, INSERT, UPDATE, DELETE ON app.{table} TO wp_app;
        CREATE TRIGGER touch BEFORE UPDATE ON app.{table}
            FOR EACH ROW EXECUTE FUNCTION app.touch_updated_at();
    """


TENANT_IS_TENANT = (
    "tenant_id = (SELECT CASE WHEN app.has_user_context() THEN current_setting('app.tenant_id', true) END)"
)


def within_tenant(table: str) -> str:
    """Return the statement that also keeps the rows of a protected table within the tenant that their user acts for."""
    return f"""
        CREATE POLICY tenant_too ON app.{table} AS RESTRICTIVE FOR ALL TO wp_app
            USING ({TENANT_IS_TENANT}) WITH CHECK ({TENANT_IS_TENANT});
    """
