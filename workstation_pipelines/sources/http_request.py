"""One request as it is written down, before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    params: Params = None
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    is_given: bool = False
    is_ours: bool = True
    is_bare: bool = False


def is_token(token: str) -> bool:
    """Return whether a bearer token is one that fits into a header and cannot end it."""
    return _TOKEN.fullmatch(token) is not None


def build_request(
    client: httpx.Client, ask: Ask, token: str | None, *, accept: str | None = None
) -> httpx.Request | None:
    """Build the request; None when its URL, a header or its body holds what cannot be written."""
    headers = {**({"Accept-Encoding": accept} if accept else {}), **(ask.headers or {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    params = list(ask.params.items()) if isinstance(ask.params, Mapping) else ask.params
    query: list[tuple[str, str | int | float | bool | None]] | None = None
    if params:
        query = [(name, value) for name, value in params if value is not None]
    if not all(_HEADER.fullmatch(value) for value in headers.values()):
        return None
    try:
        return client.build_request(
            "GET" if ask.is_given else ask.call.method,
            ask.url,
            params=query,
            json=ask.body,
            headers=headers,
            # A transport that adds credentials by itself may do so for authorized requests only.
            extensions={
                "call": ask.call,
                "is_given": ask.is_given,
                "is_authorized": ask.call.is_authorized and ask.is_ours and not ask.is_bare,
            },
        )
    except (httpx.InvalidURL, ValueError):  # its message would quote what could not be written
        return None
