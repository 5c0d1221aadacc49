"""One user's Notion: a workspace with a page that the settings pick, a folder page in it, and an archive beside it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tests.fakes.notion import FakeNotion
from workstation_pipelines.model import SourceType
from workstation_pipelines.sources.tree import safe_name

YEAR = timedelta(days=365)


class NotionStage:
    """Implements Stage. Keys are page ids, which outlive renames, moves, trash and restore.

    People delete into the trash; what goes on from there was gone before. `share_old` and `unshare` are left out of
    `operations`: Notion tells of neither, so that only a full listing finds them, which tests of its own show.
    """

    source_type = SourceType.NOTION
    operations = frozenset(
        {
            "create",
            "edit",
            "rename",
            "rename_case",
            "move_in",
            "move_out",
            "rename_folder",
            "trash",
            "restore",
            "delete",
            "recreate",
        }
    )

    def __init__(self, vendor: FakeNotion | None = None) -> None:
        self.vendor = vendor or FakeNotion()
        self._workspace = self.vendor.workspace
        self._home = self._workspace.page("Home")
        self._archive = self._workspace.page("Archive")
        self._folder = self._workspace.page("Folder", parent=self._home)
        self._texts: dict[str, str] = {}
        self.config: Mapping[str, Any] = {"pages": [self._home]}

    def urls(self) -> dict[str, str]:
        return {"api": self.vendor.url}

    def create(self, name: str, text: str) -> str:
        with self.vendor.lock:
            key = self._workspace.page(name, text, parent=self._folder)
        self._texts[key] = text
        return key

    def edit(self, key: str, text: str) -> None:
        with self.vendor.lock:
            self._workspace.edit(key, text)
        self._texts[key] = text

    def rename(self, key: str, name: str) -> None:
        with self.vendor.lock:
            self._workspace.rename(key, name)

    def rename_case(self, key: str) -> None:
        self.rename(key, self._workspace.things[key].title.swapcase())

    def move_in(self, name: str, text: str) -> str:
        with self.vendor.lock:
            key = self._workspace.page(name, text, parent=self._archive, age=YEAR)
            self._workspace.move(key, self._folder)
        self._texts[key] = text
        return key

    def move_out(self, key: str) -> None:
        with self.vendor.lock:
            self._workspace.move(key, self._archive)
        self._texts.pop(key)

    def rename_folder(self, name: str) -> None:
        self.rename(self._folder, name)

    def trash(self, key: str) -> None:
        with self.vendor.lock:
            self._workspace.trash(key)

    def restore(self, key: str) -> None:
        with self.vendor.lock:
            self._workspace.restore(key)

    def share_old(self, name: str, text: str) -> str:
        with self.vendor.lock:
            key = self._workspace.page(name, text, parent=self._folder, age=YEAR)
        self._texts[key] = text
        return key

    def unshare(self, key: str) -> None:
        with self.vendor.lock:
            self._workspace.unshare(key)

    def delete(self, key: str) -> None:
        with self.vendor.lock:
            self._workspace.trash(key)
        self._texts.pop(key)

    def recreate(self, key: str, text: str) -> str:
        name = self._workspace.things[key].title
        self.delete(key)
        return self.create(name, text)

    def expire_cursor(self) -> None:
        raise NotImplementedError("a time does not expire")

    def set_page_size(self, items: int) -> None:
        self.vendor.most_page_size = items

    def truth(self) -> dict[str, str]:
        with self.vendor.lock:
            live = [self._home, self._folder, *self._texts]
            found: dict[str, str] = {}
            for key in live:
                if self._workspace.sees("user-1", key) and not self._workspace.is_in_trash(key):
                    text = self._texts.get(key, self._workspace.things[key].title)
                    found[self._path(key)] = f"{found.get(self._path(key), '')}\n{text}"
            return found

    def _path(self, key: str) -> str:
        names: list[str] = []
        at: str | None = key
        while at is not None:
            names.insert(0, safe_name(self._workspace.things[at].title))
            at = self._workspace.things[at].parent[1]
        return "/".join(names)
