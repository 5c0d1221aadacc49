"""No statement without a user, no user beyond a transaction, and verify_rls() names whatever opens a hole."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from tests.conftest import DatabaseUrls
from tests.db.conftest import ALICE, BOB
from tests.db.rows import APPEND_ONLY, populate
from workstation_pipelines.db import tables
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, SourceUnavailableError
from workstation_pipelines.model import UserId

Admin = psycopg.Connection[Any]

TABLES = sorted(table.name for table in tables.metadata.sorted_tables)
VIEWS = [
    "daily_cost_summary",
    "data_source_rules",
    "data_source_summary",
    "document_index_settings",
    "document_lineage",
    "documents_with_metadata",
    "processing_job_summary",
    "project_summary",
    "source_freshness",
    "sync_job_summary",
    "user_workflow_summary",
    "workflow_execution_summary",
]

_OWNER = "user_id = (SELECT CASE WHEN app.has_user_context() THEN current_setting('app.user_id', true) END)"
_TENANT = "user_id = (SELECT CASE WHEN app.has_user_context() THEN current_setting('app.tenant_id', true) END)"

_OF_TENANT = _TENANT.replace("user_id = ", "tenant_id = ")

# (what somebody changes, the problem that verify_rls() must name, the object it must point at)
MUTANTS = [
    (
        "CREATE ROLE ws_bypass NOLOGIN BYPASSRLS; GRANT USAGE ON SCHEMA app TO ws_bypass;"
        "GRANT EXECUTE ON FUNCTION app.verify_rls() TO ws_bypass; GRANT SELECT ON app.rls_status TO ws_bypass",
        "current role is superuser or has BYPASSRLS",
        "ws_bypass",
    ),
    (
        "GRANT wp_counter TO wp_app",
        "current role can become a role that bypasses RLS",
        "wp_counter",
    ),
    ("GRANT wp_owner TO wp_app", "current role owns a table", "chunks"),
    ("CREATE TABLE app.loose (id uuid)", "table without an owner column", "loose"),
    ("ALTER TABLE app.tags DISABLE ROW LEVEL SECURITY", "RLS not enabled", "tags"),
    ("ALTER TABLE app.tags NO FORCE ROW LEVEL SECURITY", "RLS not forced", "tags"),
    ("DROP POLICY owner_all ON app.tags", "no policy for reading or writing", "tags"),
    (
        f"DROP POLICY owner_all ON app.tags; CREATE POLICY reads ON app.tags FOR SELECT TO wp_app USING ({_OWNER})",
        "no policy for reading or writing",
        "tags",
    ),
    ("ALTER POLICY owner_all ON app.tags TO PUBLIC", "policy for PUBLIC", "owner_all on tags"),
    (
        f"CREATE POLICY half ON app.tags FOR UPDATE TO wp_app USING ({_OWNER})",
        "write policy without WITH CHECK",
        "half on tags",
    ),
    (
        "CREATE POLICY anybody ON app.tags FOR SELECT TO wp_app USING (true)",
        "policy does not compare the owner",
        "anybody on tags",
    ),
    (
        f"ALTER POLICY owner_all ON app.tags USING ({_OWNER} OR name = 'public')",
        "policy does not compare the owner",
        "owner_all on tags",
    ),
    (
        f"ALTER POLICY owner_all ON app.tags USING ({_OWNER}) WITH CHECK (true)",
        "policy does not compare the owner",
        "owner_all on tags",
    ),
    (
        f"ALTER POLICY owner_all ON app.tags USING ({_TENANT}) WITH CHECK ({_OWNER})",
        "policy does not compare the owner",
        "owner_all on tags",
    ),
    (
        "ALTER POLICY owner_all ON app.tags USING (user_id = current_setting('app.user_id', true))",
        "policy does not compare the owner",
        "owner_all on tags",
    ),
    (  # which a tenant's other users would read
        f"CREATE POLICY colleagues ON app.workflows FOR SELECT TO wp_app USING ({_OF_TENANT})",
        "policy does not compare the owner",
        "colleagues on workflows",
    ),
    (
        "CREATE POLICY system_too ON app.workflows FOR SELECT TO wp_app USING (template_id IS NULL)",
        "policy does not compare the owner",
        "system_too on workflows",
    ),
    (
        "CREATE POLICY more ON app.workflow_templates FOR SELECT TO wp_app USING (is_system OR is_public)",
        "policy does not compare the owner",
        "more on workflow_templates",
    ),
    (
        "ALTER POLICY shared_read ON app.workflow_templates USING (is_system OR is_public OR usage_count > 0)",
        "policy does not compare the owner",
        "shared_read on workflow_templates",
    ),
    (
        f"ALTER POLICY shared_read ON app.workflow_templates"
        f" USING ({_OWNER} OR ((is_system OR is_public) AND (SELECT app.has_user_context())))",
        "policy does not compare the owner",
        "shared_read on workflow_templates",
    ),
    ("DROP POLICY tenant_too ON app.workflows", "tenant does not restrict", "workflows"),
    ("ALTER POLICY tenant_too ON app.workflow_secrets TO wp_counter", "tenant does not restrict", "workflow_secrets"),
    ("DROP POLICY tenant_delete ON app.workflow_templates", "tenant does not restrict", "workflow_templates"),
    (
        f"CREATE POLICY readable ON app.workflow_templates FOR SELECT TO wp_app USING ({_OWNER})",
        "tenant does not restrict",
        "workflow_templates",
    ),
    (
        f"ALTER POLICY tenant_too ON app.workflows USING ({_OWNER}) WITH CHECK ({_OWNER})",
        "tenant does not restrict",
        "workflows",
    ),
    (
        "ALTER VIEW app.project_summary SET (security_invoker = false)",
        "view without security_invoker",
        "project_summary",
    ),
    ("CREATE VIEW app.peek AS SELECT * FROM app.tags", "view without security_invoker", "peek"),
    ("CREATE MATERIALIZED VIEW app.kept AS SELECT 1 AS one", "materialized view", "kept"),
    ("GRANT TRUNCATE ON app.tags TO wp_app", "TRUNCATE, REFERENCES or TRIGGER granted", "tags"),
    ("GRANT REFERENCES ON app.tags TO PUBLIC", "TRUNCATE, REFERENCES or TRIGGER granted", "tags"),
    ("GRANT TRIGGER ON app.tags TO wp_app", "TRUNCATE, REFERENCES or TRIGGER granted", "tags"),
    (
        "CREATE FUNCTION app.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT 1::bigint';"
        "REVOKE ALL ON FUNCTION app.peek() FROM PUBLIC",
        "SECURITY DEFINER function without a pinned search_path or open to PUBLIC",
        "peek",
    ),
    (
        "GRANT EXECUTE ON FUNCTION app.data_source_owner(uuid) TO PUBLIC",
        "SECURITY DEFINER function without a pinned search_path or open to PUBLIC",
        "data_source_owner",
    ),
    (
        "ALTER TABLE app.documents ADD CONSTRAINT by_id FOREIGN KEY (project_id) REFERENCES app.projects (id)",
        "foreign key or unique key without the owner column",
        "by_id",
    ),
    (
        "ALTER TABLE app.projects ADD CONSTRAINT one_name UNIQUE (name)",
        "foreign key or unique key without the owner column",
        "one_name",
    ),
    (
        "CREATE UNIQUE INDEX one_name ON app.projects (lower(name))",
        "foreign key or unique key without the owner column",
        "app.one_name",
    ),
    (
        "ALTER TABLE app.document_tags DROP CONSTRAINT document_tags_pkey, ADD PRIMARY KEY (document_id, tag_id)",
        "foreign key or unique key without the owner column",
        "document_tags_pkey",
    ),
]


def test_migrated_database_has_nothing_to_object_to(database: Database) -> None:
    assert database.verify_rls() == []


@pytest.mark.parametrize(("change", "problem", "object_name"), MUTANTS, ids=[mutant[0][:60] for mutant in MUTANTS])
def test_verify_rls_names_the_hole_and_only_that(
    module_admin: Admin, change: str, problem: str, object_name: str
) -> None:
    admin = module_admin
    # In a transaction that never commits, since roles belong to the server and other tests run on it.
    admin.execute("BEGIN")
    admin.execute(change)
    admin.execute("SET LOCAL ROLE ws_bypass" if "ws_bypass" in change else "SET LOCAL ROLE wp_app")
    found = admin.execute("SELECT problem, object FROM app.verify_rls()").fetchall()
    admin.execute("ROLLBACK")
    assert {name for name, _ in found} == {problem}
    assert object_name in {where for _, where in found}


def test_each_of_the_sixteen_checks_has_a_mutant(admin: Admin) -> None:
    problems = admin.execute(
        r"""SELECT DISTINCT found[1] FROM pg_proc,
                   regexp_matches(prosrc, 'SELECT (?:DISTINCT )?''([^'']+)''', 'g') AS found
             WHERE proname = 'verify_rls'"""
    ).fetchall()
    assert len(problems) == 16
    assert {problem for (problem,) in problems} == {problem for _, problem, _ in MUTANTS}


def test_status_view_shows_every_table_as_closed(database: Database) -> None:
    with database.across_users() as connection:
        rows = connection.execute(text("SELECT * FROM app.rls_status ORDER BY table_name")).all()
    assert [row.table_name for row in rows] == TABLES
    for row in rows:
        shown = (row.rls_enabled, row.rls_forced, row.covers_select, row.covers_insert, row.owner)
        assert shown == (True, True, True, True, "wp_owner")
        is_tenants = "tenant_id" in tables.metadata.tables[f"app.{row.table_name}"].columns
        is_shared = row.table_name == "workflow_templates"  # reading and each way of writing for itself
        assert (row.table_name, row.policies) == (row.table_name, 7 if is_shared else 2 if is_tenants else 1)


STATEMENTS = {
    "select": "SELECT * FROM app.{}",
    "insert": "INSERT INTO app.{} DEFAULT VALUES",
    "update": "UPDATE app.{} SET created_at = now()",
    "delete": "DELETE FROM app.{}",
}


@pytest.mark.parametrize("verb", STATEMENTS)
@pytest.mark.usefixtures("alices")
def test_every_table_refuses_a_statement_without_a_user(database: Database, verb: str) -> None:
    for table in TABLES:
        if (verb, table) == ("update", "document_tags"):
            continue  # a link is put on or taken off, never updated
        if verb != "select" and table in APPEND_ONLY:
            continue  # refused to everybody
        _assert_refused(database, STATEMENTS[verb].format(table))


@pytest.mark.usefixtures("alices")
def test_every_view_refuses_a_statement_without_a_user(database: Database, admin: Admin) -> None:
    listed = admin.execute("SELECT viewname FROM pg_views WHERE schemaname = 'app' ORDER BY 1").fetchall()
    assert [name for (name,) in listed] == sorted([*VIEWS, "rls_status"])
    for view in VIEWS:
        _assert_refused(database, STATEMENTS["select"].format(view))


def _assert_refused(database: Database, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="no user context") as caught, database.across_users() as connection:
        connection.execute(text(statement))
    assert isinstance(caught.value.orig, psycopg.errors.InsufficientPrivilege)


@pytest.fixture
def one_connection(database_urls: DatabaseUrls) -> Database:
    """A pool that hands the same connection out again and again."""
    return Database(database_urls.app_url, pool_size=1)


def _backend(database: Database, user_id: UserId) -> int:
    return int(database.query_with_rls(user_id, "SELECT pg_backend_pid()")[0][0])


def test_pooled_connection_has_forgotten_its_last_user(one_connection: Database) -> None:
    populate(one_connection, ALICE)
    backend = _backend(one_connection, ALICE)
    _assert_refused(one_connection, "SELECT * FROM app.documents")
    with one_connection.across_users() as connection:
        assert connection.execute(text("SELECT pg_backend_pid(), app.current_user_id()")).one() == (backend, None)
    one_connection.close()


def test_pooled_connection_forgets_a_user_set_for_the_session(one_connection: Database) -> None:
    populate(one_connection, ALICE)
    with one_connection.across_users() as connection:
        connection.execute(text("SELECT set_config('app.user_id', 'alice', false)"))
    _assert_refused(one_connection, "SELECT * FROM app.documents")
    one_connection.close()


def test_pooled_connection_forgets_its_user_after_an_error(one_connection: Database) -> None:
    populate(one_connection, ALICE)
    _fail_after(one_connection, ALICE, "SELECT set_config('app.user_id', 'alice', false)")
    _assert_refused(one_connection, "SELECT * FROM app.documents")
    one_connection.close()


ODD_USERS = [
    *("", " ", "a b", "a'b", 'a"b', "a;b", "a\n", "a\x00", "\x00", "\ud800", "\N{LATIN SMALL LETTER A WITH DIAERESIS}"),
    *("a/b", "a\\b", "%", "*", "x" * 201),
]


@pytest.mark.parametrize("user_id", ODD_USERS, ids=ascii)
def test_missing_or_malformed_user_is_refused(shared: Database, user_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="user"), shared.transaction_with_rls(UserId(user_id)):
        pytest.fail("a transaction began")


@pytest.mark.parametrize("user_id", [user for user in ODD_USERS if user.isprintable() or user == "a\n"], ids=ascii)
def test_database_refuses_a_malformed_user_itself(shared: Database, user_id: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue), shared.direct_connection() as connection:
        connection.execute("SELECT app.set_current_user_id(%s)", [user_id])


@pytest.mark.parametrize("user_id", ["a", "x" * 200, "user_2abcDEF", "auth0|5f7c8ec7", "a.b@c-d.e:f"])
def test_usual_user_ids_are_taken(shared: Database, user_id: str) -> None:
    rows = shared.query_with_rls(UserId(user_id), "SELECT app.current_user_id(), current_setting('app.tenant_id')")
    assert tuple(rows[0]) == (user_id, user_id)


def test_tenant_is_set_beside_the_user(shared: Database) -> None:
    with shared.transaction_with_rls(ALICE, tenant_id="acme") as connection:
        seen = connection.execute(text("SELECT app.current_user_id(), current_setting('app.tenant_id')")).one()
    assert tuple(seen) == ("alice", "acme")


_ADD_TAG = "INSERT INTO app.tags (id, user_id, name) VALUES (gen_random_uuid(), app.current_user_id(), :name)"


def _tag_names(database: Database) -> list[str]:
    return [row.name for row in database.query_with_rls(ALICE, "SELECT name FROM app.tags ORDER BY name")]


def test_transaction_commits_at_its_end_and_rolls_back_on_an_error(database: Database) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        connection.execute(text(_ADD_TAG), {"name": "kept"})
    _fail_after(database, ALICE, _ADD_TAG.replace(":name", "'lost'"))
    assert _tag_names(database) == ["kept"]


def test_single_query_commits_and_returns_its_rows_if_it_has_any(database: Database) -> None:
    assert database.query_with_rls(ALICE, _ADD_TAG, {"name": "one"}) == []
    returned = database.query_with_rls(ALICE, _ADD_TAG + " RETURNING name", {"name": "two"})
    assert [row.name for row in returned] == ["two"]
    assert _tag_names(database) == ["one", "two"]


def test_unreachable_database_is_reported_as_such() -> None:
    nowhere = Database("postgresql+psycopg://wp_app@/none?host=/nonexistent")
    with pytest.raises(SourceUnavailableError, match="DATABASE_URL"), nowhere.transaction_with_rls(ALICE):
        pytest.fail("a transaction began")
    with pytest.raises(SourceUnavailableError, match="DATABASE_URL"), nowhere.direct_connection():
        pytest.fail("it connected")


def test_lost_connection_is_reported_as_such_and_the_next_transaction_has_a_new_one(
    database: Database, admin: Admin
) -> None:
    def lose_connection() -> None:
        with database.transaction_with_rls(ALICE) as connection:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            admin.execute("SELECT pg_terminate_backend(%s)", [backend])
            connection.execute(text("SELECT 1"))

    with pytest.raises(SourceUnavailableError):
        lose_connection()
    assert _tag_names(database) == []


def test_administrators_url_is_restricted_like_any_other(database_urls: DatabaseUrls) -> None:
    database = Database(database_urls.admin_url)
    populate(database, BOB)
    assert database.query_with_rls(ALICE, "SELECT * FROM app.documents") == []
    assert database.query_with_rls(ALICE, "SELECT current_user")[0][0] == "wp_app"
    assert database.verify_rls() == []
    database.close()


def test_thousand_transactions_of_many_users_over_two_connections_leak_nothing(database_urls: DatabaseUrls) -> None:
    database = Database(database_urls.app_url, pool_size=1)  # and one in overflow
    users = [UserId(f"user-{number}") for number in range(6)]
    for user in users:
        populate(database, user)
    chooser = random.Random(7)  # noqa: S311 - the same turns in every run
    turns = [(chooser.choice(users), chooser.choice([_read, _rename, _fail_half_way])) for _ in range(1000)]

    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda turn: (turn[0], turn[1](database, turn[0])), turns))

    assert len(seen) == 1000
    assert [(user, owners) for user, owners in seen if owners != {user}] == []
    database.close()


def _read(database: Database, user_id: UserId) -> set[str]:
    found = database.query_with_rls(
        user_id, "SELECT user_id FROM app.documents UNION ALL SELECT user_id FROM app.document_lineage"
    )
    return {row.user_id for row in found}


def _rename(database: Database, user_id: UserId) -> set[str]:
    renamed = database.query_with_rls(user_id, "UPDATE app.documents SET title = user_id RETURNING user_id")
    return {row.user_id for row in renamed}


def _fail_half_way(database: Database, user_id: UserId) -> set[str]:
    return _fail_after(database, user_id, "DELETE FROM app.tags RETURNING user_id")


def _fail_after(database: Database, user_id: UserId, statement: str) -> set[str]:
    """Run a statement in a transaction that then fails, and return the first column of what it returned."""
    seen: set[str] = set()
    with suppress(ZeroDivisionError), database.transaction_with_rls(user_id) as connection:
        result = connection.execute(text(statement))
        seen |= {row[0] for row in result} if result.returns_rows else set()
        raise ZeroDivisionError
    return seen
