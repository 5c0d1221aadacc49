"""A OneDrive account to act on, with one folder of it as the scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.onedrive import FakeOneDrive
from tests.fakes.onedrive_drives import Drive
from workstation_pipelines.model import SourceType
from workstation_pipelines.sources.tree import safe_name


class OneDriveStage:
    """A Stage. What it makes lies in a folder `Documents` inside the scope, so that renaming that moves everything."""

    source_type: SourceType = SourceType.ONEDRIVE
    operations: frozenset[str] = frozenset(
        {"create", "edit", "rename", "rename_case", "move_in", "move_out", "rename_folder", "trash", "restore"}
        | {"share_old", "unshare", "delete", "recreate", "expire_cursor"}
    )

    def __init__(self, vendor: FakeOneDrive | None = None) -> None:
        self.onedrive = vendor or FakeOneDrive()
        self.vendor: FakeOneDrive | None = self.onedrive
        self._scope = self.onedrive.folder("Scope")
        self._documents = self.onedrive.folder("Documents", self._scope)
        self._outside = self.onedrive.folder("Elsewhere")
        self._other: Drive | None = None
        self.config: Mapping[str, Any] = {"folders": [self._scope]}

    def urls(self) -> dict[str, str]:
        return {"api": self.onedrive.url}

    def create(self, name: str, text: str) -> str:
        return self.onedrive.file(name, text, self._documents)

    def edit(self, key: str, text: str) -> None:
        self.onedrive.edit(self._content_of(key), text)

    def rename(self, key: str, name: str) -> None:
        self.onedrive.rename(key, name)

    def rename_case(self, key: str) -> None:
        self.onedrive.rename(key, self.onedrive.node(key).name.swapcase())

    def move_in(self, name: str, text: str) -> str:
        folder = self.onedrive.folder(f"Old {name}", self._outside)
        key = self.onedrive.file(name, text, folder)
        self.onedrive.age(folder)
        self.onedrive.move(folder, self._documents)
        return key

    def move_out(self, key: str) -> None:
        self.onedrive.move(key, self._outside)

    def rename_folder(self, name: str) -> None:
        self.onedrive.rename(self._documents, name)

    def trash(self, key: str) -> None:
        self.onedrive.delete(key)

    def restore(self, key: str) -> None:
        self.onedrive.restore(key)

    def share_old(self, name: str, text: str) -> str:
        if self._other is None:
            self._other = self.onedrive.other()
        target = self.onedrive.file(name, text, drive=self._other)
        self.onedrive.age(target)
        self.onedrive.share(target)
        return self.onedrive.shortcut(target, self._documents)

    def unshare(self, key: str) -> None:
        self.onedrive.unshare(self._content_of(key))
        self.onedrive.delete(key)

    def delete(self, key: str) -> None:
        self.onedrive.delete(key)

    def recreate(self, key: str, text: str) -> str:
        node = self.onedrive.node(key)
        self.onedrive.delete(key)
        return self.onedrive.file(node.name, text, node.parent)

    def expire_cursor(self) -> None:
        self.onedrive.expire_cursors()

    def set_page_size(self, items: int) -> None:
        self.onedrive.page_size = items

    def truth(self) -> dict[str, str]:
        drives = self.onedrive.drives
        found = {}
        for key in drives.below(self._scope):
            node = drives.nodes[key]
            if not node.is_folder:
                names = [safe_name(above.name) for above in drives.above(key) if above.kind != "root"]
                found["/".join(reversed(names))] = drives.nodes[self._content_of(key)].body.decode()
        return found

    def _content_of(self, key: str) -> str:
        return self.onedrive.node(key).target or key
