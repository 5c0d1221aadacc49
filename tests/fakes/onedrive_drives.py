"""The drives behind the fake OneDrive: what people do to their files, and the order in which the feed tells of it.

Every change gives a node the next number; the feed is all nodes in the order of their numbers. So a node is told of in its
latest state, once more when it changes while someone is reading, and never for what happens to a folder above it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from workstation_pipelines.sources.onedrive.hash import quick_xor_hash

A_YEAR = timedelta(days=365)
_START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@dataclass
class Node:
    """A driveItem. `target` is the id of the node that a shortcut leads to; `broken` is what its answers leave out."""

    id: str
    drive: str
    name: str
    parent: str | None
    created: datetime
    modified: datetime
    kind: str = "file"
    body: bytes = b""
    served: bytes | None = None
    mime: str = "text/plain"
    target: str | None = None
    version: int = 1
    seq: int = 0
    is_deleted: bool = False
    deleted_with: str = ""
    is_malware: bool = False
    has_hash: bool = True
    shared_with: set[str] = field(default_factory=set)
    broken: dict[str, object] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return self.kind in ("folder", "root", "package")

    @property
    def quick_xor_hash(self) -> str:
        return quick_xor_hash(self.body)


@dataclass
class Drive:
    """One person's drive. Personal ones are hexadecimal, those of work accounts begin with `b!`."""

    id: str
    owner: str
    is_work: bool
    root: str


class Drives:
    """All drives, by id, and all nodes. Methods that people's clients would call are not locked: the fake is."""

    def __init__(self) -> None:
        self.drives: dict[str, Drive] = {}
        self.nodes: dict[str, Node] = {}
        self.now = _START
        self._seq = 0
        self._feed: list[tuple[int, str]] = []
        """Number and id of every change there was, in order; only the last of a node is told of."""

    def add_drive(self, owner: str, *, is_work: bool) -> Drive:
        number = len(self.drives) + 1
        drive_id = f"b!Work{number}-aBcDeFgH" if is_work else f"{0xABCDEF0000000000 + number:016X}"
        drive = Drive(drive_id, owner, is_work, root="")
        self.drives[drive_id] = drive
        drive.root = self.put(drive_id, "root", None, kind="root")
        return drive

    def drive_of(self, owner: str) -> Drive:
        return next(drive for drive in self.drives.values() if drive.owner == owner)

    def put(
        self,
        drive_id: str,
        name: str,
        parent: str | None,
        *,
        kind: str = "file",
        body: bytes = b"",
        mime: str = "text/plain",
    ) -> str:
        drive = self.drives[drive_id]
        number = len(self.nodes) + 101
        node_id = f"01FAKE{number:028d}" if drive.is_work else f"{drive_id}!{number}"
        if parent is None and kind != "root":
            parent = drive.root
        self.nodes[node_id] = Node(
            node_id, drive_id, name, parent, self.tick(), self.now, kind=kind, body=body, mime=mime
        )
        self.touch(node_id)
        return node_id

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def touch(self, node_id: str) -> None:
        """Put it at the end of the feed."""
        self._seq += 1
        self.nodes[node_id].seq = self._seq
        self._feed.append((self._seq, node_id))
        self.nodes[node_id].version += 1

    def edit(self, node_id: str, body: bytes) -> None:
        node = self.nodes[node_id]
        node.body, node.modified = body, self.tick()
        self.touch(node_id)

    def rename(self, node_id: str, name: str) -> None:
        self.nodes[node_id].name = name
        self.touch(node_id)

    def move(self, node_id: str, parent: str) -> None:
        self.nodes[node_id].parent = parent
        self.touch(node_id)

    def delete(self, node_id: str, *, tell_descendants: bool) -> None:
        for below in self.below(node_id):
            self.nodes[below].is_deleted = True
            self.nodes[below].deleted_with = node_id
            if below == node_id or tell_descendants:
                self.touch(below)

    def restore(self, node_id: str, *, tell_descendants: bool) -> None:
        for below in [node.id for node in self.nodes.values() if node.is_deleted and node.deleted_with == node_id]:
            self.nodes[below].is_deleted = False
            if below == node_id or tell_descendants:
                self.touch(below)

    def age(self, node_id: str) -> None:
        """Make it a year old, unchanged since."""
        for below in self.below(node_id):
            node = self.nodes[below]
            node.created -= A_YEAR
            node.modified -= A_YEAR

    def below(self, node_id: str) -> list[str]:
        """It and all below it, parents first."""
        found = [node_id]
        for above in found:
            found += [node.id for node in self.nodes.values() if node.parent == above and not node.is_deleted]
        return found

    def children(self, node_id: str) -> list[Node]:
        return [node for node in self.nodes.values() if node.parent == node_id and not node.is_deleted]

    def above(self, node_id: str) -> Iterator[Node]:
        """It and what it lies in, upwards; a cycle ends."""
        seen: set[str] = set()
        at: str | None = node_id
        while at is not None and at in self.nodes and at not in seen:
            seen.add(at)
            yield self.nodes[at]
            at = self.nodes[at].parent

    def path(self, node_id: str) -> str:
        """Names from below the root down."""
        names = [node.name for node in self.above(node_id) if node.kind != "root"]
        return "/".join(reversed(names))

    def can_read(self, user: str, node_id: str) -> bool:
        chain = list(self.above(node_id))
        if any(node.is_deleted for node in chain):
            return False
        is_owner = self.drives[chain[0].drive].owner == user
        return is_owner or any(user in node.shared_with for node in chain)

    def find(self, drive_id: str, item_id: str) -> Node | None:
        """Personal ids are found in either case; `root` is the root of any drive."""
        drive = self.drives.get(drive_id) or self.drives.get(drive_id.upper())
        if drive is None:
            return None
        if item_id == "root":
            return self.nodes[drive.root]
        node = self.nodes.get(item_id if drive.is_work else item_id.upper())
        return node if node is not None and node.drive == drive.id else None

    def after(self, drive_id: str, seq: int) -> Node | None:
        """The node of the feed that comes next after a number."""
        for at in range(bisect_right(self._feed, seq, key=lambda change: change[0]), len(self._feed)):
            number, node_id = self._feed[at]
            node = self.nodes[node_id]
            if node.drive == drive_id and node.seq == number:
                return node
        return None
