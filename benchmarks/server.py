"""The PostgreSQL server that a benchmark runs on, and a fresh database for each measured load."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from sqlalchemy import make_url

from workstation_pipelines.db import embedded, migrate, postgres_programs
from workstation_pipelines.db.postgres_server import PORT, PostgresServer
from workstation_pipelines.settings import libpq_url

# Forced checkpoints stay out of the measured phases, which begin with one of their own. Durability stays as it is.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "jit": "off",
    "timezone": "UTC",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
}
_TEMPLATE = "bench_template"


@dataclass(frozen=True, slots=True)
class Server:
    """A server whose role in `admin_url` is superuser; `pid` of its postmaster, None when it is not ours."""

    admin_url: str
    pid: int | None

    @contextmanager
    def engine_database(self, name: str) -> Iterator[str]:
        """A migrated database of this name for the block; yields the URL for the engine."""
        with self._database(name, _TEMPLATE) as url:
            yield url

    @contextmanager
    def floor_database(self, name: str) -> Iterator[str]:
        """An empty database with pgvector for the block; yields the URL for psycopg."""
        with self._database(name, "template1") as url:
            with connect(url) as connection:
                connection.execute("CREATE EXTENSION vector")
            yield libpq_url(url)

    def migrate_template(self) -> None:
        """Make the database that the engine's are copied from."""
        self._drop(_TEMPLATE)
        with connect(self.admin_url) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
        migrate.upgrade(_with_database(self.admin_url, _TEMPLATE))

    def drop_template(self) -> None:
        self._drop(_TEMPLATE)

    def cpu_s(self) -> float | None:
        """CPU seconds that the server's processes have used so far, dead ones included."""
        if self.pid is None:
            return None
        spent = 0.0
        postmaster = psutil.Process(self.pid)
        for process in (postmaster, *postmaster.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                spent += times.user + times.system
                if process == postmaster:
                    spent += times.children_user + times.children_system
        return spent

    @contextmanager
    def _database(self, name: str, template: str) -> Iterator[str]:
        self._drop(name)
        with connect(self.admin_url) as connection:
            made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield _with_database(self.admin_url, name)
        finally:
            self._drop(name)

    def _drop(self, name: str) -> None:
        with connect(self.admin_url) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def private_server(folder: Path) -> Iterator[Server]:
    """The project's own embedded server in `folder`, with the settings above, stopped afterwards."""
    urls = embedded.ensure_running(folder)
    embedded.stop(folder)
    home = (folder / "postgres").resolve()
    settings = _SETTINGS | {"unix_socket_directories": str(home)}
    options = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    started = postgres_programs.run(
        postgres_programs.account_for(home),
        "pg_ctl",
        home / "data",
        "start",
        f"--log={home / 'server.log'}",
        f"--options={options}",
        "-w",
    )
    if started.returncode != 0:
        raise SystemExit(f"PostgreSQL does not start in {home}: see its server.log. Is the path longer than 80 bytes?")
    try:
        yield Server(urls.admin_url, PostgresServer(home).pid())
    finally:
        embedded.stop(folder)


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(libpq_url(url), autocommit=True)


def _with_database(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)
