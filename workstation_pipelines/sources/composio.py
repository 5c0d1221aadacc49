"""Credentials that Composio keeps: its token where it gives one, or its proxy in place of the way to the vendor.

Two REST calls and no SDK (docs.composio.dev, API v3, November 2026): GET /api/v3/connected_accounts/{id}, and
POST /api/v3/tools/execute/proxy {endpoint, method, connected_account_id, parameters, body}, answered by {status, headers,
data} or, for a body that is not text, {status, headers, binary_data: {url, content_type, size}}. Tokens of apps that
Composio itself has registered are masked for ever since April 2026; those of one's own app unless the project masks them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Any
from urllib.parse import quote, urlsplit

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
from workstation_pipelines.sources.credentials import Secret
from workstation_pipelines.sources.http import retry_after_s

_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MASKED = re.compile(r"redacted|\*{2}|\.{3}|…|•|\Ax+\Z", re.IGNORECASE)
_MOST_REPLY_BYTES = 64 * 1024 * 1024
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_OWN_HEADERS = frozenset(
    ("host", "user-agent", "accept-encoding", "connection", "content-length", "content-type", "authorization")
)
_HOP_HEADERS = frozenset(("content-length", "content-encoding", "transfer-encoding", "connection", "keep-alive"))


class ComposioMode(StrEnum):
    TOKEN = "token"  # noqa: S105 - a mode
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class ComposioAccount:
    """Which account at Composio, and how it is used. Not a secret by itself: the project's key opens it."""

    connected_account_id: str
    mode: ComposioMode = ComposioMode.PROXY

    def __post_init__(self) -> None:
        if not _ACCOUNT_ID.fullmatch(self.connected_account_id):
            raise InvalidRequestError("a connected account's id has letters, digits, _ and - only, such as ca_1a2b3c")


class ComposioProvider:
    """Implements CredentialProvider. `vendor_urls` are the vendor's base URLs: requests to other hosts go directly."""

    def __init__(
        self,
        account: ComposioAccount,
        *,
        base_url: str,
        api_key: str | None,
        vendor_urls: Iterable[str],
        clock: Clock,
    ) -> None:
        self._account = account
        self._base_url = base_url
        self._api_key = Secret(api_key) if api_key else None
        self._origins = {_origin(httpx.URL(url)) for url in vendor_urls}
        self._clock = clock
        self._lock = Lock()
        self._token: Secret | None = None

    def access_token(self, *, rejected: str | None = None) -> str:
        if self._account.mode is ComposioMode.PROXY:
            return ""
        with self._lock:
            if self._token is None or (rejected is not None and self._token == Secret(rejected)):
                token = self._fetched()
                if rejected is not None and token == Secret(rejected):
                    raise ReauthorizeError(
                        f"the vendor refuses the token of Composio's account {self._account.connected_account_id}:"
                        " connect it again there"
                    )
                self._token = token
            return self._token.reveal()

    def scopes(self) -> frozenset[str]:
        return frozenset()

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        if self._account.mode is ComposioMode.TOKEN:
            return inner
        return _ProxyTransport(self, inner)

    def call(self, transport: httpx.BaseTransport | None, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask Composio itself. Raises InvalidRequestError, ReauthorizeError, RetryableError."""
        if self._api_key is None:
            raise InvalidRequestError(
                "Composio keeps this source's credentials: set COMPOSIO_API_KEY to your project's key"
            )
        content = bytearray()
        try:
            with (
                httpx.Client(
                    transport=_Borrowed(transport) if transport else None,
                    timeout=_TIMEOUT,
                    follow_redirects=False,
                    trust_env=False,
                ) as client,
                client.stream(
                    method, self._base_url + path, json=body, headers={"x-api-key": self._api_key.reveal()}
                ) as response,
            ):
                for block in response.iter_bytes():
                    content += block
                    if len(content) > _MOST_REPLY_BYTES:
                        raise UnexpectedReplyError("composio: the answer is too large", wait_s=60)
        except httpx.HTTPError as error:
            raise SourceUnavailableError(
                f"composio: no answer ({type(error).__name__}): try again later", wait_s=1
            ) from None
        failure = self._error(response)
        if failure is not None:
            raise failure
        return _object(bytes(content))

    @property
    def account_id(self) -> str:
        return self._account.connected_account_id

    def is_for_vendor(self, url: httpx.URL) -> bool:
        return _origin(url) in self._origins

    def _fetched(self) -> Secret:
        found = self.call(None, "GET", f"/api/v3/connected_accounts/{quote(self.account_id, safe='')}")
        if found.get("status") != "ACTIVE":
            raise ReauthorizeError(f"Composio's account {self.account_id} is not active: connect it again there")
        state = found.get("state")
        values = state.get("val") if isinstance(state, Mapping) else None
        token = values.get("access_token") if isinstance(values, Mapping) else None
        if not isinstance(token, str) or not token or _MASKED.search(token):
            raise InvalidRequestError(
                f"Composio does not hand out the token of account {self.account_id} (it is masked or missing): use proxy mode,"
                " `workstation source connect NAME --composio ID --composio-mode proxy`"
            )
        return Secret(token)

    def _error(self, response: httpx.Response) -> WorkstationError | None:
        status = response.status_code
        if status < 300:
            return None
        if status in (401, 403):
            return InvalidRequestError("composio: it refuses the key: check COMPOSIO_API_KEY and what it may do")
        if status in (404, 410):
            return ReauthorizeError(f"composio: it knows no account {self.account_id}: connect the source again")
        if status == 429:
            wait_s = retry_after_s(response.headers, self._clock, default_s=30.0)
            return RateLimitedError(f"composio: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
        if status >= 500:
            return SourceUnavailableError(f"composio: status {status}: try again later", wait_s=1)
        return UnexpectedReplyError(f"composio: status {status}: it refuses what this connector sent", wait_s=60)


class _ProxyTransport(httpx.BaseTransport):
    """Turns a request to the vendor into a call of the proxy, and its answer back into the vendor's."""

    def __init__(self, composio: ComposioProvider, inner: httpx.BaseTransport) -> None:
        self._composio = composio
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self._composio.is_for_vendor(request.url):
            return self._inner.handle_request(request)
        reply = self._composio.call(self._inner, "POST", "/api/v3/tools/execute/proxy", self._as_call(request))
        status = reply.get("status")
        if not isinstance(status, int | float) or not 100 <= status <= 599:
            raise UnexpectedReplyError("composio: the answer does not tell the vendor's status", wait_s=60)
        headers = _headers(reply.get("headers"))
        binary = reply.get("binary_data")
        if isinstance(binary, Mapping):
            return self._downloaded(int(status), headers, binary)
        return httpx.Response(int(status), headers=headers, content=_body(reply.get("data")))

    def close(self) -> None:
        self._inner.close()

    def _as_call(self, request: httpx.Request) -> dict[str, Any]:
        if request.method not in ("GET", "POST"):
            raise InvalidRequestError(f"{request.method} requests do not go through Composio's proxy")
        # The address goes as it is: a link that a vendor gave must not be taken apart.
        call: dict[str, Any] = {
            "endpoint": str(request.url),
            "method": request.method,
            "connected_account_id": self._composio.account_id,
            "parameters": [
                {"name": name, "value": value, "type": "header"}
                for name, value in request.headers.items()
                if name.lower() not in _OWN_HEADERS
            ],
        }
        content = request.read()
        if content:
            try:
                call["body"] = json.loads(content)
            except ValueError:
                raise InvalidRequestError("only JSON bodies go through Composio's proxy") from None
        return call

    def _downloaded(self, status: int, headers: dict[str, str], binary: Mapping[str, Any]) -> httpx.Response:
        url = binary.get("url")
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or not (parts.scheme == "https" or parts.hostname == "127.0.0.1"):
            raise UnexpectedReplyError("composio: the answer names no safe address for its body", wait_s=60)
        try:
            stored = self._inner.handle_request(httpx.Request("GET", str(url)))
        except httpx.HTTPError as error:
            raise SourceUnavailableError(
                f"composio: its copy of the body cannot be fetched ({type(error).__name__})", wait_s=1
            ) from None
        if stored.status_code != 200:
            stored.close()
            raise SourceUnavailableError(
                f"composio: its copy of the body cannot be fetched (status {stored.status_code})", wait_s=1
            )
        for name in ("content-length", "content-encoding"):
            if name in stored.headers:
                headers[name] = stored.headers[name]
        content_type = binary.get("content_type")
        if isinstance(content_type, str):
            headers["content-type"] = content_type
        return httpx.Response(status, headers=headers, stream=stored.stream)


class _Borrowed(httpx.BaseTransport):
    """A transport that somebody else closes."""

    def __init__(self, lender: httpx.BaseTransport) -> None:
        self._lender = lender

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._lender.handle_request(request)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnexpectedReplyError("composio: the answer is not a JSON object", wait_s=60)
    return found


def _headers(found: object) -> dict[str, str]:
    if not isinstance(found, Mapping):
        return {}
    # Values that are no header at all would break the response apart.
    return {
        str(name).lower(): value
        for name, value in found.items()
        if isinstance(value, str) and str(name).lower() not in _HOP_HEADERS and value.isprintable() and value.isascii()
    }


def _body(found: object) -> bytes:
    if found is None:
        return b""
    return found.encode() if isinstance(found, str) else json.dumps(found).encode()
