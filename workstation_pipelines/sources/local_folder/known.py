"""What is known of a folder, by path, shrinking as the walk shows it: what stays at the end is gone."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from workstation_pipelines.model import KnownItem, SyncStatus
from workstation_pipelines.sources.local_folder import stamp as stamps
from workstation_pipelines.sources.local_folder.stamp import Stamp


class Expected:
    """The known items whose paths the walk has not shown yet."""

    def __init__(self, items: Iterable[KnownItem]) -> None:
        self.by_path: dict[str, KnownItem] = {}
        self._shadowed: list[KnownItem] = []
        self._fingerprints: array[int] | None = None
        self.has_live = False
        for item in items:
            self._add(item)

    def left(self) -> Iterator[KnownItem]:
        yield from self.by_path.values()
        yield from self._shadowed

    def may_be_renamed_to(self, new: Stamp) -> bool:
        """False when no item that was unseen at the first call has the inode, or the size and time, of `new`.

        True may be wrong, and costs no more than that the file waits for the end of the walk. Eight bytes an item and
        evidence, since the first sync after a copy may ask for each of a hundred thousand files.
        """
        if self._fingerprints is None:
            self._fingerprints = self._collect()
        return any(_contains(self._fingerprints, one) for one in _fingerprints(new))

    def has_device(self, device: int) -> bool:
        return any(stamp.device == device for item in self.left() if (stamp := stamps.parse(item.external_hash)))

    def _collect(self) -> array[int]:
        known = (stamps.parse(item.external_hash) for item in self.left())
        return array("q", sorted(one for stamp in known if stamp for one in _fingerprints(stamp)))

    def _add(self, item: KnownItem) -> None:
        is_live = item.sync_status != SyncStatus.DELETED
        self.has_live = self.has_live or is_live
        other = self.by_path.setdefault(item.external_path, item)
        if other is item:
            return
        # Two items of one path: a file was renamed onto the path of a tombstone. The live one has it; of two
        # tombstones the younger, whose time-ordered id is the greater.
        if (is_live, item.external_id) > (other.sync_status != SyncStatus.DELETED, other.external_id):
            self.by_path[item.external_path] = item
            self._shadowed.append(other)
        else:
            self._shadowed.append(item)


def _fingerprints(stamp: Stamp) -> tuple[int, int]:
    return hash((stamp.inode, stamp.device)), hash((stamp.size_bytes, stamp.mtime_ns, "time"))


def _contains(ascending: array[int], wanted: int) -> bool:
    at = bisect_left(ascending, wanted)
    return at < len(ascending) and ascending[at] == wanted
