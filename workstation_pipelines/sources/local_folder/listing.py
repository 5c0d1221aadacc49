"""One walk held against what is known: pages of changes, in the order to apply.

An item keeps its id while its path stays. A new path waits for the end of the walk only if it might be a renamed file,
and so does one that a tombstone had, since a live file renamed onto it keeps its own id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from workstation_pipelines.errors import ItemGoneError, SourceUnavailableError, UnreadableContentError
from workstation_pipelines.model import Change, ChangeKind, Clock, Item, ItemFailure, KnownItem, NewId, Page, SyncStatus
from workstation_pipelines.sources.local_folder import names, renames
from workstation_pipelines.sources.local_folder import stamp as stamps
from workstation_pipelines.sources.local_folder.known import Expected
from workstation_pipelines.sources.local_folder.opening import Folder, read_digest
from workstation_pipelines.sources.local_folder.renames import Gone, New
from workstation_pipelines.sources.local_folder.stamp import Stamp
from workstation_pipelines.sources.local_folder.walk import Walk

_READ_BYTES_PER_PAGE = 256 * 1024 * 1024
"""A listing that reads ends its page at this many bytes, so that progress and a cancel request are not held up."""

Describe = Callable[[str, str, Stamp], Item]
"""(external_id, external_path, stamp) -> the item."""


class Listing:
    """Compares one walk with the expected items; single use. `full` reads every file whatever its stat says."""

    def __init__(
        self,
        folder: Folder,
        walk: Walk,
        expected: Expected,
        *,
        full: bool,
        max_file_bytes: int,
        page_size: int,
        describe: Describe,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._folder = folder
        self._walk = walk
        self._expected = expected
        self._full = full
        self._max_file_bytes = max_file_bytes
        self._page_size = page_size
        self._describe = describe
        self._clock = clock
        self._new_id = new_id
        self._changes: list[Change] = []
        self._failures: list[ItemFailure] = []
        self._unchanged = 0
        self._read_bytes = 0
        self._waiting: list[New] = []
        self._revivable: dict[str, KnownItem] = {}

    def pages(self) -> Iterator[Page]:
        """Yield the pages; the last one is complete. Raises SourceUnavailableError."""
        expected, trusted, deleted = self._expected.by_path, not self._full, SyncStatus.DELETED
        for relative, stat in self._walk.files():
            path = relative if relative.isascii() and "%" not in relative else names.storable(relative)
            item = expected.pop(path, None)
            if (
                trusted
                and item is not None
                and item.external_hash.startswith(stamps.unchanged_prefix(stat))
                and item.sync_status != deleted
            ):
                self._unchanged += 1
                continue
            self._compare(path, stamps.stamp_of(stat, seen_at=self._clock()), item)
            if self._is_page_full():
                yield self._page()
        self._check_still_there()
        yield from self._settle()

    def _compare(self, path: str, seen: Stamp, item: KnownItem | None) -> None:
        if item is not None and item.sync_status != SyncStatus.DELETED:
            self._upsert(path, seen, item)
        elif self._expected.may_be_renamed_to(seen):
            self._waiting.append(New(path, seen))
            if item is not None:
                self._revivable[path] = item
        else:
            self._upsert(path, seen, item)

    def _settle(self) -> Iterator[Page]:
        gone = self._gone()
        renamed = renames.match(self._waiting, gone, digest=self._digest)
        for new in self._waiting:
            self._upsert(new.path, new.stamp, renamed.get(new.path) or self._revivable.get(new.path))
            if self._is_page_full():
                yield self._page()
        kept = {item.external_id for item in renamed.values()}
        for one in sorted(gone, key=lambda one: one.item.external_path):
            if one.item.sync_status != SyncStatus.DELETED and one.item.external_id not in kept:
                self._changes.append(Change(ChangeKind.ABSENT, one.item.external_id))
                if self._is_page_full():
                    yield self._page()
        yield replace(self._page(), complete=True)

    def _gone(self) -> list[Gone]:
        hidden = tuple(self._walk.hidden_prefixes)
        gone = []
        for item in self._expected.left():
            if not item.external_path.startswith(hidden):
                gone.append(Gone(item, stamps.parse(item.external_hash) or Stamp(-1, 0, -1, -1)))
            elif item.sync_status != SyncStatus.DELETED:
                self._unchanged += 1
        return gone

    def _upsert(self, path: str, seen: Stamp, item: KnownItem | None) -> None:
        if item is None:
            self._changes.append(self._change(self._new_id().hex, path, seen))
            return
        try:
            stamp = self._restamped(path, seen, item)
        except ItemGoneError:
            self._expected.by_path.setdefault(path, item)
            return
        except UnreadableContentError as error:
            if error.reason != "changing":
                self._failures.append(_failure(item, path, error))
                return
            stamp = seen
        is_equal = str(stamp) == item.external_hash and path == item.external_path
        if is_equal and item.sync_status != SyncStatus.DELETED and (stamp.digest or not stamp.racy):
            self._unchanged += 1
        else:
            self._changes.append(self._change(item.external_id, path, stamp))

    def _restamped(self, path: str, seen: Stamp, item: KnownItem) -> Stamp:
        old = stamps.parse(item.external_hash)
        if old is None or seen.size_bytes > self._max_file_bytes:
            return seen
        if not self._full and not old.racy and old.has_stat_of(seen):
            return replace(seen, digest=old.digest)
        if not old.digest and not self._full:
            return seen
        return self._read(path)

    def _read(self, path: str) -> Stamp:
        seen_at = self._clock()
        digest, stat = read_digest(self._folder, names.on_disk(path))
        self._read_bytes += stat.st_size
        return stamps.stamp_of(stat, seen_at=seen_at, digest=digest)

    def _digest(self, new: New) -> str:
        try:
            return self._read(new.path).digest
        except (ItemGoneError, UnreadableContentError):
            return ""

    def _change(self, external_id: str, path: str, stamp: Stamp) -> Change:
        return Change(ChangeKind.UPSERT, external_id, self._describe(external_id, path, stamp))

    def _is_page_full(self) -> bool:
        return len(self._changes) >= self._page_size or self._read_bytes >= _READ_BYTES_PER_PAGE

    def _page(self) -> Page:
        failures = [*self._walk.failures, *self._failures]
        page = Page(tuple(self._changes), unchanged=self._unchanged, failures=tuple(failures))
        self._walk.failures.clear()
        self._failures.clear()
        self._changes.clear()
        self._unchanged = self._read_bytes = 0
        return page

    def _check_still_there(self) -> None:
        looks_unmounted = (
            self._walk.is_empty and self._expected.has_live and not self._expected.has_device(self._walk.device)
        )
        if looks_unmounted or not self._walk.is_still_there():
            raise SourceUnavailableError(
                f"Folder {names.storable(self._folder.real_path)} was replaced or looks unmounted: mount it again."
                " Nothing was taken for deleted.",
                wait_s=60.0,
            )


def _failure(item: KnownItem, path: str, error: UnreadableContentError) -> ItemFailure:
    return ItemFailure(
        external_id=item.external_id,
        external_path=path,
        stage="list",
        error_class=type(error).__name__,
        reason=error.reason,
        message=error.message,
        permanent=False,
    )
