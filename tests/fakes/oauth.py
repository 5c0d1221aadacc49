"""An authorization server as the five vendors run it: consent, codes with PKCE, refresh, rotation, revocation.

It plugs into a FakeVendor (`vendor.desk`) and puts the tokens it issues into `vendor.tokens`. What differs between the
vendors is a Style. Where tokens rotate, a refresh token that comes a second time ends its whole family, as RFC 9700
(4.14.2) has it and the vendors do.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.fakes.server import Answer, FakeVendor, Request

AUTHORIZE_PATH = "/oauth/authorize"
TOKEN_PATH = "/oauth/token"


@dataclass(frozen=True)
class Style:
    """One vendor's ways. `offline` is the parameter without which there is no refresh token."""

    client_auth: str = "post"
    is_json: bool = False
    separator: str = " "
    scope_parameter: str = "scope"
    offline: tuple[str, str] | None = None
    rotates: bool = False
    has_scopes: bool = True
    needs_pkce: bool = True
    expires_in_s: int | None = 3600
    is_slack: bool = False
    hides: tuple[str, ...] = ()
    """Scopes that are granted and never named back."""


GOOGLE = Style(offline=("access_type", "offline"))
MICROSOFT = Style(rotates=True, hides=("offline_access",))
DROPBOX = Style(offline=("token_access_type", "offline"), expires_in_s=14400)
NOTION = Style(client_auth="basic", is_json=True, rotates=True, has_scopes=False, needs_pkce=False)
SLACK = Style(separator=",", scope_parameter="user_scope", rotates=True, expires_in_s=43200, is_slack=True)


@dataclass
class Family:
    """One grant: everything that came of one consent."""

    user_id: str
    scopes: Sequence[str]
    is_offline: bool
    refresh_token: str | None = None
    used: set[str] = field(default_factory=set)
    access_tokens: set[str] = field(default_factory=set)
    is_revoked: bool = False


@dataclass(frozen=True)
class Code:
    family: Family
    redirect_uri: str
    challenge: str | None


class OAuthDesk:
    """Answers at `authorize_url` and `token_url`. `user_id` is who consents; `denies` makes them refuse.

    `unticked` are scopes that the person takes out; `refreshes` and `reuses` count what happened; `on_token` runs before a
    token request is answered.
    """

    client_id = "client-1"
    client_secret = "client-secret-canary"

    def __init__(self, vendor: FakeVendor, style: Style = GOOGLE, *, name: str = "canary") -> None:
        self.vendor = vendor
        self.style = style
        self.user_id = "user-1"
        self.denies = False
        self.unticked: set[str] = set()
        self.refreshes = 0
        self.reuses = 0
        self.on_token: Callable[[], None] = lambda: None
        self._name = name
        self._number = 0
        self._codes: dict[str, Code] = {}
        self._used_codes: dict[str, Family] = {}
        self._families: list[Family] = []
        vendor.desk = self

    @property
    def authorize_url(self) -> str:
        return self.vendor.url + AUTHORIZE_PATH

    @property
    def token_url(self) -> str:
        return self.vendor.url + TOKEN_PATH

    @property
    def settings(self) -> dict[str, str]:
        """The fields of the vendor's settings that lead here."""
        return {
            "authorize_url": self.authorize_url,
            "token_url": self.token_url,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }

    def __call__(self, request: Request) -> Answer | None:
        if request.raw_path == AUTHORIZE_PATH and request.method == "GET":
            return self._authorize(request)
        if request.raw_path == TOKEN_PATH and request.method == "POST":
            self.on_token()
            return self._token(request)
        return None

    def grant(self, user_id: str = "user-1", scopes: Sequence[str] = ("read",)) -> dict[str, Any]:
        """Issue tokens as if somebody had consented."""
        with self.vendor.lock:
            family = Family(user_id, list(scopes), is_offline=True)
            self._families.append(family)
            return self._issue(family, is_refresh=False)

    def expire_access_tokens(self) -> None:
        with self.vendor.lock:
            for family in self._families:
                self._forget(family)

    def revoke_all(self) -> None:
        """The person withdraws every consent at the vendor."""
        with self.vendor.lock:
            for family in self._families:
                self._revoke(family)

    def _authorize(self, request: Request) -> Answer:
        query = dict(request.query)
        redirect_uri = query.get("redirect_uri", "")
        if query.get("client_id") != self.client_id or query.get("response_type") != "code" or not redirect_uri:
            return Answer(400, b"bad client")
        if self.style.needs_pkce and query.get("code_challenge_method") != "S256":
            return self._back(redirect_uri, {"error": "invalid_request", "state": query.get("state", "")})
        if self.denies:
            return self._back(redirect_uri, {"error": "access_denied", "state": query.get("state", "")})
        asked = [scope for scope in query.get(self.style.scope_parameter, "").split(self.style.separator) if scope]
        offline = self.style.offline
        is_offline = query.get(offline[0]) == offline[1] if offline else True
        if "offline_access" in self.style.hides:
            is_offline = "offline_access" in asked
        family = Family(self.user_id, [scope for scope in asked if scope not in self.unticked], is_offline)
        code = self._new("code")
        self._codes[code] = Code(family, redirect_uri, query.get("code_challenge"))
        return self._back(redirect_uri, {"code": code, "state": query.get("state", "")})

    def _back(self, redirect_uri: str, answer: Mapping[str, str]) -> Answer:
        return Answer(302, headers={"Location": f"{redirect_uri}?{urlencode(answer)}"})

    def _token(self, request: Request) -> Answer:
        try:
            fields = request.json if self.style.is_json else dict(parse_qsl(request.body.decode()))
        except ValueError:
            return self._refuse("invalid_request")
        if not self._is_client(request, fields):
            return self._refuse("bad_client_secret" if self.style.is_slack else "invalid_client", 401)
        if fields.get("grant_type") == "authorization_code":
            return self._redeem(fields)
        if fields.get("grant_type") == "refresh_token":
            return self._refresh(fields)
        return self._refuse("unsupported_grant_type")

    def _is_client(self, request: Request, fields: Mapping[str, Any]) -> bool:
        if self.style.client_auth == "basic":
            sent = request.headers.get("authorization", "").removeprefix("Basic ")
            return base64.b64decode(sent).decode() == f"{self.client_id}:{self.client_secret}"
        return (fields.get("client_id"), fields.get("client_secret")) == (self.client_id, self.client_secret)

    def _redeem(self, fields: Mapping[str, Any]) -> Answer:
        sent = str(fields.get("code"))
        if sent in self._used_codes:
            self._revoke(self._used_codes[sent])
            return self._refuse("code_already_used" if self.style.is_slack else "invalid_grant")
        code = self._codes.pop(sent, None)
        if code is None or fields.get("redirect_uri") != code.redirect_uri:
            return self._refuse("invalid_code" if self.style.is_slack else "invalid_grant")
        if code.challenge is not None and code.challenge != _challenge(str(fields.get("code_verifier"))):
            return self._refuse("invalid_grant")
        self._used_codes[sent] = code.family
        self._families.append(code.family)
        return Answer.of(self._issue(code.family, is_refresh=False))

    def _refresh(self, fields: Mapping[str, Any]) -> Answer:
        sent = fields.get("refresh_token")
        for family in self._families:
            if family.refresh_token == sent and not family.is_revoked:
                self.refreshes += 1
                return Answer.of(self._issue(family, is_refresh=True))
            if sent in family.used:
                self.reuses += 1
                self._revoke(family)
        return self._refuse("invalid_refresh_token" if self.style.is_slack else "invalid_grant")

    def _refuse(self, error: str, status: int = 400) -> Answer:
        if self.style.is_slack:
            return Answer.of({"ok": False, "error": error})
        return Answer.of({"error": error, "error_description": "canary-description"}, status)

    def _issue(self, family: Family, *, is_refresh: bool) -> dict[str, Any]:
        access = self._new("access")
        family.access_tokens.add(access)
        self.vendor.tokens[access] = family.user_id
        tokens: dict[str, Any] = {"access_token": access, "token_type": "bearer"}
        if self.style.expires_in_s is not None:
            tokens["expires_in"] = self.style.expires_in_s
        if family.is_offline and (not is_refresh or self.style.rotates):
            if family.refresh_token is not None:
                family.used.add(family.refresh_token)
            family.refresh_token = tokens["refresh_token"] = self._new("refresh")
        if self.style.has_scopes:
            named = [scope for scope in family.scopes if scope not in self.style.hides]
            tokens["scope"] = self.style.separator.join(named)
        if not self.style.is_slack:
            return tokens
        team = {"ok": True, "team": {"id": "T1"}, "app_id": "A1"}
        return {**team, **tokens} if is_refresh else {**team, "authed_user": {"id": family.user_id, **tokens}}

    def _revoke(self, family: Family) -> None:
        family.is_revoked = True
        self._forget(family)

    def _forget(self, family: Family) -> None:
        for token in family.access_tokens:
            self.vendor.tokens.pop(token, None)
        family.access_tokens.clear()

    def _new(self, kind: str) -> str:
        self._number += 1
        return f"{self._name}-{kind}-token-{self._number}"


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
