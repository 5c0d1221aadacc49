"""One enumeration of a drive: pages of the feed, then what the feed leaves to be found out.

A page of the feed moves, hides and shows folders, and says nothing of what lies in them. What follows from that is marked
at the folder, remembered with the page, and done before the enumeration ends, when all folders are where they belong: items
are told of again by what is known of them, or folders listed by themselves. A sync that dies in between finds the marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from workstation_pipelines.errors import (
    CursorExpiredError,
    ItemGoneError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
)
from workstation_pipelines.model import Change, ChangeKind, Item, ItemFailure, Page
from workstation_pipelines.sources.contract import Known
from workstation_pipelines.sources.http import PageTokens
from workstation_pipelines.sources.onedrive import items
from workstation_pipelines.sources.onedrive.folders import Folders, Place
from workstation_pipelines.sources.onedrive.items import Detect, Entry, Kind, UnreadableEntryError
from workstation_pipelines.sources.onedrive.links import DownloadLinks
from workstation_pipelines.sources.onedrive.position import Position

_FOLDERS_AT_ONCE = 200
_SHARED = (Kind.SHARED_FOLDER, Kind.SHARED_FILE)
_REMEMBERED = (Kind.ROOT, Kind.FOLDER, Kind.PACKAGE, *_SHARED)


@dataclass(frozen=True, slots=True)
class Requests:
    """What an enumeration may ask the vendor. `delta` takes a link, None for the first page; `children` and `item` keys."""

    delta: Callable[[str | None], dict[str, Any]]
    children: Callable[[str], Iterator[dict[str, Any]]]
    item: Callable[[str], dict[str, Any]]


@dataclass
class _Told:
    """What one answer comes to. `changes` are by external id, the last one wins."""

    changes: dict[str, Change] = field(default_factory=dict)
    failures: list[ItemFailure] = field(default_factory=list)


class Listing:
    """One run of `pages`. `today` is a date, by which shared things are looked at once a day.

    `links` takes the download links of the items that are told of.
    """

    def __init__(
        self,
        position: Position,
        known: Known,
        requests: Requests,
        *,
        chosen: Sequence[str],
        detect: Detect,
        today: str,
        page_size: int,
        links: DownloadLinks,
    ) -> None:
        self._links = links
        self._at = position
        self._known = known
        self._requests = requests
        self._folders = Folders(known.containers(), chosen)
        self._detect = detect
        self._today = today
        self._page_size = page_size
        # In a listing, what lies outside is not shown, and only what had been shown before needs a word.
        self._shown: set[str] | None = set() if position.is_listing and position.link is None else None
        self._seen_shared: set[str] = set()
        self._walked_shared: list[str] = []
        self._gone: list[str] = []

    def pages(self) -> Iterator[Page]:
        if not self._at.is_listing:
            self._look_at_shared_again()
        elif self._at.link is None:
            self._folders.forget_all()
        tokens = PageTokens("onedrive delta")
        while not self._at.is_closing:
            try:
                reply = self._requests.delta(self._at.link and tokens.step(self._at.link))
            except CursorExpiredError:
                if not self._at.is_listing or self._at.is_restarted or self._at.link is None:
                    raise
                self._at = replace(self._at, link=None, is_restarted=True)
                self._shown = None
                self._folders.forget_all()
                tokens = PageTokens("onedrive delta")
                continue
            yield from self._page(reply)
        yield from self._emptied()
        yield from self._moved()
        yield from self._walked()
        yield self._last()

    def _page(self, reply: Mapping[str, Any]) -> Iterator[Page]:
        raws, next_link, delta_link = reply.get("value"), reply.get("@odata.nextLink"), reply.get("@odata.deltaLink")
        link = next_link or delta_link
        if not isinstance(raws, list) or not isinstance(link, str):
            raise UnexpectedReplyError(
                "onedrive delta: a page comes without `value` or without a link to go on by; nothing is concluded",
                wait_s=60,
            )
        told = self._read(raws, self._at.drive)
        self._at = replace(self._at, link=link, is_closing=not next_link)
        page = Page(
            list(told.changes.values()), self._at.cursor(), failures=told.failures, containers=self._folders.changed()
        )
        if page.changes or page.failures or page.containers or not self._at.is_closing:
            yield page

    def _read(self, raws: Iterable[Any], drive: str, *, walked: str | None = None) -> _Told:
        """Take in one answer; with `walked` it holds the children of that folder."""
        told = _Told()
        entries: dict[str, Entry] = {}
        for raw in raws:
            try:
                entry = items.read(raw, drive, self._detect)
            except UnreadableEntryError as error:
                told.failures.append(_failure(error))
                continue
            if walked is not None:
                entry = replace(entry, parent_key=walked)
            entries.pop(entry.key, None)
            entries[entry.key] = entry
        self._rearrange(entries, is_walk=walked is not None)
        for entry in entries.values():
            self._tell(entry, told)
        return told

    def _rearrange(self, entries: Mapping[str, Entry], *, is_walk: bool) -> None:
        """Take in the folders, and mark those whose contents have to be told of again or listed for it."""
        folders = self._folders
        remembered = [
            entry for entry in entries.values() if entry.kind in _REMEMBERED and not self._leads_nowhere(entry)
        ]
        changed = [entry.target or entry.key for entry in remembered if folders.would_change(entry)]
        before = {key: folders.place(key) for top in changed for key in folders.below(top)}
        is_new = {entry.key for entry in remembered if (entry.target or entry.key) not in folders}
        for entry in remembered:
            self._remember(entry, is_walk=is_walk, is_new=entry.key in is_new)
        for top in changed:
            folders.mark_moved(top)
        for key in dict.fromkeys(key for top in changed for key in folders.below(top)):
            # In a listing what is known need not be there any more, and telling of it would keep it.
            is_told = before.get(key) is Place.INSIDE and not self._at.is_listing
            if key in before and not is_told and folders.place(key) is Place.INSIDE:
                folders.mark(key)

    def _remember(self, entry: Entry, *, is_walk: bool, is_new: bool) -> None:
        folders = self._folders
        folders.put(entry)
        if entry.parent_key is not None:
            folders.expect(entry.parent_key)
        key = entry.target or entry.key
        if entry.kind is Kind.SHARED_FILE or (entry.kind is Kind.SHARED_FOLDER and is_new):
            for below in folders.below(key):
                folders.mark(below)
        elif is_new and is_walk:
            folders.mark(key)
        elif is_new and entry.kind is Kind.FOLDER and entry.children > 0 and not self._at.is_listing:
            # Restored, perhaps, and then nothing says that what lies in it is told of as well.
            folders.mark(key)

    def _leads_nowhere(self, entry: Entry) -> bool:
        """Return whether it is a shortcut not to follow: someone else's, or one into one's own drive."""
        drive = items.parts_of(entry.key)[0]
        return entry.target is not None and (drive != self._at.drive or items.parts_of(entry.target)[0] == drive)

    def _tell(self, entry: Entry, told: _Told) -> None:
        if entry.kind is Kind.DELETED:
            self._tell_deleted(entry, told)
        elif entry.kind in (Kind.FILE, Kind.PACKAGE):
            self._tell_document(entry, told, self._folders.place(entry.parent_key))

    def _tell_deleted(self, entry: Entry, told: _Told) -> None:
        shared = self._folders.shared_by(entry.key)
        for key in (entry.key, shared):
            if key is not None:
                told.changes[key] = Change(ChangeKind.DELETED, key)
                self._folders.doom(key)

    def _tell_document(self, entry: Entry, told: _Told, place: Place, *, name: str | None = None) -> None:
        parent_key = entry.parent_key
        if place is Place.UNKNOWN and parent_key is None:
            told.failures.append(_failure(UnreadableEntryError(entry.key, entry.name, "parentReference")))
        if parent_key is not None:
            self._folders.expect(parent_key)
            if place is Place.UNKNOWN:
                self._folders.mark(parent_key)
        if place is Place.INSIDE:
            path = self._folders.path_of(name or entry.name, parent_key)
            item = entry.item(external_path=path, place=parent_key, name=name)
            told.changes[entry.key] = Change(ChangeKind.UPSERT, entry.key, item)
            if entry.download_link is not None:
                self._links.put(entry.key, entry.download_link)
            if self._shown is not None:
                self._shown.add(entry.key)
        elif place is Place.OUTSIDE and (not self._at.is_listing or self._shown is None or entry.key in self._shown):
            told.changes[entry.key] = Change(ChangeKind.DELETED, entry.key)

    def _items_at(self, keys: Sequence[str]) -> Iterator[Item]:
        for at in range(0, len(keys), _FOLDERS_AT_ONCE):
            yield from list(self._known.items_at(keys[at : at + _FOLDERS_AT_ONCE]))

    def _renamed(self, item: Item) -> Item:
        return replace(item, external_path=self._folders.path_of(item.title, item.place))

    def _in_pages(self, changes: Iterable[Change]) -> Iterator[Page]:
        """Pages that remember nothing and do not move on."""
        rest = iter(changes)
        while some := list(islice(rest, self._page_size)):
            yield Page(some, self._at.cursor())

    def _emptied(self) -> Iterator[Page]:
        """Delete what is still in the folders that were called deleted: Graph may tell of the folder alone."""
        doomed = self._folders.doomed()
        if not doomed:
            return
        yield from self._in_pages(Change(ChangeKind.DELETED, item.external_id) for item in self._items_at(doomed))
        for key in doomed:
            self._folders.forget(key)
        yield Page((), self._at.cursor(), containers=self._folders.changed())

    def _moved(self) -> Iterator[Page]:
        """Tell again of the known items below folders that moved or were renamed, and delete those that left the scope."""
        folders, tops = self._folders, self._folders.moved()
        if not tops:
            return
        below = list(dict.fromkeys(key for top in tops for key in folders.below(top)))
        left = [key for key in below if folders.place(key) is Place.OUTSIDE]
        gone = [key for key in left if folders.kind(key) == Kind.SHARED_FILE]
        gone += [item.external_id for item in self._items_at(left)]
        yield from self._in_pages(Change(ChangeKind.DELETED, external_id) for external_id in gone)
        if not self._at.is_listing:
            inside = [key for key in below if folders.place(key) is Place.INSIDE]
            renamed = (self._renamed(item) for item in self._items_at(inside))
            yield from self._in_pages(Change(ChangeKind.UPSERT, item.external_id, item) for item in renamed)
        for top in tops:
            folders.unmark_moved(top)
        yield Page((), self._at.cursor(), containers=folders.changed())

    def _look_at_shared_again(self) -> None:
        for key in self._folders.shared():
            if self._folders.looked_on(key) != self._today and self._folders.place(key) is Place.INSIDE:
                for below in self._folders.below(key):
                    self._folders.mark(below)

    def _walked(self) -> Iterator[Page]:
        """List the children of all folders that were marked, and of those found thereby."""
        tried: set[str] = set()
        while waiting := [key for key in self._folders.marked() if key not in tried]:
            for key in waiting:
                tried.add(key)
                place = self._folders.place(key)
                if place is Place.OUTSIDE:
                    self._folders.unmark(key)
                elif place is Place.INSIDE and self._folders.kind(key) == Kind.SHARED_FILE:
                    yield self._shared_file(key)
                elif place is Place.INSIDE:
                    yield from self._walk(key)
        yield from self._in_pages(self._vanished())
        for key in self._gone:
            self._folders.forget(key)

    def _walk(self, key: str) -> Iterator[Page]:
        drive, _ = items.parts_of(key)
        is_shared = drive != self._at.drive
        try:
            for reply in self._requests.children(key):
                raws = reply.get("value")
                if not isinstance(raws, list):
                    raise UnexpectedReplyError("onedrive children: a page comes without `value`", wait_s=60)
                told = self._read(raws, drive, walked=key)
                if is_shared:
                    self._seen_shared |= told.changes.keys()
                yield Page(
                    list(told.changes.values()),
                    self._at.cursor(),
                    failures=told.failures,
                    containers=self._folders.changed(),
                )
        except SkipItemError as refused:
            yield from self._unreachable(key, refused)
            return
        if is_shared:
            self._walked_shared.append(key)
        self._folders.unmark(key, looked_on=self._looked_on(key))

    def _unreachable(self, key: str, refused: SkipItemError) -> Iterator[Page]:
        """Say what becomes of the items in a shared folder that is refused; of one's own folders the feed tells."""
        folders = self._folders
        if refused.transient:
            raise SourceUnavailableError(f"onedrive children: {refused.message}", wait_s=60)
        if items.parts_of(key)[0] == self._at.drive:
            folders.unmark(key)
            return
        lost = [item.external_id for item in self._items_at([key])]
        is_gone = isinstance(refused, ItemGoneError) and folders.kind(key) != Kind.SHARED_FOLDER
        if is_gone:
            self._gone.append(key)  # remembered until the walk ends: what lies below it is found by way of it
        # The whole share, or a refusal: asked again tomorrow, and deleted only as far as the brake lets it pass.
        folders.unmark(key, looked_on=self._looked_on(key))
        kind = ChangeKind.DELETED if is_gone else ChangeKind.ABSENT
        yield from self._in_pages(Change(kind, external_id) for external_id in lost)
        yield Page((), self._at.cursor(), containers=folders.changed())

    def _shared_file(self, key: str) -> Page:
        told = _Told()
        parent_key = self._folders.parent(key)
        try:
            raw = self._requests.item(key)
            entry = replace(items.read(raw, items.parts_of(key)[0], self._detect), key=key, parent_key=parent_key)
            if entry.kind in (Kind.FILE, Kind.PACKAGE):
                self._tell_document(entry, told, self._folders.place(parent_key), name=self._folders.name(key))
        except UnreadableEntryError as error:
            told.failures.append(_failure(error))
        except SkipItemError as refused:
            if refused.transient:
                raise SourceUnavailableError(f"onedrive item: {refused.message}", wait_s=60) from None
            told.changes[key] = Change(ChangeKind.ABSENT, key)
        self._folders.unmark(key, looked_on=self._today)
        return Page(
            list(told.changes.values()), self._at.cursor(), failures=told.failures, containers=self._folders.changed()
        )

    def _looked_on(self, key: str) -> str | None:
        return self._today if self._folders.kind(key) == Kind.SHARED_FOLDER else None

    def _vanished(self) -> Iterator[Change]:
        """Ask for each known item that a walk through a shared folder did not show: it was deleted, or moved."""
        for item in [item for item in self._items_at(self._walked_shared) if item.external_id not in self._seen_shared]:
            drive, _ = items.parts_of(item.external_id)
            told = _Told()
            try:
                entry = items.read(self._requests.item(item.external_id), drive, self._detect)
            except ItemGoneError:
                yield Change(ChangeKind.DELETED, item.external_id)
                continue
            except (SkipItemError, UnreadableEntryError):
                yield Change(ChangeKind.ABSENT, item.external_id)
                continue
            if entry.kind in (Kind.FILE, Kind.PACKAGE) and (entry.parent_key or "") in self._folders:
                self._tell_document(entry, told, self._folders.place(entry.parent_key))
            yield told.changes.get(item.external_id, Change(ChangeKind.DELETED, item.external_id))

    def _last(self) -> Page:
        failures = [
            _failure(UnreadableEntryError(key, self._folders.name(key), "parentReference"))
            for key in self._folders.marked()
            if self._folders.place(key) is Place.UNKNOWN
        ]
        if self._at.is_listing:
            failures += [_missing(chosen) for chosen in self._folders.missing()]
        end = replace(self._at, is_listing=False, is_closing=False, has_shared=bool(self._folders.shared()))
        return Page(
            (), end.cursor(), failures=failures, complete=self._at.is_listing, containers=self._folders.changed()
        )


def _failure(error: UnreadableEntryError) -> ItemFailure:
    return ItemFailure(
        external_id=error.external_id or "onedrive:unreadable",
        external_path=error.name,
        stage="list",
        error_class=type(error).__name__,
        reason="unreadable_entry",
        message=str(error),
        permanent=False,
    )


def _missing(chosen: str) -> ItemFailure:
    return ItemFailure(
        external_id=f"onedrive:{chosen}",
        external_path=chosen,
        stage="list",
        error_class="NotFoundError",
        reason="folder_not_found",
        message=f"`folders` names {chosen}, which is not in this OneDrive: it was renamed, moved or deleted, so correct it",
        permanent=False,
    )
