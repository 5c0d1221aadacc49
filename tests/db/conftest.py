"""A user's data source, documents and runs, made with the same statements that the engine uses."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.db.rows import Library, populate
from workstation_pipelines import settings
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId

ALICE = UserId("alice")
BOB = UserId("bob")


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
