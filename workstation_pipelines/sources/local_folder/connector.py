"""A folder on this machine or on a mounted share.

A folder has no change feed that survives a restart, so each run walks it. A walk costs a stat a file: a file whose
size, modification time and inode are those of its `external_hash` is unchanged and is not opened. Everything else that
is known is read while listing, so that a touch or a checkout of equal bytes is not fetched again; new files are read
once, by `fetch`. A full sync reads every file, which finds edits that kept size and time.

- Ids are minted here and survive renames: see renames.py for the evidence, stamp.py for the hash.
- Deletes are proven by absence from a complete walk. What lies below a directory that could not be listed is not
  absent, and an unmounted or replaced folder gives an error, never an empty listing.
- Neither access nor change time is used: backup programs alter them. Checked on ext4 and tmpfs, 2026-11-22.
- Nothing is ever written, and links are followed only when asked, never out of the operator's roots.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from pathlib import Path
from posixpath import basename
from typing import Any, ClassVar

from workstation_pipelines.errors import CursorExpiredError, ItemTooLargeError
from workstation_pipelines.model import Clock, Content, Cursor, Delta, Item, ItemType, JobType, NewId, Page, SourceType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.contract import Account, Coverage, Known
from workstation_pipelines.sources.local_folder import coverage, names, probe
from workstation_pipelines.sources.local_folder import stamp as stamps
from workstation_pipelines.sources.local_folder.config import FolderConfig
from workstation_pipelines.sources.local_folder.known import Expected
from workstation_pipelines.sources.local_folder.listing import Listing
from workstation_pipelines.sources.local_folder.opening import Folder, read_bytes
from workstation_pipelines.sources.local_folder.stamp import Stamp
from workstation_pipelines.sources.local_folder.walk import Walk

_COUNTED_FILES = 10_000
_HEAD_BYTES = 8192


def mime_type_by_name(name: str, _head: bytes) -> str:
    """The standard library's guess by extension."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


class LocalFolder:
    """The source `local_folder`; `config` is described in config.py.

    `roots` are the folders an operator allows: None allows any, an empty tuple none. `detect` tells a MIME type from a
    name and the first bytes, which are empty while listing. Raises InvalidRequestError for a config it cannot use.
    """

    source_type: ClassVar[SourceType] = SourceType.LOCAL_FOLDER
    delta: ClassVar[Delta] = Delta.NONE
    proves_absence: ClassVar[bool] = True
    page_size: ClassVar[int] = 500
    fetch_threads: ClassVar[int] = 1

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        clock: Clock,
        new_id: NewId,
        roots: tuple[Path, ...] | None = None,
        detect: Callable[[str, bytes], str] = mime_type_by_name,
    ) -> None:
        self._config = FolderConfig.parse(config)
        self._folder = Folder(self._config.path, roots=roots, follow_symlinks=self._config.follow_symlinks)
        self._clock = clock
        self._new_id = new_id
        self._detect = detect

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def reconcile_every(self) -> timedelta | None:
        return None

    @property
    def provider_calls(self) -> int:
        return 0

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> LocalFolder:
        return cls(
            config,
            clock=context.clock,
            new_id=context.new_id,
            roots=context.folder_roots,
            detect=context.detect,
        )

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        """Whether two values of `external_hash` stand for equal bytes, so that nothing need be fetched."""
        return stamps.same_content(old_hash, new_hash)

    def check(self) -> Account:
        """List the folder and name it. Counts at most 10,000 files; `readable` is false if a directory was not."""
        with Walk(self._folder, self._config) as walk:
            files = sum(1 for _ in islice(walk.files(), _COUNTED_FILES + 1))
        return Account(
            external_account=names.storable(self._folder.real_path),
            label=names.storable(str(self._config.path)),
            details={
                "files": min(files, _COUNTED_FILES),
                "files_are_all": files <= _COUNTED_FILES,
                "readable": not walk.failures,
            },
        )

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        with Walk(self._folder, self._config) as walk:
            return probe.token(walk, since)

    def start_cursor(self) -> Cursor | None:
        return None

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        """Walk the folder; see the contract. `cursor_after` is always None: starting over costs a stat a file."""
        if cursor is not None:
            raise CursorExpiredError("A local folder has no cursors: list it from the start.")
        with Walk(self._folder, self._config) as walk:
            listing = Listing(
                self._folder,
                walk,
                Expected(known.items()),
                full=job_type == JobType.FULL_SYNC,
                max_file_bytes=self._config.max_file_bytes,
                page_size=self.page_size,
                describe=self._item,
                clock=self._clock,
                new_id=self._new_id,
            )
            yield from listing.pages()

    def fetch_calls(self, item: Item) -> tuple[()]:
        return ()

    def fetch(self, item: Item) -> Content:
        """Read one file that holds still while it is read; thread-safe. Raises as the contract says."""
        name = basename(item.external_path)
        seen_at = self._clock()
        limit_bytes = self._config.max_file_bytes
        body, stat = read_bytes(self._folder, names.on_disk(item.external_path), limit_bytes=limit_bytes)
        if stat.st_size > limit_bytes:
            raise ItemTooLargeError(
                f"{item.external_path} has {stat.st_size} bytes, above `max_file_bytes` = {limit_bytes}: raise that"
                " or exclude the file.",
                reason="too_large",
            )
        stamp = stamps.stamp_of(stat, seen_at=seen_at, digest=stamps.digest_of(body))
        return Content(body, name, self._detect(name, body[:_HEAD_BYTES]), str(stamp))

    def coverage(self, reference: str) -> Coverage | None:
        """Say whether a walk shows the file that `reference` names: an absolute path, a file URL, or a path below here."""
        return coverage.find(self._folder, self._config, reference)

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _item(self, external_id: str, path: str, stamp: Stamp) -> Item:
        relative = names.on_disk(path)
        name = basename(relative)
        return Item(
            external_id=external_id,
            external_path=path,
            external_hash=str(stamp),
            item_type=ItemType.FILE,
            title=names.title(name),
            mime_type=self._detect(names.storable(name), b""),
            size_bytes=stamp.size_bytes,
            external_modified_at=names.moment(stamp.mtime_ns),
            external_url=names.file_url(f"{self._folder.real_path.rstrip('/')}/{relative}"),
        )
