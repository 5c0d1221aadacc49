"""A Google Drive in memory: who sees which file where, and the log of each user and of each shared drive."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

FOLDER = "application/vnd.google-apps.folder"
SHORTCUT = "application/vnd.google-apps.shortcut"
DOCUMENT = "application/vnd.google-apps.document"
NATIVE_PREFIX = "application/vnd.google-apps."
ME = "user-1"
COLLEAGUE = "user-2"
A_YEAR = timedelta(days=365)


@dataclass
class Node:
    """A file or folder. `readers` are users it is shared with; `opened_by` have seen it, though they need not have a part."""

    id: str
    name: str
    mime_type: str
    parent: str | None
    owner: str
    created: datetime
    modified: datetime
    drive: str | None = None
    content: bytes = b""
    readers: set[str] = field(default_factory=set)
    opened_by: set[str] = field(default_factory=set)
    is_trashed: bool = False
    can_download: bool = True
    is_abusive: bool = False
    is_export_too_large: bool = False
    has_checksum: bool = True
    resource_key: str | None = None
    target: str | None = None
    is_limited: bool = False
    """What it lies in passes no access on to it (`inheritedPermissionsDisabled`)."""

    without: set[str] = field(default_factory=set)
    """Names of fields that answers leave out."""

    instead: dict[str, object] = field(default_factory=dict)
    """Fields of another type than documented."""

    @property
    def is_native(self) -> bool:
        return self.mime_type.startswith(NATIVE_PREFIX)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def md5(self) -> str:
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()


@dataclass
class Drive:
    id: str
    name: str
    members: set[str] = field(default_factory=set)


@dataclass
class Log:
    """Changes of one corpus. An entry replaces the older one of the same thing, as Drive documents."""

    sequence: int
    entries: dict[tuple[str, str], tuple[int, datetime]] = field(default_factory=dict)

    def add(self, kind: str, thing: str, at: datetime) -> None:
        self.sequence += 1
        self.entries.pop((kind, thing), None)
        self.entries[(kind, thing)] = (self.sequence, at)


class DriveState:
    """What is where. Methods that change something take the lock and write to the logs of all who can tell."""

    def __init__(self, lock: threading.RLock) -> None:
        self.lock = lock
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.nodes: dict[str, Node] = {}
        self.drives: dict[str, Drive] = {}
        self.user_logs: dict[str, Log] = {}
        self.drive_logs: dict[str, Log] = {}
        self._ids = 0
        for user in (ME, COLLEAGUE):
            self.user_logs[user] = Log(1000)
            root = f"root-of-{user}"
            self.nodes[root] = Node(root, "My Drive", FOLDER, None, user, self.now, self.now)

    # Making and changing

    def root(self, user: str = ME) -> str:
        return f"root-of-{user}"

    def add_folder(self, name: str, parent: str | None = None, **more: Any) -> str:
        return self.add(name, FOLDER, parent, **more)

    def add_file(
        self, name: str, text: str | bytes, parent: str | None = None, mime_type: str = "text/plain", **more: Any
    ) -> str:
        content = text.encode() if isinstance(text, str) else text
        return self.add(name, mime_type, parent, content=content, **more)

    def add_doc(self, name: str, text: str, parent: str | None = None, **more: Any) -> str:
        return self.add(name, str(more.pop("mime_type", DOCUMENT)), parent, content=text.encode(), **more)

    def add_shortcut(self, name: str, target: str, parent: str | None = None) -> str:
        return self.add(name, SHORTCUT, parent, target=target)

    def add(self, name: str, mime_type: str, parent: str | None, *, owner: str = ME, **more: Any) -> str:
        with self.lock:
            self._tick()
            self._ids += 1
            node_id = f"1Fake{self._ids:07d}"
            node = Node(node_id, name, mime_type, parent or self.root(owner), owner, self.now, self.now)
            node.drive = self._drive_at(node.parent)
            for key, value in more.items():
                if key not in Node.__dataclass_fields__:
                    raise TypeError(f"a node has no {key}")
                setattr(node, key, value)
            self.nodes[node_id] = node
            self._tell(node_id, before=set())
            return node_id

    def edit(self, node_id: str, text: str | bytes) -> None:
        with self.lock:
            self._tick()
            node = self.nodes[node_id]
            node.content = text.encode() if isinstance(text, str) else text
            node.modified = self.now
            self._tell(node_id)

    def touch(self, node_id: str) -> None:
        """Something happens to it that readers cannot see, such as a look at it: an entry without a difference."""
        with self.lock:
            self._tick()
            self._tell(node_id)

    def rename(self, node_id: str, name: str) -> None:
        with self.lock:
            self._tick()
            self.nodes[node_id].name = name
            self._tell(node_id)

    def move(self, node_id: str, parent: str) -> None:
        """Move; the logs tell of the thing itself, never of what lies in it. Its modifiedTime stays."""
        with self.lock:
            self._tick()
            before = {node_id: self._logs_of(node_id)}
            node = self.nodes[node_id]
            left = node.drive
            node.parent = parent
            for below in self.below(node_id):
                before.setdefault(below, self._logs_of(below))
                self.nodes[below].drive = self._drive_at(parent)
            self._tell(node_id, before=before[node_id])
            if left != node.drive:  # files change their corpus one by one
                for below in list(self.below(node_id))[1:]:
                    self._tell(below, before=before[below])

    def trash(self, node_id: str) -> None:
        with self.lock:
            self._tick()
            self.nodes[node_id].is_trashed = True
            self._tell(node_id)

    def restore(self, node_id: str) -> None:
        """Take out of the trash; modifiedTime stays as it was."""
        with self.lock:
            self._tick()
            self.nodes[node_id].is_trashed = False
            self._tell(node_id)

    def delete(self, node_id: str) -> None:
        """Delete for good. What others own in a folder stays and loses its parent, as Drive documents."""
        with self.lock:
            self._tick()
            before = self._logs_of(node_id)
            owner = self.nodes[node_id].owner
            for gone in list(self.below(node_id)):
                if self.nodes[gone].owner == owner or self.nodes[gone].drive is not None:
                    del self.nodes[gone]
                else:
                    self.nodes[gone].parent = None
            for log in before:
                self._log(log).add("file", node_id, self.now)

    def share(self, node_id: str, user: str = ME) -> None:
        with self.lock:
            self._tick()
            self.nodes[node_id].readers.add(user)
            self._tell(node_id)

    def unshare(self, node_id: str, user: str = ME, *, is_told: bool = True) -> None:
        """Take access away. `is_told` False is the case that Drive's users report: no entry at all."""
        with self.lock:
            self._tick()
            before = self._logs_of(node_id)
            self.nodes[node_id].readers.discard(user)
            if is_told:
                self._tell(node_id, before=before)

    def make_old(self, node_id: str) -> None:
        """Let it, and what lies in it, have been there for a year: no log tells of its making any more."""
        with self.lock:
            for below in self.below(node_id):
                self.nodes[below].created -= A_YEAR
                self.nodes[below].modified -= A_YEAR
                for log in [*self.user_logs.values(), *self.drive_logs.values()]:
                    log.entries.pop(("file", below), None)

    def add_drive(self, name: str, members: set[str] | None = None) -> str:
        with self.lock:
            self._tick()
            self._ids += 1
            drive_id = f"0AFake{self._ids:06d}"
            self.drives[drive_id] = Drive(drive_id, name)
            self.drive_logs[drive_id] = Log(100 * len(self.drives))
            self.nodes[drive_id] = Node(drive_id, name, FOLDER, None, "", self.now, self.now, drive=drive_id)
        for user in sorted(members if members is not None else {ME}):
            self.join(drive_id, user)
        return drive_id

    def join(self, drive_id: str, user: str = ME) -> None:
        """Make a member; the user's log tells of the drive and of nothing that is in it."""
        with self.lock:
            self._tick()
            self.drives[drive_id].members.add(user)
            self.user_logs[user].add("drive", drive_id, self.now)

    def leave(self, drive_id: str, user: str = ME) -> None:
        with self.lock:
            self._tick()
            self.drives[drive_id].members.discard(user)
            self.user_logs[user].add("drive", drive_id, self.now)

    def rename_drive(self, drive_id: str, name: str) -> None:
        with self.lock:
            self._tick()
            self.drives[drive_id].name = self.nodes[drive_id].name = name
            for user in self.drives[drive_id].members:
                self.user_logs[user].add("drive", drive_id, self.now)

    # Looking

    def below(self, node_id: str) -> Iterator[str]:
        waiting, seen = [node_id], {node_id}
        while waiting:
            current = waiting.pop()
            yield current
            children = [node.id for node in self.nodes.values() if node.parent == current and node.id not in seen]
            seen.update(children)
            waiting += children

    def ancestry(self, node_id: str | None) -> list[Node]:
        found: dict[str, Node] = {}
        while node_id is not None and node_id in self.nodes and node_id not in found:
            found[node_id] = self.nodes[node_id]
            node_id = found[node_id].parent
        return list(found.values())

    def sees(self, user: str, node_id: str) -> bool:
        node = self.nodes.get(node_id)
        if node is None:
            return False
        if node.drive is not None and self._is_member(user, node.drive):
            return True
        for above in self.ancestry(node_id):
            is_owner = above.drive is None and user == above.owner  # a shared drive's files belong to the drive
            if is_owner or user in above.readers:
                return True
            if above.is_limited:
                return False
        return False

    def is_trashed(self, node_id: str) -> bool:
        return any(node.is_trashed for node in self.ancestry(node_id))

    def is_in_user_corpus(self, user: str, node_id: str) -> bool:
        """Own files, shared ones, and of shared drives what was shared one by one; what a member opened is listed too."""
        node = self.nodes[node_id]
        if node.drive is None or not self._is_member(user, node.drive):
            return self.sees(user, node_id)
        return False

    def is_listed_for_user(self, user: str, node_id: str) -> bool:
        node = self.nodes[node_id]
        is_opened = user in node.opened_by and self.sees(user, node_id)
        return self.is_in_user_corpus(user, node_id) or is_opened

    # Logs

    def _is_member(self, user: str, drive_id: str) -> bool:
        return drive_id in self.drives and user in self.drives[drive_id].members

    def _drive_at(self, parent: str | None) -> str | None:
        top = self.ancestry(parent)
        return next((node.id for node in top if node.id in self.drives), None)

    def _logs_of(self, node_id: str) -> set[str]:
        node = self.nodes[node_id]
        found = {f"user:{user}" for user in self.user_logs if self.is_listed_for_user(user, node_id)}
        return found | ({f"drive:{node.drive}"} if node.drive is not None else set())

    def _log(self, name: str) -> Log:
        kind, _, key = name.partition(":")
        return self.user_logs[key] if kind == "user" else self.drive_logs[key]

    def _tell(self, node_id: str, before: set[str] | None = None) -> None:
        for log in sorted(self._logs_of(node_id) | (before or set())):
            self._log(log).add("file", node_id, self.now)

    def _tick(self) -> None:
        self.now += timedelta(seconds=1)
