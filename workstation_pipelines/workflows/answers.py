"""What an answer from outside means: its JSON, its error if it is one, and never a secret of it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from workstation_pipelines.errors import (
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.http_body import json_value
from workstation_pipelines.sources.http_errors import retry_after_s
from workstation_pipelines.workflows.outbound import Incoming, in_doubt
from workstation_pipelines.workflows.redaction import redacted

_CODE = re.compile(r"[A-Za-z][\w.-]{0,63}")
_RATE_LIMIT_WAIT_S = 10.0
_BUSY = (408, 425)
_USED_UP = ("insufficient_quota", "billing_hard_limit_reached")
"""Codes of a 429 that no waiting mends."""


def refusal(
    answer: Incoming,
    *,
    clock: Clock,
    secrets: Collection[str] = (),
    is_repeatable: bool = True,
    key_hint: str | None = None,
) -> WorkstationError:
    """Return the error that an answer stands for: its status and the vendor's short code, never its body.

    `key_hint` says how to set the key with which a vendor was asked; None where we do not know what a 401 is about.
    """
    status, code = answer.status, error_code(answer.body, secrets)
    what = f"{answer.who} answered {status}{f' ({code})' if code else ''}"
    wait_s = retry_after_s(answer.headers, clock, default_s=-1.0)
    if status == 429 and code in _USED_UP:
        return InvalidRequestError(f"{what}: the account has nothing left to spend, raise that or use another key")
    if status == 429 or (status == 503 and wait_s >= 0):
        wait_s = wait_s if wait_s >= 0 else _RATE_LIMIT_WAIT_S
        return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
    if status >= 500 or status in _BUSY:
        if not is_repeatable and status != 503:
            return in_doubt(answer.who, what)
        return SourceUnavailableError(f"{what}: try it again later", wait_s=max(wait_s, 1.0))
    if status in (401, 403) and key_hint is not None:
        return ReauthorizeError(f"{what}: it refuses the key, {key_hint}")
    if status in (401, 403):
        return InvalidRequestError(f"{what}: check the credentials that are sent along")
    if status < 400:
        return InvalidRequestError(f"{what}, where something else is expected: check the address")
    return InvalidRequestError(f"{what}: it refuses the request as it is, so mend that")


def error_code(body: bytes, secrets: Collection[str] = ()) -> str:
    """Return the error's code or type if it is a mere name; the message itself may quote texts or keys."""
    try:
        fields = json_value(body)
    except ValueError:
        return ""
    if not isinstance(fields, dict):
        return ""
    error = fields.get("error")
    places = (error, fields) if isinstance(error, dict) else (fields,)
    candidates = [place.get(name) for place in places for name in ("code", "error_code", "slug", "type")]
    for found in (*candidates, error):
        if isinstance(found, int) and not isinstance(found, bool):
            found = f"code-{found}" if abs(found) < 1_000_000 else None
        if (
            isinstance(found, str)
            and _CODE.fullmatch(found)
            and not any(secret in found for secret in secrets if secret)
        ):
            return found
    return ""


def json_in(answer: Incoming, *, is_repeatable: bool = True, secrets: Collection[str] = ()) -> Any:
    """Return an answer's JSON as it can be stored: secrets, NUL and lone surrogates replaced; None for an empty body.

    Raises UnexpectedReplyError for anything else, such as a login page.
    """
    try:
        return redacted(storable(json_value(answer.body)), secrets) if answer.body.strip() else None
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        named = f" but {kind}" if re.fullmatch(r"[a-z]+/[a-z0-9.+-]{1,40}", kind) and "json" not in kind else ""
        raise misunderstood(answer, f"it is not JSON{named}", is_repeatable=is_repeatable) from None


def json_of(text: str) -> Any:
    """Return the JSON in a text as it can be stored. Raises ValueError when it is none."""
    try:
        return storable(json_value(text.encode("utf-8", "surrogatepass")))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def misunderstood(answer: Incoming, why: str, *, is_repeatable: bool = True) -> WorkstationError:
    """The error of an answer that is not what it should be; `why` is ours, not the vendor's."""
    what = f"{answer.who} answered {answer.status}, and cannot be understood: {why}"
    if not is_repeatable:
        return in_doubt(answer.who, what)
    return UnexpectedReplyError(f"{what}; try it again later, or check the address", wait_s=5.0)


def storable(value: Any) -> Any:
    """Return JSON as PostgreSQL can hold it: without NUL and lone surrogates, also in the names."""
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, list):
        return [storable(each) for each in value]
    if isinstance(value, dict):
        return {text_of(name): storable(each) for name, each in value.items()}
    return value


def text_of(value: str | bytes) -> str:
    """Return text as PostgreSQL can hold it."""
    if isinstance(value, str):
        value = value.encode("utf-16-le", "surrogatepass")
        return value.decode("utf-16-le", "replace").replace("\0", "�")
    return value.decode("utf-8", "replace").replace("\0", "�")
