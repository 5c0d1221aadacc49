"""The OAuth client against an authorization server that behaves as each of the five vendors does."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from tests.fakes import oauth as fakes
from tests.fakes.oauth import OAuthDesk, Style
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.parcel import GRANTS, ParcelOffice
from workstation_pipelines.errors import (
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.settings import OAuthClient
from workstation_pipelines.sources.credentials import Secret, Tokens
from workstation_pipelines.sources.oauth import Consent, OAuthEndpoint

NOW = datetime(2026, 11, 22, tzinfo=UTC)
REDIRECT = "http://127.0.0.1:8765/"
STYLES: dict[str, Style] = {
    "google": fakes.GOOGLE,
    "microsoft": fakes.MICROSOFT,
    "dropbox": fakes.DROPBOX,
    "notion": fakes.NOTION,
    "slack": fakes.SLACK,
}


@pytest.fixture
def office() -> Iterator[ParcelOffice]:
    with ParcelOffice() as office:
        yield office
        assert office.violations == []


def endpoint(desk: OAuthDesk, vendor: str = "google", **changes: str | None) -> OAuthEndpoint:
    fields = {**desk.settings, **changes}
    secret = fields["client_secret"]
    client = OAuthClient(
        client_id=fields["client_id"],
        client_secret=SecretStr(secret) if secret else None,
        authorize_url=fields["authorize_url"],
        token_url=fields["token_url"],
        variables=("PARCEL_CLIENT_ID", "PARCEL_CLIENT_SECRET"),
    )
    return OAuthEndpoint("parcel", GRANTS[vendor], client, lambda: NOW)


def consented(consent: Consent) -> dict[str, str]:
    """Follow the consent as a browser would and return what comes back to the redirect address."""
    answer = httpx.get(consent.url)
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(consent.redirect_uri)
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def connected(asked: OAuthEndpoint) -> Tokens:
    consent = asked.ask_consent(REDIRECT)
    back = consented(consent)
    assert back["state"] == consent.state
    return asked.exchange(back["code"], consent)


@pytest.mark.parametrize("vendor", STYLES)
def test_consent_gives_offline_access_that_can_be_refreshed(office: ParcelOffice, vendor: str) -> None:
    desk = OAuthDesk(office, STYLES[vendor])
    asked = endpoint(desk, vendor)
    first = connected(asked)
    assert office.tokens[first.access_token.reveal()] == "user-1"
    assert first.refresh_token is not None
    assert first.expires_at is not None
    assert first.refresh_at == first.expires_at - timedelta(minutes=5)
    second = asked.refresh(first)
    assert office.tokens[second.access_token.reveal()] == "user-1"
    assert second.access_token != first.access_token
    assert second.refresh_token is not None
    assert (second.refresh_token == first.refresh_token) is not GRANTS[vendor].rotates
    third = asked.refresh(second)
    assert third.scopes == first.scopes == {s for s in GRANTS[vendor].scopes if s != "offline_access"}
    assert desk.refreshes == 2


def test_consent_page_is_asked_with_state_pkce_and_the_vendors_own_parameters(office: ParcelOffice) -> None:
    asked = endpoint(OAuthDesk(office))
    consent = asked.ask_consent(REDIRECT)
    query = parse_qs(urlsplit(consent.url).query)
    assert query["access_type"] == ["offline"]
    assert query["prompt"] == ["consent"]
    assert query["scope"] == ["files.read profile"]
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [REDIRECT]
    assert len(consent.state) >= 32
    assert len(consent.verifier.reveal()) >= 43
    assert consent.verifier.reveal() not in consent.url
    assert asked.ask_consent(REDIRECT).state != consent.state


def test_slack_is_asked_for_the_persons_own_scopes(office: ParcelOffice) -> None:
    query = parse_qs(urlsplit(endpoint(OAuthDesk(office, fakes.SLACK), "slack").ask_consent(REDIRECT).url).query)
    assert query["user_scope"] == ["channels:read,channels:history"]
    assert "scope" not in query


def test_notion_is_asked_for_a_persons_pages_and_sent_json(office: ParcelOffice) -> None:
    asked = endpoint(OAuthDesk(office, fakes.NOTION), "notion")
    query = parse_qs(urlsplit(asked.ask_consent(REDIRECT).url).query)
    assert query["owner"] == ["user"]
    assert "scope" not in query
    connected(asked)
    sent = office.requests[-1]
    assert sent.headers["authorization"].startswith("Basic ")
    assert set(sent.json) == {"grant_type", "code", "redirect_uri"}


def test_microsoft_is_told_the_scopes_again_at_each_refresh(office: ParcelOffice) -> None:
    asked = endpoint(OAuthDesk(office, fakes.MICROSOFT), "microsoft")
    asked.refresh(connected(asked))
    assert b"scope=Files.Read+offline_access" in office.requests[-1].body


def test_public_client_sends_its_id_alone(office: ParcelOffice) -> None:
    asked = endpoint(OAuthDesk(office), client_secret=None)
    with pytest.raises(InvalidRequestError):
        connected(asked)
    assert b"client_id=client-1" in office.requests[-1].body
    assert b"client_secret" not in office.requests[-1].body


def test_code_is_worth_nothing_without_its_verifier_or_twice(office: ParcelOffice) -> None:
    desk = OAuthDesk(office)
    asked = endpoint(desk)
    consent = asked.ask_consent(REDIRECT)
    stolen = Consent(consent.url, consent.state, REDIRECT, Secret("v" * 64))
    with pytest.raises(ReauthorizeError, match="invalid_grant"):
        asked.exchange(consented(consent)["code"], stolen)
    again = asked.ask_consent(REDIRECT)
    code = consented(again)["code"]
    tokens = asked.exchange(code, again)
    with pytest.raises(ReauthorizeError):
        asked.exchange(code, again)
    assert tokens.access_token.reveal() not in office.tokens


def test_unticked_scope_is_not_among_the_granted(office: ParcelOffice) -> None:
    desk = OAuthDesk(office)
    desk.unticked = {"files.read"}
    assert connected(endpoint(desk)).scopes == {"profile"}


@pytest.mark.parametrize("vendor", STYLES)
def test_withdrawn_grant_asks_to_connect_again(office: ParcelOffice, vendor: str) -> None:
    desk = OAuthDesk(office, STYLES[vendor])
    asked = endpoint(desk, vendor)
    tokens = connected(asked)
    desk.revoke_all()
    with pytest.raises(ReauthorizeError, match="`workstation source connect` renews it"):
        asked.refresh(tokens)


@pytest.mark.parametrize("vendor", ["microsoft", "notion", "slack"])
def test_old_refresh_token_ends_the_whole_grant(office: ParcelOffice, vendor: str) -> None:
    desk = OAuthDesk(office, STYLES[vendor])
    asked = endpoint(desk, vendor)
    first = connected(asked)
    second = asked.refresh(first)
    with pytest.raises(ReauthorizeError):
        asked.refresh(first)
    with pytest.raises(ReauthorizeError):
        asked.refresh(second)
    assert desk.reuses == 1


@pytest.mark.parametrize(("vendor", "error"), [("google", "invalid_client"), ("slack", "bad_client_secret")])
def test_wrong_client_is_the_operators_to_mend_and_not_the_users(office: ParcelOffice, vendor: str, error: str) -> None:
    desk = OAuthDesk(office, STYLES[vendor])
    tokens = connected(endpoint(desk, vendor))
    with pytest.raises(InvalidRequestError, match=f"{error}.*PARCEL_CLIENT_ID and PARCEL_CLIENT_SECRET"):
        endpoint(desk, vendor, client_secret="wrong").refresh(tokens)


def test_missing_client_names_what_to_set(office: ParcelOffice) -> None:
    asked = endpoint(OAuthDesk(office), client_id=None)
    with pytest.raises(InvalidRequestError, match="set PARCEL_CLIENT_ID and PARCEL_CLIENT_SECRET"):
        asked.ask_consent(REDIRECT)


OK_BUT_EMPTY = Answer.of({"token_type": "bearer"})


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer.of({}, 500), SourceUnavailableError),
        (Answer.of({"error": "invalid_grant"}, 503), SourceUnavailableError),
        (Answer(502, b"<html>bad gateway</html>"), SourceUnavailableError),
        (Answer.of({"error": "temporarily_unavailable"}, 400), SourceUnavailableError),
        (Answer.of({"ok": False, "error": "fatal_error"}), SourceUnavailableError),
        (Answer(408), SourceUnavailableError),
        (Answer.of({"error": "slow_down"}, 400), RateLimitedError),
        (Answer.of({"ok": False, "error": "ratelimited"}), RateLimitedError),
        (Answer.of({}, 429, {"Retry-After": "77"}), RateLimitedError),
        (LOGIN_PAGE, UnexpectedReplyError),
        (Answer(302, headers={"Location": "https://elsewhere.example/"}), UnexpectedReplyError),
        (Answer(200, b"[]"), UnexpectedReplyError),
        (Answer(200, b"{" * 100_000), UnexpectedReplyError),
        (Answer(200, b"x" * 2_000_000), UnexpectedReplyError),
        (OK_BUT_EMPTY, UnexpectedReplyError),
        (Answer.of({"access_token": "two\nlines"}), UnexpectedReplyError),
        (Answer.of({"access_token": ["canary"]}), UnexpectedReplyError),
        (Answer.of({"error": "new_kind_of_error"}, 400), UnexpectedReplyError),
        (Answer.of({"error": {"canary": 1}}, 400), UnexpectedReplyError),
        (Answer(404), UnexpectedReplyError),
        (Answer.of({"error": "invalid_grant"}, 400), ReauthorizeError),
        (Answer.of({"error": "interaction_required"}, 400), ReauthorizeError),
        (Answer.of({"object": "error", "code": "invalid_grant"}, 401), ReauthorizeError),
    ],
)
def test_answer_of_the_token_endpoint_says_what_to_do(
    office: ParcelOffice, answer: Answer, expected: type[WorkstationError]
) -> None:
    asked = endpoint(OAuthDesk(office))
    tokens = connected(asked)
    office.fail("/oauth/token", answer=answer)
    with pytest.raises(expected) as refused:
        asked.refresh(tokens)
    assert type(refused.value) is expected
    if isinstance(refused.value, RateLimitedError) and answer.status == 429:
        assert refused.value.wait_s == 77


@pytest.mark.parametrize("fault", [{"drop": True}, {"truncate": True}])
def test_broken_connection_keeps_the_grant(office: ParcelOffice, fault: dict[str, bool]) -> None:
    asked = endpoint(OAuthDesk(office))
    tokens = connected(asked)
    office.fail("/oauth/token", **fault)
    with pytest.raises(SourceUnavailableError):
        asked.refresh(tokens)


@pytest.mark.parametrize("expires_in", [None, "soon", -1, 0, [1]])
def test_token_without_a_life_does_not_expire_by_itself(office: ParcelOffice, expires_in: object) -> None:
    asked = endpoint(OAuthDesk(office))
    tokens = connected(asked)
    office.fail("/oauth/token", answer=Answer.of({"access_token": "a", "expires_in": expires_in}))
    refreshed = asked.refresh(tokens)
    assert (refreshed.refresh_at, refreshed.expires_at) == (None, None)


@pytest.mark.parametrize(("expires_in", "life_s"), [("3600", 3600), (1e300, 315360000), (60, 60)])
def test_odd_lives_are_understood(office: ParcelOffice, expires_in: object, life_s: float) -> None:
    asked = endpoint(OAuthDesk(office))
    tokens = connected(asked)
    office.fail("/oauth/token", answer=Answer.of({"access_token": "a", "expires_in": expires_in}))
    refreshed = asked.refresh(tokens)
    assert refreshed.expires_at == NOW + timedelta(seconds=life_s)
    assert refreshed.refresh_at is not None
    assert NOW < refreshed.refresh_at < refreshed.expires_at


def test_no_secret_is_in_an_error_or_a_log(office: ParcelOffice, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    desk = OAuthDesk(office, fakes.MICROSOFT)
    asked = endpoint(desk, "microsoft")
    tokens = connected(asked)
    seen = repr(asked.ask_consent(REDIRECT)) + repr(tokens)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for answer in (
        Answer.of({"error": "canary-error canary", "error_description": "canary"}, 400),
        Answer(500, b"canary"),
    ):
        office.fail("/oauth/token", answer=answer)
        with pytest.raises(WorkstationError) as refused:
            asked.refresh(tokens)
        seen += "".join(traceback.format_exception(refused.value))
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert "canary" not in seen + "".join(ours)
