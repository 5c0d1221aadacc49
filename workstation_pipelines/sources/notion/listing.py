"""Everything that is shared with a connection, listed from several sides, since none of them is complete.

sources   search shows data sources
rows      each is asked for its rows
pages     search shows pages, oldest edit first; rows of a data source that was asked are left out
rest      what nobody showed: children that fetched pages hold, and known items, each asked for by itself

A cursor names the stage and the place in it, where a listing that was cut off goes on. Absent is only what Notion says is
gone, or in the trash, when asked for it. What fetched pages hold is remembered for one run: below a page that was fetched
just before a run died, a child that neither search nor rows show waits for that page's next edit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from workstation_pipelines.errors import ItemGoneError, SkipItemError
from workstation_pipelines.model import Change, ChangeKind, Cursor, Page, SyncStatus
from workstation_pipelines.sources.contract import Known
from workstation_pipelines.sources.notion.calls import NotionCalls
from workstation_pipelines.sources.notion.intake import Intake, Taken, failed
from workstation_pipelines.sources.notion.memory import Found, Memory
from workstation_pipelines.sources.notion.objects import NotionPage, Parent
from workstation_pipelines.sources.notion.places import Places

PAGE_ITEMS = 50
"""Things asked for one by one, in one page of the listing."""

PLACES_AT_ONCE = 500
_T = TypeVar("_T")


class Listing:
    """One full listing. `sweep` names it, and is in its cursors; `roots` are the ids that the settings choose."""

    def __init__(
        self,
        calls: NotionCalls,
        intake: Intake,
        places: Places,
        memory: Memory,
        known: Known,
        *,
        roots: Mapping[str, Collection[str]],
        sweep: str,
    ) -> None:
        self._calls = calls
        self._intake = intake
        self._places = places
        self._memory = memory
        self._known = known
        self._roots = roots
        self._sweep = sweep
        self._is_cut = False
        self._absent: set[str] = set()

    def pages(self, at: Mapping[str, Any]) -> Iterator[Page]:
        """Yield the listing from where `at` says; see the contract."""
        self._is_cut = at.get("cut") is True
        stages: dict[str, Callable[[Mapping[str, Any]], Iterator[Page]]] = {
            "sources": self._list_sources,
            "rows": lambda where: self._list_rows("rows", where),
            "pages": self._list_pages,
            "rest": lambda _where: self._list_rest(),
        }
        names = list(stages)
        first = names.index(at["stage"]) if at.get("stage") in names else 0
        for name in names[first:]:
            yield from stages[name](at if name == names[first] else {})

    def _list_sources(self, at: Mapping[str, Any]) -> Iterator[Page]:
        for kind in ("data_source", "database"):
            for root in self._roots.get(kind, ()):
                self._enter_root(kind, root)
        for results in self._calls.search("data_source", "ascending", at.get("start")):
            self._is_cut = self._is_cut or results.is_incomplete
            taken = self._intake.of(results.objects)
            yield self._page(taken, "sources" if results.next else "rows", start=results.next)

    def _enter_root(self, kind: str, root: str) -> None:
        if kind == "database":
            self._intake.database(Found(kind, root))
        else:
            self._places.enter(Parent(kind, root))

    def _list_rows(self, stage: str, at: Mapping[str, Any]) -> Iterator[Page]:
        for source in self._places.due_sources():
            where = at if at.get("source") == source else {}
            self._places.enter(Parent("data_source", source))
            try:
                for rows in self._calls.rows(source, created_from=where.get("created"), start=where.get("start")):
                    taken = self._intake.of(rows.objects)
                    self._is_cut = self._is_cut or rows.is_cut
                    if rows.is_last:
                        self._places.mark_listed(source)
                    yield self._page(taken, stage, source=source, created=rows.created_from, start=rows.next)
            except ItemGoneError:
                self._places.forget(source)
            except SkipItemError as error:
                self._is_cut = True
                self._places.mark_listed(source)
                yield self._page(Taken(failures=[failed(source, error)]), stage)

    def _list_pages(self, at: Mapping[str, Any]) -> Iterator[Page]:
        """Search oldest first; what a cut-off answer keeps back is sought from the other end."""
        newest = at.get("newest")
        if at.get("way") != "back":
            is_incomplete = at.get("incomplete") is True
            for results in self._calls.search("page", "ascending", at.get("start")):
                is_incomplete = is_incomplete or results.is_incomplete
                newest = max(newest or "", *_edits(results.objects), "")
                taken = self._intake.of(results.objects, leaves_out=self._is_row_of_listed)
                is_over = results.next is None and not is_incomplete
                where = {"start": results.next, "newest": newest, "incomplete": is_incomplete or None}
                way = "back" if results.next is None else None
                yield self._page(taken, "rest") if is_over else self._page(taken, "pages", way=way, **where)
            if not is_incomplete:
                return
        yield from self._list_back(newest or "", at.get("start") if at.get("way") == "back" else None)

    def _list_back(self, newest: str, start: str | None) -> Iterator[Page]:
        """Search newest first, down to `newest`, where the search from the other end stopped."""
        for results in self._calls.search("page", "descending", start):
            taken = self._intake.of(results.objects, leaves_out=self._is_row_of_listed)
            has_met = any(edit < newest for edit in _edits(results.objects))
            if results.next is None or has_met:
                self._is_cut = self._is_cut or not has_met
                yield self._page(taken, "rest")
                return
            yield self._page(taken, "pages", way="back", newest=newest, start=results.next)

    def _is_row_of_listed(self, page: NotionPage) -> bool:
        parent = page.parent
        return parent.kind == "data_source" and parent.id is not None and self._places.is_listed(parent.id)

    def _list_rest(self) -> Iterator[Page]:
        for root in self._roots.get("page", ()):
            self._memory.find("page", root)
        asked: set[str] = set()
        while True:
            found = self._unknown()
            unseen = [item.external_id for item in self._known.unseen() if item.external_id not in asked]
            if not found and not unseen and not self._places.due_sources():
                break
            yield from self._list_rows("rest", {})
            for some in _slices(found, PAGE_ITEMS):
                yield self._page(self._asked(some), "rest")
            for some in _slices(unseen, PAGE_ITEMS):
                asked.update(some)
                yield self._page(self._confirmed(some), "rest")
        for repaired in _slices(self._repaired(), PAGE_ITEMS):
            yield self._page(Taken(repaired), "rest")
        yield replace(self._page(Taken(), "rest"), complete=not self._is_cut)

    def _unknown(self) -> list[str]:
        """Return the ids of the pages that others hold and nobody has shown; learns databases that they hold."""
        found = self._memory.take_found()
        for database in found:
            if database.kind == "database":
                self._intake.database(database)
        wanted = {page.id: None for page in found if page.kind == "page"}
        return without_known(wanted, self._known)

    def _asked(self, ids: Sequence[str]) -> Taken:
        taken = Taken()
        for page_id in ids:
            one = self._intake.one(page_id)
            taken.changes.extend(one.changes)
            taken.failures.extend(one.failures)
        return taken

    def _confirmed(self, ids: Sequence[str]) -> Taken:
        """Ask for known items that no listing showed. One that cannot be told apart stays: failures count as seen."""
        taken = Taken()
        for page_id in ids:
            one = self._intake.one(page_id)
            taken.changes.extend(one.changes)
            taken.failures.extend(one.failures)
            if not one.changes and not one.failures:
                self._absent.add(page_id)
                taken.changes.append(Change(ChangeKind.ABSENT, page_id))
        return taken

    def _repaired(self) -> list[Change]:
        """Return items whose path is not what the tree says now: an ancestor was renamed, or known too late."""
        repaired: list[Change] = []
        for places in _slices(self._places.ids(), PLACES_AT_ONCE):
            for item in self._known.items_at(places):
                place = item.place or ""
                path = self._places.path(place, item.title)
                if item.external_id in self._absent or not self._places.covers(place, item.external_id):
                    continue
                if path != item.external_path:
                    changed = replace(item, external_path=path)
                    repaired.append(Change(ChangeKind.UPSERT, item.external_id, changed))
        return repaired

    def _page(self, taken: Taken, stage: str, **where: Any) -> Page:
        cursor: Cursor = {
            "v": 1,
            "sweep": self._sweep,
            "stage": stage,
            **({"cut": True} if self._is_cut else {}),
            **{name: value for name, value in where.items() if value is not None},
        }
        return Page(taken.changes, cursor_after=cursor, failures=taken.failures, containers=self._places.take_changed())


def without_known(ids: Mapping[str, None], known: Known) -> list[str]:
    """Return those of `ids` that are no known live items."""
    if not ids:
        return []
    live = {item.external_id for item in known.items() if item.sync_status is not SyncStatus.DELETED}
    return [external_id for external_id in ids if external_id not in live]


def _slices(values: Sequence[_T], size: int) -> Iterator[list[_T]]:
    for at in range(0, len(values), size):
        yield list(values[at : at + size])


def _edits(objects: Sequence[Any]) -> list[str]:
    """Return the times of the last edits, which sort as text."""
    edits = (found.get("last_edited_time") for found in objects if isinstance(found, Mapping))
    return [edit for edit in edits if isinstance(edit, str)]
