"""What Microsoft Graph's refusals mean: one table of statuses and codes (learn.microsoft.com/graph/errors, 2026-11-22)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnsupportedContentError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.http import Classify, Reply, retry_after_s

ACCOUNT_CALLS = frozenset({"drive", "delta", "delta_link"})
"""They speak of the whole drive, so that a refusal is not about one item."""

LINK_REFUSED = "link_refused"
"""The reason of an item whose download link was refused: a new one may do."""

_THROTTLED = frozenset({"activitylimitreached", "toomanyrequests", "throttledrequest", "bandwidthlimitexceeded"})
_MOST_NESTED = 10


def classifier(clock: Clock) -> Classify:
    """Return the reading of replies; what it leaves open goes by its status."""
    return lambda reply: error_of(reply, clock)


def error_of(reply: Reply, clock: Clock) -> WorkstationError | None:
    """Return what a reply stands for, None to go by its status alone."""
    if reply.status < 400:
        return None
    codes = frozenset(_codes(reply.fields.get("error")))
    what = f"onedrive {reply.call.name}: status {reply.status}"
    if reply.status == 509 or codes & _THROTTLED:
        wait_s = retry_after_s(reply.headers, clock, default_s=60.0)
        return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
    if reply.status == 504:
        wait_s = retry_after_s(reply.headers, clock, default_s=1.0)
        return SourceUnavailableError(f"{what}: it took too long: try again later", wait_s=wait_s, status=504)
    if reply.call.name in ACCOUNT_CALLS:
        return _of_account(reply, codes, what)
    if reply.status == 423:
        return SkipItemError(f"{what}: it is locked just now; it is tried again", reason="locked", transient=True)
    if reply.call.name == "content" and reply.status == 401 and "invalidauthenticationtoken" not in codes:
        # Not Graph's own: the link it redirected to has run out. Our token has nothing to do with it.
        return SkipItemError(f"{what}: its download link is refused", reason=LINK_REFUSED, transient=True)
    if "malwaredetected" in codes:
        return UnsupportedContentError(f"{what}: OneDrive found malware in it", reason="malware")
    return None


def _of_account(reply: Reply, codes: frozenset[str], what: str) -> WorkstationError | None:
    if reply.call.name == "delta_link" and _is_expired(reply.status, codes):
        return CursorExpiredError(f"{what}: the position in the change feed is not valid any more")
    if reply.status == 410 or any(code.startswith("resync") for code in codes):
        return CursorExpiredError(f"{what}: OneDrive asks to list everything again")
    if reply.status == 403:
        return ReauthorizeError(
            f"{what}: it may not list the drive: connect the account again and grant Files.Read.All"
        )
    if reply.status == 404:
        return InvalidRequestError(
            f"{what}: this account has no OneDrive: open it once in a browser, or choose another"
        )
    if reply.status == 423:
        return SourceUnavailableError(f"{what}: the drive is locked; ask its administrator", wait_s=900)
    return None


def _is_expired(status: int, codes: frozenset[str]) -> bool:
    """A 400 only with a code that speaks of the token, for a gateway's 400 says nothing about it."""
    if status in (404, 410):
        return True
    is_about_token = any(code.startswith(("resync", "syncstate")) for code in codes)
    return is_about_token or (status == 400 and "invalidrequest" in codes)


def _codes(error: Any) -> Iterator[str]:
    """The code of an error and those of the errors inside it, in lower case."""
    for _ in range(_MOST_NESTED):
        if not isinstance(error, Mapping):
            return
        code = error.get("code")
        if isinstance(code, str):
            yield code.lower()
        error = error.get("innererror") or error.get("innerError")
