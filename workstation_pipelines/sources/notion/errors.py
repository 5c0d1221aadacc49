"""What Notion's refusals mean (developers.notion.com/reference/status-codes and /request-limits, seen 2026-11-22)."""

from __future__ import annotations

from workstation_pipelines.errors import (
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    UnreadableContentError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.http import Classify, Reply, retry_after_s

OF_ONE_ITEM = frozenset({"page", "markdown", "property", "block", "children", "data_source", "database"})
"""Names of the calls whose refusal concerns one thing; the others carry a whole listing."""


class StartCursorError(UnexpectedReplyError):
    """Raised when a listing's `start_cursor` is refused: that one listing has to begin again."""


def classifier(clock: Clock) -> Classify:
    """Return the reading of replies; `clock` turns a Retry-After date into seconds."""
    return lambda reply: error_of(reply, clock)


def error_of(reply: Reply, clock: Clock) -> WorkstationError | None:
    """Return the error that a reply stands for; None where there is none, or where the status alone tells."""
    if reply.status < 400:
        return None
    code = str(reply.fields.get("code", ""))[:60]
    what = f"notion {reply.call.name}: status {reply.status} {code}".rstrip()
    if reply.status == 400:
        return _refused(reply, what, code)
    if reply.status == 403 and code == "restricted_resource":
        return _restricted(reply, what)
    if reply.status == 404 and code == "object_not_found":
        return ItemGoneError(f"{what}: it was deleted, or is not shared with this connection", reason="gone")
    if reply.status == 404 and reply.is_json:
        return UnexpectedReplyError(f"{what}: Notion does not know this kind of request", wait_s=60, status=404)
    if reply.status == 409:
        return SourceUnavailableError(f"{what}: someone is writing to it: try again", wait_s=1.0, status=409)
    if reply.status in (429, 529):
        return _limited(reply, what, clock)
    if reply.status >= 500:
        wait_s = retry_after_s(reply.headers, clock, default_s=1.0)
        return SourceUnavailableError(f"{what}: try again later", wait_s=wait_s, status=reply.status)
    return None


def _refused(reply: Reply, what: str, code: str) -> WorkstationError:
    """Read a 400. None is ever retried: the same words would be refused again, and a mistake of ours be hidden."""
    message = str(reply.fields.get("message", ""))
    if code == "invalid_start_cursor" or (code == "validation_error" and "start_cursor" in message):
        return StartCursorError(f"{what}: the listing has to begin again", wait_s=60, status=400)
    if reply.call.name in OF_ONE_ITEM and reply.is_json:
        return UnreadableContentError(f"{what}: Notion refuses to show this one", reason="refused", status=400)
    return UnexpectedReplyError(f"{what}: this connector sent something that Notion refuses", wait_s=60, status=400)


def _restricted(reply: Reply, what: str) -> WorkstationError:
    if reply.call.name in OF_ONE_ITEM or reply.call.name == "query":
        return SkipItemError(f"{what}: this connection may not read it", reason="forbidden", transient=True)
    return ReauthorizeError(
        f"{what}: the connection lacks the capability `Read content`: enable it in Notion's settings and connect again"
    )


def _limited(reply: Reply, what: str, clock: Clock) -> WorkstationError:
    wait_s = retry_after_s(reply.headers, clock, default_s=10.0)
    extra = reply.fields.get("additional_data")
    reason = extra.get("rate_limit_reason") if isinstance(extra, dict) else None
    told = f" ({reason[:60]})" if isinstance(reason, str) and reason.isascii() and reason.isprintable() else ""
    return RateLimitedError(f"{what}{told}: it asks to wait {wait_s:.0f} s", wait_s=wait_s, status=reply.status)
