"""What a vendor's status, its Retry-After and an oversized answer mean, where its own words say nothing more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from workstation_pipelines.errors import (
    ItemGoneError,
    ItemTooLargeError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.http_call import Call, Reply

MOST_ASKED_WAIT_S = 3600.0
"""Whatever a vendor asks for, it is tried again after an hour: its answer will tell whether that was too early."""

_MOST_DIGITS = 64


def retry_after_s(headers: Mapping[str, str], clock: Clock, *, default_s: float) -> float:
    """Read a Retry-After header, in seconds or as a date (RFC 9110, 10.2.3); `default_s` when there is none.

    Between 0 and MOST_ASKED_WAIT_S, whatever it says.
    """
    value = headers.get("retry-after", "").strip()[:_MOST_DIGITS]
    try:
        return bounded_wait_s(float(value), default_s=default_s)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
        # A date without a zone is in UTC, as all dates of HTTP are.
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return bounded_wait_s((aware - clock()).total_seconds(), default_s=default_s)
    except (ValueError, TypeError, OverflowError, IndexError):
        return default_s


def bounded_wait_s(value: object, *, default_s: float) -> float:
    """Read seconds to wait from a field of an answer: between 0 and MOST_ASKED_WAIT_S; `default_s` for no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default_s
    try:
        wait_s = float(value[:_MOST_DIGITS] if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return default_s
    if math.isnan(wait_s):
        return default_s
    return min(max(wait_s, 0.0), MOST_ASKED_WAIT_S)


def error_of_status(provider: str, reply: Reply, clock: Clock) -> WorkstationError:
    """What a status means where the vendor's own words say nothing more."""
    what = f"{provider} {reply.call.name}: status {reply.status}"
    if reply.status == 401:
        return ReauthorizeError(f"{what}: the account has to be connected again", status=401)
    if reply.status == 403:
        return SkipItemError(f"{what}: access to it is denied", reason="forbidden")
    if reply.status in (404, 410):
        return ItemGoneError(f"{what}: it is not there", reason="gone")
    if reply.status == 429:
        wait_s = retry_after_s(reply.headers, clock, default_s=10.0)
        return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
    if reply.status in (408, 425) or reply.status >= 500:
        wait_s = retry_after_s(reply.headers, clock, default_s=1.0)
        return SourceUnavailableError(f"{what}: try again later", wait_s=wait_s)
    if reply.status < 400:
        return UnexpectedReplyError(f"{what}: it redirects where it should answer", wait_s=60)
    return UnexpectedReplyError(
        f"{what}: this connector sent something that the vendor refuses", wait_s=60, status=reply.status
    )


def not_from_the_vendor(provider: str, reply: Reply) -> WorkstationError | None:
    """Tell a gateway's page from the vendor's word: a refusal in HTML, where JSON is spoken, says nothing of an item."""
    if reply.status in (403, 404, 410) and not reply.is_json and is_html(reply.headers):
        return UnexpectedReplyError(
            f"{provider} {reply.call.name}: status {reply.status} comes as a web page; is something between us and the"
            " vendor?",
            wait_s=60,
        )
    return None


def is_html(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").strip().lower().startswith(("text/html", "application/xhtml"))


def too_large(provider: str, call: Call, limit_bytes: int, *, is_item: bool) -> WorkstationError:
    if is_item:
        return ItemTooLargeError(
            f"{provider}: it has more than `max_file_bytes` = {limit_bytes} bytes: raise that, or leave it out",
            reason="too_large",
        )
    return UnexpectedReplyError(f"{provider} {call.name}: the answer has more than {limit_bytes} bytes", wait_s=60)
