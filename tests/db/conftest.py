"""A user's data source, documents and runs, made with the same statements that the engine uses."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from tests.conftest import DatabaseUrls
from tests.db.rows import Library, populate
from workstation_pipelines import settings
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId

ALICE = UserId("alice")
BOB = UserId("bob")


@pytest.fixture(scope="module")
def module_database_urls(postgres: DatabaseUrls, template_database: str) -> Iterator[DatabaseUrls]:
    """Like `database_urls`, one for a whole module: for properties whose examples have users of their own."""
    name = f"ws_module_{uuid4().hex}"
    with psycopg.connect(settings.libpq_url(postgres.admin_url), autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(template_database)))
        yield DatabaseUrls(*(make_url(url).set(database=name).render_as_string(False) for url in postgres))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def shared(module_database_urls: DatabaseUrls) -> Iterator[Database]:
    """The application's pool on that database."""
    database = Database(module_database_urls.app_url, pool_size=2)
    yield database
    database.close()


@pytest.fixture(scope="module")
def module_admin(module_database_urls: DatabaseUrls) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser on that database, for changes that are rolled back."""
    with psycopg.connect(settings.libpq_url(module_database_urls.admin_url), autocommit=True) as connection:
        yield connection


@pytest.fixture
def database(database_urls: DatabaseUrls) -> Iterator[Database]:
    """The application's pool, as wp_app."""
    database = Database(database_urls.app_url, pool_size=2)
    yield database
    database.close()


@pytest.fixture
def admin(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser on the same database, in autocommit: row-level security does not bind it."""
    with psycopg.connect(settings.libpq_url(database_urls.admin_url), autocommit=True) as connection:
        yield connection


@pytest.fixture
def alices(database: Database) -> Library:
    """Alice's rows: at least one in every table."""
    return populate(database, ALICE)


@pytest.fixture
def bobs(database: Database) -> Library:
    """Bob's rows: at least one in every table."""
    return populate(database, BOB)
