"""Why one file is or is not part of a local folder: the walk's rules, followed along a single path."""

from __future__ import annotations

import os
import stat as stat_bits
from urllib.parse import unquote_to_bytes, urlsplit

from workstation_pipelines.sources.contract import Coverage
from workstation_pipelines.sources.local_folder import globs, names
from workstation_pipelines.sources.local_folder.config import FolderConfig
from workstation_pipelines.sources.local_folder.opening import Folder


def find(folder: Folder, config: FolderConfig, reference: str) -> Coverage | None:
    """Return what a walk does with `reference`; None when it does not lie below the folder."""
    relative = _relative(folder, config, reference)
    if relative is None:
        return None
    is_listed, reason = _verdict(folder, config, relative)
    return Coverage(names.storable(relative), is_listed, reason)


def _relative(folder: Folder, config: FolderConfig, reference: str) -> str | None:
    path = os.fsdecode(unquote_to_bytes(urlsplit(reference).path)) if reference.startswith("file://") else reference
    if not os.path.isabs(path):
        path = os.path.join(folder.real_path, names.on_disk(path))
        if not os.path.lexists(path):
            return None
    path = os.path.normpath(path)
    for root in (os.path.normpath(config.path), folder.real_path):
        if path.startswith(root.rstrip("/") + "/"):
            return path[len(root.rstrip("/")) + 1 :]
    # Through a link to somewhere above: what is opened in the end is what counts.
    above, name = os.path.split(path)
    real = os.path.join(os.path.realpath(above), name)
    root = folder.real_path.rstrip("/") + "/"
    return real[len(root) :] if real.startswith(root) else None


def _verdict(folder: Folder, config: FolderConfig, relative: str) -> tuple[bool, str]:
    excluded = globs.excludes(config.exclude, hidden=not config.include_hidden)
    included = globs.includes(config.include)
    is_included = included is None
    parts = relative.split("/")
    above = ""
    for depth, name in enumerate(parts, 1):
        is_last = depth == len(parts)
        try:
            stat = os.lstat(os.path.join(folder.real_path, above, name))
        except OSError as error:
            return False, f"{names.storable(above + name)} cannot be seen ({error.strerror})"
        if stat_bits.S_ISLNK(stat.st_mode) and not config.follow_symlinks:
            return False, f"{names.storable(above + name)} is a symbolic link, and `follow_symlinks` is false"
        if stat_bits.S_ISLNK(stat.st_mode) and not folder.leads_inside(above + name):
            return False, f"{names.storable(above + name)} is a symbolic link that leads outside the allowed folders"
        is_directory = os.path.isdir(os.path.join(folder.real_path, above, name))
        if excluded(name, above, is_directory):
            return False, _excluded_by(config, name, above, is_directory=is_directory)
        is_included = is_included or (included is not None and included(name, above, is_directory))
        if is_last and is_directory:
            return False, "it is a directory; what is in it is listed file by file"
        above += name + "/"
    return _last(folder, config, relative, is_included=is_included)


def _last(folder: Folder, config: FolderConfig, relative: str, *, is_included: bool) -> tuple[bool, str]:
    if not is_included:
        return False, f"none of the `include` globs matches it: {', '.join(config.include)}"
    stat = os.stat(os.path.join(folder.real_path, relative))
    if not stat_bits.S_ISREG(stat.st_mode):
        return False, "it is no regular file"
    if stat.st_size > config.max_file_bytes:
        return (
            True,
            f"it has {stat.st_size} bytes, above `max_file_bytes` = {config.max_file_bytes}: it is listed and skipped",
        )
    return True, "it is listed"


def _excluded_by(config: FolderConfig, name: str, above: str, *, is_directory: bool) -> str:
    what = f"{'directory' if is_directory else 'file'} {names.storable(above + name)}"
    if not config.include_hidden and name.startswith("."):
        return f"{what} is hidden, and `include_hidden` is false"
    if globs.excludes([], hidden=False)(name, above, is_directory):
        return f"{what} is left out by a built-in rule; `exclude` takes one back by !GLOB"
    matching = [
        glob
        for glob in config.exclude
        if not glob.startswith("!") and globs.excludes([glob], hidden=False)(name, above, is_directory)
    ]
    return f"{what} is left out by the `exclude` glob {' or '.join(matching)}"
