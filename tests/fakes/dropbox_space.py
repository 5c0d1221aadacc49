"""The files and folders of a namespace at the fake Dropbox, and the log of what happened to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Entry = dict[str, Any]


@dataclass
class Node:
    """`shown_path` keeps the case that the folders above had when the node came to its place: the vendor promises no more."""

    id: str
    name: str
    shown_path: str
    is_folder: bool = False
    body: bytes = b""
    revision: int = 0
    modified_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    mount: str | None = None
    exports: Mapping[str, bytes] = field(default_factory=dict)
    export_as: str | None = None
    is_downloadable: bool = True
    is_restricted: bool = False
    has_hash: bool = True

    @property
    def path(self) -> str:
        return self.shown_path.lower()

    @property
    def rev(self) -> str:
        return f"015f{self.revision:012x}"

    def entry(self) -> Entry:
        shared = {"sharing_info": self._sharing()} if self.mount else {}
        described = {
            "name": self.name,
            "path_lower": self.path,
            "path_display": self.shown_path,
            "id": self.id,
        }
        if self.is_folder:
            return {".tag": "folder", **described, **shared}
        export: Entry = {}
        if not self.is_downloadable:
            info: Entry = {"export_options": sorted(self.exports)} if self.exports else {}
            if self.export_as:
                info["export_as"] = self.export_as
            export = {"export_info": info}
        return {
            ".tag": "file",
            **described,
            # What a client wrote is not to be trusted, so it is always wrong here.
            "client_modified": "2031-01-01T00:00:00Z",
            "server_modified": f"{self.modified_at:%Y-%m-%dT%H:%M:%SZ}",
            "rev": self.rev,
            "size": len(self.body),
            "is_downloadable": self.is_downloadable,
            **({"content_hash": hash_of(self.body)} if self.is_downloadable and self.has_hash else {}),
            **export,
            **shared,
        }

    def _sharing(self) -> Entry:
        if self.is_folder:
            return {"read_only": False, "shared_folder_id": self.mount}
        return {"read_only": False, "parent_shared_folder_id": self.mount}


@dataclass(frozen=True)
class Event:
    """What the feed tells: an entry as it was then. `mount` is the shared folder that it lies in."""

    path: str
    entry: Entry
    mount: str | None


class Space:
    """One namespace. Paths are given as they are shown; they are compared in lower case.

    The vendor's documentation says that changes of case alone are not told by the feed; `tells_case_renames` makes it tell
    them. With `tells_new_first` a move is told as the new place before the old one.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.log: list[Event] = []
        self.removed: dict[str, list[Node]] = {}
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.tells_case_renames = False
        self.tells_new_first = False
        self._count = 0

    def at(self, path: str) -> Node:
        return self.nodes[path.lower()]

    def by_id(self, node_id: str) -> Node | None:
        return next((node for node in self.nodes.values() if node.id == node_id), None)

    def below(self, path: str) -> list[Node]:
        """Everything below a folder, parents first; the empty path is the root."""
        return [self.nodes[key] for key in sorted(self.nodes) if key.startswith(path.lower() + "/")]

    def true_path(self, node: Node) -> str:
        """The path made of the folders' own names."""
        steps = node.path.strip("/").split("/")
        folders = ["/" + "/".join(steps[:depth]) for depth in range(1, len(steps))]
        return "/" + "/".join([*(self.nodes[folder].name for folder in folders), node.name])

    def mkdir(self, path: str, *, mount: str | None = None) -> Node:
        if path.lower() in self.nodes:
            return self.at(path)
        self._parents(path)
        node = Node(
            self._new_id(), path.rpartition("/")[2], path, is_folder=True, mount=mount or self._mount_above(path)
        )
        return self._show(node)

    def put(self, path: str, body: bytes | str, *, age: timedelta = timedelta(0), **more: Any) -> Node:
        """Upload: a new file, or a new version of the one that is there."""
        self._parents(path)
        self._tick()
        content = body.encode() if isinstance(body, str) else body
        node = self.nodes.get(path.lower())
        if node is None or node.is_folder:
            node = Node(self._new_id(), path.rpartition("/")[2], path, mount=self._mount_above(path))
        node.body, node.revision, node.modified_at = content, self._count, self.now - age
        for name, value in more.items():
            setattr(node, name, value)
        return self._show(node)

    def put_over_folder(self, path: str, body: str) -> Node:
        """A file takes a folder's place: the feed tells of the file only."""
        for gone in [path.lower(), *(node.path for node in self.below(path))]:
            del self.nodes[gone]
        return self.put(path, body)

    def put_over_file(self, path: str, body: str) -> Node:
        """Another file takes a file's place: the feed tells of the new one only."""
        del self.nodes[path.lower()]
        return self.put(path, body)

    def mkdir_over_file(self, path: str) -> Node:
        del self.nodes[path.lower()]
        return self.mkdir(path)

    def move(self, source: str, target: str) -> None:
        node = self.at(source)
        if source.lower() == target.lower():
            # What lies below keeps showing the old case.
            node.name, node.shown_path = target.rpartition("/")[2], target
            if self.tells_case_renames:
                self._log(node)
            return
        self._parents(target)
        self._tick()
        moved = [(node, target), *((one, target + one.shown_path[len(source) :]) for one in self.below(source))]
        for one, _ in moved:
            del self.nodes[one.path]
        gone = _deleted(node)
        if not self.tells_new_first:
            self.log.append(gone)
        for one, path in moved:
            self._count += 1
            one.name, one.shown_path, one.revision = path.rpartition("/")[2], path, self._count
            one.mount = one.mount if one.is_folder else self._mount_above(path)
            self._show(one)
        if self.tells_new_first:
            self.log.append(gone)

    def remove(self, path: str) -> str:
        """Delete a file or a folder with all below it; the feed names its path alone. Returns its id."""
        node = self.at(path)
        gone = [node, *self.below(path)]
        for one in gone:
            del self.nodes[one.path]
        self.removed[node.id] = gone
        self.log.append(_deleted(node))
        self._tick()
        return node.id

    def restore(self, node_id: str) -> None:
        for node in self.removed.pop(node_id):
            self._parents(node.shown_path)
            self._count += 1
            node.revision = self._count
            self._show(node)

    def purge(self, path: str) -> None:
        self.removed.pop(self.remove(path))

    def mount(self, path: str, files: Mapping[str, str], *, age: timedelta = timedelta(0)) -> None:
        """Somebody's shared folder appears at `path`, with files that may be old."""
        self._count += 1
        self.mkdir(path, mount=f"{84528192421 + self._count}")
        for name, body in files.items():
            self.put(f"{path}/{name}", body, age=age)

    def shift(self, prefix: str) -> None:
        """Put everything, its history included, below a new folder: the account's home in a team's space."""
        old, self.nodes = list(self.nodes.values()), {}
        for node in old:
            node.shown_path = prefix + node.shown_path
            self.nodes[node.path] = node
        self.log = [
            Event(prefix.lower() + event.path, _shifted(event.entry, prefix), event.mount) for event in self.log
        ]
        home = Node(self._new_id(), prefix[1:], prefix, is_folder=True)
        self.nodes[home.path] = home

    def events(self, since: int) -> Iterator[tuple[int, Event]]:
        """Events with the position after each."""
        return enumerate(self.log[since:], since + 1)

    def _parents(self, path: str) -> None:
        steps = path.split("/")
        for depth in range(2, len(steps)):
            folder = "/".join(steps[:depth])
            if folder.lower() not in self.nodes:
                self._show(
                    Node(self._new_id(), steps[depth - 1], folder, is_folder=True, mount=self._mount_above(folder))
                )

    def _mount_above(self, path: str) -> str | None:
        parent = path.rpartition("/")[0]
        while parent:
            node = self.nodes.get(parent.lower())
            if node is not None and node.mount:
                return node.mount
            parent = parent.rpartition("/")[0]
        return None

    def _show(self, node: Node) -> Node:
        self.nodes[node.path] = node
        self._log(node)
        return node

    def _log(self, node: Node) -> None:
        self.log.append(Event(node.path, node.entry(), node.mount))

    def _new_id(self) -> str:
        self._count += 1
        return f"id:a4ayc_80_OEAAAAAA{self._count:06d}"

    def _tick(self) -> None:
        self.now += timedelta(seconds=1)
        self._count += 1


def hash_of(body: bytes) -> str:
    blocks = [body[at : at + 4194304] for at in range(0, len(body), 4194304)]
    return hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()


def shown_below(entry: Entry, prefix: str) -> Entry:
    """An entry as it looks from a folder that is taken as the root."""
    cut = len(prefix)
    return {**entry, "path_lower": entry["path_lower"][cut:], "path_display": entry["path_display"][cut:]}


def _shifted(entry: Entry, prefix: str) -> Entry:
    return {
        **entry,
        "path_lower": prefix.lower() + entry["path_lower"],
        "path_display": prefix + entry["path_display"],
    }


def _deleted(node: Node) -> Event:
    entry = {".tag": "deleted", "name": node.name, "path_lower": node.path, "path_display": node.shown_path}
    return Event(node.path, entry, node.mount)
