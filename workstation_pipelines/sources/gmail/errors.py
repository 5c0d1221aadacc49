"""What Gmail's refusals mean: one table from its reasons to our errors.

Google sends one envelope for all: `{"error": {"code", "message", "status", "errors": [{"reason"}], "details": [{"reason"}]}}`.
A refusal without it is not Gmail's: something stands between us, and nothing is concluded from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.http import Reply, retry_after_s

_SLOWER = frozenset(
    ["rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"]
)
_TOMORROW = frozenset(["dailyLimitExceeded", "dailyLimitExceededUnreg"])
_SCOPES = frozenset(["insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"])
_OPERATOR = frozenset(["accessNotConfigured", "SERVICE_DISABLED"])
_NOT_ENABLED = frozenset(["failedPrecondition", "FAILED_PRECONDITION"])
# Gmail tells how long in the sentence, and often without a Retry-After header; a quarter of an hour is usual.
_RETRY_AFTER = re.compile(r"Retry after (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)Z")


def classify(reply: Reply, clock: Clock) -> WorkstationError | None:
    """Return the error that a reply stands for, None to go by its status alone."""
    if reply.status < 400 or reply.status >= 500 or reply.status in (401, 408):
        return None
    what = f"gmail {reply.call.name}: status {reply.status}"
    error = reply.fields.get("error")
    if not isinstance(error, Mapping):
        if reply.status == 429:
            return None
        return UnexpectedReplyError(f"{what}, but not as Gmail says it: is something between us and Gmail?", wait_s=60)
    reasons = _reasons(error)
    if reply.status == 429 or reasons & (_SLOWER | _TOMORROW):
        wait_s = _wait_s(reply, error, reasons, clock)
        return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
    if reply.status == 403:
        return _refusal(what, reasons)
    if reply.status == 404:
        return _absence(what, reply)
    if reply.status == 400:
        return _bad_request(what, reply, reasons)
    return None


def _refusal(what: str, reasons: frozenset[str]) -> WorkstationError:
    if "domainPolicy" in reasons:
        return ReauthorizeError(
            f"{what}: the administrators of this domain do not allow it: ask them to allow this application for Gmail,"
            " then connect the account again"
        )
    if reasons & _SCOPES:
        return ReauthorizeError(f"{what}: its grant does not include reading mail: connect it again and allow that")
    if reasons & _OPERATOR:
        return InvalidRequestError(
            f"{what}: the Gmail API is not enabled for the OAuth client in use: enable it in that Google Cloud project"
        )
    # Gmail knows no message that its own user may not read: a refusal is about the account.
    return ReauthorizeError(f"{what}: it denies access to this mailbox: connect the account again")


def _absence(what: str, reply: Reply) -> WorkstationError:
    if reply.call.name == "history.list":
        return CursorExpiredError(f"{what}: this history is too old: list the mailbox once more")
    if "{" in reply.call.path:
        return ItemGoneError(f"{what}: it is not there any more", reason="gone")
    return UnexpectedReplyError(f"{what}: the mailbox is not there", wait_s=60)


def _bad_request(what: str, reply: Reply, reasons: frozenset[str]) -> WorkstationError:
    if reasons & _NOT_ENABLED:
        return ReauthorizeError(f"{what}: this account has no Gmail: enable it, or connect another account")
    return UnexpectedReplyError(
        f"{what}: Gmail does not take a parameter of this request", wait_s=60, is_parameter_refused=True
    )


def _reasons(error: Mapping[str, Any]) -> frozenset[str]:
    found = [error.get("status")]
    for name in ("errors", "details"):
        entries = error.get(name)
        if isinstance(entries, list):
            found += [entry.get("reason") for entry in entries if isinstance(entry, Mapping)]
    return frozenset(reason for reason in found if isinstance(reason, str))


def _wait_s(reply: Reply, error: Mapping[str, Any], reasons: frozenset[str], clock: Clock) -> float:
    message = str(error.get("message", ""))
    default_s = 2.0
    if reasons & _TOMORROW:
        default_s = 3600.0
    elif reply.status == 429:
        default_s = 10.0
    elif "per minute" in message:
        default_s = 30.0
    told = _RETRY_AFTER.search(message)
    if told:
        default_s = max((datetime.fromisoformat(f"{told.group(1)}+00:00") - clock()).total_seconds(), 1.0)
    return retry_after_s(reply.headers, clock, default_s=default_s)
