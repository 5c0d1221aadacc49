"""What changed since a time: Notion keeps no feed, so what was edited lately is listed again.

A window begins OVERLAP before the newest edit that the last complete pass began with. That covers the rounding to minutes
and a search index that lags behind. It moves only with the last page of a pass: what is edited while a pass runs has a
later time than its beginning, wherever the pass was then. Unedited things that become visible, and what is deleted for
good or no longer shared, show up in no window: only a full listing finds those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from workstation_pipelines.errors import ItemGoneError, SkipItemError
from workstation_pipelines.model import Change, ChangeKind, Item, Page
from workstation_pipelines.sources.contract import Known
from workstation_pipelines.sources.notion.calls import NotionCalls, Results
from workstation_pipelines.sources.notion.intake import Intake, Taken, failed
from workstation_pipelines.sources.notion.listing import PAGE_ITEMS, without_known
from workstation_pipelines.sources.notion.memory import Memory
from workstation_pipelines.sources.notion.objects import Parent, mappings, moment, same_id
from workstation_pipelines.sources.notion.places import Places

OVERLAP = timedelta(minutes=10)

MOST_TRASH_RESPONSES = 10
"""Whether going to the trash counts as an edit is not documented, so this much of it is read whatever its times."""


class Window:
    """One pass. `after` is the newest edit that the last pass began with; None lists everything there is."""

    def __init__(
        self,
        calls: NotionCalls,
        intake: Intake,
        places: Places,
        memory: Memory,
        known: Known,
        *,
        after: datetime | None,
    ) -> None:
        self._calls = calls
        self._intake = intake
        self._places = places
        self._memory = memory
        self._known = known
        self._after = after
        self._floor = after - OVERLAP if after is not None else None
        self._shown: dict[str, Change] = {}
        self._asked: set[str] = set()

    def pages(self) -> Iterator[Page]:
        """Yield what changed; only the last page moves the cursor."""
        newest: datetime | None = None
        for results in self._recent("data_source"):
            yield self._page(self._intake.of(results.objects))
        for number, results in enumerate(self._recent("page")):
            if number == 0:
                newest = max(_edits(results), default=None)
            yield self._page(self._intake.of(results.objects))
        for source in self._places.sources():
            yield from self._rows(source)
        yield from self._trash()
        yield from self._rest()
        later = [at for at in (self._after, newest) if at is not None]
        yield replace(self._page(Taken()), cursor_after=position(max(later, default=None)))

    def _recent(self, kind: str) -> Iterator[Results]:
        """Search newest first, to the end of the first response that reaches below the window.

        What that one shows below the window costs nothing more, and may be something old that was shared meanwhile.
        """
        for results in self._calls.search(kind, "descending"):
            yield results
            if self._is_below(_edits(results)):
                return

    def _rows(self, source: str) -> Iterator[Page]:
        """List the rows of a data source that were edited in the window, or all of one that was never listed."""
        self._asked.add(source)
        is_due = not self._places.is_listed(source)
        since = None if is_due or self._floor is None else self._floor.isoformat().replace("+00:00", "Z")
        self._places.enter(Parent("data_source", source))
        try:
            for rows in self._calls.rows(source, edited_since=since):
                if rows.is_last:
                    self._places.mark_listed(source)
                yield self._page(self._intake.of(rows.objects))
        except ItemGoneError:
            # It may be deleted, or out of reach for a while: nobody says which.
            absent = [Change(ChangeKind.ABSENT, item.external_id) for item in self._known.items_at([source])]
            self._places.forget(source)
            yield self._page(Taken(absent))
        except SkipItemError as error:
            yield self._page(Taken(failures=[failed(source, error)]))

    def _trash(self) -> Iterator[Page]:
        for number, results in enumerate(self._calls.trash(), 1):
            trashed = [same_id(str(found.get("id"))) for found in mappings(results.objects)]
            yield self._page(Taken(trashed=trashed))
            if number >= MOST_TRASH_RESPONSES and self._is_below(_edits(results)):
                return

    def _rest(self) -> Iterator[Page]:
        """List what the pages that were fetched meanwhile hold, as far as nobody knows it, and what those hold."""
        while True:
            found = self._memory.take_found()
            for database in found:
                if database.kind == "database":
                    self._intake.database(database)
            due = [source for source in self._places.due_sources() if source not in self._asked]
            if not found and not due:
                return
            for source in due:
                yield from self._rows(source)
            wanted = {page.id: None for page in found if page.kind == "page" and page.id not in self._shown}
            taken = Taken()
            for page_id in without_known(wanted, self._known):
                one = self._intake.one(page_id)
                taken.changes.extend(one.changes)
                taken.failures.extend(one.failures)
                if len(taken.changes) >= PAGE_ITEMS:
                    yield self._page(taken)
                    taken = Taken()
            yield self._page(taken)

    def _page(self, taken: Taken) -> Page:
        """Make a page of what a response held, and of what follows from it for what is known."""
        followed = [*self._below(self._places.take_moved()), *self._gone(taken)]
        fresh = [change for change in taken.changes if self._shown.get(change.external_id) != change]
        self._shown |= {change.external_id: change for change in fresh}
        return Page(
            [*followed, *fresh],
            cursor_after=position(self._after),
            failures=taken.failures,
            containers=self._places.take_changed(),
        )

    def _below(self, places: Sequence[str]) -> Iterable[Change]:
        """Return the items below what was renamed or moved: with their new path, or deleted if they left the scope."""
        for item in self._known.items_at(places) if places else ():
            place = item.place or ""
            if not self._places.covers(place, item.external_id):
                yield Change(ChangeKind.DELETED, item.external_id)
                continue
            path = self._places.path(place, item.title)
            if path != item.external_path:
                yield Change(ChangeKind.UPSERT, item.external_id, replace(item, external_path=path))

    def _gone(self, taken: Taken) -> Iterable[Change]:
        """Return deletions of what is in the trash or elsewhere, with all that lies below what is in the trash."""
        if taken.trashed:
            below = list(dict.fromkeys(place for gone in taken.trashed for place in self._places.forget(gone)))
            held: Iterable[Item] = self._known.items_at(below)
            for external_id in dict.fromkeys([*taken.trashed, *(item.external_id for item in held)]):
                self._shown.pop(external_id, None)
                yield Change(ChangeKind.DELETED, external_id)
        for external_id in taken.out_of_scope:
            yield Change(ChangeKind.DELETED, external_id)

    def _is_below(self, edits: Sequence[datetime]) -> bool:
        return self._floor is not None and any(edit < self._floor for edit in edits)


def position(newest: datetime | None) -> dict[str, object]:
    """Return the cursor from which a window begins."""
    return {"v": 1, "after": newest.isoformat() if newest is not None else None}


def _edits(results: Results) -> list[datetime]:
    edits = (moment(found.get("last_edited_time")) for found in mappings(results.objects))
    return [edit for edit in edits if edit is not None]
