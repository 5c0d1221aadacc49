"""One PostgreSQL server for a whole test run, and a fresh migrated database for each test that asks.

The server is an embedded one in a temporary home, shared by all xdist workers and gone afterwards; or, with
TEST_DATABASE_ADMIN_URL, any server on which that URL's role may create databases and roles.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings

if TYPE_CHECKING:
    import psycopg

# How long an example takes says more of the machine than of the code.
hypothesis_settings.register_profile("machine", deadline=None)
hypothesis_settings.load_profile("machine")

_HOME = pytest.StashKey[Path]()
_VENDORS = ("GOOGLE_", "GMAIL_", "NOTION_", "SLACK_", "DROPBOX_", "ONEDRIVE_", "MICROSOFT_", "COMPOSIO_")
_BLOCKS = ("APIFY_", "APOLLO_")
_SETTINGS_PREFIXES = ("WORKSTATION_", "DATABASE_", "DAGSTER_", "PINECONE_", *_VENDORS, *_BLOCKS)
_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


class DatabaseUrls(NamedTuple):
    """A database of one's own: as the superuser, and as the role that row-level security restricts."""

    admin_url: str
    app_url: str


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith(_SETTINGS_PREFIXES)]:
        del os.environ[name]
    worker_input = getattr(config, "workerinput", None)
    if worker_input is None:
        config.stash[_HOME] = Path(tempfile.mkdtemp(prefix="ws-tests-"))
    else:
        config.stash[_HOME] = Path(worker_input["postgres_home"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell each xdist worker where the shared server lives."""
    node.workerinput["postgres_home"] = str(node.config.stash[_HOME])  # type: ignore[attr-defined]  # xdist has no types


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or _HOME not in config.stash:
        return
    from workstation_pipelines.db import embedded

    home = config.stash[_HOME]
    embedded.stop(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> DatabaseUrls:
    """URLs on the run's server; their database is not for tests, see `database_urls`."""
    from sqlalchemy import make_url

    given = os.environ.get("TEST_DATABASE_ADMIN_URL")
    if not given:
        return _embedded_urls(pytestconfig.stash[_HOME])
    admin = make_url(given).set(drivername="postgresql+psycopg")
    app = admin.set(username="wp_app", password="only-for-tests")
    return DatabaseUrls(admin.render_as_string(hide_password=False), app.render_as_string(hide_password=False))


@pytest.fixture(scope="session")
def template_database(postgres: DatabaseUrls) -> str:
    """Name of a database that is migrated to the newest revision and to which nobody is connected."""
    from psycopg import sql

    from workstation_pipelines.db import migrate

    sources = sorted(path for path in _MIGRATIONS.rglob("*") if path.suffix in (".py", ".json"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    name = f"ws_template_{digest.hexdigest()[:12]}"
    with _connect(postgres.admin_url) as connection:
        connection.execute("SELECT pg_advisory_lock(7307199254740994)")
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            unfinished = sql.Identifier(f"{name}_unfinished")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(unfinished))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(unfinished))
            migrate.upgrade(_with_database(postgres.admin_url, f"{name}_unfinished"))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(unfinished, sql.Identifier(name)))
        if os.environ.get("TEST_DATABASE_ADMIN_URL"):
            connection.execute("ALTER ROLE wp_app LOGIN PASSWORD 'only-for-tests'")
    return name


@pytest.fixture
def database_urls(postgres: DatabaseUrls, template_database: str) -> Iterator[DatabaseUrls]:
    """A fresh copy of the migrated database, dropped after the test whatever is still connected."""
    with fresh_database(postgres, template_database) as urls:
        yield urls


@pytest.fixture
def dagster_url(postgres: DatabaseUrls) -> Iterator[str]:
    """A fresh empty database for Dagster's storage; it cannot share one with the application."""
    from workstation_pipelines import settings

    with fresh_database(postgres, "template1") as urls:
        yield settings.with_driver(urls.admin_url, settings.DAGSTER_DRIVER)


@contextmanager
def fresh_database(postgres: DatabaseUrls, template: str) -> Iterator[DatabaseUrls]:
    """A copy of a database, for a fixture of any scope; dropped afterwards whatever is still connected."""
    from psycopg import sql

    name = f"ws_test_{uuid4().hex}"
    with _connect(postgres.admin_url) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        yield DatabaseUrls(_with_database(postgres.admin_url, name), _with_database(postgres.app_url, name))
    finally:
        with _connect(postgres.admin_url) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _embedded_urls(home: Path) -> DatabaseUrls:
    from workstation_pipelines.db import embedded

    urls = embedded.ensure_running(home)
    with _connect(urls.admin_url) as connection:
        # A test's data need not survive a power cut; killed processes lose nothing by this.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")
    return DatabaseUrls(urls.admin_url, urls.app_url)


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    import psycopg

    from workstation_pipelines import settings

    return psycopg.connect(settings.libpq_url(url), autocommit=True)


def _with_database(url: str, database: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).set(database=database).render_as_string(hide_password=False)
