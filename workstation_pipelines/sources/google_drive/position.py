"""How far a listing and the change logs have been read: the cursor, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workstation_pipelines.errors import CursorExpiredError
from workstation_pipelines.model import Cursor

USER = "user"
FOLDERS = "folders"
FILES = "files"


def drive_corpus(drive_id: str) -> str:
    return f"drive:{drive_id}"


def drive_of(corpus: str) -> str | None:
    """Return the id of the shared drive that a corpus is; None for the user's own."""
    return corpus.removeprefix("drive:") if corpus.startswith("drive:") else None


@dataclass(frozen=True, slots=True)
class Listing:
    """What is still to be listed, corpus by corpus: its folders first, since paths need them, then its files.

    `page_token` resumes the first of `corpora`. `sweep` marks the folders that this listing has shown.
    """

    corpora: tuple[str, ...]
    sweep: str
    part: str = FOLDERS
    page_token: str | None = None
    is_incomplete: bool = False

    def fields(self) -> dict[str, Any]:
        return {
            "corpora": list(self.corpora),
            "sweep": self.sweep,
            "part": self.part,
            "page_token": self.page_token,
            "incomplete": self.is_incomplete,
        }


@dataclass(frozen=True, slots=True)
class Position:
    """`tokens` are change logs by corpus, none during a full listing; `listing` is what is listed before they go on."""

    tokens: Mapping[str, str] = field(default_factory=dict)
    listing: Listing | None = None

    @property
    def is_full_listing(self) -> bool:
        return not self.tokens

    def cursor(self) -> Cursor:
        found: dict[str, Any] = {"v": 1}
        if self.tokens:
            found["tokens"] = dict(self.tokens)
        if self.listing is not None:
            found["listing"] = self.listing.fields()
        return found

    @classmethod
    def parse(cls, cursor: Cursor) -> Position:
        """Raises CursorExpiredError for what this version did not write."""
        tokens, listing = cursor.get("tokens", {}), cursor.get("listing")
        try:
            if cursor.get("v") != 1 or not (tokens or listing):
                raise ValueError("version")
            position = cls(
                {str(corpus): _checked(token) for corpus, token in tokens.items()},
                None if listing is None else _listing(listing),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            raise CursorExpiredError(
                "google_drive: the stored cursor is of another version, so everything is listed once"
            ) from None
        return position


def _listing(fields: Mapping[str, Any]) -> Listing:
    token = fields["page_token"]
    return Listing(
        corpora=tuple(_checked(corpus) for corpus in fields["corpora"]),
        sweep=_checked(fields["sweep"]),
        part=_checked(fields["part"]),
        page_token=None if token is None else _checked(token),
        is_incomplete=bool(fields["incomplete"]),
    )


def _checked(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
