"""A folder and a scripted account to sync, a database, and questions about what it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.sync.parts import DigestEmbedder
from tests.sync.scripted import VendorAccount
from tests.sync.syncing import Wish, sync
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import JobResult
from workstation_pipelines.settings import libpq_url

Ask = Callable[..., list[Any]]


class Place:
    """Somewhere to sync from, with what the syncs embedded."""

    def __init__(self, path: Path, app_url: str) -> None:
        self.path = path
        self.wish = Wish(app_url, str(path))
        self.embedded: list[str] = []

    def sync(self, **changes: Any) -> JobResult:
        embedder = DigestEmbedder()
        try:
            return sync(replace(self.wish, **changes), embedder)
        finally:
            self.embedded = embedder.texts


@pytest.fixture
def folder(tmp_path: Path, database_urls: DatabaseUrls) -> Place:
    (tmp_path / "folder").mkdir()
    return Place(tmp_path / "folder", database_urls.app_url)


@pytest.fixture
def account_place(tmp_path: Path, database_urls: DatabaseUrls) -> Place:
    return Place(tmp_path / "account.json", database_urls.app_url)


@pytest.fixture
def account(account_place: Place) -> VendorAccount:
    return VendorAccount(account_place.path)


@pytest.fixture
def ask(database_urls: DatabaseUrls) -> Iterator[Ask]:
    """Run SQL as a superuser and return all rows."""
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as connection:

        def run(statement: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def database(database_urls: DatabaseUrls) -> Iterator[Database]:
    database = Database(database_urls.app_url)
    yield database
    database.close()
