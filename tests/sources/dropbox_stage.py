"""One Dropbox account, with one picked folder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tests.fakes.dropbox import FakeDropbox
from tests.fakes.dropbox_space import Node
from workstation_pipelines.model import SourceType

SCOPE = "/Team/Reports"
_YEAR = timedelta(days=365)


class DropboxStage:
    """Keys are file ids. What `create` makes lies in one folder of the picked one; the feed tells renames of case alone,
    which the real one leaves out, so that they can be seen without listing everything.
    """

    source_type = SourceType.DROPBOX
    operations = frozenset(
        {"create", "edit", "rename", "rename_case", "move_in", "move_out", "rename_folder", "trash", "restore"}
        | {"share_old", "unshare", "delete", "recreate", "expire_cursor"}
    )

    def __init__(self, vendor: FakeDropbox | None = None) -> None:
        self.vendor = vendor or FakeDropbox()
        self.config: Mapping[str, Any] = {"folders": [SCOPE]}
        self._space = self.vendor.space
        self._space.tells_case_renames = True
        self._box = "Box"
        self._mounts: dict[str, str] = {}
        self._shared = 0
        with self.vendor.lock:
            self._space.mkdir(f"{SCOPE}/{self._box}")
            self._space.put("/private.txt", "not in the picked folder")

    def urls(self) -> dict[str, str]:
        return self.vendor.urls()

    def create(self, name: str, text: str) -> str:
        with self.vendor.lock:
            return self._space.put(self._free(f"{SCOPE}/{self._box}", name), text).id

    def edit(self, key: str, text: str) -> None:
        with self.vendor.lock:
            self._space.put(self._node(key).shown_path, text)

    def rename(self, key: str, name: str) -> None:
        with self.vendor.lock:
            node = self._node(key)
            self._space.move(node.shown_path, self._free(node.shown_path.rpartition("/")[0], name))

    def rename_case(self, key: str) -> None:
        with self.vendor.lock:
            node = self._node(key)
            self._space.move(node.shown_path, f"{node.shown_path.rpartition('/')[0]}/{node.name.swapcase()}")

    def move_in(self, name: str, text: str) -> str:
        with self.vendor.lock:
            node = self._space.put(self._free("/Attic", name), text, age=_YEAR)
            self._space.move(node.shown_path, self._free(f"{SCOPE}/{self._box}", name))
            return node.id

    def move_out(self, key: str) -> None:
        with self.vendor.lock:
            node = self._node(key)
            self._space.move(node.shown_path, self._free("/Attic", node.name))

    def rename_folder(self, name: str) -> None:
        with self.vendor.lock:
            self._space.move(f"{SCOPE}/{self._box}", f"{SCOPE}/{name}")
            self._box = name

    def trash(self, key: str) -> None:
        with self.vendor.lock:
            self._space.remove(self._node(key).shown_path)

    def restore(self, key: str) -> None:
        with self.vendor.lock:
            self._space.restore(key)

    def share_old(self, name: str, text: str) -> str:
        """Somebody's shared folder with an old file in it is mounted inside the scope."""
        with self.vendor.lock:
            self._shared += 1
            folder = f"{SCOPE}/Shared {self._shared}"
            self._space.mount(folder, {_with_extension(name): text}, age=_YEAR)
            key = self._space.at(f"{folder}/{_with_extension(name)}").id
            self._mounts[key] = folder
            return key

    def unshare(self, key: str) -> None:
        with self.vendor.lock:
            self._space.purge(self._mounts.pop(key))

    def delete(self, key: str) -> None:
        with self.vendor.lock:
            self._space.purge(self._node(key).shown_path)

    def recreate(self, key: str, text: str) -> str:
        with self.vendor.lock:
            path = self._node(key).shown_path
            self._space.purge(path)
            return self._space.put(path, text).id

    def expire_cursor(self) -> None:
        self.vendor.expire_cursors()

    def set_page_size(self, items: int) -> None:
        self.vendor.page_size = items

    def truth(self) -> dict[str, str]:
        with self.vendor.lock:
            return {
                self._space.true_path(node)[1:]: node.body.decode()
                for node in self._space.below(SCOPE)
                if not node.is_folder
            }

    def _node(self, key: str) -> Node:
        node = self._space.by_id(key)
        assert node is not None, f"nothing has the id {key}"
        return node

    def _free(self, folder: str, name: str) -> str:
        """Return a path that is not taken, as the vendor renames an upload."""
        name = _with_extension(name)
        stem, _, extension = name.rpartition(".")
        path, number = f"{folder}/{name}", 0
        while path.lower() in self._space.nodes:
            number += 1
            path = f"{folder}/{stem} ({number}).{extension}"
        return path


def _with_extension(name: str) -> str:
    return name if "." in name else f"{name}.txt"
