"""A folder as a Stage: a directory inside a directory, of which only the inner one is connected."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes.server import FakeVendor
from workstation_pipelines.model import SourceType

_A_YEAR_S = 365 * 24 * 3600


class LocalFolderStage:
    """Everything lies in `scope/papers` of a temporary directory. Deleting for good is all that a folder's trash can do."""

    source_type = SourceType.LOCAL_FOLDER
    vendor: FakeVendor | None = None
    operations = frozenset(
        {"create", "edit", "rename", "rename_case", "move_in", "move_out", "rename_folder", "trash", "restore"}
        | {"share_old", "unshare", "delete", "recreate"}
    )

    def __init__(self) -> None:
        self._top = Path(tempfile.mkdtemp(prefix="ws-stage-"))
        self._folder = self._top / "scope" / "papers"
        self._folder.mkdir(parents=True)
        (self._top / "away").mkdir()
        self._names: dict[str, str] = {}
        self._made = 0
        self._away: set[str] = set()
        self.config: Mapping[str, Any] = {"path": str(self._top / "scope")}

    def urls(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        shutil.rmtree(self._top)

    def create(self, name: str, text: str) -> str:
        key = self._new_key()
        self._names[key] = f"{name}.txt"
        self._path(key).write_text(text)
        return key

    def edit(self, key: str, text: str) -> None:
        self._path(key).write_text(text)

    def rename(self, key: str, name: str) -> None:
        before = self._path(key)
        self._names[key] = f"{name}.txt"
        before.rename(self._path(key))

    def rename_case(self, key: str) -> None:
        self.rename(key, self._names[key].removesuffix(".txt").swapcase())

    def move_in(self, name: str, text: str) -> str:
        key = self._new_key()
        self._names[key] = f"{name}.txt"
        outside = self._top / "away" / self._names[key]
        outside.write_text(text)
        long_ago_s = outside.stat().st_mtime - _A_YEAR_S
        os.utime(outside, (long_ago_s, long_ago_s))
        outside.rename(self._path(key))
        return key

    share_old = move_in

    def move_out(self, key: str) -> None:
        self._path(key).rename(self._top / "away" / self._names[key])
        self._away.add(key)

    unshare = trash = move_out

    def restore(self, key: str) -> None:
        (self._top / "away" / self._names[key]).rename(self._path(key))
        self._away.discard(key)

    def rename_folder(self, name: str) -> None:
        self._folder = self._folder.rename(self._folder.parent / name)

    def delete(self, key: str) -> None:
        self._path(key).unlink()
        del self._names[key]

    def recreate(self, key: str, text: str) -> str:
        name = self._names[key].removesuffix(".txt")
        self.delete(key)
        return self.create(name, text)

    def expire_cursor(self) -> None:
        raise AssertionError("a folder has no cursors")

    def set_page_size(self, items: int) -> None:
        """A folder is walked, not paged by anyone else."""

    def truth(self) -> dict[str, str]:
        return {
            f"{self._folder.name}/{name}": self._path(key).read_text()
            for key, name in self._names.items()
            if key not in self._away
        }

    def _path(self, key: str) -> Path:
        return self._folder / self._names[key]

    def _new_key(self) -> str:
        self._made += 1
        return f"file {self._made}"
