"""An account at the fake Google Drive, for the tests that all sources share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.google_drive import FakeGoogleDrive
from tests.fakes.google_drive_state import COLLEAGUE, FOLDER, ME
from tests.fakes.server import FakeVendor
from workstation_pipelines.model import SourceType


class GoogleDriveStage:
    """One user's Drive. Picked are `Plans`, in whose subfolder `Current` things are made, and a colleague's `Team`."""

    source_type = SourceType.GOOGLE_DRIVE
    operations = frozenset(
        {"create", "edit", "rename", "rename_case", "move_in", "move_out", "rename_folder", "trash", "restore"}
        | {"share_old", "unshare", "delete", "recreate", "expire_cursor"}
    )

    def __init__(self, vendor: FakeGoogleDrive | None = None) -> None:
        self.fake = vendor or FakeGoogleDrive()
        self.vendor: FakeVendor | None = self.fake
        self.state = self.fake.state
        self._plans = self.state.add_folder("Plans")
        self._folder = self.state.add_folder("Current", self._plans)
        self._elsewhere = self.state.add_folder("Elsewhere")
        self._team = self.state.add_folder("Team", owner=COLLEAGUE, readers={ME})
        self.config: Mapping[str, Any] = {"folders": [self._plans, self._team]}

    def urls(self) -> dict[str, str]:
        return {"api": self.fake.url, "export": self.fake.export_url}

    def create(self, name: str, text: str) -> str:
        return self.state.add_file(name, text, self._folder)

    def edit(self, key: str, text: str) -> None:
        self.state.edit(key, text)

    def rename(self, key: str, name: str) -> None:
        self.state.rename(key, name)

    def rename_case(self, key: str) -> None:
        name = self.state.nodes[key].name
        self.state.rename(key, name[0].swapcase() + name[1:])

    def move_in(self, name: str, text: str) -> str:
        """A folder moves in, and the file with it: only the folder is told of."""
        folder = self.state.add_folder("Archive", self._elsewhere)
        key = self.state.add_file(name, text, folder)
        self.state.make_old(folder)
        self.state.move(folder, self._folder)
        return key

    def move_out(self, key: str) -> None:
        self.state.move(key, self._elsewhere)

    def rename_folder(self, name: str) -> None:
        self.state.rename(self._folder, name)

    def trash(self, key: str) -> None:
        self.state.trash(key)

    def restore(self, key: str) -> None:
        self.state.restore(key)

    def share_old(self, name: str, text: str) -> str:
        """A colleague opens up a folder: only the folder is told of."""
        closed = self.state.add_folder(f"Closed {name}", self._team, owner=COLLEAGUE, is_limited=True)
        key = self.state.add_file(name, text, closed, owner=COLLEAGUE)
        self.state.make_old(closed)
        self.state.share(closed)
        return key

    def unshare(self, key: str) -> None:
        self.state.unshare(self.state.nodes[key].parent or "")

    def delete(self, key: str) -> None:
        self.state.delete(key)

    def recreate(self, key: str, text: str) -> str:
        name = self.state.nodes[key].name
        self.state.delete(key)
        return self.create(name, text)

    def expire_cursor(self) -> None:
        self.fake.expire_change_tokens()

    def set_page_size(self, items: int) -> None:
        self.fake.page_cap = items

    def truth(self) -> dict[str, str]:
        """What is seen below the picked folders and is not in the trash; of files with the same name all texts."""
        found: dict[str, str] = {}
        for key in [*self.state.below(self._plans), *self.state.below(self._team)]:
            node = self.state.nodes[key]
            if node.mime_type != FOLDER and self.state.sees(ME, key) and not self.state.is_trashed(key):
                names = [above.name.replace("/", "\N{DIVISION SLASH}") for above in self.state.ancestry(key)]
                names[-1] = "My Drive" if self.state.ancestry(key)[-1].owner == ME else "Shared with me"
                path = "/".join(reversed(names))
                found[path] = f"{found.get(path, '')}\n{node.content.decode()}"
        return found
