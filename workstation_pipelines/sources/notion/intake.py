"""From Notion's objects to changes: one item a page or row in scope, a failure for what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workstation_pipelines.errors import ItemGoneError, SkipItemError
from workstation_pipelines.model import Change, ChangeKind, Clock, Item, ItemFailure, ItemType
from workstation_pipelines.sources.notion.calls import NotionCalls
from workstation_pipelines.sources.notion.memory import Found, Memory
from workstation_pipelines.sources.notion.objects import (
    MalformedError,
    NotionPage,
    NotionSource,
    is_partial,
    read_id,
    read_page,
    read_source,
)
from workstation_pipelines.sources.notion.places import Places
from workstation_pipelines.sources.notion.stamp import stamp

MIME_TYPE = "text/markdown"


@dataclass(frozen=True, slots=True)
class Taken:
    """What one response holds. `trashed` are ids, of data sources too; `out_of_scope` are pages that lie elsewhere."""

    changes: list[Change] = field(default_factory=list)
    failures: list[ItemFailure] = field(default_factory=list)
    trashed: list[str] = field(default_factory=list)
    out_of_scope: list[str] = field(default_factory=list)


class Intake:
    """Reads what listings show."""

    def __init__(self, calls: NotionCalls, places: Places, memory: Memory, clock: Clock) -> None:
        self._calls = calls
        self._places = places
        self._memory = memory
        self._clock = clock

    def of(self, objects: Iterable[Any], *, leaves_out: Callable[[NotionPage], bool] | None = None) -> Taken:
        """Read the results of one response. Asks for unknown parents."""
        taken = Taken()
        for found in objects:
            try:
                self._read(found if isinstance(found, Mapping) else {}, taken, leaves_out)
            except MalformedError as error:
                taken.failures.append(malformed(error))
        return taken

    def one(self, page_id: str) -> Taken:
        """Ask for one page; `trashed` names it when it is gone or in the trash. Failures bear the id that was asked for."""
        taken = Taken()
        try:
            fields = self._calls.page(page_id)
            if is_partial(fields) or read_id(fields) != page_id:
                raise MalformedError(page_id, "Notion shows nothing but an id")
            self._read(fields, taken, None)
        except ItemGoneError:
            taken.trashed.append(page_id)
        except SkipItemError as error:
            taken.failures.append(failed(page_id, error))
        except MalformedError as error:
            taken.failures.append(malformed(MalformedError(page_id, error.what)))
        return taken

    def database(self, found: Found) -> None:
        """Learn a database that a page holds, with its data sources; one that may not be seen is left out."""
        try:
            for source_id in self._places.note_database(found.id):
                source = read_source(self._calls.data_source(source_id))
                if not source.is_trashed:
                    self._places.note_source(source)
        except (SkipItemError, MalformedError):
            return

    def _read(self, fields: Mapping[str, Any], taken: Taken, leaves_out: Callable[[NotionPage], bool] | None) -> None:
        if fields.get("object") == "data_source":
            self._take_source(read_source(fields), taken)
        elif is_partial(fields):
            self._memory.find("page", read_id(fields))
        else:
            self._take_page(read_page(fields), taken, leaves_out)

    def _take_source(self, source: NotionSource, taken: Taken) -> None:
        if source.is_trashed:
            taken.trashed.append(source.id)
        else:
            self._places.note_source(source)

    def _take_page(self, page: NotionPage, taken: Taken, leaves_out: Callable[[NotionPage], bool] | None) -> None:
        if page.is_trashed:
            taken.trashed.append(page.id)
            return
        self._places.note_page(page)
        if leaves_out is not None and leaves_out(page):
            return
        place = self._places.enter(page.parent)
        if not self._places.covers(place, page.id):
            taken.out_of_scope.append(page.id)
            return
        item = self._item(page, place)
        if page.is_row:
            self._memory.keep_row(page, item.external_hash)
        taken.changes.append(Change(ChangeKind.UPSERT, page.id, item))

    def _item(self, page: NotionPage, place: str) -> Item:
        return Item(
            external_id=page.id,
            external_path=self._places.path(place, page.title),
            external_hash=stamp(page.edited_at, page.edited, self._clock()),
            item_type=ItemType.PAGE,
            title=page.title,
            mime_type=MIME_TYPE,
            external_modified_at=page.edited,
            external_created_at=page.created,
            external_url=page.url,
            place=place,
        )


def failed(external_id: str, error: SkipItemError) -> ItemFailure:
    """Describe what could not be listed because of one refusal."""
    return ItemFailure(external_id, "", "list", type(error).__name__, error.reason, error.message, permanent=False)


def malformed(error: MalformedError) -> ItemFailure:
    return ItemFailure(
        external_id=error.external_id,
        external_path="",
        stage="list",
        error_class="UnexpectedReplyError",
        reason="malformed",
        message=f"Notion lists {error.external_id} in a way that cannot be read: {error.what}. It is tried again later.",
        permanent=False,
    )
