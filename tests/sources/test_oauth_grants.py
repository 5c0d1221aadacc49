"""Every vendor's declared grant gets, from an authorization server with that vendor's ways, what a sync of weeks needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.fakes import oauth as fakes
from tests.fakes.oauth import OAuthDesk, Style
from tests.sources.parcel import ParcelOffice
from workstation_pipelines import sources
from workstation_pipelines.model import SourceType
from workstation_pipelines.settings import Settings, Vendor
from workstation_pipelines.sources.oauth import OAuthEndpoint
from workstation_pipelines.sync.credentials import grant_of

STYLES: dict[SourceType, Style] = {
    SourceType.GOOGLE_DRIVE: fakes.GOOGLE,
    SourceType.GMAIL: fakes.GOOGLE,
    SourceType.NOTION: fakes.NOTION,
    SourceType.SLACK: fakes.SLACK,
    SourceType.DROPBOX: fakes.DROPBOX,
    SourceType.ONEDRIVE: fakes.MICROSOFT,
}
VENDORS = [source_type for source_type in sources.SOURCES if source_type is not SourceType.LOCAL_FOLDER]


@pytest.fixture
def office() -> Iterator[ParcelOffice]:
    with ParcelOffice() as office:
        yield office
        assert office.violations == []


def with_vendor(source_type: SourceType, fields: dict[str, str]) -> Settings:
    return Settings().model_copy(update={source_type.value: Vendor.model_validate(fields)})


@pytest.mark.parametrize("source_type", VENDORS)
def test_consent_is_for_a_long_time_and_refreshes(office: ParcelOffice, source_type: SourceType) -> None:
    style = STYLES[source_type]
    if not grant_of(source_type).uses_pkce:
        style = Style(**{**vars(style), "needs_pkce": False})
    desk = OAuthDesk(office, style)
    settings = with_vendor(source_type, desk.settings)
    grant = grant_of(source_type)
    endpoint = OAuthEndpoint(
        source_type.value, grant, settings.oauth_client(source_type), lambda: datetime(2026, 11, 22, tzinfo=UTC)
    )
    consent = endpoint.ask_consent(f"http://{grant.redirect_host}:8765/")
    location = urlsplit(httpx.get(consent.url).headers["location"])
    tokens = endpoint.exchange(parse_qs(location.query)["code"][0], consent)
    assert tokens.scopes == set(grant.scopes) - {"offline_access"}
    for _ in range(3):
        tokens = endpoint.refresh(tokens)
    assert tokens.refresh_token is not None
    assert tokens.access_token.reveal() in office.tokens


@pytest.mark.parametrize("source_type", VENDORS)
def test_vendors_own_addresses_are_https_and_replaced_by_settings_only(source_type: SourceType) -> None:
    grant = grant_of(source_type)
    for url in (grant.authorize_url, grant.token_url, *sources.source_class(source_type).default_urls.values()):
        assert urlsplit(url).scheme == "https"


@pytest.mark.parametrize("source_type", VENDORS)
def test_every_base_url_has_a_setting(source_type: SourceType) -> None:
    names = sources.source_class(source_type).default_urls
    settings = with_vendor(source_type, {f"{name}_url": f"https://{name}.example" for name in names})
    assert settings.source_urls(source_type) == {name: f"https://{name}.example" for name in names}
