"""A database for each module, in which every test has users of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabaseUrls, fresh_database
from workstation_pipelines import settings
from workstation_pipelines.db.engine import Database


@pytest.fixture(scope="module")
def shared_urls(postgres: DatabaseUrls, template_database: str) -> Iterator[DatabaseUrls]:
    with fresh_database(postgres, template_database) as urls:
        yield urls


@pytest.fixture(scope="module")
def shared(shared_urls: DatabaseUrls) -> Iterator[Database]:
    """The application's pool, as wp_app."""
    database = Database(shared_urls.app_url, pool_size=4)
    yield database
    database.close()


@pytest.fixture(scope="module")
def shared_admin(shared_urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    """A superuser on that database, in autocommit: row-level security does not bind it."""
    with psycopg.connect(settings.libpq_url(shared_urls.admin_url), autocommit=True) as connection:
        yield connection
