"""One request as it is written down, before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from workstation_pipelines.sources.http_call import Call, Params

_TOKEN = re.compile(r"[\x21-\x7e]+")
_HEADER = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Ask:
    """A Call made out: where to, and with what.

    `is_given` marks a link that the vendor gave, `is_ours` one below a base, `is_bare` one that goes without our token.
    """

    call: Call
    url: httpx.URL
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    is_given: bool = False
    is_ours: bool = True
    is_bare: bool = False


def is_token(token: str) -> bool:
    """Return whether a bearer token is one that fits into a header and cannot end it."""
    return _TOKEN.fullmatch(token) is not None


def query_of(params: Params) -> str:
    """Return a query with its question mark, empty without parameters. Raises UnicodeError for half a character."""
    pairs = list(params.items()) if isinstance(params, Mapping) else params or []
    written = [(name, _written(value)) for name, value in pairs if value is not None]
    return f"?{urlencode(written)}" if written else ""


def _written(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build_request(
    ask: Ask,
    token: str | None,
    *,
    default_headers: Mapping[str, str],
    timeout: httpx.Timeout,
    accept: str | None = None,
) -> httpx.Request | None:
    """Build the request; None when a header or its body holds what cannot be written."""
    headers = {**default_headers, **({"Accept-Encoding": accept} if accept else {}), **(ask.headers or {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if not all(_HEADER.fullmatch(value) for value in headers.values()):
        return None
    try:
        return httpx.Request(
            "GET" if ask.is_given else ask.call.method,
            ask.url,
            json=ask.body,
            headers=headers,
            # A transport that adds credentials by itself may do so for authorized requests only.
            extensions={
                "timeout": timeout.as_dict(),
                "call": ask.call,
                "is_given": ask.is_given,
                "is_authorized": ask.call.is_authorized and ask.is_ours and not ask.is_bare,
            },
        )
    except (httpx.InvalidURL, ValueError):  # its message would quote what could not be written
        return None
