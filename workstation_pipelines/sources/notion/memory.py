"""What one run keeps in memory between listing a page and fetching it; listing and fetching run in different threads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from workstation_pipelines.sources.notion.objects import NotionPage, Parent

MOST_PLACES = 20_000
MOST_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """A page or database that another page holds. `kind` is page or database."""

    kind: str
    id: str


class Memory:
    """Bounded: what is forgotten is asked for again."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._places: OrderedDict[str, tuple[str, Parent]] = OrderedDict()
        self._rows: OrderedDict[str, tuple[str, NotionPage]] = OrderedDict()
        self._found: dict[Found, None] = {}

    def note(self, page: NotionPage) -> None:
        """Keep a page's title and parent: other pages lie below it, or refer to it."""
        with self._lock:
            self._places[page.id] = (page.title, page.parent)
            if len(self._places) > MOST_PLACES:
                self._places.popitem(last=False)

    def place(self, page_id: str) -> tuple[str, Parent] | None:
        with self._lock:
            return self._places.get(page_id)

    def keep_row(self, page: NotionPage, external_hash: str) -> None:
        """Keep a row's properties until it is fetched, which saves asking for them again."""
        with self._lock:
            self._rows[page.id] = (external_hash, page)
            if len(self._rows) > MOST_ROWS:
                self._rows.popitem(last=False)

    def take_row(self, page_id: str, external_hash: str) -> NotionPage | None:
        with self._lock:
            kept = self._rows.pop(page_id, None)
        return kept[1] if kept is not None and kept[0] == external_hash else None

    def find(self, kind: str, external_id: str) -> None:
        with self._lock:
            self._found[Found(kind, external_id)] = None

    def take_found(self) -> list[Found]:
        """Return what was found since the last call, each once."""
        with self._lock:
            found, self._found = list(self._found), {}
        return found
