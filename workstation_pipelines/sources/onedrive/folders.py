"""What is remembered of a drive's folders: their tree, what is chosen of it, and what has still to be done about them.

All of it is kept in containers, so that a sync that died goes on where it was. In their `details`:
`kind` is the entry's, or `unknown` for a folder that others lie in and that was not shown yet; `unlisted` that its
children have to be listed by themselves; `moved` that what is below it has other paths now; `deleted` that the feed
called it deleted; `own` the key of the shortcut that leads to a shared folder or file, `looked_on` the day when that was
looked at last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from workstation_pipelines.model import Container
from workstation_pipelines.sources.onedrive.items import Entry, Kind, normal_item_id, parts_of
from workstation_pipelines.sources.tree import Tree, safe_name

UNKNOWN = "unknown"
_SHARED = (Kind.SHARED_FOLDER, Kind.SHARED_FILE)


class Place(Enum):
    """Where a folder lies; unknown as long as one of its ancestors is."""

    INSIDE = 1
    OUTSIDE = 2
    UNKNOWN = 3


class Folders:
    """The containers of one data source, by key. `chosen` are paths from the root or ids; nothing chosen is everything."""

    def __init__(self, containers: Iterable[Container], chosen: Sequence[str]) -> None:
        known = list(containers)
        self._tree = Tree(known)
        self._keys = {container.external_id: None for container in known}
        self._marked = {key: None for key in self._keys if self._details(key).get("unlisted")}
        self._doomed = {key: None for key in self._keys if self._details(key).get("deleted")}
        self._moved = {key: None for key in self._keys if self._details(key).get("moved")}
        self._shared = {str(own): key for key in self._keys if (own := self._details(key).get("own")) is not None}
        paths = [one for one in chosen if one.startswith("/")]
        self._paths = {path: path.strip("/").casefold() for path in paths}
        self._ids = {one: normal_item_id(one) for one in chosen if one not in self._paths}
        self._is_everything = not chosen or "" in self._paths.values()
        self._changed: dict[str, Container] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._tree

    def changed(self) -> list[Container]:
        """Return what is to be remembered, or forgotten, with the next page, once."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def place(self, key: str | None) -> Place:
        if self._is_everything:
            return Place.INSIDE
        chain = self._tree.chain(key)
        if any(self._is_chosen_id(container) for container in chain):
            return Place.INSIDE
        if not chain or chain[-1].details.get("kind") != Kind.ROOT:
            return Place.UNKNOWN
        path = self.path(key).casefold()
        is_within = any(path == one or path.startswith(one + "/") for one in self._paths.values())
        return Place.INSIDE if is_within else Place.OUTSIDE

    def path(self, key: str | None) -> str:
        return self._tree.path(key).lstrip("/")

    def path_of(self, name: str, parent_key: str | None) -> str:
        above = self.path(parent_key)
        return f"{above}/{safe_name(name)}" if above else safe_name(name)

    def missing(self) -> list[str]:
        """Return what is chosen and not there."""
        if self._is_everything:
            return []
        shown = [key for key in self._keys if self.kind(key) != UNKNOWN]
        ids = {parts_of(key)[1] for key in (*shown, *self._shared)}
        paths = {self.path(key).casefold() for key in shown}
        return [one for one, wanted in self._ids.items() if wanted not in ids] + [
            one for one, wanted in self._paths.items() if wanted not in paths
        ]

    def would_change(self, entry: Entry) -> bool:
        known = self._tree.get(entry.target or entry.key)
        if known is None:
            return False
        return (known.name, known.parent_external_id) != (entry.name, self._parent_of(entry))

    def put(self, entry: Entry) -> None:
        """Remember a folder, a notebook or a shortcut as it is now; what is still to be done about it stays."""
        key = entry.target or entry.key
        details: dict[str, Any] = {"kind": entry.kind.value}
        before = self._details(key)
        details |= {name: before[name] for name in ("unlisted", "moved", "looked_on") if name in before}
        if entry.kind in _SHARED:
            details["own"] = entry.key
            self._shared.pop(str(before.get("own")), None)  # it was taken out and added again: only the new one counts
            self._shared[entry.key] = key
        self._doomed.pop(key, None)
        self._set(Container(key, entry.name, self._parent_of(entry), details))

    def expect(self, key: str) -> None:
        """Remember that something lies in this folder, if it was not shown yet."""
        if key not in self._tree:
            self._set(Container(key, "", None, {"kind": UNKNOWN}))

    def below(self, key: str) -> list[str]:
        return self._tree.below(key)

    def kind(self, key: str) -> str:
        return str(self._details(key).get("kind", UNKNOWN))

    def parent(self, key: str) -> str | None:
        container = self._tree.get(key)
        return container.parent_external_id if container is not None else None

    def name(self, key: str) -> str:
        container = self._tree.get(key)
        return container.name if container is not None else ""

    def shared_by(self, own_key: str) -> str | None:
        """Return the key of what one's own shortcut leads to."""
        return self._shared.get(own_key)

    def shared(self) -> list[str]:
        return list(self._shared.values())

    def looked_on(self, key: str) -> str | None:
        return self._details(key).get("looked_on")

    def mark(self, key: str) -> None:
        """Have its children listed before the enumeration ends."""
        self._marked[key] = None
        self._update(key, {"unlisted": True})

    def unmark(self, key: str, **details: Any) -> None:
        self._marked.pop(key, None)
        self._update(key, {"unlisted": None, **details})

    def marked(self) -> list[str]:
        return list(self._marked)

    def mark_moved(self, key: str) -> None:
        self._moved[key] = None
        self._update(key, {"moved": True})

    def unmark_moved(self, key: str) -> None:
        self._moved.pop(key, None)
        self._update(key, {"moved": None})

    def moved(self) -> list[str]:
        return list(self._moved)

    def doom(self, key: str) -> None:
        """The feed called it deleted. What lies in it may yet have moved out, so that this is acted on at the end."""
        if key in self._tree and self.kind(key) != Kind.ROOT:
            self._doomed[key] = None
            self._update(key, {"deleted": True})

    def doomed(self) -> list[str]:
        """Return the deleted folders and all below them."""
        return list(dict.fromkeys(below for key in self._doomed for below in self.below(key)))

    def forget(self, key: str) -> None:
        gone = self._tree.remove(key)
        self._keys.pop(key, None)
        if gone is not None:
            self._shared.pop(str(gone.details.get("own")), None)
            self._marked.pop(key, None)
            self._doomed.pop(key, None)
            self._moved.pop(key, None)
            self._changed[key] = replace(gone, is_deleted=True)

    def forget_all(self) -> None:
        for key in list(self._keys):
            self.forget(key)

    def _parent_of(self, entry: Entry) -> str | None:
        """The parent it names; one that names none stays where it was."""
        if entry.parent_key is not None or entry.kind is Kind.ROOT:
            return entry.parent_key
        return self.parent(entry.target or entry.key)

    def _is_chosen_id(self, container: Container) -> bool:
        own = container.details.get("own")
        item_ids = {parts_of(container.external_id)[1], parts_of(str(own))[1] if own is not None else None}
        return any(wanted in item_ids for wanted in self._ids.values())

    def _details(self, key: str) -> Mapping[str, Any]:
        container = self._tree.get(key)
        return container.details if container is not None else {}

    def _update(self, key: str, details: Mapping[str, Any]) -> None:
        container = self._tree.get(key)
        if container is not None:
            merged = {name: value for name, value in {**container.details, **details}.items() if value is not None}
            self._set(replace(container, details=merged))

    def _set(self, container: Container) -> None:
        self._tree.put(container)
        self._keys[container.external_id] = None
        self._changed[container.external_id] = container
