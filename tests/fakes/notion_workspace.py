"""A Notion workspace in memory: pages, databases with data sources and rows, blocks, the trash, and who may see what.

Ids and times are its own: the clock starts in 2020 and every change takes `step`, so that no two fall into one minute
unless a test wants them to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

START = datetime(2020, 6, 1, 9, 0, tzinfo=UTC)
WORKSPACE_ID = "0aaa0000-0000-4000-8000-000000000001"
TOP: tuple[str, str | None] = ("workspace", None)


@dataclass
class Block:
    """One block of a page's content. `inner` is the vendor's object below its type, without what is rendered anew."""

    id: str
    type: str
    text: str = ""
    inner: dict[str, Any] = field(default_factory=dict)
    children: list[Block] = field(default_factory=list)


@dataclass
class Property:
    """A row's value. `inner` is the vendor's object below its type; for relation and people all there are."""

    id: str
    type: str
    inner: Any


@dataclass
class Thing:
    """A page, database or data source. `parent` is the kind and id of what it lies in; a page may lie in a block."""

    kind: str
    id: str
    parent: tuple[str, str | None]
    title: str
    created: datetime
    edited: datetime
    is_trashed: bool = False
    content: list[Block] = field(default_factory=list)
    properties: dict[str, Property] = field(default_factory=dict)


class Workspace:
    """The state, and what its people do to it. `shared` are the ids that were shared with a user's connection.

    `denied` are pages below them that are not. `unsearchable` are live things that search does not show.
    """

    def __init__(self, *, start: datetime = START, step: timedelta = timedelta(seconds=61)) -> None:
        self.now = start
        self.step = step
        self.things: dict[str, Thing] = {}
        self.blocks: dict[str, tuple[Block, str]] = {}
        """Block id -> the block and the id of the page that it belongs to."""
        self.shared: dict[str, set[str]] = {"user-1": set()}
        self.denied: set[str] = set()
        self.unsearchable: set[str] = set()
        self.moves_touch = True
        self.trash_touches = True
        self._last_id = 0

    def new_id(self) -> str:
        self._last_id += 1
        return str(UUID(int=(0x1F << 120) | (0x4 << 76) | (0x8 << 60) | self._last_id))

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)

    def page(
        self,
        title: str,
        text: str = "",
        *,
        parent: str | None = None,
        shared_with: Sequence[str] = ("user-1",),
        age: timedelta | None = None,
    ) -> str:
        """Make a page below another page or block, or a top one that is shared with these users; returns its id."""
        thing = self._add("page", self._parent_of(parent), title, age)
        if text:
            self.add_block(thing.id, "paragraph", text, touches=False)
        if parent is None:
            for user in shared_with:
                self.shared[user].add(thing.id)
        else:
            self._content_of(parent).append(Block(thing.id, "child_page"))
        return thing.id

    def database(
        self, title: str, *, parent: str | None = None, sources: Sequence[str] | None = None
    ) -> tuple[str, list[str]]:
        """Make a database; returns its id and those of its data sources, which bear its title unless told otherwise."""
        database = self._add("database", self._parent_of(parent), title, None)
        names = [title] if sources is None else list(sources)
        ids = [self._add("data_source", ("database", database.id), name, None).id for name in names]
        if parent is None:
            self.shared["user-1"].add(database.id)
        else:
            self._content_of(parent).append(Block(database.id, "child_database"))
        return database.id, ids

    def row(
        self,
        source: str,
        title: str,
        text: str = "",
        *,
        properties: dict[str, Property] | None = None,
        age: timedelta | None = None,
    ) -> str:
        thing = self._add("page", ("data_source", source), title, age)
        thing.properties = dict(properties or {})
        if text:
            self.add_block(thing.id, "paragraph", text, touches=False)
        return thing.id

    def add_block(
        self,
        into: str,
        kind: str,
        text: str = "",
        *,
        inner: dict[str, Any] | None = None,
        touches: bool = True,
    ) -> str:
        """Append a block to a page or to another block; returns its id."""
        block = Block(self.new_id(), kind, text, dict(inner or {}))
        owner = self.blocks[into][1] if into in self.blocks else into
        self._content_of(into).append(block)
        self.blocks[block.id] = (block, owner)
        if touches:
            self.touch(owner)
        return block.id

    def edit(self, page_id: str, text: str, *, touches: bool = True) -> None:
        """Replace a page's text; child pages stay."""
        thing = self.things[page_id]
        thing.content = [block for block in thing.content if block.type in ("child_page", "child_database")]
        self.add_block(page_id, "paragraph", text, touches=False)
        if touches:
            self.touch(page_id)

    def rename(self, external_id: str, title: str) -> None:
        thing = self.things[external_id]
        thing.title = title
        self.touch(external_id)
        if thing.kind == "database":
            for source in self.things.values():
                if source.parent == ("database", external_id):
                    source.title = title
                    self.touch(source.id)

    def move(self, page_id: str, parent: str | None) -> None:
        thing = self.things[page_id]
        for content in self._contents():
            content[:] = [block for block in content if block.id != page_id]
        thing.parent = self._parent_of(parent)
        if parent is not None and self._is_page_like(parent):
            kind = "child_page" if thing.kind == "page" else "child_database"
            self._content_of(parent).append(Block(page_id, kind))
        if self.moves_touch:
            self.touch(page_id)

    def trash(self, external_id: str) -> None:
        self.things[external_id].is_trashed = True
        if self.trash_touches:
            self.touch(external_id)

    def restore(self, external_id: str) -> None:
        self.things[external_id].is_trashed = False
        if self.trash_touches:
            self.touch(external_id)

    def delete(self, external_id: str) -> None:
        """Delete for good, with everything below; nothing tells of it."""
        gone = [thing.id for thing in self.things.values() if external_id in self._above(thing.id)]
        for each in [external_id, *gone]:
            self.things.pop(each, None)
        for content in self._contents():
            content[:] = [block for block in content if block.id != external_id]

    def share(self, external_id: str, user: str = "user-1") -> None:
        self.denied.discard(external_id)
        self.shared[user].add(external_id)

    def unshare(self, external_id: str, user: str = "user-1") -> None:
        self.shared[user].discard(external_id)
        self.denied.add(external_id)

    def touch(self, external_id: str) -> None:
        self.things[external_id].edited = self.now
        self.now += self.step

    def sees(self, user: str, external_id: str) -> bool:
        """Whether a user's connection may see a thing: it, or something above it, was shared; nothing between was denied."""
        for each in [external_id, *self._above(external_id)]:
            if each in self.shared.get(user, ()):
                return True
            if each in self.denied:
                return False
        return False

    def is_in_trash(self, external_id: str) -> bool:
        return any(
            each in self.things and self.things[each].is_trashed for each in [external_id, *self._above(external_id)]
        )

    def rows_of(self, source: str) -> list[Thing]:
        return [thing for thing in self.things.values() if thing.parent == ("data_source", source)]

    def sources_of(self, database: str) -> list[Thing]:
        return [thing for thing in self.things.values() if thing.parent == ("database", database)]

    def _above(self, external_id: str) -> list[str]:
        found: list[str] = []
        at: str | None = external_id
        while at is not None:
            at = self._parent_id(at)
            if at is None or at in found:
                break
            found.append(at)
        return found

    def _parent_id(self, external_id: str) -> str | None:
        if external_id in self.things:
            return self.things[external_id].parent[1]
        return self.blocks[external_id][1] if external_id in self.blocks else None

    def _parent_of(self, parent: str | None) -> tuple[str, str | None]:
        if parent is None:
            return TOP
        return ("block", parent) if parent in self.blocks else (self.things[parent].kind, parent)

    def _is_page_like(self, external_id: str) -> bool:
        return external_id in self.blocks or self.things[external_id].kind == "page"

    def _content_of(self, external_id: str) -> list[Block]:
        return self.blocks[external_id][0].children if external_id in self.blocks else self.things[external_id].content

    def _contents(self) -> Iterator[list[Block]]:
        yield from [thing.content for thing in self.things.values()]
        yield from [block.children for block, _ in self.blocks.values()]

    def _add(self, kind: str, parent: tuple[str, str | None], title: str, age: timedelta | None) -> Thing:
        at = self.now - (age or timedelta())
        thing = Thing(kind, self.new_id(), parent, title, at, at)
        self.things[thing.id] = thing
        self.now += self.step
        return thing
