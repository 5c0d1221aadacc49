"""Where a listing or a feed stands: one vendor cursor a folder, and the places that were emptied on the way.

The feed names a deleted file or folder by its path alone, and tells a rename as two entries: something is gone from the
old path, and a file with the same id is at the new one, maybe pages later. So places are emptied at once, what lay there
is deleted only at the end of the chain of pages, and whatever has shown itself elsewhere by then is spared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workstation_pipelines.errors import CursorExpiredError
from workstation_pipelines.model import Cursor, Item
from workstation_pipelines.sources.contract import Known

VERSION = 1


@dataclass(frozen=True, slots=True)
class Position:
    """`cursors` are the vendor's, by picked folder; while `is_listing`, a folder without one has not been begun.

    `root` is the namespace that all paths are relative to, None for the account's own.
    """

    account_id: str
    root: str | None
    is_listing: bool = True
    cursors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, cursor: Cursor) -> tuple[Position, Emptied]:
        """Raises CursorExpiredError for what this version did not write."""
        try:
            if cursor["v"] != VERSION:
                raise ValueError
            root = cursor["root"]
            position = cls(
                account_id=str(cursor["account"]),
                root=None if root is None else str(root),
                is_listing=cursor["phase"] == "listing",
                cursors={str(folder): str(one) for folder, one in cursor["folders"].items()},
            )
            return position, Emptied.parse(cursor["emptied"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CursorExpiredError("dropbox: the stored position is not of this version: list it anew") from None

    def with_folder(self, folder: str, cursor: str) -> Position:
        return replace(self, cursors={**self.cursors, folder: cursor})

    def as_cursor(self, emptied: Emptied) -> Cursor:
        return {
            "v": VERSION,
            "phase": "listing" if self.is_listing else "feed",
            "account": self.account_id,
            "root": self.root,
            "folders": dict(self.cursors),
            "emptied": emptied.as_json(),
        }

    def as_feed(self) -> Position:
        return replace(self, is_listing=False)


class Emptied:
    """The places emptied so far, oldest first: `/a` stands for what was at that path, `/a/` for all that was below it.

    What has come to a place since is spared. What has moved on is not there any more when its leftovers are taken.
    """

    def __init__(self) -> None:
        self._spared: dict[str, dict[str, None]] = {}

    @classmethod
    def parse(cls, stored: Mapping[str, Sequence[Any]]) -> Emptied:
        emptied = cls()
        for place, spared in stored.items():
            emptied._spared[str(place)] = dict.fromkeys(map(str, spared))
        return emptied

    def as_json(self) -> dict[str, list[str]]:
        return {place: list(spared) for place, spared in self._spared.items()}

    @property
    def weight(self) -> int:
        """How many paths and ids this holds, all of which go into the cursor."""
        return len(self._spared) + sum(map(len, self._spared.values()))

    def empty(self, path: str) -> None:
        """Whatever is at `path` is gone."""
        if not self._is_within_emptied(path):
            self._spared.pop(path, None)
            self._spared[path] = {}

    def empty_below(self, path: str) -> None:
        """Whatever is below `path` is gone."""
        if not self._is_within_emptied(path):
            for place in [place for place in self._spared if place.startswith(path + "/")]:
                del self._spared[place]
            self._spared[path + "/"] = {}

    def spare(self, path: str, external_id: str) -> None:
        """The item has shown itself at `path`."""
        for place in (path, *_folders_above(path)):
            if place in self._spared:
                self._spared[place][external_id] = None

    def spare_everywhere(self, external_id: str) -> None:
        """The item exists, and where is not known."""
        for spared in self._spared.values():
            spared[external_id] = None

    def take(self, known: Known, *, down_to: int = 0) -> list[str]:
        """Return the ids of what is left at the oldest places, each once, and forget these until `down_to` of weight is left."""
        left: dict[str, None] = {}
        paths: dict[str, dict[str, None]] = {}
        while self._spared and self.weight > down_to:
            place = next(iter(self._spared))
            spared = self._spared.pop(place)
            if place.endswith("/"):
                left |= dict.fromkeys(
                    item.external_id for item in _below(known, place) if item.external_id not in spared
                )
            else:
                paths[place] = spared
        for item in known.items_at(list(paths)) if paths else ():
            if item.place is not None and item.external_id not in paths[item.place]:
                left[item.external_id] = None
        return list(left)

    def prune(self, known: Known) -> None:
        """Forget the places at which nothing is left."""
        paths = [place for place in self._spared if not place.endswith("/")]
        taken = {item.place for item in known.items_at(paths)} if paths else set()
        for place in list(self._spared):
            if not (_below(known, place) if place.endswith("/") else place in taken):
                del self._spared[place]

    def _is_within_emptied(self, path: str) -> bool:
        """Whether a folder above is gone with everything in it, and nothing has come since."""
        return any(place in self._spared and not self._spared[place] for place in _folders_above(path))

    def __bool__(self) -> bool:
        return bool(self._spared)


def items_below(known: Known, path: str) -> list[Item]:
    """Return what lies below the folder `path`: what starts with it and a slash; "0" is the byte that follows "/"."""
    return list(known.items_between(f"{path}/", f"{path}0"))


def _below(known: Known, place: str) -> list[Item]:
    return items_below(known, place[:-1])


def _folders_above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path + "/"
