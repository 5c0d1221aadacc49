"""The requests this connector makes of Slack, and what its error codes mean.

Slack says `ok: false` with status 200, so that every answer is read before it is believed. Error codes of the methods
used here, docs.slack.dev/reference/methods, read 2026-11-22.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from workstation_pipelines.errors import (
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.http import Call, Download, PageTokens, Reply, VendorApi, retry_after_s

if TYPE_CHECKING:
    import httpx

    from workstation_pipelines.sources.credentials import CredentialProvider

AUTH_TEST = Call("auth.test", "GET", "/auth.test", per_s=5)
CHANNELS = Call("conversations.list", "GET", "/conversations.list", per_s=20 / 60)
CHANNEL = Call("conversations.info", "GET", "/conversations.info", per_s=50 / 60)
HISTORY = Call("conversations.history", "GET", "/conversations.history", per_s=50 / 60)
REPLIES = Call("conversations.replies", "GET", "/conversations.replies", per_s=50 / 60)
USERS = Call("users.list", "GET", "/users.list", per_s=20 / 60)
USER = Call("users.info", "GET", "/users.info", per_s=100 / 60)
FILE_INFO = Call("files.info", "GET", "/files.info", per_s=100 / 60)
FILE = Call("files.download", "GET", "/files-pri/{key}/download/{name}", per_s=2, base="files")
CALLS = (AUTH_TEST, CHANNELS, CHANNEL, HISTORY, REPLIES, USERS, USER, FILE_INFO, FILE)
"""Rates are Slack's tiers, a workspace and app. Apps sold outside its marketplace get one call a minute of two of them."""

CONNECT = "connect it: `workstation source connect NAME`"

_REFUSED_TOKEN = frozenset(("invalid_auth", "not_authed", "token_expired"))
_NO_ACCESS = frozenset(
    (
        "access_denied",
        "account_inactive",
        "enterprise_is_restricted",
        "invalid_token",
        "no_permission",
        "not_allowed_token_type",
        "org_login_required",
        "team_access_not_granted",
        "token_revoked",
        "two_factor_setup_required",
        "user_removed_from_team",
    )
)
_GONE = frozenset(
    (
        "channel_not_found",
        "file_deleted",
        "file_not_found",
        "message_not_found",
        "thread_not_found",
        "user_not_found",
        "user_not_visible",
    )
)
_SKIPPED = frozenset(("is_archived", "not_in_channel", "method_not_supported_for_channel_type"))
_PASSING = frozenset(
    ("fatal_error", "internal_error", "request_timeout", "service_unavailable", "team_added_to_org", "accesslimited")
)


class SlackApi:
    """Slack's methods, one request each unless it says otherwise. Thread-safe."""

    def __init__(self, context: SourceContext, urls: dict[str, str]) -> None:
        credentials: CredentialProvider = context.credentials or Unconnected()
        self._clock = context.clock
        self._files_url = urls["files"].rstrip("/") + "/"
        self._vendor = VendorApi(
            provider="slack",
            account=context.account,
            urls=urls,
            calls=CALLS,
            credentials=credentials,
            pacer=context.pacer,
            clock=context.clock,
            classify=self._classify,
            rates=context.rates,
        )
        self.granted: frozenset[str] = frozenset()
        """The scopes that the last auth_test() found."""

    @property
    def provider_calls(self) -> int:
        return self._vendor.provider_calls

    def get(self, call: Call, **params: str | int | bool | None) -> dict[str, Any]:
        """Call a method and return its answer, which says `ok: true`. Parameters of None are left out."""
        return self._vendor.json(call, params=params)

    def auth_test(self) -> dict[str, Any]:
        return self.get(AUTH_TEST)

    def listed(self, call: Call, field: str, **params: str | int | bool | None) -> Iterator[list[Any]]:
        """Yield the pages of a method that gives `next_cursor`. Raises UnexpectedReplyError for one that goes in circles."""
        tokens = PageTokens(f"slack {call.name}")
        cursor: str | None = None
        while True:
            reply = self.get(call, cursor=cursor, **params)
            yield list_of(reply, field, call)
            cursor = next_cursor(reply)
            if not cursor:
                return
            tokens.step(cursor)

    def may_download(self, url: str) -> bool:
        """Return whether our token may go where a file is."""
        return url.startswith(self._files_url)

    def download(self, url: str, *, limit_bytes: int) -> Download:
        return self._vendor.download_at(FILE, url, limit_bytes=limit_bytes)

    def close(self) -> None:
        self._vendor.close()

    def _classify(self, reply: Reply) -> WorkstationError | None:
        if reply.call is AUTH_TEST and "x-oauth-scopes" in reply.headers:
            scopes = reply.headers["x-oauth-scopes"].split(",")
            self.granted = frozenset(scope.strip() for scope in scopes if scope.strip())
        if not reply.is_json or reply.fields.get("ok") is True:
            return None
        if "ok" not in reply.fields and reply.status >= 400:
            return None  # somebody before Slack answers: the status tells
        if "ok" not in reply.fields:
            return UnexpectedReplyError(f"slack {reply.call.name}: the answer does not say `ok`", wait_s=60)
        wait_s = retry_after_s(reply.headers, self._clock, default_s=30.0)
        needed = reply.fields.get("needed")
        return error_of(reply.call.name, reply.fields.get("error"), needed=needed, wait_s=wait_s)


def error_of(method: str, code: object, *, needed: object = None, wait_s: float = 30.0) -> WorkstationError:
    """What an error code of Slack's demands; one that is not known here is taken for a change of their contract."""
    name = code if isinstance(code, str) and re.fullmatch(r"[a-z0-9_.:-]{1,80}", code) else "no error code"
    what = f"slack {method}: {name}"
    if name in ("ratelimited", "rate_limited"):
        return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
    if name == "missing_scope":
        scopes = needed if isinstance(needed, str) and re.fullmatch(r"[a-z0-9_.:, -]{1,200}", needed) else "another"
        return ReauthorizeError(f"{what}: the scope {scopes} is needed: add it to the app and {CONNECT}", code=name)
    if name in _REFUSED_TOKEN:
        # Said with status 200; 401 has the request sent once more with a newer token, where there is one.
        return ReauthorizeError(f"{what}: Slack refuses the token: {CONNECT}", code=name, status=401)
    if name in _NO_ACCESS:
        return ReauthorizeError(f"{what}: Slack no longer accepts the connection: {CONNECT}", code=name)
    if name in _GONE:
        return ItemGoneError(f"{what}: it is not there any more, or not for you", reason=name)
    if name in _SKIPPED:
        return SkipItemError(f"{what}: it cannot be read: join the channel, or leave it out", reason=name)
    if name in _PASSING:
        return SourceUnavailableError(f"{what}: try again later", wait_s=1.0)
    return UnexpectedReplyError(f"{what}: this connector does not expect that", wait_s=60)


class Unconnected:
    """The credentials of a data source that nobody has connected yet."""

    def access_token(self, *, rejected: str | None = None) -> str:
        raise ReauthorizeError(f"slack: this data source is not connected: {CONNECT}")

    def scopes(self) -> frozenset[str]:
        return frozenset()

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        return inner


def list_of(reply: dict[str, Any], field: str, call: Call) -> list[Any]:
    """Return a page's list; without one there is no page."""
    found = reply.get(field)
    if not isinstance(found, list):
        raise UnexpectedReplyError(f"slack {call.name}: the answer has no `{field}`", wait_s=60)
    return found


def next_cursor(reply: dict[str, Any]) -> str:
    """Return the cursor of the next page; empty on the last."""
    metadata = reply.get("response_metadata")
    cursor = metadata.get("next_cursor") if isinstance(metadata, dict) else None
    return cursor if isinstance(cursor, str) else ""
