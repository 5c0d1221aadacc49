"""Spans of time as people write them: 90m, 6h, 2d."""

from __future__ import annotations

import re
from datetime import timedelta

from workstation_pipelines.errors import InvalidRequestError

_WRITTEN = re.compile(r"([1-9][0-9]{0,6}) ?(m|min|h|d)")
_MINUTES = {"m": 1, "min": 1, "h": 60, "d": 24 * 60}


def minutes_of(text: str) -> int:
    """Read a span of minutes, hours or days. Raises InvalidRequestError."""
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise InvalidRequestError(f"{text!r} is not a span of time: write it like 90m, 6h or 2d")
    return int(found[1]) * _MINUTES[found[2]]


def written_span(span: timedelta) -> str:
    """Write a span in one unit, as `3 d`, `5 h` or `12 min`; two at least of a larger one. Less than a minute is `now`."""
    minutes = int(span.total_seconds() // 60)
    for size, unit in ((24 * 60, "d"), (60, "h"), (1, "min")):
        if minutes >= 2 * size or (size == 1 and minutes >= 1):
            return f"{minutes // size} {unit}"
    return "now"
