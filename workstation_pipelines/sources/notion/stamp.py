"""The `external_hash` of a page: `nt:<last_edited_time>`, marked while a later edit could still get the same time.

Notion rounds `last_edited_time` down to the minute. What is read before that minute is surely over may miss a later edit
of the same minute, which no time would ever tell. Such a reading is marked with its own moment, so that it equals no other:
the page is read again by each sync until the minute is over, and once more after it. Then it is quiet.
"""

from __future__ import annotations

from datetime import datetime, timedelta

SETTLED_AFTER = timedelta(minutes=3)
"""From the beginning of the minute of an edit: that minute, and two for clocks that differ."""


def stamp(edited_at: str, edited: datetime | None, read_at: datetime) -> str:
    """Return the hash of what was read at `read_at` of a page that was edited at `edited`, in Notion's words `edited_at`."""
    if edited is None or read_at - edited >= SETTLED_AFTER:
        return f"nt:{edited_at}"
    return f"nt:{edited_at}~{round(read_at.timestamp() * 1000)}"


def stamp_again(external_hash: str, edited: datetime | None, read_at: datetime) -> str:
    """Return the hash of the same page when it is read later than it was listed."""
    return stamp(external_hash.removeprefix("nt:").partition("~")[0], edited, read_at)
