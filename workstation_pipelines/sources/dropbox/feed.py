"""Dropbox's rules for keeping a copy in step, applied to pages of entries in their order.

"For each FileMetadata, store the new entry at the given path; if there is already something else there, replace it and
remove all its children. For each FolderMetadata, replace what is there but leave the children. For each DeletedMetadata,
remove what is there and all its children, or ignore it." (files/list_folder, checked 2026-11-22)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from workstation_pipelines.model import Change, ChangeKind, Container, Cursor, Page
from workstation_pipelines.sources.contract import Known
from workstation_pipelines.sources.dropbox.entries import DeletedEntry, EntriesPage, FileEntry, FolderEntry, item_of
from workstation_pipelines.sources.dropbox.position import Emptied, Position, items_below
from workstation_pipelines.sources.tree import Tree, safe_name

MOST_EMPTIED = 1000
"""How many paths and ids of emptied places a cursor carries. Above it the oldest half is deleted before the chain has ended:
a file of these that is found at a new path after that is fetched again instead of renamed."""

LONGEST_KEPT = 450
"""A folder with a longer path may not have been remembered, so what is gone may have been one."""


class Feed:
    """The pages of one listing, or of one reading of the feed. Folders are remembered by their lower-case path."""

    def __init__(
        self,
        position: Position,
        emptied: Emptied,
        known: Known,
        *,
        resumed_from: Cursor | None,
        detect: Callable[[str, bytes], str],
        page_size: int,
    ) -> None:
        self.position = position
        self._emptied = emptied
        self._known = known
        self._tree = Tree(known.containers())
        self._told: set[str] | None = set() if position.is_listing else None
        self._cursor = resumed_from
        self._detect = detect
        self._page_size = page_size

    def pages(self, folder: str, read: EntriesPage, *, is_last: bool) -> Iterator[Page]:
        """Yield what one answer means. A new position is given out only once nothing is left to do of what is before it."""
        changed = _ChangedFolders(self._tree, self._told)
        changes = self._changes(read, changed)
        self.position = self.position.with_folder(folder, read.cursor)
        if changed.recased:
            # A folder shows another case: until all paths below it are mended, neither it nor the position is stored.
            yield Page(changes, self._cursor, failures=read.failures)
            for some in _in_parts(self._renamed_below(changed.recased), self._page_size):
                yield Page(some, self._cursor)
            yield self._page((), is_last=is_last, containers=changed.containers())
        else:
            yield replace(
                self._page(changes, is_last=is_last, containers=changed.containers()), failures=tuple(read.failures)
            )
        yield from self._removals(is_last=is_last)

    def _page(self, changes: Sequence[Change], *, is_last: bool, containers: Sequence[Container] = ()) -> Page:
        is_end = is_last and not self._emptied
        was_listing = self.position.is_listing
        if is_end:
            self.position = self.position.as_feed()
        self._cursor = self.position.as_cursor(self._emptied)
        return Page(changes, self._cursor, complete=is_end and was_listing, containers=containers)

    def _removals(self, *, is_last: bool) -> Iterator[Page]:
        if not is_last and self._emptied.weight > MOST_EMPTIED:
            self._emptied.prune(self._known)
        if not self._emptied or (not is_last and self._emptied.weight <= MOST_EMPTIED):
            return
        gone = self._emptied.take(self._known, down_to=0 if is_last else MOST_EMPTIED // 2)
        parts = list(_in_parts((Change(ChangeKind.DELETED, external_id) for external_id in gone), self._page_size))
        for some in parts[:-1]:
            yield Page(some, self._cursor)
        yield self._page(parts[-1] if parts else (), is_last=is_last)

    def _changes(self, read: EntriesPage, changed: _ChangedFolders) -> list[Change]:
        paths = [entry.path for entry in read.entries if not isinstance(entry, DeletedEntry)]
        occupants: dict[str, set[str]] = {}
        for item in self._known.items_at(paths) if paths else ():
            occupants.setdefault(item.place or "", set()).add(item.external_id)
        changes = []
        for entry in read.entries:
            if isinstance(entry, DeletedEntry):
                self._emptied.empty(entry.path)
                if changed.remove(entry.path) or len(entry.path) > LONGEST_KEPT:
                    self._emptied.empty_below(entry.path)
                occupants.pop(entry.path, None)
                continue
            here = occupants.setdefault(entry.path, set())
            if isinstance(entry, FolderEntry):
                if here:
                    self._emptied.empty(entry.path)
                    here.clear()
                changed.put(entry.path, entry.name, entry.shown_path)
                continue
            if here - {entry.id}:
                self._emptied.empty(entry.path)
            if changed.remove(entry.path):
                self._emptied.empty_below(entry.path)
            self._emptied.spare(entry.path, entry.id)
            occupants[entry.path] = {entry.id}
            changes.append(self._upsert(entry, changed))
        for external_id in read.unread_ids:
            self._emptied.spare_everywhere(external_id)
        return changes

    def _upsert(self, file: FileEntry, changed: _ChangedFolders) -> Change:
        parent = file.path.rpartition("/")[0]
        changed.ensure(parent, file.shown_path.rpartition("/")[0])
        folder = self._tree.path(parent) if parent else ""
        external_path = f"{folder}/{safe_name(file.name)}" if folder else safe_name(file.name)
        return Change(ChangeKind.UPSERT, file.id, item_of(file, external_path, self._detect))

    def _renamed_below(self, paths: Sequence[str]) -> Iterator[Change]:
        # A listing that has not shown an item may be about to find it gone: naming it here would count as having shown it.
        below = tuple(f"{path}/" for path in paths)
        unseen = {item.external_id for item in self._known.unseen() if (item.place or "").startswith(below)}
        for path in paths:
            for item in items_below(self._known, path):
                if item.external_id in unseen:
                    continue
                place = item.place or ""
                name = item.external_path.rpartition("/")[2]
                external_path = f"{self._tree.path(place.rpartition('/')[0])}/{name}"
                if external_path != item.external_path:
                    renamed = replace(item, external_path=external_path)
                    yield Change(ChangeKind.UPSERT, item.external_id, renamed)


class _ChangedFolders:
    """The folders that one page adds, renames or removes. `recased` are known ones that now show another case.

    `told` are those that a listing has told of so far: it tells of every folder, since what it leaves out is forgotten. A
    feed, which has None, tells of what changed.
    """

    def __init__(self, tree: Tree, told: set[str] | None) -> None:
        self._tree = tree
        self._told = told
        self._changed: dict[str, Container] = {}
        self.recased: list[str] = []

    def containers(self) -> list[Container]:
        return list(self._changed.values())

    def put(self, path: str, name: str, shown_path: str) -> None:
        self.ensure(path.rpartition("/")[0], shown_path.rpartition("/")[0])
        before = self._tree.get(path)
        if before is None or before.name != name or not self._is_told(path):
            self._store(path, name)
        if before is not None and before.name != name:
            self.recased.append(path)

    def ensure(self, path: str, shown_path: str) -> None:
        """Add the folders down to `path` that were not listed, or not yet, under the names that a path shows."""
        while path and not (path in self._tree and self._is_told(path)):
            known = self._tree.get(path)
            self._store(path, known.name if known else shown_path.rpartition("/")[2] or path.rpartition("/")[2])
            path, shown_path = path.rpartition("/")[0], shown_path.rpartition("/")[0]

    def remove(self, path: str) -> bool:
        """Forget a folder with all below it; return whether it was one."""
        if path not in self._tree:
            return False
        for gone in self._tree.below(path):
            self._tree.remove(gone)
            self._changed[gone] = Container(gone, "", is_deleted=True)
        return True

    def _is_told(self, path: str) -> bool:
        return self._told is None or path in self._told

    def _store(self, path: str, name: str) -> None:
        container = Container(path, name, parent_external_id=path.rpartition("/")[0] or None)
        self._tree.put(container)
        self._changed[path] = container
        if self._told is not None:
            self._told.add(path)


def _in_parts(changes: Iterator[Change], size: int) -> Iterator[list[Change]]:
    while part := list(islice(changes, size)):
        yield part
