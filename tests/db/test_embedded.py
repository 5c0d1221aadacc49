"""The embedded server comes back by itself from whatever happened to it, and is shared by everyone on one home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import psycopg2
import pytest
from sqlalchemy import create_engine

from workstation_pipelines import settings
from workstation_pipelines.db import embedded, postgres_server
from workstation_pipelines.errors import InvalidRequestError

_CALL = """
import sys
from pathlib import Path
from workstation_pipelines.db import embedded
print(embedded.ensure_running(Path(sys.argv[1])).app_url, embedded.status(Path(sys.argv[1])).pid)
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with a server; the tests share it, since each of them must leave a working one."""
    with _temporary_home() as folder:
        yield folder


@pytest.fixture
def new_home() -> Iterator[Path]:
    with _temporary_home() as folder:
        yield folder


@contextmanager
def _temporary_home() -> Iterator[Path]:
    # Not tmp_path: every pytest run closes its parent folder again, also under the server of another run.
    with tempfile.TemporaryDirectory(prefix="ws-home-") as folder:
        yield Path(folder)
        embedded.stop(Path(folder))


def _ask(urls: embedded.EmbeddedUrls) -> str:
    with psycopg.connect(settings.libpq_url(urls.app_url)) as connection:
        row = connection.execute("SELECT current_user || ' ' || current_database()").fetchone()
    assert row is not None
    return str(row[0])


def _kill_postmaster(home: Path) -> int:
    pid = embedded.status(home).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    return pid


def test_processes_that_start_at_once_on_an_empty_home_share_one_server(new_home: Path) -> None:
    callers = [
        subprocess.Popen([sys.executable, "-c", _CALL, str(new_home)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = {caller.communicate(timeout=60)[0] for caller in callers}
    assert [caller.returncode for caller in callers] == [0, 0, 0]
    assert len(answers) == 1
    assert "wp_app@/workstation" in answers.pop()


def test_urls_work_with_every_driver_and_name_the_roles_they_promise(home: Path) -> None:
    urls = embedded.ensure_running(home)
    seen = []
    for url in (urls.admin_url, urls.app_url, urls.dagster_url):
        engine = create_engine(url)
        with engine.connect() as connection:
            seen.append(tuple(connection.exec_driver_sql("SELECT current_user, current_database()").one()))
        engine.dispose()
    assert seen == [("postgres", "workstation"), ("wp_app", "workstation"), ("wp_dagster", "dagster")]

    psycopg.connect(settings.libpq_url(urls.app_url)).close()
    psycopg2.connect(settings.libpq_url(urls.dagster_url)).close()


def test_application_role_cannot_bypass_row_security_or_reach_dagsters_database(home: Path) -> None:
    urls = embedded.ensure_running(home)
    with psycopg.connect(settings.libpq_url(urls.admin_url)) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolinherit, rolcreaterole FROM pg_roles WHERE rolname = 'wp_app'"
        ).fetchone()
    assert row == (False, False, False, False)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(settings.libpq_url(urls.app_url).replace("/workstation?", "/dagster?"))


def test_server_is_reached_by_its_owner_only_and_by_no_network_address(home: Path) -> None:
    urls = embedded.ensure_running(home)
    folder = postgres_server.PostgresServer(home / "postgres").socket_folder()
    assert folder.stat().st_mode & 0o077 == 0
    with psycopg.connect(settings.libpq_url(urls.admin_url)) as connection:
        shown = {
            name: connection.execute(f"SHOW {name}").fetchone()
            for name in ("listen_addresses", "fsync", "jit", "timezone", "server_encoding")
        }
    assert shown == {
        "listen_addresses": ("",),
        "fsync": ("on",),
        "jit": ("off",),
        "timezone": ("UTC",),
        "server_encoding": ("UTF8",),
    }


def test_stop_ends_a_server_once_and_the_next_call_starts_it_again(home: Path) -> None:
    embedded.ensure_running(home)
    assert embedded.status(home).state == embedded.ServerState.RUNNING
    assert embedded.stop(home) is True
    assert embedded.stop(home) is False
    assert embedded.status(home).state == embedded.ServerState.STOPPED
    assert _ask(embedded.ensure_running(home)) == "wp_app workstation"


@pytest.mark.crash
def test_killed_postmaster_is_replaced_although_its_backends_linger(home: Path) -> None:
    urls = embedded.ensure_running(home)
    with psycopg.connect(settings.libpq_url(urls.admin_url), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (line text)")
        connection.execute("INSERT INTO kept VALUES ('committed')")
        killed = _kill_postmaster(home)
        urls = embedded.ensure_running(home)
    assert embedded.status(home).pid != killed
    with psycopg.connect(settings.libpq_url(urls.admin_url)) as connection:
        assert connection.execute("SELECT line FROM kept LIMIT 1").fetchone() == ("committed",)


@pytest.mark.crash
def test_pid_file_that_names_another_program_is_not_taken_for_a_server(home: Path) -> None:
    embedded.ensure_running(home)
    killed = _kill_postmaster(home)
    folder = home / "postgres"
    # PostgreSQL itself ignores pids of other accounts and of its ancestors, so neither would do here.
    stranger = subprocess.Popen(["/bin/sleep", "600"], user=(folder / "data").stat().st_uid)
    try:
        for lock in (folder / "data" / "postmaster.pid", folder / ".s.PGSQL.5432.lock"):
            lock.write_text(lock.read_text().replace(str(killed), str(stranger.pid), 1))
        assert embedded.status(home).state == embedded.ServerState.STOPPED
        assert _ask(embedded.ensure_running(home)) == "wp_app workstation"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.crash
def test_half_made_cluster_is_made_again(new_home: Path) -> None:
    unfinished = new_home / "postgres" / "data.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (new_home / "postgres").chmod(0o700)
    assert _ask(embedded.ensure_running(new_home)) == "wp_app workstation"


@pytest.mark.crash
def test_server_without_its_socket_is_restarted(home: Path) -> None:
    embedded.ensure_running(home)
    postgres_server.PostgresServer(home / "postgres").socket_folder().joinpath(".s.PGSQL.5432").unlink()
    assert _ask(embedded.ensure_running(home)) == "wp_app workstation"


def test_long_home_with_spaces_gets_a_short_private_socket_folder(new_home: Path) -> None:
    home = new_home / ("a folder with a long name " * 6) / "home"
    urls = embedded.ensure_running(home)
    try:
        assert _ask(urls) == "wp_app workstation"
        folder = postgres_server.PostgresServer(home / "postgres").socket_folder()
        assert len(str(folder)) < 80
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        embedded.stop(home)
    assert not folder.exists()


def test_home_that_cannot_be_written_is_refused_with_the_settings_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequestError, match=r"WORKSTATION_HOME.*DATABASE_URL"):
        embedded.ensure_running(tmp_path / "file" / "home")


def test_status_of_a_home_without_database_changes_nothing(tmp_path: Path) -> None:
    assert embedded.status(tmp_path).state == embedded.ServerState.ABSENT
    assert embedded.stop(tmp_path / "missing") is False
    assert list(tmp_path.iterdir()) == []
