"""What lies where in a Drive, and whether that is wanted: folders, shared drives, the pickers, and the paths they give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from workstation_pipelines.model import Container
from workstation_pipelines.sources.config import VendorConfig
from workstation_pipelines.sources.google_drive.files import DriveFile
from workstation_pipelines.sources.tree import Tree, safe_name

ROOT = "root"
"""Drive's alias of My Drive; also what marks its container."""

_DRIVE = "drive"
_SHARED_DRIVES = "Shared drives"
_SHARED_WITH_ME = "Shared with me"
_MY_DRIVE = "My Drive"


DriveId = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", max_length=200)]
"""As it stands in a folder's link; nothing else can be part of a request."""


class GoogleDriveConfig(VendorConfig):
    """What of a Google account is indexed; without a setting, all that its Drive shows."""

    folders: tuple[DriveId, ...] = ()
    """Ids of folders, or `root` for My Drive: everything below them and nothing else, wherever they lie."""

    shared_drives: Literal["all", "none"] | tuple[DriveId, ...] = "all"
    """Which shared drives, by id; without meaning where `folders` are picked."""

    include_shared_with_me: bool = True
    """Take what others shared and what lies in nobody's shared drive; without meaning where `folders` are picked."""


@dataclass(frozen=True, slots=True)
class FolderState:
    """Whether what lies in a folder is wanted, and at which path."""

    is_wanted: bool
    path: str


class Places:
    """All folders and shared drives that are known, wanted or not: where a file lies is decided by its ancestors."""

    def __init__(self, config: GoogleDriveConfig, containers: Iterable[Container] = ()) -> None:
        self._config = config
        self._roots: dict[str, str] = {}
        self._drives: set[str] = set()
        self.tree = Tree()
        self.unlisted: dict[str, None] = {}
        """Folders whose content has yet to be listed, in the order in which they were found."""
        for container in containers:
            self.put(container)

    def put(self, container: Container) -> None:
        self.tree.put(container)
        if container.details.get("kind") == ROOT:
            self._roots[container.external_id] = container.name
        if container.details.get("kind") == _DRIVE:
            self._drives.add(container.external_id)
        if container.details.get("unlisted"):
            self.unlisted[container.external_id] = None
        else:
            self.unlisted.pop(container.external_id, None)

    def remove(self, external_id: str) -> None:
        self.tree.remove(external_id)
        self.unlisted.pop(external_id, None)

    def is_member(self, drive_id: str | None) -> bool:
        return drive_id is not None and self._details(drive_id).get("kind") == _DRIVE

    def is_fixed(self, external_id: str) -> bool:
        """Return whether it is My Drive or a shared drive, which may turn up as a folder without being one to us."""
        return self._details(external_id).get("kind") in (ROOT, _DRIVE)

    def is_chosen(self, drive_id: str | None) -> bool:
        """Return whether it is a shared drive that is read, so that its own log and listing tell of it."""
        return self.is_member(drive_id) and self._details(drive_id or "").get("chosen") is True

    def chosen_drives(self) -> list[str]:
        return sorted(drive_id for drive_id in self._drives if self.is_chosen(drive_id))

    def holds(self, file: DriveFile) -> bool:
        """Return whether a file is wanted, by where it lies."""
        if self._config.folders:
            return self.tree.is_within(file.parent_id, self._picked())
        top = self._top(file.parent_id)
        if top is not None and top.details.get("kind") == ROOT:
            return True
        drive_id = top.external_id if top is not None and self.is_member(top.external_id) else file.drive_id
        if self.is_member(drive_id):
            return self.is_chosen(drive_id)
        is_mine = top.details.get("mine") is True if top is not None else file.is_mine
        return is_mine or self._config.include_shared_with_me

    def path(self, file: DriveFile) -> str:
        """Return where a file lies, in words: below My Drive, `Shared drives` or `Shared with me`."""
        return "/".join(
            [*self._prefix(file.parent_id, is_mine=file.is_mine), *self._names(file.parent_id), safe_name(file.name)]
        )

    def path_at(self, parent_id: str | None, name: str) -> str:
        """Return the path of something of which no more is known than its folder."""
        return "/".join([*self._prefix(parent_id, is_mine=False), *self._names(parent_id), safe_name(name)])

    def folder_state(self, external_id: str) -> FolderState | None:
        """Return the state of a known folder or shared drive; None for any other."""
        container = self.tree.get(external_id)
        if container is None:
            return None
        names = [*self._prefix(external_id, is_mine=False), *self._names(external_id)]
        return FolderState(self._holds_content_of(container), "/".join(names))

    def _holds_content_of(self, container: Container) -> bool:
        if self._config.folders:
            return self.tree.is_within(container.external_id, self._picked())
        top = self.tree.chain(container.external_id)[-1]
        if top.details.get("kind") == ROOT:
            return True
        drive_id = top.external_id if self.is_member(top.external_id) else container.details.get("drive")
        if self.is_member(drive_id):
            return self.is_chosen(drive_id)
        return top.details.get("mine") is True or self._config.include_shared_with_me

    def _picked(self) -> set[str]:
        picked = set(self._config.folders)
        return picked | set(self._roots) if ROOT in picked else picked

    def _top(self, external_id: str | None) -> Container | None:
        chain = self.tree.chain(external_id)
        return chain[-1] if chain else None

    def _names(self, external_id: str | None) -> list[str]:
        return [safe_name(container.name) for container in reversed(self.tree.chain(external_id))]

    def _prefix(self, external_id: str | None, *, is_mine: bool) -> list[str]:
        top = self._top(external_id)
        if top is None:
            return [next(iter(self._roots.values()), _MY_DRIVE) if is_mine else _SHARED_WITH_ME]
        if top.details.get("kind") == ROOT:
            return []
        if top.details.get("kind") == _DRIVE:
            return [_SHARED_DRIVES]
        return self._prefix(None, is_mine=top.details.get("mine") is True)

    def _details(self, external_id: str) -> Mapping[str, Any]:
        container = self.tree.get(external_id)
        return container.details if container is not None else {}


def folder_container(folder: DriveFile, *, sweep: str = "", is_unlisted: bool = False) -> Container:
    details: dict[str, Any] = {"kind": "folder"}
    if folder.is_mine:
        details["mine"] = True
    if folder.drive_id is not None:
        details["drive"] = folder.drive_id
    if folder.resource_key is not None:
        details["key"] = folder.resource_key
    if sweep:
        details["sweep"] = sweep
    if is_unlisted:
        details["unlisted"] = True
    return Container(folder.id, folder.name, folder.parent_id, details)


def root_container(root: DriveFile, *, sweep: str) -> Container:
    return Container(root.id, root.name, None, {"kind": ROOT, "sweep": sweep})


def drive_container(drive_id: str, name: str, *, is_chosen: bool, sweep: str = "") -> Container:
    return Container(drive_id, name, None, {"kind": _DRIVE, "chosen": is_chosen, "sweep": sweep})


def with_listed(container: Container, *, is_listed: bool) -> Container:
    """Return a container that remembers whether its content has been listed."""
    details = {name: value for name, value in container.details.items() if name != "unlisted"}
    return replace(container, details=details if is_listed else {**details, "unlisted": True})
