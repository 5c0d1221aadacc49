"""What one page of a change log means: each entry is a thing's present state, so what matters is what differs from before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workstation_pipelines.model import Container, ItemFailure
from workstation_pipelines.sources.google_drive import files
from workstation_pipelines.sources.google_drive.calls import drive_of_fields
from workstation_pipelines.sources.google_drive.files import BadFieldError, DriveFile
from workstation_pipelines.sources.google_drive.places import FolderState, Places, drive_container, folder_container


@dataclass(frozen=True, slots=True)
class Entries:
    """A page's last word on each thing. None stands for what is gone, or lost, without being shown once more."""

    files: dict[str, DriveFile | None] = field(default_factory=dict)
    drives: dict[str, str | None] = field(default_factory=dict)
    """Names of shared drives by id."""

    failures: list[ItemFailure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Moves:
    """What became of folders, and so of all that lies in them. Ids of folders and shared drives.

    `moved` have another path. `left` are not wanted any more, or in the trash. `vanished` are gone without a word about
    their content, some of which may still be there for us. `joined` are newly wanted: what lies in them may be old.
    `joined_drives` are shared drives to list, `left_drives` such as are not read any more.
    """

    containers: list[Container] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    joined_drives: list[str] = field(default_factory=list)
    left_drives: list[str] = field(default_factory=list)


def read(changes: Sequence[Any]) -> Entries:
    """Take a page's entries apart. A removal that still shows its file is a move to another log: the file decides."""
    found = Entries()
    for change in changes:
        if not isinstance(change, dict):
            found.failures.append(files.failure(BadFieldError("an unnamed change", "change")))
            continue
        if change.get("changeType") == "drive":
            drive = None if change.get("removed") is True else drive_of_fields(change.get("drive"))
            drive_id = drive[0] if drive is not None else change.get("driveId")
            if isinstance(drive_id, str) and (drive is not None or change.get("removed") is True):
                found.drives[drive_id] = drive[1] if drive is not None else None
            continue
        file_id, is_gone = change.get("fileId"), change.get("removed") is True and change.get("file") is None
        try:
            if is_gone and isinstance(file_id, str):
                found.files.pop(file_id, None)
                found.files[file_id] = None
            elif change.get("changeType") in ("file", None) or "file" in change:
                file = files.parse(change.get("file") or {"id": file_id})
                found.files.pop(file.id, None)
                found.files[file.id] = file
        except BadFieldError as error:
            found.failures.append(files.failure(error))
    return found


def apply(entries: Entries, places: Places, *, chooses: Callable[[str], bool]) -> Moves:
    """Bring the tree up to date and tell what that changes. `chooses` tells whether a new shared drive is to be read."""
    folders = {
        external_id: file
        for external_id, file in entries.files.items()
        if (places.tree.get(external_id) is not None if file is None else file.is_folder)
        and not places.is_fixed(external_id)
    }
    touched = [*folders, *(drive_id for drive_id in entries.drives if drive_id not in folders)]
    before = _states(places, touched)
    joined_drives, left_drives = _apply_drives(entries.drives, places, chooses)
    for folder in folders.values():
        if folder is not None and not folder.is_trashed:
            known = places.tree.get(folder.id)
            is_unlisted = known is not None and known.details.get("unlisted") is True
            places.put(folder_container(folder, is_unlisted=is_unlisted))
    before |= {external_id: None for external_id in _states(places, touched) if external_id not in before}
    is_vanished = {
        below: folder is None
        for external_id, folder in folders.items()
        if folder is None or folder.is_trashed
        for below in places.tree.below(external_id)
    }
    gone = [*is_vanished, *(below for drive_id in left_drives for below in places.tree.below(drive_id))]
    for external_id in gone:
        places.remove(external_id)
    moves = Moves(joined_drives=joined_drives, left_drives=left_drives)
    for external_id, was in before.items():
        _compare(external_id, was, places, is_vanished, moves)
    listed_anyway = {below for drive_id in joined_drives for below in places.tree.below(drive_id)}
    moves.joined[:] = [external_id for external_id in moves.joined if external_id not in listed_anyway]
    forgotten = [Container(external_id, "", is_deleted=True) for external_id in dict.fromkeys(gone)]
    kept = [places.tree.get(external_id) for external_id in touched]
    moves.containers.extend([*forgotten, *(container for container in kept if container is not None)])
    return moves


def _states(places: Places, touched: Sequence[str]) -> dict[str, FolderState | None]:
    return {below: places.folder_state(below) for external_id in touched for below in places.tree.below(external_id)}


def _apply_drives(
    drives: dict[str, str | None], places: Places, chooses: Callable[[str], bool]
) -> tuple[list[str], list[str]]:
    joined, left = [], []
    for drive_id, name in drives.items():
        if name is None:
            left += [drive_id] if drive_id in places.tree else []
            continue
        was_member, was_chosen = places.is_member(drive_id), places.is_chosen(drive_id)
        is_chosen = was_chosen if was_member else chooses(drive_id)
        places.put(drive_container(drive_id, name, is_chosen=is_chosen))
        joined += [drive_id] if is_chosen and not was_chosen else []
    return joined, left


def _compare(
    external_id: str, was: FolderState | None, places: Places, is_vanished: dict[str, bool], moves: Moves
) -> None:
    now = places.folder_state(external_id)
    was_wanted = was is not None and was.is_wanted
    if now is None or not now.is_wanted:
        if was_wanted:
            (moves.vanished if is_vanished.get(external_id) else moves.left).append(external_id)
    elif not was_wanted:
        moves.joined.append(external_id)
    elif was is not None and was.path != now.path:
        moves.moved.append(external_id)
