"""What Bob can do with any SQL as wp_app: nothing shows, changes, or betrays Alice's rows.

He knows all her ids, which he could not. What he may learn then is only that an id is taken, from its primary key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Column

from tests.conftest import DatabaseUrls
from tests.db.rows import APPEND_ONLY, UNCHANGED, Library
from tests.db.test_rls import TABLES, VIEWS
from workstation_pipelines import settings
from workstation_pipelines.db import tables

Admin = psycopg.Connection[Any]
Row = dict[str, Any]

WRITABLE = [table for table in TABLES if table not in APPEND_ONLY]
CHANGEABLE = [
    table for table in WRITABLE if table not in {"document_tags", *UNCHANGED}
]  # a link cannot be updated at all
WITH_ID = [table for table in WRITABLE if "id" in tables.metadata.tables[f"app.{table}"].columns]
NOT_GRANTED = {"workflow_templates": {"is_system", "usage_count"}}
"""Columns that nobody may write, beside others that everybody may."""
SHARED_WITH_ALL = {"workflow_templates": {(None,)}}
"""Owners whose rows everybody reads: the system has none."""
NUMBERED = {"timeline_events": {"seq"}}
"""Columns that the database numbers by itself."""
NATURAL_KEYS = [table for table in WRITABLE if table not in WITH_ID]


@dataclass(frozen=True, slots=True)
class Attacker:
    """A session that is logged in as wp_app, with Bob as its user in each transaction."""

    connection: psycopg.Connection[Any]

    @contextmanager
    def transaction(self, user_id: str = "bob") -> Iterator[psycopg.Connection[Any]]:
        with self.connection.transaction():
            self.connection.execute("SELECT app.set_current_user_id(%s)", [user_id])
            yield self.connection

    def run(self, statement: str | sql.Composed, parameters: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Commit one statement as Bob."""
        with self.transaction() as connection:
            found: psycopg.Cursor[Any] = connection.execute(_composed(statement), parameters or None)
            return found

    def state_of(self, statement: str | sql.Composed, parameters: Sequence[Any] = ()) -> str:
        """Return the SQLSTATE that a statement ends with, all noughts for success; nothing stays."""
        try:
            with self.transaction() as connection, connection.transaction(force_rollback=True):
                connection.execute(_composed(statement), parameters or None)
                connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except psycopg.Error as error:
            return error.sqlstate or "no SQLSTATE"
        return "00000"


def _composed(statement: str | sql.Composed) -> sql.Composed:
    return sql.SQL(statement).format() if isinstance(statement, str) else statement


@pytest.fixture
def bob(database_urls: DatabaseUrls) -> Iterator[Attacker]:
    with psycopg.connect(settings.libpq_url(database_urls.app_url), autocommit=True) as connection:
        yield Attacker(connection)


@pytest.fixture(autouse=True)
def alices_rows_stay(admin: Admin, alices: Library, bobs: Library) -> Iterator[None]:
    """Whatever a test does, not a byte of Alice's rows may change."""
    before = {table: _rows(admin, table, "alice") for table in TABLES}
    assert all(before.values())
    assert all(_rows(admin, table, "bob") for table in TABLES)
    yield
    assert {table: _rows(admin, table, "alice") for table in TABLES} == before


def _rows(admin: Admin, table: str, user_id: str) -> list[Row]:
    statement = sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE user_id = %s ORDER BY to_jsonb(t)::text")
    return [row for (row,) in admin.execute(statement.format(sql.Identifier("app", table)), [user_id])]


def _on(table: str, statement: str) -> sql.Composed:
    return sql.SQL(statement).format(sql.Identifier("app", table))


def _is_writable(table: str, column: Column[Any] | None) -> bool:
    refused = NOT_GRANTED.get(table, set()) | NUMBERED.get(table, set())
    return column is not None and column.computed is None and column.name not in refused


def _insert(table: str, row: Row, ending: str = "") -> tuple[sql.Composed, list[Any]]:
    columns_of = tables.metadata.tables[f"app.{table}"].columns
    columns = sql.SQL(", ").join(sql.Identifier(name) for name in row if _is_writable(table, columns_of.get(name)))
    statement = sql.SQL("INSERT INTO {0} ({2}) SELECT {2} FROM jsonb_populate_record(NULL::{0}, %s) {1}")
    return statement.format(sql.Identifier("app", table), sql.SQL(ending), columns), [Jsonb(row)]


def _copy_of_bobs(admin: Admin, table: str, **changes: Any) -> Row:
    """A row of Bob's under a new id, other values as `changes` say."""
    row = _rows(admin, table, "bob")[0]
    if "id" in row:
        row["id"] = str(uuid4())
    if table == "sync_jobs":
        row["status"] = "pending"  # only one job may run
    return {**row, **changes}


def test_reading_shows_bobs_rows_only(bob: Attacker) -> None:
    for relation in TABLES + VIEWS:
        owners = set(bob.run(_on(relation, "SELECT DISTINCT user_id FROM {}")).fetchall())
        assert owners - SHARED_WITH_ALL.get(relation, set()) == {("bob",)}
        assert bob.run(_on(relation, "SELECT * FROM {} WHERE user_id = 'alice'")).fetchall() == []


def test_row_cannot_be_put_under_another_name(bob: Attacker, admin: Admin) -> None:
    for table in TABLES:
        assert bob.state_of(*_insert(table, _copy_of_bobs(admin, table, user_id="alice"))) == "42501"
        assert bob.state_of(*_insert(table, _rows(admin, table, "alice")[0])) == "42501"


def test_row_cannot_be_given_away(bob: Attacker) -> None:
    for table in TABLES:
        assert bob.state_of(_on(table, "UPDATE {} SET user_id = 'alice'")) == "42501"


def test_update_and_delete_pass_over_rows_of_others(bob: Attacker, admin: Admin) -> None:
    for table in WRITABLE:
        mine = len(_rows(admin, table, "bob"))
        if table in CHANGEABLE:
            assert bob.run(_on(table, "UPDATE {} SET created_at = now() WHERE user_id = 'alice'")).rowcount == 0
            assert bob.run(_on(table, "UPDATE {} SET created_at = now()")).rowcount == mine
        assert bob.run(_on(table, "DELETE FROM {} WHERE user_id = 'alice'")).rowcount == 0
        if table in UNCHANGED:
            assert bob.state_of(_on(table, "UPDATE {} SET created_at = now()")) == "42501"
        assert bob.state_of(_on(table, "SELECT * FROM {} WHERE user_id = 'alice' FOR UPDATE")) in ("00000", "42501")


def test_delete_of_everything_deletes_bobs_rows_only(bob: Attacker, admin: Admin) -> None:
    for table in [table.name for table in reversed(tables.metadata.sorted_tables)]:  # children first
        if table in APPEND_ONLY | UNCHANGED:
            assert bob.state_of(_on(table, "DELETE FROM {}")) == "42501"
            continue
        expected = len(_rows(admin, table, "bob"))
        assert (table, bob.run(_on(table, "DELETE FROM {}")).rowcount) == (table, expected)
        assert expected > 0


def test_upsert_over_anothers_id_is_refused(bob: Attacker, admin: Admin) -> None:
    for table in WITH_ID:
        taken = _rows(admin, table, "alice")[0]["id"]
        row = _copy_of_bobs(admin, table, id=taken)
        for name in ("name", "slug", "idempotency_key", "model", "external_id", "dedup_key"):
            if name in row:
                row[name] = "another"
        if "version" in row:
            row["version"] = 99
        if table == "budgets":
            row["period"] = "run"
        assert bob.state_of(*_insert(table, row, "ON CONFLICT (id) DO UPDATE SET updated_at = now()")) == "42501"
        # Documented limit: DO NOTHING is silent, a plain insert names the key.
        assert bob.run(*_insert(table, row, "ON CONFLICT (id) DO NOTHING")).rowcount == 0
        assert bob.state_of(*_insert(table, row)) == "23505"


@pytest.mark.parametrize("ending", ["", "ON CONFLICT DO NOTHING"])
def test_natural_key_of_another_is_as_unknown_as_one_that_is_free(bob: Attacker, admin: Admin, ending: str) -> None:
    for table in NATURAL_KEYS:
        taken = {**_rows(admin, table, "alice")[0], "user_id": "bob"}
        free = dict(taken)
        for name, column in (("ordinal", 77), ("tag_id", str(uuid4())), ("external_id", "free")):
            if name in free:
                free[name] = column
        # What was spent outlives what it was spent on, so nothing is looked for.
        state = "00000" if table in ("billing_records", "observability_metrics") else "23503"
        assert bob.state_of(*_insert(table, taken, ending)) == bob.state_of(*_insert(table, free, ending)) == state


def test_names_that_another_uses_are_free(admin: Admin) -> None:
    # Both have a source, a project and a tag of the same name already, an equal config, and items of equal ids.
    for table, column in (
        ("projects", "name"),
        ("tags", "name"),
        ("data_sources", "name"),
        ("sync_items", "external_id"),
    ):
        assert [row[column] for row in _rows(admin, table, "alice")] == [
            row[column] for row in _rows(admin, table, "bob")
        ]


def _references(admin: Admin) -> list[tuple[str, str, str]]:
    """Every foreign key as (table, column beside user_id, parent table)."""
    return admin.execute(
        """
        SELECT child.relname, a.attname, parent.relname FROM pg_constraint con
          JOIN pg_class child ON child.oid = con.conrelid JOIN pg_class parent ON parent.oid = con.confrelid
          JOIN pg_namespace n ON n.oid = child.relnamespace
          JOIN pg_attribute a ON a.attrelid = child.oid AND a.attnum = ANY (con.conkey)
               AND a.attname NOT IN ('user_id', 'tenant_id')
         WHERE con.contype = 'f' AND n.nspname = 'app' ORDER BY 1, 2"""
    ).fetchall()


def test_no_row_attaches_to_anothers_parent_and_the_error_is_that_of_a_parent_that_is_not(
    bob: Attacker, admin: Admin
) -> None:
    references = _references(admin)
    assert len(references) == sum(len(table.foreign_key_constraints) for table in tables.metadata.sorted_tables)
    for table, column, parent in references:
        hers = _rows(admin, parent, "alice")[0]["id"]
        row = _copy_of_bobs(
            admin, table, external_id="new", idempotency_key="new", name="new", slug="new", dedup_key="new"
        )
        for name in ("ordinal", "version", "number", "attempt", "storage_id"):
            if name in row:
                row[name] = 99
        if table == "index_settings":  # one scope a row, one row a scope
            document = _rows(admin, "documents", "bob")[0]["id"] if column == "index_config_id" else None
            row |= {"project_id": None, "document_id": document}
        attached = bob.state_of(*_insert(table, {**row, column: hers}))
        dangling = bob.state_of(*_insert(table, {**row, column: str(uuid4())}))
        assert (table, column, attached, dangling) == (table, column, "23503", "23503")
        if table in CHANGEABLE:
            move = sql.SQL("UPDATE {} SET {} = %s")
            moved = bob.state_of(move.format(sql.Identifier("app", table), sql.Identifier(column)), [hers])
            has_scope = table == "index_settings" and column in ("document_id", "data_source_id")
            assert (table, column, moved) == (table, column, "23514" if has_scope else "23503")


def test_turning_row_security_off_is_an_error_and_not_a_way_around(bob: Attacker) -> None:
    bob.connection.execute("SET row_security = off")
    for relation in TABLES + VIEWS:
        assert (relation, bob.state_of(_on(relation, "SELECT * FROM {}"))) == (relation, "42501")


def test_copy_shows_bobs_rows_only_and_cannot_write(bob: Attacker, admin: Admin) -> None:
    for table in TABLES:
        with bob.transaction() as connection, connection.cursor().copy(_on(table, "COPY {} TO STDOUT")) as copy:
            lines = b"".join(bytes(block) for block in copy).splitlines()
        shared = [line for line in lines if table in SHARED_WITH_ALL and line.split(b"\t")[1:3] == [b"\\N", b"\\N"]]
        assert len(lines) - len(shared) == len(_rows(admin, table, "bob"))
        assert b"alice" not in b"".join(lines)
        assert bob.state_of(_on(table, "COPY {} FROM STDIN")) == (
            "42501" if table in APPEND_ONLY or table in NOT_GRANTED else "0A000"
        )


def test_truncate_and_schema_changes_are_denied(bob: Attacker) -> None:
    for table in TABLES:
        for statement in (
            "TRUNCATE {} CASCADE",
            "ALTER TABLE {} NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE {} OWNER TO wp_app",
            "DROP TABLE {} CASCADE",
            "CREATE POLICY mine ON {} USING (true)",
            "CREATE TRIGGER spy AFTER INSERT ON {} FOR EACH ROW EXECUTE FUNCTION app.touch_updated_at()",
            "CREATE RULE spy AS ON UPDATE TO {} DO INSTEAD NOTHING",
            "ALTER TABLE {} DISABLE TRIGGER ALL",
        ):
            assert (statement, bob.state_of(_on(table, statement))) == (statement, "42501")


_SPY = """
CREATE FUNCTION pg_temp.spy(anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
$$ BEGIN RAISE NOTICE 'seen: %', $1; RETURN true; END $$"""


def test_cheap_function_that_tells_what_it_is_given_is_given_bobs_rows_only(bob: Attacker) -> None:
    told: list[str] = []
    bob.connection.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    bob.run(_SPY)
    for relation in TABLES + VIEWS:
        told.clear()
        bob.run(_on(relation, "SELECT * FROM {} r WHERE pg_temp.spy(r.user_id) AND pg_temp.spy(r::text)"))
        assert len(told) >= 2
        assert [line for line in told if "alice" in line] == []


def test_division_by_zero_for_anothers_row_does_not_happen(bob: Attacker) -> None:
    for relation in TABLES + VIEWS:
        probe = "SELECT count(*) FROM {} WHERE 1 / (CASE WHEN user_id = 'alice' THEN 0 ELSE 1 END) = 1"
        assert bob.run(_on(relation, probe)).fetchall()[0][0] >= 1


def test_prepared_plan_follows_the_user_of_each_transaction(bob: Attacker) -> None:
    bob.connection.execute(
        "PREPARE plan AS SELECT user_id FROM app.documents UNION ALL SELECT user_id FROM app.project_summary"
    )
    for turn in range(60):
        mode = ("auto", "force_generic_plan", "force_custom_plan")[turn // 20]
        bob.connection.execute(sql.SQL("SET plan_cache_mode = {}").format(mode))
        user = ("alice", "bob", "nobody")[turn % 3]
        with bob.transaction(user) as connection:
            owners = [owner for (owner,) in connection.execute("EXECUTE plan")]
        assert owners == ([user] * 2 if user != "nobody" else [])


def test_role_and_server_cannot_be_escaped(bob: Attacker) -> None:
    for statement in (
        "SET ROLE postgres",
        "SET ROLE wp_owner",
        "SET ROLE wp_counter",
        "SET SESSION AUTHORIZATION postgres",
        "SET session_replication_role = replica",
        "ALTER ROLE wp_app BYPASSRLS",
        "GRANT wp_owner TO wp_app",
        "CREATE ROLE another",
        "ALTER SYSTEM SET row_security = off",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT * FROM pg_authid",
        "SELECT lo_import('/etc/passwd')",
        "CREATE EXTENSION dblink",
    ):
        assert (statement, bob.state_of(statement)) != (statement, "00000")
        assert bob.run("SELECT current_user").fetchall() == [("wp_app",)]


def test_resetting_the_role_of_the_login_changes_nothing(bob: Attacker) -> None:
    bob.connection.execute("SET ROLE wp_app")
    for statement in ("RESET ROLE", "RESET SESSION AUTHORIZATION", "DISCARD ALL", "RESET ALL"):
        bob.connection.execute(sql.SQL(statement))
        assert bob.connection.execute("SELECT current_user, session_user").fetchall() == [("wp_app", "wp_app")]
        assert bob.state_of("SELECT * FROM app.documents WHERE user_id = 'alice'") == "00000"
        assert bob.run("SELECT DISTINCT user_id FROM app.documents").fetchall() == [("bob",)]


def test_planner_statistics_are_hidden(bob: Attacker, admin: Admin) -> None:
    admin.execute("ANALYZE")
    seen = "SELECT count(*) FROM pg_stats WHERE schemaname = 'app'"
    assert admin.execute(sql.SQL(seen)).fetchall()[0][0] > 0
    assert bob.run(seen).fetchall() == [(0,)]
    assert bob.state_of("SELECT * FROM pg_statistic") == "42501"


def test_functions_across_users_tell_ids_and_times_only(bob: Attacker, admin: Admin) -> None:
    definers = admin.execute(
        """SELECT proname, pg_get_function_result(p.oid), pg_get_userbyid(proowner)
             FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
            WHERE nspname = 'app' AND prosecdef ORDER BY 1"""
    ).fetchall()
    triggers = [definer for definer in definers if definer[1] == "trigger"]
    assert triggers == [
        (name, "trigger", "wp_counter")
        for name in (
            "audit_change",
            "audit_workflow_status",
            "count_documents",
            "forget_execution_events",
            "note_attempts",
            "note_documents_for_index",
            "note_execution",
            "note_job_status",
            "note_processing_status",
            "note_source_state",
            "note_steps",
            "note_tags_for_index",
            "queue_deliveries",
        )
    ]
    definers = [definer for definer in definers if definer not in triggers]
    due = (
        "TABLE(id uuid, user_id text, data_source_id uuid, schedule_type text, schedule_config jsonb,"
        " timezone text, next_run_at timestamp with time zone)"
    )
    waiting = (
        "TABLE(sync_job_id uuid, user_id text, data_source_id uuid, source_type text, priority integer,"
        " not_before timestamp with time zone)"
    )
    open_runs = (
        "TABLE(run_id uuid, execution_id uuid, user_id text, tenant_id text, created_at timestamp with time zone)"
    )
    to_mirror = (
        "TABLE(run_id uuid, execution_id uuid, user_id text, tenant_id text, is_open boolean, dagster_status text,"
        " age_s double precision, unchanged_s double precision, asked_to_stop_s double precision,"
        " silent_s double precision)"
    )
    assert definers == [
        ("audit_append", "bigint", "wp_counter"),
        ("audit_append_for", "bigint", "wp_counter"),
        ("audit_head", "TABLE(seq bigint, hash bytea)", "wp_counter"),
        ("audit_verify", "TABLE(seq bigint, problem text)", "wp_counter"),
        ("builds_to_purge", "TABLE(user_id text, build_id uuid)", "wp_counter"),
        ("count_template_use", "void", "wp_counter"),
        ("data_source_owner", "text", "wp_counter"),
        ("data_sources_of_type", "TABLE(data_source_id uuid)", "wp_counter"),
        ("due_deliveries", "TABLE(user_id text, webhook_id uuid, delivery_id uuid)", "wp_counter"),
        ("due_syncs", due, "wp_counter"),
        (
            "due_workflows",
            "TABLE(id uuid, user_id text, tenant_id text, next_run_at timestamp with time zone)",
            "wp_counter",
        ),
        ("execution_owner", "TABLE(user_id text, tenant_id text)", "wp_counter"),
        ("executions_to_start", "TABLE(execution_id uuid, user_id text, tenant_id text)", "wp_counter"),
        ("freshness_changes", "TABLE(user_id text, data_source_id uuid)", "wp_counter"),
        ("indexes_behind", "TABLE(user_id text, namespace_id uuid)", "wp_counter"),
        ("newest_workflow_version_at", "timestamp with time zone", "wp_counter"),
        ("open_workflow_runs", open_runs, "wp_counter"),
        ("processing_job_owner", "text", "wp_counter"),
        (
            "processing_jobs_to_start",
            "TABLE(processing_job_id uuid, user_id text, kind text, attempt integer)",
            "wp_counter",
        ),
        ("rate_penalise", "void", "wp_counter"),
        ("rate_take", "double precision", "wp_counter"),
        ("recently_used_workflows", "TABLE(user_id text, tenant_id text, version_id uuid)", "wp_counter"),
        (
            "running_sync_jobs",
            "TABLE(sync_job_id uuid, user_id text, data_source_id uuid, dagster_run_id text, is_beating boolean)",
            "wp_counter",
        ),
        ("silent_processing_jobs", "TABLE(processing_job_id uuid, user_id text, attempt integer)", "wp_counter"),
        ("silent_sync_jobs", "TABLE(sync_job_id uuid, user_id text, data_source_id uuid)", "wp_counter"),
        ("sources_to_probe", "TABLE(user_id text, data_source_id uuid)", "wp_counter"),
        ("tenants_with_executions", "TABLE(tenant_id text)", "wp_counter"),
        ("unwanted_sync_jobs", "TABLE(sync_job_id uuid)", "wp_counter"),
        ("users_with_rows", "TABLE(user_id text)", "wp_counter"),
        ("waiting_sync_jobs", waiting, "wp_counter"),
        ("webhook_owners", "TABLE(user_id text)", "wp_counter"),
        ("workflow_runs_to_mirror", to_mirror, "wp_counter"),
        ("workflow_secret_owners", "TABLE(user_id text, tenant_id text)", "wp_counter"),
        ("workflow_version_by_job", "TABLE(user_id text, tenant_id text, version_id uuid)", "wp_counter"),
    ]
    told = json.dumps(bob.run("SELECT * FROM app.sources_to_probe('local_folder', 10)").fetchall(), default=str)
    assert "notes" not in told


def test_role_across_users_may_read_ids_and_write_counts_only(admin: Admin) -> None:
    granted = admin.execute(
        """SELECT table_name, column_name FROM information_schema.column_privileges
            WHERE grantee = 'wp_counter' AND table_schema = 'app' AND privilege_type <> 'SELECT'"""
    ).fetchall()
    written_by_triggers = {"events", "timeline_events", "webhook_deliveries", *APPEND_ONLY}
    assert sorted(pair for pair in granted if pair[0] not in written_by_triggers) == [
        *(("index_outbox", column) for column in ("document_id", "namespace_id", "next_try_at", "seq", "user_id")),
        ("projects", "document_count"),
        ("tags", "document_count"),
        ("webhooks", "updated_at"),  # which lets a row be locked
        *(
            ("workflow_executions", column)
            for column in ("cost", "input_tokens", "output_tokens", "progress_percentage", "steps_over")
        ),
        *(("workflow_steps", column) for column in ("cost", "input_tokens", "output_tokens")),
        ("workflow_templates", "usage_count"),
        *(
            ("workflows", column)
            for column in (
                "cancelled_executions",
                "completed_executions",
                "failed_executions",
                "last_executed_at",
                "total_cost",
                "total_duration_s",
                "total_executions",
                "total_tokens",
            )
        ),
    ]
    secret = "SELECT has_column_privilege('wp_counter', 'app.data_sources', %s, 'SELECT')"
    for column in ("auth_data", "cursor", "config", "name"):
        assert admin.execute(secret, [column]).fetchall() == [(False,)]
    secret = "SELECT has_column_privilege('wp_counter', 'app.' || %s, %s, 'SELECT')"
    for table, column in (
        ("webhooks", "url"),
        ("webhooks", "sealed_secret"),
        ("events", "message"),
        ("workflows", "name"),
        ("workflow_versions", "definition"),
        ("workflow_secrets", "name"),
        ("workflow_secrets", "sealed_value"),
        ("scheduled_workflows", "input"),
    ):
        assert admin.execute(secret, [table, column]).fetchall() == [(False,)]
    assert admin.execute("SELECT has_table_privilege('wp_counter', 'app.documents', 'SELECT')").fetchall() == [(False,)]


def test_temporary_tables_and_functions_of_the_same_name_change_nothing(bob: Attacker) -> None:
    bob.connection.execute("CREATE TEMP TABLE documents (user_id text)")
    bob.connection.execute("CREATE TEMP TABLE tags (user_id text, id uuid, document_count integer)")
    bob.connection.execute(
        "CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'alice' $$"
    )
    bob.connection.execute("SET search_path = pg_temp, pg_catalog, app, public")
    assert bob.run("SELECT DISTINCT user_id FROM app.documents").fetchall() == [("bob",)]
    assert bob.run("SELECT DISTINCT user_id FROM app.documents_with_metadata").fetchall() == [("bob",)]
    bob.run("DELETE FROM app.document_tags")
    assert bob.run("SELECT document_count FROM app.tags").fetchall() == [(0,)]


def test_deleting_a_source_takes_bobs_rows_with_it_and_no_others(bob: Attacker, admin: Admin, bobs: Library) -> None:
    bob.run("DELETE FROM app.data_sources")
    emptied = ("documents", "chunks", "document_tags", "sync_items", "sync_jobs", "sync_failures", "scheduled_syncs")
    assert [table for table in emptied if _rows(admin, table, "bob")] == []
    assert [row["document_count"] for table in ("projects", "tags") for row in _rows(admin, table, "bob")] == [0, 0]
    assert bobs.user_id == "bob"


def test_context_ends_with_its_transaction(bob: Attacker) -> None:
    assert bob.run("SELECT app.current_user_id()").fetchall() == [("bob",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no user context"):
        bob.connection.execute("SELECT * FROM app.documents")


def test_context_set_for_the_session_would_outlive_its_transaction(bob: Attacker) -> None:
    """Why the context is transaction-local, and why the pool clears it all the same."""
    bob.connection.execute("SELECT set_config('app.user_id', 'alice', false)")
    assert bob.connection.execute("SELECT DISTINCT user_id FROM app.documents").fetchall() == [("alice",)]


def test_view_of_a_superuser_without_security_invoker_would_leak(bob: Attacker, admin: Admin) -> None:
    """Why verify_rls() asks for security_invoker on every view."""
    admin.execute("CREATE VIEW app.careless AS SELECT * FROM app.tags; GRANT SELECT ON app.careless TO wp_app")
    owners = bob.run("SELECT DISTINCT user_id FROM app.careless ORDER BY 1").fetchall()
    assert owners == [("alice",), ("bob",)]
    assert ("view without security_invoker", "careless") in bob.run("SELECT * FROM app.verify_rls()").fetchall()


def test_materialized_view_would_leak(bob: Attacker, admin: Admin) -> None:
    """Why verify_rls() allows none."""
    admin.execute("CREATE MATERIALIZED VIEW app.kept AS SELECT * FROM app.tags; GRANT SELECT ON app.kept TO wp_app")
    owners = bob.run("SELECT DISTINCT user_id FROM app.kept ORDER BY 1").fetchall()
    assert owners == [("alice",), ("bob",)]
    assert ("materialized view", "kept") in bob.run("SELECT * FROM app.verify_rls()").fetchall()


def test_foreign_key_by_id_alone_would_let_bob_attach_to_alices_row(
    bob: Attacker, admin: Admin, alices: Library
) -> None:
    """Why every foreign key carries the owner."""
    admin.execute(
        """ALTER TABLE app.documents DROP CONSTRAINT documents_project_fk,
             ADD CONSTRAINT by_id FOREIGN KEY (project_id) REFERENCES app.projects (id)"""
    )
    attach = _on("documents", "UPDATE {} SET project_id = %s")
    assert bob.state_of(attach, [alices.project_id]) == "00000"
    assert bob.state_of(attach, [uuid4()]) == "23503"
