"""What Google Drive's refusals mean, by the reason that it gives beside the status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workstation_pipelines.errors import (
    CursorExpiredError,
    ItemGoneError,
    ItemTooLargeError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    UnsupportedContentError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.http import Reply, retry_after_s

EXPORT_TOO_LARGE = "export_too_large"

_RATE_WAIT_S = 2.0
_DAILY_WAIT_S = 3600.0
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded"})
_DAILY = frozenset({"dailyLimitExceeded", "quotaExceeded"})
_FORBIDDEN = frozenset(
    {
        "cannotDownloadFile",
        "cannotExportFile",
        "fileNotDownloadable",
        "insufficientFilePermissions",
        "appNotAuthorizedToFile",
        "teamDriveMembershipRequired",
        "teamDrivesFolderSharingNotSupported",
    }
)
_NOT_GRANTED = frozenset({"insufficientPermissions", "insufficientScopes", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})
_NOT_ENABLED = frozenset({"accessNotConfigured", "SERVICE_DISABLED"})


def classify(reply: Reply, clock: Clock) -> WorkstationError | None:
    """Return the error that Drive's own words stand for; None leaves it to the status."""
    if reply.status < 400 or not reply.is_json:
        return None
    reason, location = reason_of(reply.fields)
    what = f"google_drive {reply.call.name}: {reason or reply.status}"
    if reply.status in (403, 429):
        return _refusal(reply, what, reason, clock)
    if _is_rejected_token(reply, reason, location):
        return CursorExpiredError(f"{what}: the page token is not accepted any more, so everything is listed once")
    if reply.status == 404:
        return ItemGoneError(f"{what}: it is not there, or not for this account any more", reason="gone")
    return None


def reason_of(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return the reason and location of the first error of an answer; empty where it does not say."""
    error = fields.get("error")
    errors = error.get("errors") if isinstance(error, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return "", ""
    return str(first.get("reason") or ""), str(first.get("location") or "")


def _is_rejected_token(reply: Reply, reason: str, location: str) -> bool:
    """Drive promises that change tokens last; that one is refused must be said of the token, not of anything else."""
    if reply.call.name == "changes.list":
        return reply.status == 410 or (reply.status in (400, 404) and location == "pageToken")
    return reply.call.name == "files.list" and reply.status in (400, 410) and location == "pageToken"


def _refusal(reply: Reply, what: str, reason: str, clock: Clock) -> WorkstationError | None:
    if reason in _TOO_FAST or (reply.status == 429 and reason not in _DAILY):
        wait_s = retry_after_s(reply.headers, clock, default_s=_RATE_WAIT_S)
        return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
    if reason in _DAILY:
        wait_s = retry_after_s(reply.headers, clock, default_s=_DAILY_WAIT_S)
        return RateLimitedError(f"{what}: the day's calls are spent", wait_s=wait_s)
    if reason == "exportSizeLimitExceeded":
        return ItemTooLargeError(
            f"{what}: its export has more than the 10 MB of `files.export`", reason=EXPORT_TOO_LARGE
        )
    if reason == "fileNotExportable":
        return UnsupportedContentError(f"{what}: Drive cannot export it", reason="unsupported")
    if reason == "cannotDownloadAbusiveFile":
        return SkipItemError(f"{what}: Drive holds it for malware or spam, so it is left alone", reason="flagged")
    if reason == "downloadQuotaExceeded":
        return SkipItemError(
            f"{what}: it was downloaded too often today; it is tried again", reason="download_quota", transient=True
        )
    if reason in _FORBIDDEN:
        return SkipItemError(f"{what}: its owner does not let this account download it", reason="forbidden")
    if reason in _NOT_GRANTED:
        return ReauthorizeError(f"{what}: the grant lacks a scope: connect it: `workstation source connect NAME`")
    if reason in _NOT_ENABLED:
        return ReauthorizeError(
            f"{what}: enable the Google Drive API in the OAuth client's project, then connect it again"
        )
    if reason == "domainPolicy":
        return ReauthorizeError(f"{what}: the domain's administrators do not allow Drive apps: ask them")
    return None
