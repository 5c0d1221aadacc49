"""Where a page lies: the pages, data sources, databases and blocks above it, its path, and whether it is in scope.

Notion names only the nearest parent. What is above is taken from what was listed, from what earlier runs remember, or
asked for once. A parent that is not shared with the connection ends the path; databases and blocks have no step in it,
since a data source bears its database's title.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from workstation_pipelines.errors import SkipItemError
from workstation_pipelines.model import Container
from workstation_pipelines.sources.notion.calls import NotionCalls
from workstation_pipelines.sources.notion.memory import Memory
from workstation_pipelines.sources.notion.objects import (
    TOP,
    WORKSPACE,
    MalformedError,
    NotionPage,
    NotionSource,
    Parent,
    is_trashed,
    mappings,
    read_id,
    read_page,
    read_parent,
    read_source,
)
from workstation_pipelines.sources.tree import Tree, safe_name


class Places:
    """The tree of one run. `roots` are the ids that the settings choose; without any, everything is in scope.

    `sweep` names the full listing that runs, None in a window: containers carry it, so that a resumed listing knows which
    data sources it has been through. `details` of a container are its kind (page, data_source, database, block, or hidden
    where Notion does not show it), its parent's kind (`up`), the sweep that saw it, and the sweep that listed its rows.
    """

    def __init__(
        self,
        calls: NotionCalls,
        memory: Memory,
        containers: Iterable[Container],
        *,
        roots: Collection[str],
        sweep: str | None,
    ) -> None:
        self._calls = calls
        self._memory = memory
        self._roots = roots
        self._sweep = sweep
        # A full listing asks anew for blocks: nothing else tells that one moved.
        kept = [box for box in containers if sweep is None or _kind(box) != "block" or _sweep(box) == sweep]
        self._tree = Tree(kept)
        self._ids = dict.fromkeys(box.external_id for box in kept)
        self._changed: dict[str, Container] = {}
        self._moved: dict[str, None] = {}

    def note_page(self, page: NotionPage) -> None:
        """Learn a page's title and parent."""
        self._memory.note(page)
        if page.id in self._tree:
            self._put(page.id, "page", page.title, page.parent)

    def note_source(self, source: NotionSource) -> None:
        database = Parent("database", source.database_id) if source.database_id else TOP
        if source.database_id:
            self._put(source.database_id, "database", "", source.database_parent)
        self._put(source.id, "data_source", source.title, database)

    def note_database(self, database_id: str) -> list[str]:
        """Ask for a database; returns the ids of its data sources, none when it is in the trash."""
        fields: Mapping[str, Any] = self._calls.database(database_id)
        if is_trashed(fields):
            return []
        self._put(database_id, "database", "", read_parent(fields.get("parent")))
        return [read_id(found) for found in mappings(fields.get("data_sources"))]

    def enter(self, parent: Parent) -> str:
        """Return the place of what lies in `parent`, after everything above it is known, asking where it is not."""
        at, way = parent, set[str]()
        while at.id is not None and at.id not in way:
            way.add(at.id)
            if at.id not in self._tree:
                self._learn(at)
            box = self._tree.get(at.id)
            if box is None:
                break
            self._touch(box)
            at = Parent(str(box.details.get("up", "page")), box.parent_external_id)
        return parent.id or WORKSPACE

    def covers(self, place: str, external_id: str) -> bool:
        """Return whether something at `place` is in scope."""
        return not self._roots or external_id in self._roots or self._tree.is_within(place, self._roots)

    def path(self, place: str, title: str) -> str:
        """Return the titles from the top down, the page's own last."""
        names = [box.name for box in reversed(self._tree.chain(place)) if box.name]
        return "/".join(safe_name(name) for name in [*names, title])

    def sources(self) -> list[str]:
        """Return the ids of the data sources in scope, sorted."""
        boxes = (self._tree.get(external_id) for external_id in sorted(self._ids))
        return [box.external_id for box in boxes if box and _kind(box) == "data_source" and self._covers(box)]

    def due_sources(self) -> list[str]:
        """Return those whose rows were never listed as a whole, or in a full listing not by this one."""
        return [source for source in self.sources() if not self.is_listed(source)]

    def is_listed(self, source_id: str) -> bool:
        """Return whether all rows of a data source have been listed: by this full listing, or in a window ever."""
        box = self._tree.get(source_id)
        rows = box.details.get("rows") if box is not None else None
        return rows is not None and (self._sweep is None or rows == self._sweep)

    def mark_listed(self, source_id: str) -> None:
        box = self._tree.get(source_id)
        if box is not None:
            self._keep(replace(box, details={**box.details, "rows": self._sweep or "window"}))

    def mark_unlisted(self, source_id: str) -> None:
        box = self._tree.get(source_id)
        if box is not None and "rows" in box.details:
            self._keep(replace(box, details={key: value for key, value in box.details.items() if key != "rows"}))

    def forget(self, external_id: str) -> list[str]:
        """Forget a container and those below it; returns their ids, `external_id` first."""
        below = self._tree.below(external_id)
        for gone in below:
            box = self._tree.remove(gone)
            self._ids.pop(gone, None)
            if box is not None:
                self._changed[gone] = replace(box, is_deleted=True)
        return below

    def ids(self) -> list[str]:
        """Return the ids of all containers."""
        return list(self._ids)

    def take_changed(self) -> list[Container]:
        """Return the containers to remember or forget with the next page."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def take_moved(self) -> list[str]:
        """Return the places whose path or scope changed since the last call. Data sources that left the scope start over."""
        moved, self._moved = list(self._moved), {}
        below = list(dict.fromkeys(place for external_id in moved for place in self._tree.below(external_id)))
        for place in below:
            box = self._tree.get(place)
            if box is not None and not self._covers(box):
                self.mark_unlisted(place)
        return below

    def _learn(self, parent: Parent) -> None:
        """Ask for a parent that nobody has shown so far; one that may not be seen becomes a nameless top."""
        external_id = parent.id or ""
        listed = self._memory.place(external_id)
        if listed is not None:
            self._put(external_id, "page", *listed)
            return
        try:
            self._ask(parent.kind, external_id)
        except (SkipItemError, MalformedError):
            self._put(external_id, "hidden", "", TOP)

    def _ask(self, kind: str, external_id: str) -> None:
        if kind == "page":
            page = read_page(self._calls.page(external_id))
            self._memory.note(page)
            self._memory.find("page", external_id)  # perhaps no listing shows it
            self._put(external_id, kind, page.title, page.parent)
        elif kind == "data_source":
            self.note_source(read_source(self._calls.data_source(external_id)))
        else:
            fields = self._calls.database(external_id) if kind == "database" else self._calls.block(external_id)
            self._put(external_id, kind, "", read_parent(fields.get("parent")))

    def _put(self, external_id: str, kind: str, name: str, parent: Parent) -> None:
        before = self._tree.get(external_id)
        rows = before.details.get("rows") if before is not None else None
        details = {"kind": kind, "up": parent.kind, "sweep": self._sweep, "rows": rows}
        kept = {key: value for key, value in details.items() if value is not None}
        self._keep(Container(external_id, name, parent.id, kept))

    def _keep(self, box: Container) -> None:
        before = self._tree.get(box.external_id)
        self._ids[box.external_id] = None
        if self._tree.put(box) and before is not None:
            self._moved[box.external_id] = None
        if before != box:
            self._changed[box.external_id] = box

    def _touch(self, box: Container) -> None:
        # What a full listing does not mention would be forgotten at its end.
        if self._sweep is not None and _sweep(box) != self._sweep:
            self._keep(replace(box, details={**box.details, "sweep": self._sweep}))

    def _covers(self, box: Container) -> bool:
        return self.covers(box.parent_external_id or WORKSPACE, box.external_id)


def _kind(box: Container) -> object:
    return box.details.get("kind")


def _sweep(box: Container) -> object:
    return box.details.get("sweep")
