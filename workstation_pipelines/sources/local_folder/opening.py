"""Opens what lies beneath the folder and nothing else, and reads files that hold still.

Without `follow_symlinks` each component of a path is opened from its parent's descriptor with O_NOFOLLOW, so no swap
of a directory for a link, at whatever moment, leads outside; it also makes paths longer than PATH_MAX readable. With
`follow_symlinks` the real location of what was opened is checked against the operator's roots.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat as stat_bits
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    SkipItemError,
    SourceUnavailableError,
    UnreadableContentError,
)
from workstation_pipelines.sources.local_folder import names

READ_ATTEMPTS = 3
_BLOCK_BYTES = 1024 * 1024
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
_Read = TypeVar("_Read")
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_DENIED = (errno.EACCES, errno.EPERM)
_AWAY = (errno.ESTALE, errno.ENODEV, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE)


class Folder:
    """One folder on disk. `real_path` is where `path` led when this was made.

    `roots` are the folders an operator allows: None allows any, an empty tuple none. Raises InvalidRequestError when
    `path` is outside.
    """

    def __init__(self, path: Path, *, roots: tuple[Path, ...] | None, follow_symlinks: bool) -> None:
        self.real_path = os.path.realpath(path)
        self.follow_symlinks = follow_symlinks
        self._roots = None if roots is None else tuple(os.path.realpath(root) for root in roots)
        if not self._is_allowed(self.real_path):
            raise InvalidRequestError(
                f"Folder {path} is outside the folders this server may read: choose one below an allowed root, or ask"
                " the operator to allow it."
            )

    def open_root(self) -> int:
        """Open the folder itself. Raises SourceUnavailableError when it cannot be listed, InvalidRequestError when it
        is no folder or now leads outside the allowed roots."""
        try:
            descriptor = os.open(self.real_path, _READ | os.O_DIRECTORY)
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                raise InvalidRequestError(f"{self.real_path} is not a folder: set `path` to a folder.") from error
            raise self.unavailable(error) from error
        try:
            if not self._is_opened_inside(descriptor, self.real_path):
                raise InvalidRequestError(
                    f"Folder {self.real_path} now leads outside the folders this server may read: choose another one."
                )
        except BaseException:  # nobody else knows of the descriptor yet
            os.close(descriptor)
            raise
        return descriptor

    def open_directory(self, root: int, relative: str) -> int:
        """Open a directory beneath the descriptor `root`; "" is the root. Raises OSError."""
        return self._open(root, relative, _READ | os.O_DIRECTORY)

    def open_file(self, relative: str) -> tuple[int, os.stat_result]:
        """Open a regular file; return its descriptor and stat. Raises SkipItemError for it alone, SourceUnavailableError."""
        if any(part in ("", ".", "..") for part in relative.split("/")):
            raise _gone(relative)
        root = self.open_root()
        try:
            # O_NONBLOCK: the file may have been swapped for a fifo, whose open would wait for a writer.
            descriptor = self._open(root, relative, _READ | os.O_NONBLOCK)
        except OSError as error:
            raise item_error(error, relative) from error
        finally:
            os.close(root)
        try:
            stat = os.fstat(descriptor)
            if not stat_bits.S_ISREG(stat.st_mode):
                raise _gone(relative)
        except BaseException:  # nobody else knows of the descriptor yet
            os.close(descriptor)
            raise
        return descriptor, stat

    def _open(self, root: int, relative: str, flags: int) -> int:
        if self.follow_symlinks:
            return self._open_anywhere(root, relative, flags)
        here = root
        try:
            *parents, last = relative.split("/") if relative else ["."]
            for parent in parents:
                above, here = here, os.open(parent, _READ | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                if above != root:
                    os.close(above)
            return os.open(last, flags | os.O_NOFOLLOW, dir_fd=here)
        finally:
            if here != root:
                os.close(here)

    def _open_anywhere(self, root: int, relative: str, flags: int) -> int:
        descriptor = os.open(relative or ".", flags, dir_fd=root)
        absolute = os.path.join(self.real_path, relative)
        if self._is_opened_inside(descriptor, absolute):
            return descriptor
        os.close(descriptor)
        raise OSError(errno.ENOENT, "a symbolic link leads outside the allowed roots", absolute)

    def leads_inside(self, relative: str) -> bool:
        """Whether a symbolic link ends below the operator's roots."""
        return self._is_allowed(os.path.realpath(os.path.join(self.real_path, relative)))

    def _is_opened_inside(self, descriptor: int, path: str) -> bool:
        return self._roots is None or self._is_allowed(_location(descriptor, path))

    def _is_allowed(self, real_path: str) -> bool:
        if self._roots is None:
            return True
        return any(real_path == root or real_path.startswith(root.rstrip("/") + "/") for root in self._roots)

    def unavailable(self, error: OSError) -> SourceUnavailableError:
        """The error to raise when the folder itself cannot be listed."""
        return SourceUnavailableError(
            f"Folder {names.storable(self.real_path)} cannot be listed ({error.strerror}): mount it, make it readable"
            " to this server, or correct `path`.",
            wait_s=60.0,
        )


def read_bytes(folder: Folder, relative: str, *, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """Read a whole file that did not change meanwhile, with the stat of exactly these bytes.

    A file above `limit_bytes` gives b"" and its stat: compare `st_size`. Raises SkipItemError, SourceUnavailableError.
    """

    def whole(descriptor: int, size_bytes: int) -> tuple[bytes, int]:
        if size_bytes > limit_bytes:
            return b"", size_bytes
        blocks = []
        total = 0
        while block := os.read(descriptor, size_bytes - total + 1):
            blocks.append(block)
            total += len(block)
            if total >= size_bytes:
                break  # the stat that follows tells whether this is the end
        return blocks[0] if len(blocks) == 1 else b"".join(blocks), total

    return _read_still(folder, relative, whole)


def read_digest(folder: Folder, relative: str) -> tuple[str, os.stat_result]:
    """Digest a file in blocks, with the stat of exactly these bytes. Raises as `read_bytes` does."""

    def digest(descriptor: int, size_bytes: int) -> tuple[str, int]:
        hasher = hashlib.blake2b(digest_size=16)
        total = 0
        while block := os.read(descriptor, min(_BLOCK_BYTES, size_bytes - total + 1)):
            hasher.update(block)
            total += len(block)
            if total >= size_bytes:
                break
        return hasher.hexdigest(), total

    return _read_still(folder, relative, digest)


def item_error(error: OSError, relative: str) -> SkipItemError | SourceUnavailableError:
    """What an OSError about one file asks of the engine."""
    path = names.storable(relative)
    if error.errno in _GONE:
        return _gone(relative)
    if error.errno in _DENIED:
        return UnreadableContentError(
            f"{path} may not be read by this server: grant it read permission; it is tried again.",
            reason="permission_denied",
            transient=True,
        )
    if error.errno in _AWAY:
        return SourceUnavailableError(f"{path} cannot be reached ({error.strerror}): check the mount.", wait_s=60.0)
    return UnreadableContentError(
        f"{path} cannot be read ({error.strerror}): check the disk; it is tried again.",
        reason="io_error",
        transient=True,
    )


def _read_still(
    folder: Folder, relative: str, read: Callable[[int, int], tuple[_Read, int]]
) -> tuple[_Read, os.stat_result]:
    for _ in range(READ_ATTEMPTS):
        descriptor, before = folder.open_file(relative)
        try:
            result, total = read(descriptor, before.st_size)
            after = os.fstat(descriptor)
        except OSError as error:
            raise item_error(error, relative) from error
        finally:
            os.close(descriptor)
        if total == after.st_size and _state(before) == _state(after):
            return result, after
    raise UnreadableContentError(
        f"{names.storable(relative)} changed during each of {READ_ATTEMPTS} reads: it is tried again when it rests.",
        reason="changing",
        transient=True,
    )


def _state(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _gone(relative: str) -> ItemGoneError:
    return ItemGoneError(
        f"{names.storable(relative)} is not there any more; the next sync tells what became of it.", reason="gone"
    )


def _location(descriptor: int, path: str) -> str:
    get_path = getattr(fcntl, "F_GETPATH", None)  # macOS, which has no /proc
    if get_path is not None:
        return os.fsdecode(fcntl.fcntl(descriptor, get_path, b"\0" * 1024).rstrip(b"\0"))
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return os.path.realpath(path)
