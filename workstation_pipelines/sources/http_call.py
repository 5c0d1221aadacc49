"""What a connector may ask a vendor for, and what came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from workstation_pipelines.errors import WorkstationError


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of request. `path` is a template such as `/drive/v3/files/{file_id}`, below the base URL named `base`.

    `per_s` and `burst` pace all processes together, by provider, account and `pace` (the call's name when None); `cost`
    is what one request takes out of that bucket.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    per_s: float
    burst: float = 10
    cost: float = 1
    base: str = "api"
    pace: str | None = None
    is_authorized: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, as far as it tells of success or failure. `fields` is the JSON object, empty when there is none."""

    call: Call
    status: int
    headers: httpx.Headers = field(repr=False)
    fields: Mapping[str, Any] = field(repr=False)
    is_json: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A whole body, with its headers."""

    body: bytes = field(repr=False)
    headers: httpx.Headers = field(repr=False)


Params = Mapping[str, str | int | bool | None] | list[tuple[str, str | int | bool | None]] | None
"""Query parameters; those of None are left out, a list repeats a name."""

Classify = Callable[[Reply], WorkstationError | None]
"""A vendor's reading of an answer: the error that it stands for, or None to go by the status alone."""
