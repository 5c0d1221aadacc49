"""Download links that came with a listing, for as long as they are fresh.

They need no token, so that whoever has one has the file: they live in this object only, and nothing tells of them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Lock

from workstation_pipelines.model import Clock

FRESH_FOR = timedelta(minutes=10)
"""Graph promises about an hour; a page is fetched within a minute, unless the sync was told to wait."""

MOST_LINKS = 1000
"""Some pages' worth, of half a kilobyte to two each."""


class DownloadLinks:
    """Links by the key of their item, the newest MOST_LINKS of them. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._links: dict[str, tuple[str, datetime]] = {}

    def put(self, key: str, link: str) -> None:
        with self._lock:
            self._links.pop(key, None)
            self._links[key] = (link, self._clock())
            if len(self._links) > MOST_LINKS:
                del self._links[next(iter(self._links))]

    def take(self, key: str) -> str | None:
        """Return a link to be used once; None when there is none, or it is not fresh any more."""
        with self._lock:
            link, told_at = self._links.pop(key, (None, None))
        return link if told_at is not None and self._clock() - told_at <= FRESH_FOR else None
