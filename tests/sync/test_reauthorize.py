"""A grant that is withdrawn ends the sync once, tells its user to connect again, and loses nothing that was synced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DatabaseUrls
from tests.db import refreshing
from tests.fakes.oauth import MICROSOFT, OAuthDesk
from tests.fakes.server import Answer
from tests.sources.parcel import ParcelOffice, registered
from tests.sync.conftest import Ask
from tests.sync.parts import DigestEmbedder, PlainExtractor
from tests.sync.syncing import new_id, vectorizer
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import ReauthorizeError
from workstation_pipelines.model import DataSourceId, JobResult, JobStatus, SourceType, UserId
from workstation_pipelines.sources.credentials import Secret, Tokens
from workstation_pipelines.sources.sealing import new_key
from workstation_pipelines.sync.connect import connect
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.workspace import Workspace

ALICE = UserId("alice")


class Place:
    """One data source at a fake vendor whose refresh tokens rotate."""

    def __init__(self, workspace: Workspace, desk: OAuthDesk) -> None:
        self.workspace = workspace
        self.desk = desk
        with workspace.database.transaction_with_rls(ALICE) as connection:
            self._id = data_sources.add(
                connection,
                user_id=ALICE,
                data_source_id=DataSourceId(new_id()),
                name="letters",
                source_type=SourceType.DROPBOX,
                config={},
            ).id

    @property
    def source(self) -> DataSource:
        with self.workspace.database.transaction_with_rls(ALICE) as connection:
            return data_sources.get(connection, user_id=ALICE, data_source_id=self._id)

    @property
    def office(self) -> ParcelOffice:
        assert isinstance(self.desk.vendor, ParcelOffice)
        return self.desk.vendor

    def connect(self, user: str = "user-1", *, confirm_account: bool = False) -> None:
        given = self.desk.grant(user)
        tokens = Tokens(Secret(given["access_token"]), Secret(given["refresh_token"]))
        connect(self.workspace, self.source, tokens, confirm_account=confirm_account)

    def sync(self, *, confirm_deletes: bool = False) -> JobResult:
        parts = SyncParts(
            database=self.workspace.database,
            source=self.workspace.open_source(self.source),
            extractor=PlainExtractor(),
            vectorizer=vectorizer(self.workspace.database, ALICE, DigestEmbedder()),
            new_id=new_id,
        )
        return drive(run_sync(parts, self.source, SyncRequest(confirm_deletes=confirm_deletes)))


@pytest.fixture
def place(database: Database, database_urls: DatabaseUrls, tmp_path: Path) -> Iterator[Place]:
    with registered(SourceType.DROPBOX, "microsoft"), ParcelOffice() as office:
        desk = OAuthDesk(office, MICROSOFT)
        settings = refreshing.settings(database_urls.app_url, new_key("k"), refreshing.vendor_settings(desk))
        yield Place(Workspace(settings, database), desk)
        assert office.violations == []


def test_sync_goes_on_when_its_token_runs_out_in_the_middle(place: Place) -> None:
    place.connect()
    place.office.fail("/v1/files/f2", answer=_refused(), times=1)
    assert place.sync().status is JobStatus.COMPLETED
    assert place.desk.refreshes == 1
    assert place.sync().status is JobStatus.COMPLETED


def test_withdrawn_grant_ends_the_job_once_and_without_retries(place: Place, ask: Ask) -> None:
    place.connect()
    assert place.sync().status is JobStatus.COMPLETED
    place.desk.revoke_all()
    asked = place.office.calls("/oauth/token")
    with pytest.raises(ReauthorizeError):
        place.sync()
    assert place.office.calls("/oauth/token") == asked + 1
    assert ask("SELECT status FROM app.sync_jobs ORDER BY created_at DESC LIMIT 1") == [("failed",)]
    assert (place.source.connection_status, place.source.needs_reauth) == ("error", True)
    assert ask("SELECT count(*) FROM app.documents WHERE deleted_at IS NULL") == [(2,)]
    requests = len(place.office.requests)
    with pytest.raises(ReauthorizeError):
        place.sync()
    assert len(place.office.requests) == requests, "the vendor is left alone until somebody connects again"


def test_connecting_again_goes_on_where_it_was(place: Place, ask: Ask) -> None:
    place.connect()
    place.sync()
    documents = ask("SELECT id FROM app.documents ORDER BY id")
    place.desk.revoke_all()
    with pytest.raises(ReauthorizeError):
        place.sync()
    place.connect()
    assert (place.source.connection_status, place.source.needs_reauth) == ("connected", False)
    result = place.sync()
    assert (result.status, result.counts.unchanged, result.counts.fetched) == (JobStatus.COMPLETED, 2, 0)
    assert ask("SELECT id FROM app.documents ORDER BY id") == documents


def test_another_account_replaces_the_documents_of_the_first(place: Place, ask: Ask) -> None:
    place.connect()
    place.sync()
    place.connect("user-2", confirm_account=True)
    assert place.sync(confirm_deletes=True).status is JobStatus.COMPLETED
    live = ask("SELECT external_id FROM app.sync_items WHERE sync_status = 'synced'")
    assert live == [("g1",)]


def test_no_token_is_left_in_the_records_of_failed_syncs(place: Place, ask: Ask) -> None:
    place.connect()
    place.desk.revoke_all()
    with pytest.raises(ReauthorizeError):
        place.sync()
    rows = ask("SELECT j::text FROM app.sync_jobs j UNION ALL SELECT d::text FROM app.data_sources d")
    assert len(rows) == 2
    assert "canary" not in str(rows)


def _refused() -> Answer:
    return Answer.of({"error": "unauthorized"}, 401)
