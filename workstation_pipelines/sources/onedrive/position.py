"""Where a listing or a feed of OneDrive stands, as a cursor."""

from __future__ import annotations

from dataclasses import dataclass

from workstation_pipelines.errors import CursorExpiredError
from workstation_pipelines.model import Cursor


@dataclass(frozen=True, slots=True)
class Position:
    """`link` is what to get next, None for the first page of a listing; with `is_closing` it is where the feed goes on.

    `is_restarted` tells of a listing that had to begin again: what it had shown before may have been deleted since, so
    that everything is listed once more next time. `has_shared` tells that there is something that the feed is silent about.
    """

    drive: str
    link: str | None = None
    is_listing: bool = False
    is_closing: bool = False
    is_restarted: bool = False
    has_shared: bool = False

    def cursor(self) -> Cursor | None:
        """None for the start of a listing, which needs nothing to be resumed from."""
        if self.link is None:
            return None
        flags = {
            "listing": self.is_listing,
            "closing": self.is_closing,
            "restarted": self.is_restarted,
            "shared": self.has_shared,
        }
        return {
            "v": 1,
            "drive": self.drive,
            "link": self.link,
            **{name: True for name, is_set in flags.items() if is_set},
        }

    @classmethod
    def of(cls, cursor: Cursor) -> Position:
        """Read a cursor of ours. Raises CursorExpiredError for one that nothing can be resumed from."""
        drive, link = cursor.get("drive"), cursor.get("link")
        if cursor.get("v") != 1 or not isinstance(drive, str) or not isinstance(link, str):
            raise CursorExpiredError(
                "onedrive: its cursor is none that this version has written: list everything again"
            )
        position = cls(
            drive,
            link,
            is_listing=bool(cursor.get("listing")),
            is_closing=bool(cursor.get("closing")),
            is_restarted=bool(cursor.get("restarted")),
            has_shared=bool(cursor.get("shared")),
        )
        if position.is_restarted and not position.is_listing:
            raise CursorExpiredError(
                "onedrive: the last listing had to begin again half way: list everything once more"
            )
        return position
