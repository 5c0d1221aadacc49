"""The walk: every regular file beneath a folder with its stat, in a fixed order, without opening any.

Per directory first its files, then its directories, each in the order of their names. Symbolic links, when followed,
come last, so that what is reachable without them keeps its own path; each directory is walked once, which ends loops.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter

from workstation_pipelines.model import ItemFailure
from workstation_pipelines.sources.local_folder import globs, names
from workstation_pipelines.sources.local_folder.config import FolderConfig
from workstation_pipelines.sources.local_folder.opening import Folder

_by_name = attrgetter("name")
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class _Directory:
    relative: str
    is_included: bool
    is_linked: bool = False


class Walk:
    """One walk; use it as a context manager, iterate `files()` once, then read what it learnt.

    `failures` are directories that could not be listed, and `hidden_prefixes` the beginnings of the external paths of
    all that may lie below them: nothing there may be taken for absent. `is_empty` tells of a folder without any entry.
    """

    def __init__(self, folder: Folder, config: FolderConfig) -> None:
        self.failures: list[ItemFailure] = []
        self.hidden_prefixes: list[str] = []
        self.is_empty = True
        self._folder = folder
        self._excluded = globs.excludes(config.exclude, hidden=not config.include_hidden)
        self._included = globs.includes(config.include)
        self._follow = config.follow_symlinks
        self._root = folder.open_root()
        self.device = os.fstat(self._root).st_dev
        self._stack = [_Directory("", self._included is None)]
        self._links: deque[_Directory] = deque()
        self._walked: set[tuple[int, int]] = set()
        self._listed: set[tuple[int, int]] = set()

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield (path relative to the folder, stat). Raises SourceUnavailableError when the folder itself fails."""
        while self._stack or self._links:
            if not self._stack:
                yield from self._link(self._links.popleft())
                continue
            directory = self._stack.pop()
            try:
                descriptor = self._folder.open_directory(self._root, directory.relative)
            except OSError as error:
                self._unlisted(directory, error)
                continue
            try:
                if self._is_first_visit(descriptor):
                    yield from self._files_in(directory, descriptor)
            finally:
                os.close(descriptor)

    def is_still_there(self) -> bool:
        """False when the folder's path leads elsewhere by now: it was unmounted or replaced during the walk."""
        try:
            here = os.stat(self._folder.real_path)
        except OSError:
            return False
        return os.path.samestat(here, os.fstat(self._root))

    def _files_in(self, directory: _Directory, descriptor: int) -> Iterator[tuple[str, os.stat_result]]:
        above = directory.relative and directory.relative + "/"
        excluded, included, follow, everything = self._excluded, self._included, self._follow, directory.is_included
        below: list[_Directory] = []
        try:
            with os.scandir(descriptor) as found:
                entries = sorted(found, key=_by_name)
            self.is_empty = self.is_empty and not entries
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not excluded(name, above, True):
                        below.append(self._below(name, directory, above))
                elif not entry.is_file(follow_symlinks=False):
                    if follow and entry.is_symlink():
                        self._links.append(_Directory(above + name, everything, True))
                elif not excluded(name, above, False) and (
                    everything or included is None or included(name, above, False)
                ):
                    try:
                        stat = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if not follow or self._is_first_sight(stat, directory):
                        yield above + name, stat
        except OSError as error:
            self._unlisted(directory, error)
            return
        self._stack.extend(reversed(below))

    def _below(self, name: str, parent: _Directory, above: str) -> _Directory:
        included = parent.is_included or (self._included is not None and self._included(name, above, True))
        return _Directory(above + name, included, parent.is_linked)

    def _link(self, link: _Directory) -> Iterator[tuple[str, os.stat_result]]:
        above, slash, name = link.relative.rpartition("/")
        above += slash
        try:
            stat = os.stat(link.relative, dir_fd=self._root)
        except OSError as error:
            self._unlisted(link, error)
            return
        is_dir = stat_bits.S_ISDIR(stat.st_mode)
        if self._excluded(name, above, is_dir) or not self._folder.leads_inside(link.relative):
            return
        if is_dir:
            self._stack.append(self._below(name, link, above))
        elif (
            stat_bits.S_ISREG(stat.st_mode)
            and (link.is_included or self._included is None or self._included(name, above, False))
            and self._is_first_sight(stat, link)
        ):
            yield link.relative, stat

    def _is_first_sight(self, stat: os.stat_result, within: _Directory) -> bool:
        # Two hard links in the tree itself stay two files; what a symbolic link leads to again does not count twice.
        key = (stat.st_dev, stat.st_ino)
        if within.is_linked and key in self._listed:
            return False
        self._listed.add(key)
        return True

    def _is_first_visit(self, descriptor: int) -> bool:
        if not self._follow:
            return True
        stat = os.fstat(descriptor)
        key = (stat.st_dev, stat.st_ino)
        if key in self._walked:
            return False
        self._walked.add(key)
        return True

    def _unlisted(self, directory: _Directory, error: OSError) -> None:
        if not directory.relative:
            raise self._folder.unavailable(error) from error
        if error.errno in _VANISHED:
            return
        path = names.storable(directory.relative)
        self.hidden_prefixes.append(path + "/")
        self.failures.append(
            ItemFailure(
                external_id=f"directory:{path}",
                external_path=path,
                stage="list",
                error_class=type(error).__name__,
                reason="permission_denied" if isinstance(error, PermissionError) else "io_error",
                message=f"Directory {path} cannot be listed ({error.strerror}): make it readable to this server."
                " What is known below it stays as it is.",
                permanent=False,
            )
        )
