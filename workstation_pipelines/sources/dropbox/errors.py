"""Dropbox's errors, by status and tag, as the actions they demand. A 409 is an error of the endpoint, not a conflict.

https://www.dropbox.com/developers/documentation/http/documentation#error-handling, checked 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    UnexpectedReplyError,
    UnsupportedContentError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.http import Reply, bounded_wait_s, retry_after_s

DEFAULT_WAIT_S = 10.0

_RECONNECT = "connect the account again: `workstation source connect NAME`"
_NO_OTHER_TOKEN = 403
"""Says that a newer token of the same grant would be refused as well, so that none is fetched."""


def classifier(clock: Clock) -> Callable[[Reply], WorkstationError | None]:
    """Return the reading of a reply; None leaves it to the status (5xx, 404 ...)."""

    def classify(reply: Reply) -> WorkstationError | None:
        what = f"dropbox {reply.call.name}: status {reply.status}"
        tags = tags_of(reply.fields)
        if reply.status == 429:
            return _limited(what, reply, clock)
        if reply.status == 400 and not reply.headers.get("content-type", "").lower().startswith("text/html"):
            return InvalidRequestError(
                f"{what}: the request is refused as malformed. Look whether the app still exists and has the scopes"
                " it needs; if so, sync the source once in full, and if that fails too this is a bug"
            )
        if reply.status in (404, 410) and not _is_about_item(reply):
            return UnexpectedReplyError(f"{what}: the API is not at this address", wait_s=60)
        read = _BY_STATUS.get(reply.status)
        # Errors of these statuses are JSON; anything else was said by somebody on the way.
        return read(what, reply, tags) if read is not None and reply.is_json else None

    return classify


def tags_of(fields: Mapping[str, object]) -> str:
    """Return the tags of an error from the outermost to the innermost, joined by slashes, such as `path/not_found`."""
    tags: list[str] = []
    error = fields.get("error")
    while isinstance(error, dict) and isinstance(error.get(".tag"), str) and len(tags) < 8:
        tags.append(error[".tag"])
        inner = error.get(tags[-1])
        error = {".tag": inner} if isinstance(inner, str) else inner
    if not tags:
        summary = fields.get("error_summary")
        tags = [part for part in summary.split("/") if part.strip(".")] if isinstance(summary, str) else []
    return "/".join(tags)


def _unauthorized(what: str, reply: Reply, tags: str) -> WorkstationError:
    if tags.startswith("missing_scope"):
        error = reply.fields.get("error")
        scope = error.get("required_scope") if isinstance(error, dict) else None
        return ReauthorizeError(
            f"{what}: the scope {scope!r} is missing: tick it under Permissions in Dropbox's app console, then {_RECONNECT}",
            status=_NO_OTHER_TOKEN,
        )
    if tags.startswith("user_suspended"):
        return ReauthorizeError(
            f"{what}: the user is suspended: have the team's admin lift that, then {_RECONNECT}", status=_NO_OTHER_TOKEN
        )
    return ReauthorizeError(f"{what} {tags or 'without a reason'}: {_RECONNECT}")


def _forbidden(what: str, reply: Reply, tags: str) -> WorkstationError:
    if _is_about_item(reply):
        return SkipItemError(f"{what} {tags}: access to it is denied", reason="forbidden")
    return ReauthorizeError(f"{what} {tags}: this account may not use the API: connect another one")


def _limited(what: str, reply: Reply, clock: Clock) -> WorkstationError:
    # The header and the body should agree; some limits come with only one of them.
    error = reply.fields.get("error")
    told = error.get("retry_after") if isinstance(error, dict) else None
    default_s = bounded_wait_s(told, default_s=DEFAULT_WAIT_S)
    wait_s = max(retry_after_s(reply.headers, clock, default_s=default_s), bounded_wait_s(told, default_s=0.0))
    return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)


def _of_root(what: str, _reply: Reply, tags: str) -> WorkstationError:
    if tags.startswith("invalid_root"):
        return CursorExpiredError(f"{what} invalid_root: the account's root is another one now, so it is listed anew")
    return ReauthorizeError(f"{what} {tags}: the account may not see its team's space: {_RECONNECT}")


def _of_endpoint(what: str, reply: Reply, tags: str) -> WorkstationError:
    if _is_about_item(reply):
        return _of_item(what, tags)
    if tags.startswith("reset"):
        return CursorExpiredError(f"{what} reset: the position in the feed is no longer valid")
    if tags.startswith("path/"):
        return InvalidRequestError(
            f"{what} {tags}: the folder is not there or cannot be listed; if it was moved or renamed, pick it again"
        )
    return UnexpectedReplyError(f"{what} {tags or 'without a tag'}: an error that is not documented", wait_s=60)


def _of_item(what: str, tags: str) -> WorkstationError:
    message = f"{what} {tags}"
    if tags.startswith(("path/not_found", "path/not_file", "path/not_folder", "path/malformed_path")):
        return ItemGoneError(
            f"{message}: it is not there any more; the next sync tells what became of it", reason="gone"
        )
    if tags.startswith("path/restricted_content"):
        return SkipItemError(f"{message}: Dropbox restricts its content for legal reasons", reason="restricted")
    if tags.startswith(("path/locked", "retry_error")):
        return SkipItemError(f"{message}: its content is not available yet", reason="not_ready", transient=True)
    if tags.startswith(
        ("path/unsupported_content_type", "unsupported_file", "non_exportable", "invalid_export_format")
    ):
        return UnsupportedContentError(f"{message}: its content cannot be downloaded", reason="not_downloadable")
    return SkipItemError(f"{message}: Dropbox does not hand it out", reason="refused", transient=True)


def _is_about_item(reply: Reply) -> bool:
    return reply.call.base == "content"


_BY_STATUS: Final[Mapping[int, Callable[[str, Reply, str], WorkstationError]]] = {
    401: _unauthorized,
    403: _forbidden,
    409: _of_endpoint,
    422: _of_root,
}
