"""One file by its path, under the same rules as a whole folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    SourceUnavailableError,
)
from workstation_pipelines.sources.local_folder import names
from workstation_pipelines.sources.local_folder.config import MIB
from workstation_pipelines.sources.local_folder.opening import Folder, read_bytes


@dataclass(frozen=True, slots=True)
class SingleFile:
    """A file as read. `path` is its real path as storable text: however it was spelled, it is the same file."""

    path: str
    name: str
    title: str
    url: str
    body: bytes
    modified_at: datetime


def read_file(path: str, *, roots: tuple[Path, ...] | None, limit_bytes: int = 50 * MIB) -> SingleFile:
    """Read a regular file, given by an absolute path; symbolic links are followed to where they lead.

    `roots` are the folders an operator allows: None allows any, an empty tuple none. Raises InvalidRequestError for a
    path that is not allowed, SkipItemError for a file that cannot be had, SourceUnavailableError for a folder that cannot.
    """
    if "\0" in path or not os.path.isabs(path):
        raise InvalidRequestError("a path must be absolute and without NUL")
    shown = names.storable(path)
    real_path = os.path.realpath(path)
    folder = Folder(Path(real_path).parent, roots=roots, follow_symlinks=False)
    if os.path.isdir(real_path):
        raise InvalidRequestError(f"{shown} is a folder: connect it with `workstation source add`, or give its files")
    try:
        body, stat = read_bytes(folder, os.path.basename(real_path), limit_bytes=limit_bytes)
    except (ItemGoneError, SourceUnavailableError):
        if os.path.lexists(real_path):
            raise
        raise ItemGoneError(f"there is no file {shown}: check the path", reason="gone") from None
    if stat.st_size > limit_bytes:
        raise ItemTooLargeError(
            f"{shown} has {stat.st_size:,} bytes, and at most {limit_bytes:,} are read: split it", reason="too_large"
        )
    name = os.path.basename(real_path)
    return SingleFile(
        path=names.storable(real_path),
        name=names.storable(name),
        title=names.title(name),
        url=names.file_url(real_path),
        body=body,
        modified_at=names.moment(stat.st_mtime_ns),
    )
