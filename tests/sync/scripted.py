"""A vendor with a change feed, as small as one can be: its account is a JSON file that a test edits between syncs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from workstation_pipelines.errors import CursorExpiredError, ItemGoneError, RateLimitedError, SourceUnavailableError
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Content,
    Cursor,
    Delta,
    Item,
    ItemType,
    JobType,
    Page,
    SourceType,
)
from workstation_pipelines.sources.contract import Account, Known


@dataclass
class VendorAccount:
    """What the vendor holds. `log` names changed items in order; feed cursors before `expired_before` are refused."""

    file: Path
    texts: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    expired_before: int = 0
    unavailable: list[str] = field(default_factory=list)
    rate_limit_after: int | None = None
    listing_breaks_after: int | None = None

    @classmethod
    def load(cls, file: Path) -> VendorAccount:
        return cls(**{**json.loads(file.read_text()), "file": file}) if file.exists() else cls(file)

    def save(self) -> None:
        self.file.write_text(json.dumps({name: value for name, value in asdict(self).items() if name != "file"}))

    def put(self, external_id: str, text: str, path: str | None = None) -> None:
        self.texts[external_id] = text
        self.paths[external_id] = path or self.paths.get(external_id, f"box/{external_id}.txt")
        self.log.append(external_id)
        self.save()

    def rename(self, external_id: str, path: str) -> None:
        self.paths[external_id] = path
        self.log.append(external_id)
        self.save()

    def delete(self, external_id: str) -> None:
        del self.texts[external_id]
        self.log.append(external_id)
        self.save()


class ScriptedSource:
    """Reads a VendorAccount three items a page. Every fetch is written down beside the account's file."""

    source_type: ClassVar[SourceType] = SourceType.GOOGLE_DRIVE
    delta: ClassVar[Delta] = Delta.FEED
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = 3
    fetch_threads: ClassVar[int] = 1

    def __init__(self, file: Path) -> None:
        self._account = VendorAccount.load(file)
        self._fetched = file.with_suffix(".fetched")

    scope = ""
    reconcile_every: timedelta | None = None
    provider_calls = 0

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return old_hash == new_hash

    def check(self) -> Account:
        return Account("account-1", "scripted", {})

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        return str(len(self._account.log))

    def start_cursor(self) -> Cursor | None:
        return {"log": len(self._account.log)}

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        if cursor is not None and "log" in cursor:
            yield from self._feed(int(cursor["log"]))
        else:
            yield from self._listing(str(cursor["after"]) if cursor else "")

    def _listing(self, after: str) -> Iterator[Page]:
        ids = [external_id for external_id in sorted(self._account.texts) if external_id > after]
        for number, at in enumerate(range(0, max(len(ids), 1), self.page_size)):
            if self._account.listing_breaks_after is not None and number >= self._account.listing_breaks_after:
                raise SourceUnavailableError("the vendor is down: try again later", wait_s=1)
            if self._account.rate_limit_after is not None and number >= self._account.rate_limit_after:
                raise RateLimitedError("the vendor asks to wait 600 s", wait_s=600)
            some = ids[at : at + self.page_size]
            yield Page(
                [Change(ChangeKind.UPSERT, external_id, self._item(external_id)) for external_id in some],
                cursor_after={"after": some[-1] if some else after},
                complete=at + self.page_size >= len(ids),
            )

    def _feed(self, start: int) -> Iterator[Page]:
        if start < self._account.expired_before:
            raise CursorExpiredError("the feed does not reach back so far")
        for at in range(start, max(len(self._account.log), start + 1), self.page_size):
            names = self._account.log[at : at + self.page_size]
            yield Page([self._change(name) for name in names], cursor_after={"log": at + len(names)})

    def _change(self, external_id: str) -> Change:
        if external_id in self._account.texts:
            return Change(ChangeKind.UPSERT, external_id, self._item(external_id))
        return Change(ChangeKind.DELETED, external_id)

    def _item(self, external_id: str) -> Item:
        path, text = self._account.paths[external_id], self._account.texts[external_id]
        return Item(external_id, path, f"tx:{text}", ItemType.FILE, path.rpartition("/")[2], "text/plain", len(text))

    def fetch_calls(self, item: Item) -> tuple[()]:
        return ()

    def fetch(self, item: Item) -> Content:
        with self._fetched.open("a") as log:
            log.write(item.external_id + "\n")
        if item.external_id in self._account.unavailable:
            raise SourceUnavailableError("the vendor could not give this one just now", wait_s=1)
        text = self._account.texts.get(item.external_id)
        if text is None:
            raise ItemGoneError(f"{item.external_path} is gone", reason="gone")
        return Content(text.encode(), item.title, "text/plain", f"tx:{text}")

    def close(self) -> None:
        pass


def fetched(file: Path) -> list[str]:
    """Return the ids fetched so far, in order."""
    log = file.with_suffix(".fetched")
    return log.read_text().split() if log.exists() else []
