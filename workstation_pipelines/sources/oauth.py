"""The OAuth 2 authorization-code flow with PKCE (RFC 6749, RFC 7636) as a client of one vendor: consent, code, refresh.

What the vendors do their own way is data in their OAuthGrant. Checked November 2026:
Google gives a refresh token only with access_type=offline and, from the second consent on, only with prompt=consent.
Microsoft gives one for the scope offline_access, never names that scope back, and replaces it at every refresh.
Dropbox gives one for token_access_type=offline. Slack answers errors with status 200 and ok:false; a person's own token
comes inside `authed_user`, except from a refresh. Notion has no scopes and takes JSON with the client in HTTP Basic.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from workstation_pipelines.errors import (
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.settings import OAuthClient
from workstation_pipelines.sources.credentials import OAuthGrant, Secret, Tokens
from workstation_pipelines.sources.http import retry_after_s

REFRESH_EARLY = timedelta(minutes=5)
ANSWER_WITHIN_S = 30.0
"""A refresh holds a lock; other processes wait for it no longer than this."""

_MOST_REPLY_BYTES = 1024 * 1024
_LONGEST_LIFE_S = 10 * 365 * 86400
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GRANT_IS_GONE = _words(
    "invalid_grant invalid_refresh_token token_revoked token_expired refresh_token_expired account_inactive invalid_auth"
    " access_denied interaction_required consent_required login_required invalid_code code_already_used code_expired"
    " team_access_not_granted user_removed_from_team admin_policy_enforced org_internal restricted_resource"
)
_CLIENT_IS_WRONG = _words(
    "invalid_client unauthorized_client invalid_client_id bad_client_secret disabled_client deleted_client"
    " redirect_uri_mismatch bad_redirect_uri invalid_redirect_uri invalid_scope invalid_team_for_non_distributed_app"
)
_IS_BUSY = _words("temporarily_unavailable server_error internal_error fatal_error service_unavailable")
_ASKS_TO_WAIT = _words("ratelimited rate_limited rate_limit_exceeded slow_down")


@dataclass(frozen=True, slots=True)
class Consent:
    """A consent that was asked for: where to send the person, and what must come back with the answer."""

    url: str
    state: str
    redirect_uri: str
    verifier: Secret = field(repr=False)


class OAuthEndpoint:
    """One vendor's authorization server, for one registered client. Thread-safe; it keeps no connection.

    Raises InvalidRequestError when the client is not configured or not accepted, ReauthorizeError when the grant or the
    code is gone for good, RetryableError for everything that may pass.
    """

    def __init__(
        self,
        provider: str,
        grant: OAuthGrant,
        client: OAuthClient,
        clock: Clock,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._grant = grant
        self._client = client
        self._clock = clock
        self._monotonic = monotonic

    def ask_consent(self, redirect_uri: str) -> Consent:
        """Begin: the person follows `url`, and the vendor sends them to `redirect_uri` with a code and our state."""
        from authlib.common.security import generate_token
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        grant = self._grant
        verifier, state = generate_token(64), generate_token(43)
        parameters = dict(grant.authorize_params)
        if grant.scopes:
            parameters[grant.scope_parameter] = grant.scope_separator.join(grant.scopes)
        if grant.uses_pkce:
            parameters |= {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
        url = prepare_grant_uri(
            self._client.authorize_url or grant.authorize_url,
            client_id=self._client_id(),
            response_type="code",
            redirect_uri=redirect_uri,
            state=state,
            **parameters,
        )
        return Consent(url, state, redirect_uri, Secret(verifier))

    def exchange(self, code: str, consent: Consent) -> Tokens:
        """Trade the code of a finished consent for tokens. A code works once."""
        parameters = {"code": code, "redirect_uri": consent.redirect_uri}
        if self._grant.uses_pkce:
            parameters["code_verifier"] = consent.verifier.reveal()
        return self._requested("authorization_code", parameters, before=None)

    def refresh(self, tokens: Tokens) -> Tokens:
        """Return new tokens; where the vendor does not replace the refresh token, the old one goes on."""
        if tokens.refresh_token is None:
            raise ReauthorizeError(f"{self._provider}: nothing refreshes its token: connect the source again")
        parameters = {"refresh_token": tokens.refresh_token.reveal()}
        if self._grant.refresh_scopes:
            parameters["scope"] = " ".join(self._grant.scopes)
        return self._requested("refresh_token", parameters, before=tokens)

    def _requested(self, grant_type: str, parameters: Mapping[str, str], *, before: Tokens | None) -> Tokens:
        status, headers, fields = self._send(grant_type, parameters)
        error = self._error(status, headers, fields)
        if error is not None:
            raise error
        return self._tokens(fields or {}, before)

    def _send(self, grant_type: str, parameters: Mapping[str, str]) -> tuple[int, httpx.Headers, dict[str, Any] | None]:
        logging.getLogger("httpx").setLevel(logging.WARNING)
        deadline_s = self._monotonic() + ANSWER_WITHIN_S
        url, headers, content = self._request(grant_type, parameters)
        body = bytearray()
        try:
            with (
                httpx.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=False) as client,
                client.stream("POST", url, headers=headers, content=content) as response,
            ):
                for block in response.iter_bytes():
                    body += block
                    if len(body) > _MOST_REPLY_BYTES or self._monotonic() > deadline_s:
                        raise UnexpectedReplyError(f"{self._provider} token: its answer has no end", wait_s=60)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceUnavailableError(
                f"{self._provider} token: no answer ({type(error).__name__}): try again later", wait_s=1
            ) from None
        return response.status_code, response.headers, _json_object(bytes(body))

    def _request(self, grant_type: str, parameters: Mapping[str, str]) -> tuple[str, dict[str, str], bytes]:
        from authlib.oauth2.auth import ClientAuth
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        secret = self._client.client_secret.get_secret_value() if self._client.client_secret else None
        client_id = self._client_id()
        url = self._client.token_url or self._grant.token_url
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        auth = ClientAuth(client_id, secret, self._grant.client_auth if secret else "none")
        if self._grant.sends_json:
            fields = {"grant_type": grant_type, **parameters}
            _, headers, _ = auth.prepare("POST", url, headers, "")
            return url, headers | {"Content-Type": "application/json"}, json.dumps(fields).encode()
        url, headers, form = auth.prepare("POST", url, headers, prepare_token_request(grant_type, **parameters))
        return url, headers, form.encode()

    def _client_id(self) -> str:
        if not self._client.client_id:
            variables = " and ".join(self._client.variables)
            raise InvalidRequestError(
                f"{self._provider}: no OAuth client is configured: set {variables}, or connect with a token that lasts"
                " (--token-stdin); docs/connect.md says how to register a client"
            )
        return self._client.client_id

    def _error(self, status: int, headers: httpx.Headers, fields: dict[str, Any] | None) -> WorkstationError | None:
        code = _error_code(fields)
        if fields is not None and status < 300 and code is None:
            return None
        what = f"{self._provider} token: {f'error {code}' if code else f'status {status}'}"
        if status == 429 or code in _ASKS_TO_WAIT:
            wait_s = retry_after_s(headers, self._clock, default_s=30.0)
            return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
        if status >= 500 or status in (408, 425) or code in _IS_BUSY:
            return SourceUnavailableError(f"{what}: try again later", wait_s=1)
        if code in _CLIENT_IS_WRONG:
            variables = " and ".join(self._client.variables)
            return InvalidRequestError(f"{what}: the vendor does not accept this OAuth client: check {variables}")
        if code in _GRANT_IS_GONE:
            return ReauthorizeError(
                f"{what}: access was withdrawn or has run out: `workstation source connect` renews it"
            )
        # Nobody is asked to connect again for an answer that is not understood.
        return UnexpectedReplyError(f"{what}: an answer that is not expected here", wait_s=60)

    def _tokens(self, fields: Mapping[str, Any], before: Tokens | None) -> Tokens:
        inner: Any = fields
        for name in self._grant.token_path:
            inner = inner.get(name) if isinstance(inner, Mapping) else None
        # Slack's refresh answers at the top what its consent puts inside.
        part = inner if isinstance(inner, Mapping) and "access_token" in inner else fields
        access, refresh = part.get("access_token"), part.get("refresh_token")
        if not isinstance(access, str) or not _TOKEN.fullmatch(access):
            raise UnexpectedReplyError(f"{self._provider} token: the answer holds no access token", wait_s=60)
        if not (isinstance(refresh, str) and refresh):
            refresh_token = before.refresh_token if before else None
        else:
            refresh_token = Secret(refresh)
        life = _life(part.get("expires_in"))
        now = self._clock()
        return Tokens(
            access_token=Secret(access),
            refresh_token=refresh_token,
            refresh_at=now + life - min(REFRESH_EARLY, life / 2) if life else None,
            expires_at=now + life if life else None,
            scopes=self._scopes(part, before),
        )

    def _scopes(self, part: Mapping[str, Any], before: Tokens | None) -> frozenset[str]:
        named = part.get("scope")
        if isinstance(named, str) and named.strip():
            return frozenset(re.split(r"[\s,]+", named.strip()))
        # RFC 6749, 5.1: left out when it is what was asked for.
        return before.scopes if before is not None else frozenset(self._grant.scopes)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _error_code(fields: Mapping[str, Any] | None) -> str | None:
    if fields is None:
        return None
    found = fields.get("error")
    if found is None and (fields.get("object") == "error" or fields.get("ok") is False):
        found = fields.get("code", "unknown")
    if found is None:
        return None
    return found if isinstance(found, str) and _CODE.fullmatch(found) else "unknown"


def _life(expires_in: object) -> timedelta | None:
    try:
        life_s = float(expires_in) if isinstance(expires_in, int | float | str) else 0.0
    except ValueError:
        return None
    if not math.isfinite(life_s) or life_s <= 0:
        return None
    return timedelta(seconds=min(life_s, _LONGEST_LIFE_S))
