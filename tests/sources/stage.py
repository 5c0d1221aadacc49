"""What a test may do to an account at a vendor, in words that fit all of them.

A Stage is one user's account at a fake vendor, or a folder, with a scope inside it. Each text that is put there carries a
marker of its own, so that what the system stored can be held against the truth whatever a vendor's rendering adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tests.fakes.server import FakeVendor
from workstation_pipelines.model import SourceType


class Stage(Protocol):
    """One account. Keys are the stage's own names for things; a key outlives renames, moves, trash and restore.

    `create` and the others act inside the scope that `config` picks unless they say otherwise. Where a vendor has no such
    thing (a chat message cannot be renamed) the operation is missing from `operations`, and calling it is a mistake.
    """

    source_type: SourceType
    vendor: FakeVendor | None
    config: Mapping[str, Any]
    """Picks a scope smaller than the account (a folder, a label, a channel, a page with all below it)."""

    operations: frozenset[str]
    """Of: create edit rename rename_case move_in move_out rename_folder trash restore share_old unshare delete recreate."""

    def urls(self) -> dict[str, str]:
        """Base URLs by name, as SourceContext takes them."""

    def create(self, name: str, text: str) -> str:
        """Put something new into the scope; returns its key. Two things may have the same name where the vendor allows."""

    def edit(self, key: str, text: str) -> None: ...

    def rename(self, key: str, name: str) -> None: ...

    def rename_case(self, key: str) -> None:
        """Change only the case of a letter of its name."""

    def move_in(self, name: str, text: str) -> str:
        """Something that has lain outside the scope for a year, unchanged, moves into it."""

    def move_out(self, key: str) -> None:
        """It moves out of the scope and stays in the account."""

    def rename_folder(self, name: str) -> None:
        """Rename a folder inside the scope that everything `create` makes lies in, so that all their paths change."""

    def trash(self, key: str) -> None: ...

    def restore(self, key: str) -> None: ...

    def share_old(self, name: str, text: str) -> str:
        """Something a year old becomes visible inside the scope, without changing itself."""

    def unshare(self, key: str) -> None:
        """Undo `share_old`, as the vendor tells of it."""

    def delete(self, key: str) -> None:
        """Delete for good."""

    def recreate(self, key: str, text: str) -> str:
        """Delete and make a new thing of the same name; returns its key."""

    def expire_cursor(self) -> None:
        """Make every cursor given out so far too old; only where the vendor has such a thing (operation expire_cursor)."""

    def set_page_size(self, items: int) -> None:
        """Answer with pages of at most so many, whatever is asked for; no effect where there is no vendor."""

    def truth(self) -> dict[str, str]:
        """What must be found here after a sync: external path -> the text whose marker its document holds.

        Where a vendor allows two of one name, the texts of all that have a path are joined.
        """
