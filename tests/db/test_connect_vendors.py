"""Each of the vendors from consent to withdrawal: the real connector, its fake with an authorization desk, the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.conftest import DatabaseUrls
from tests.fakes.oauth import OAuthDesk
from tests.sources.stage import Stage
from tests.sources.stages import close, stage_of
from tests.sources.test_oauth_grants import STYLES, VENDORS
from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import ReauthorizeError
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.model import DataSourceId, SourceType, UserId
from workstation_pipelines.settings import Settings, Vendor
from workstation_pipelines.sources.contract import Account
from workstation_pipelines.sources.sealing import new_key
from workstation_pipelines.sync.connect import connect
from workstation_pipelines.sync.credentials import grant_of
from workstation_pipelines.sync.workspace import Workspace

ALICE = UserId("alice")


@dataclass
class Place:
    workspace: Workspace
    stage: Stage
    desk: OAuthDesk
    source_id: DataSourceId

    @property
    def source(self) -> DataSource:
        with self.workspace.database.transaction_with_rls(ALICE) as connection:
            return data_sources.get(connection, user_id=ALICE, data_source_id=self.source_id)

    def connect(self) -> Account:
        endpoint = self.workspace.vault.endpoint(self.source.source_type)
        consent = endpoint.ask_consent("http://127.0.0.1:8765/")
        back = parse_qs(urlsplit(httpx.get(consent.url).headers["location"]).query)
        return connect(self.workspace, self.source, endpoint.exchange(back["code"][0], consent))

    def check(self) -> Account:
        opened = self.workspace.open_source(self.source)
        try:
            return opened.check()
        finally:
            opened.close()


@pytest.fixture(params=VENDORS)
def place(request: pytest.FixtureRequest, database: Database, database_urls: DatabaseUrls) -> Iterator[Place]:
    source_type: SourceType = request.param
    stage = stage_of(source_type)
    assert stage.vendor is not None
    style = replace(STYLES[source_type], needs_pkce=grant_of(source_type).uses_pkce)
    desk = OAuthDesk(stage.vendor, style)
    desk.user_id = next(iter(stage.vendor.tokens.values()))
    vendor = Vendor.model_validate({**desk.settings, **{f"{name}_url": url for name, url in stage.urls().items()}})
    settings = Settings(DATABASE_URL=database_urls.app_url, WORKSTATION_TOKEN_KEYS=new_key("k"))
    workspace = Workspace(settings.model_copy(update={source_type.value: vendor}), database)
    with database.transaction_with_rls(ALICE) as connection:
        source = data_sources.add(
            connection,
            user_id=ALICE,
            data_source_id=DataSourceId(Uuid7()()),
            name="mine",
            source_type=source_type,
            config=dict(stage.config),
        )
    yield Place(workspace, stage, desk, source.id)
    # What went to the desk is no business of the vendor's API, which checks the rest.
    stage.vendor.requests = [request for request in stage.vendor.requests if not request.path.startswith("/oauth/")]
    close(stage)


def test_vendor_is_connected_checked_refreshed_and_asked_for_again(place: Place) -> None:
    place.workspace.open_config(place.source.source_type, {}).close()
    with pytest.raises(ReauthorizeError, match="workstation source connect"):
        place.check()
    connected = place.connect()
    checked = place.check()
    assert checked.external_account == connected.external_account == place.source.external_account
    assert (list(checked.missing_scopes), place.source.connection_status) == ([], "connected")
    assert checked.sample
    place.desk.expire_access_tokens()
    assert place.check().external_account == connected.external_account
    assert place.desk.refreshes == 1
    place.desk.revoke_all()
    with pytest.raises(ReauthorizeError):
        place.check()
    assert (place.source.needs_reauth, place.source.connection_status) == (True, "error")
    place.connect()
    assert place.check().external_account == connected.external_account
    assert not place.source.needs_reauth
