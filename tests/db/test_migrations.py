"""Every earlier database reaches the newest schema with its rows, once and for all, whoever else upgrades meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Column, MetaData, Text, make_url
from sqlalchemy.exc import ProgrammingError

from tests.conftest import DatabaseUrls
from tests.db import waiting
from tests.db.rows import APPEND_ONLY, UNCHANGED
from workstation_pipelines import settings
from workstation_pipelines.db import migrate, tables
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId

_UPGRADE = "import sys; from workstation_pipelines.db import migrate; migrate.upgrade(sys.argv[1])"
_TABLES = sorted(table.name for table in tables.metadata.sorted_tables)
REVISIONS = migrate.revisions()

Admin = psycopg.Connection[Any]
EmptyDatabase = Callable[[], str]


@pytest.fixture
def empty_database(postgres: DatabaseUrls, template_database: str) -> Iterator[EmptyDatabase]:
    """Makes databases without a schema and returns their admin URLs.

    It asks for the template only so that the server's roles exist: other tests may be using them.
    """
    made: list[sql.Identifier] = []
    with _connected(postgres.admin_url) as connection:

        def make() -> str:
            name = f"ws_empty_{uuid4().hex}"
            made.append(sql.Identifier(name))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(made[-1]))
            return make_url(postgres.admin_url).set(database=name).render_as_string(hide_password=False)

        yield make
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def _connected(admin_url: str) -> Iterator[Admin]:
    with psycopg.connect(settings.libpq_url(admin_url), autocommit=True) as connection:
        yield connection


def _required_columns(connection: Admin, table: str) -> list[tuple[str, str]]:
    """The columns without a default, and those of the owner, which only the system's rows lack."""
    return connection.execute(
        """SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
            WHERE attrelid = %s::regclass AND attnum > 0 AND NOT atthasdef AND attidentity = ''
              AND (attnotnull OR attname IN ('user_id', 'tenant_id')) ORDER BY attnum""",
        [f"app.{table}"],
    ).fetchall()


_SAMPLES: dict[str, object] = {
    "text": "x",
    "uuid": uuid4(),
    "bytea": b"x",
    "integer": 1,
    "bigint": 1,
    "boolean": False,
    "tsvector": "x:1",
    "jsonb": "{}",
    "double precision": 1.0,
    "numeric": 1,
    "timestamp with time zone": datetime(2026, 1, 2, tzinfo=UTC),
}

# Columns that refer to a row above, or whose CHECK admits only some values.
_PARENTS = {
    "document_id": "documents",
    "tag_id": "tags",
    "data_source_id": "data_sources",
    "namespace_id": "index_namespaces",
    "index_config_id": "index_configs",
    "project_id": "projects",
    "build_id": "index_builds",
    "processing_job_id": "processing_jobs",
    "webhook_id": "webhooks",
    "workflow_id": "workflows",
    "workflow_version_id": "workflow_versions",
    "execution_id": "workflow_executions",
    "step_id": "workflow_steps",
}
_ALLOWED: dict[str, object] = {
    "kind": "bulk_document_processing",
    "source_type": "notion",
    "job_type": "manual",
    "item_type": "page",
    "sync_status": "synced",
    "stage": "fetch",
    "transformation_type": "truncate",
    "project_assigned_by": "user",
    "assigned_by": "user",
    "schedule_type": "daily",
    "start_offset": 0,
    "period": "day",
    "unit": "usd",
    "severity": "info",
    "occasion": "test",
    "kinds": ["another"],
    "sealed_secret": '{"v": 1, "kid": "", "ct": ""}',
    "sealed_value": '{"v": 1, "kid": "", "ct": ""}',
}


def _insert_samples(connection: Admin, user: str) -> dict[str, int]:
    """Put one row of the user's into every table that exists, parents first, and return the number of rows by table."""
    ids: dict[str, object] = {}
    present = {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'app'")}
    ordered = [table.name for table in tables.metadata.sorted_tables if table.name in present - APPEND_ONLY]
    assert set(ordered) == present - APPEND_ONLY
    # From a namespace on, the database writes rows of its own for each document.
    ordered.sort(key=lambda name: name in ("index_namespaces", "index_outbox", "index_sent"))
    for table in ordered:
        values: dict[str, object] = {}
        for column, kind in _required_columns(connection, table):
            if column == "id":
                values[column] = ids[table] = uuid4()
            elif column in _PARENTS:
                values[column] = ids[_PARENTS[column]]
            else:
                values[column] = user if column == "user_id" else _ALLOWED.get(column, _SAMPLES.get(kind))
        connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier("app", table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join([sql.Placeholder()] * len(values)),
            ),
            list(values.values()),
        )
    return _counted(connection, user, ordered)


def _counted(connection: Admin, user: str, names: Iterable[str]) -> dict[str, int]:
    count = sql.SQL("SELECT count(*) FROM {} WHERE user_id = %s")
    return {
        name: connection.execute(count.format(sql.Identifier("app", name)), [user]).fetchall()[0][0] for name in names
    }


def test_rows_of_every_earlier_revision_survive_the_upgrade_to_head(empty_database: EmptyDatabase) -> None:
    """One database goes the whole way, and at each revision a user of that time fills every table that there is."""
    url = empty_database()
    before: dict[str, dict[str, int]] = {}
    for revision in REVISIONS:
        migrate.upgrade(url, revision)
        assert migrate.current_revision(url) == revision
        with _connected(url) as connection:
            before[revision] = _insert_samples(connection, revision)
    with _connected(url) as connection:
        assert {user: _counted(connection, user, counts) for user, counts in before.items()} == before
    for counts in before.values():
        counts.pop("timeline_events", None)  # the database has written some of its own
        assert set(counts.values()) == {1}
    assert migrate.drift(url) == []


def test_second_upgrade_finds_nothing_to_do(database_urls: DatabaseUrls) -> None:
    migrate.upgrade(database_urls.admin_url)
    assert migrate.current_revision(database_urls.admin_url) == REVISIONS[-1]
    assert migrate.drift(database_urls.admin_url) == []


def _upgrading(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _UPGRADE, url], stderr=subprocess.PIPE, text=True)


def test_three_processes_upgrade_an_empty_database_together(empty_database: EmptyDatabase) -> None:
    url = empty_database()
    upgrades = [_upgrading(url) for _ in range(3)]
    assert [(upgrade.communicate(timeout=60)[1], upgrade.returncode) for upgrade in upgrades] == [("", 0)] * 3
    assert migrate.drift(url) == []


def test_upgrade_waits_for_another_database_that_changes_the_same_roles(
    empty_database: EmptyDatabase, admin: Admin
) -> None:
    url = empty_database()
    admin.execute("BEGIN")
    admin.execute("ALTER ROLE wp_app SET lock_timeout = '30s'")
    upgrade = _upgrading(url)
    with _connected(url) as watcher:
        waiting.until_somebody_waits(watcher)
    admin.execute("COMMIT")
    assert (upgrade.communicate(timeout=60)[1], upgrade.returncode) == ("", 0)


def test_no_revision_offers_a_way_back() -> None:
    scripts = list(ScriptDirectory(str(migrate.MIGRATIONS)).walk_revisions())
    assert len(scripts) == len(REVISIONS) > 0
    assert [script.revision for script in scripts if hasattr(script.module, "downgrade")] == []


def test_tables_py_describes_the_migrated_database(database_urls: DatabaseUrls) -> None:
    assert migrate.drift(database_urls.admin_url) == []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE app.tags ADD COLUMN colour text",
        "ALTER TABLE app.index_configs ALTER COLUMN model TYPE varchar(100)",
        "ALTER TABLE app.tags ALTER COLUMN name DROP NOT NULL",
        "DROP INDEX app.documents_project",
        "CREATE TABLE app.extra (id uuid)",
        "ALTER TABLE app.tags DROP CONSTRAINT tags_name_key",
        "ALTER TABLE app.chunks DROP CONSTRAINT chunks_document_fk",
    ],
)
def test_drift_names_a_change_to_the_database(database_urls: DatabaseUrls, admin: Admin, change: str) -> None:
    admin.execute(change)
    assert len(migrate.drift(database_urls.admin_url)) >= 1


def test_drift_names_a_column_that_only_tables_py_has(
    database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = MetaData(schema="app")
    for table in tables.metadata.sorted_tables:
        table.to_metadata(copy)
    copy.tables["app.projects"].append_column(Column("colour", Text))
    monkeypatch.setattr(migrate, "metadata", copy)
    assert [line for line in migrate.drift(database_urls.admin_url) if "colour" in line]


@pytest.mark.usefixtures("alices")
def test_every_table_says_when_a_row_came_and_when_it_last_changed(admin: Admin) -> None:
    then = datetime(2020, 1, 1, tzinfo=UTC)
    for table in sorted(set(_TABLES) - APPEND_ONLY - UNCHANGED):
        name = sql.Identifier("app", table)
        admin.execute("SET session_replication_role = replica")  # no triggers
        admin.execute(sql.SQL("UPDATE {} SET created_at = %s, updated_at = %s").format(name), [then, then])
        admin.execute("RESET session_replication_role")
        admin.execute(sql.SQL("UPDATE {} SET user_id = user_id").format(name))
        (moments,) = admin.execute(sql.SQL("SELECT min(created_at), min(updated_at) > %s FROM {}").format(name), [then])
        assert (table, *moments) == (table, then, True)


def test_present_tables_are_the_known_ones(admin: Admin) -> None:
    listed = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'app' ORDER BY 1").fetchall()
    assert [name for (name,) in listed] == _TABLES


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.alembic_version SET version_num = ''",
        "CREATE TABLE app.mine (id uuid)",
        "CREATE TABLE public.mine (id uuid)",
        "CREATE FUNCTION app.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE app.tags DISABLE ROW LEVEL SECURITY",
        "DROP POLICY owner_all ON app.tags",
    ],
)
def test_wp_app_may_not_touch_the_schema(database: Database, statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        database.query_with_rls(UserId("alice"), statement)
