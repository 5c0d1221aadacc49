"""`workstation db` and `workstation env`."""

from __future__ import annotations

import subprocess

import psycopg
import pytest

from tests.cli.program import Program
from tests.conftest import DatabaseUrls
from workstation_pipelines.settings import DAGSTER_DRIVER, libpq_url, with_driver


def test_upgrade_brings_an_empty_database_to_the_newest_revision(workstation: Program, dagster_url: str) -> None:
    empty = with_driver(libpq_url(dagster_url), "psycopg")
    workstation.settings = workstation.settings.model_copy(update={"database_url": empty, "database_admin_url": empty})
    before = workstation("db", "status", "--json").value
    assert before["revision"] is None
    assert workstation("db", "verify").code == 2
    upgraded = workstation("db", "upgrade", "--json").value
    assert upgraded == {"before": None, "after": before["newest_revision"]}
    assert "already" in workstation("db", "upgrade").out
    assert workstation("db", "status", "--json").value["revision"] == before["newest_revision"]


def test_migrated_database_verifies(workstation: Program) -> None:
    verified = workstation("db", "verify", "--json")
    assert (verified.code, verified.value) == (0, {"row_level_security": [], "drift": []})
    assert "holds" in workstation("db", "verify").out


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        ("ALTER TABLE app.documents DISABLE ROW LEVEL SECURITY", "row_level_security"),
        ("ALTER TABLE app.documents ADD COLUMN surplus text", "drift"),
    ],
)
def test_damaged_schema_does_not_verify(
    workstation: Program, database_urls: DatabaseUrls, statement: str, part: str
) -> None:
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as connection:
        connection.execute(statement)
    verified = workstation("db", "verify", "--json")
    assert verified.code == 1
    assert verified.value[part]
    assert workstation("db", "verify").code == 1


def test_open_database_is_not_worked_on(workstation: Program, database_urls: DatabaseUrls) -> None:
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as connection:
        connection.execute("ALTER TABLE app.documents DISABLE ROW LEVEL SECURITY")
    ran = workstation("documents", "list")
    assert ran.code == 2
    assert "row-level security does not hold" in ran.err


def test_stop_without_a_server_says_so(workstation: Program) -> None:
    assert workstation("db", "stop", "--json").value == {"was_running": False}
    assert "was not running" in workstation("db", "stop").out


def test_env_prints_lines_that_a_shell_takes(workstation: Program) -> None:
    url = f"postgresql+{DAGSTER_DRIVER}://me:it's%20me@db.example/dagster"
    workstation.settings = workstation.settings.model_copy(update={"dagster_postgres_url": url})
    variables = workstation("env", "--json").value
    assert variables["WORKSTATION_HOME"] == str(workstation.settings.home)
    assert variables["DAGSTER_POSTGRES_URL"] == url
    lines = workstation("env").out
    script = f'{lines}\nprintf %s "$DAGSTER_HOME $DAGSTER_POSTGRES_URL"'
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == f"{variables['DAGSTER_HOME']} {url}"
