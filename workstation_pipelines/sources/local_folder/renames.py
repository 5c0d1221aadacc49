"""Which new path is a known file under another name.

Stronger evidence goes first: the same inode with an equal stat; then an equal size, modification time and content (a
move across file systems, `cp -p` and `rm`, rsync); then the same inode and content (renamed and touched); then the same
inode and file name (moved and edited). An inode alone
proves nothing: file systems give a freed one to the next file, and a stranger must not inherit a document's project and
tags. So a file that is renamed and edited between two syncs counts as new. Among equals the pair with the same file name
is preferred, then the order of paths, so the outcome is the same on each run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import basename

from workstation_pipelines.model import KnownItem, SyncStatus
from workstation_pipelines.sources.local_folder.stamp import Stamp

Key = Callable[[Stamp], Hashable]


@dataclass(frozen=True, slots=True)
class Gone:
    """A known item whose path the walk did not show."""

    item: KnownItem
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class New:
    """A path that no live item has."""

    path: str
    stamp: Stamp


def match(news: Sequence[New], gone: Iterable[Gone], *, digest: Callable[[New], str]) -> Mapping[str, KnownItem]:
    """Return new path -> known item, each item at most once.

    `digest` reads a new file ("" when it cannot be read); it is asked only where size and time agree with a gone one.
    """
    ordered = sorted(gone, key=lambda one: (one.item.sync_status == SyncStatus.DELETED, one.item.external_path))
    found: dict[str, KnownItem] = {}
    _pair(news, ordered, _inode_and_stat, found)

    read = [one for one in ordered if one.stamp.digest]
    left = _left(read, found)
    datings = {_size_and_time(one.stamp) for one in left}
    places = {_inode_and_size(one.stamp) for one in left}
    alike = [
        New(new.path, replace(new.stamp, digest=digest(new)))
        for new in news
        if new.path not in found and (_size_and_time(new.stamp) in datings or _inode_and_size(new.stamp) in places)
    ]
    _pair(alike, read, _content, found)
    _pair(alike, read, _inode_and_bytes, found)

    live = [one for one in ordered if one.item.sync_status != SyncStatus.DELETED]
    _pair(news, live, _inode, found, names=(basename,))
    return found


def _pair(
    news: Sequence[New],
    gone: Sequence[Gone],
    key: Key,
    found: dict[str, KnownItem],
    names: Sequence[Callable[[str], str]] = (basename, lambda _: ""),
) -> None:
    for name_of in names:
        waiting: dict[Hashable, deque[KnownItem]] = {}
        for one in _left(gone, found):
            waiting.setdefault((key(one.stamp), name_of(one.item.external_path)), deque()).append(one.item)
        for new in news:
            candidates = waiting.get((key(new.stamp), name_of(new.path)))
            if candidates and new.path not in found:
                found[new.path] = candidates.popleft()


def _left(gone: Sequence[Gone], found: Mapping[str, KnownItem]) -> list[Gone]:
    taken = {item.external_id for item in found.values()}
    return [one for one in gone if one.item.external_id not in taken]


def _inode_and_stat(stamp: Stamp) -> Hashable:
    return stamp.inode, stamp.device, stamp.size_bytes, stamp.mtime_ns


def _size_and_time(stamp: Stamp) -> Hashable:
    return stamp.size_bytes, stamp.mtime_ns


def _content(stamp: Stamp) -> Hashable:
    return stamp.size_bytes, stamp.mtime_ns, stamp.digest


def _inode_and_size(stamp: Stamp) -> Hashable:
    return stamp.inode, stamp.device, stamp.size_bytes


def _inode_and_bytes(stamp: Stamp) -> Hashable:
    return stamp.inode, stamp.device, stamp.size_bytes, stamp.digest


def _inode(stamp: Stamp) -> Hashable:
    return stamp.inode, stamp.device
