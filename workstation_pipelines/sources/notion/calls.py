"""The requests that reading Notion takes, and its listings: guarded, begun again where they must be, cut where they end early.

A query ends silently after 10,000 results: HTTP 200, `has_more` false, and `request_status` incomplete. Rows are then
asked for anew from the creation time of the last one on, as Notion advises, since that never changes
(developers.notion.com/guides/data-apis/query-large-data-sources, seen 2026-11-22). A search cannot be cut so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workstation_pipelines.errors import SourceUnavailableError, UnexpectedReplyError
from workstation_pipelines.sources.http import Call, PageTokens, VendorApi
from workstation_pipelines.sources.notion.errors import StartCursorError

PER_S = 3.0
"""What Notion long promised on average; its limits now depend on the plan, so its Retry-After has the last word."""

ME = Call("me", "GET", "/v1/users/me", per_s=PER_S, pace="all")
SEARCH = Call("search", "POST", "/v1/search", per_s=PER_S, pace="all")
QUERY = Call("query", "POST", "/v1/data_sources/{data_source_id}/query", per_s=PER_S, pace="all")
DATA_SOURCE = Call("data_source", "GET", "/v1/data_sources/{data_source_id}", per_s=PER_S, pace="all")
DATABASE = Call("database", "GET", "/v1/databases/{database_id}", per_s=PER_S, pace="all")
PAGE = Call("page", "GET", "/v1/pages/{page_id}", per_s=PER_S, pace="all")
MARKDOWN = Call("markdown", "GET", "/v1/pages/{page_id}/markdown", per_s=PER_S, pace="all")
PROPERTY = Call("property", "GET", "/v1/pages/{page_id}/properties/{property_id}", per_s=PER_S, pace="all")
BLOCK = Call("block", "GET", "/v1/blocks/{block_id}", per_s=PER_S, pace="all")
CHILDREN = Call("children", "GET", "/v1/blocks/{block_id}/children", per_s=PER_S, pace="all")
CALLS = (ME, SEARCH, QUERY, DATA_SOURCE, DATABASE, PAGE, MARKDOWN, PROPERTY, BLOCK, CHILDREN)

MOST_RESULTS = 100
LEAST_RESULTS = 12
MOST_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class Results:
    """One response of a listing. `next` continues it; None ends it, early if `is_incomplete`."""

    objects: list[Any]
    next: str | None
    is_incomplete: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """One response of a data source's rows. `created_from` and `next` continue behind it.

    `is_last` ends them; `is_cut` says that rows are missing all the same.
    """

    objects: list[Any]
    created_from: str | None
    next: str | None
    is_last: bool
    is_cut: bool = False


class NotionCalls:
    """Notion's answers, checked as far as what a response as a whole must have. Thread-safe."""

    def __init__(self, api: VendorApi) -> None:
        self._api = api
        self._page_size = MOST_RESULTS

    def me(self) -> dict[str, Any]:
        return self._api.json(ME)

    def page(self, page_id: str) -> dict[str, Any]:
        return self._api.json(PAGE, path={"page_id": page_id})

    def markdown(self, page_id: str) -> dict[str, Any]:
        return self._api.json(MARKDOWN, path={"page_id": page_id})

    def block(self, block_id: str) -> dict[str, Any]:
        return self._api.json(BLOCK, path={"block_id": block_id})

    def database(self, database_id: str) -> dict[str, Any]:
        return self._api.json(DATABASE, path={"database_id": database_id})

    def data_source(self, data_source_id: str) -> dict[str, Any]:
        return self._api.json(DATA_SOURCE, path={"data_source_id": data_source_id})

    def newest(self, kind: str | None) -> list[Any]:
        """Return what was edited last, as a list of at most one."""
        body = _search_body(kind, "descending")
        return _results(SEARCH, self._api.json(SEARCH, body={**body, "page_size": 1})).objects[:1]

    def search(self, kind: str, direction: str, start: str | None = None) -> Iterator[Results]:
        """List the pages or data sources that are shared with this connection, in order of their last edit."""
        return self._listing(SEARCH, {}, _search_body(kind, direction), start)

    def trash(self) -> Iterator[Results]:
        """List pages and data sources in the trash, those edited last first."""
        body = {**_search_body(None, "descending"), "filter": {"in_trash": True}}
        return self._listing(SEARCH, {}, body, None)

    def rows(
        self,
        data_source_id: str,
        *,
        edited_since: str | None = None,
        created_from: str | None = None,
        start: str | None = None,
    ) -> Iterator[Rows]:
        """List the rows of a data source by creation time, in as many queries as their number takes."""
        path = {"data_source_id": data_source_id}
        while True:
            last_created, is_capped = created_from, False
            for results in self._listing(QUERY, path, _query_body(edited_since, created_from), start):
                is_capped = is_capped or results.is_incomplete
                last_created = _last_created(results.objects) or last_created
                if results.next is not None:
                    yield Rows(results.objects, created_from, results.next, is_last=False)
                    continue
                is_stuck = is_capped and last_created == created_from
                is_last = is_stuck or not is_capped
                yield Rows(results.objects, last_created, None, is_last=is_last, is_cut=is_stuck)
                if is_last:
                    return
            created_from, start = last_created, None

    def children(self, block_id: str) -> Iterator[Results]:
        return self._listing(CHILDREN, {"block_id": block_id}, {}, None)

    def property_items(self, page_id: str, property_id: str) -> Iterator[Results]:
        """List what a property refers to. `property_id` is decoded: it goes into the path as Notion wrote it."""
        return self._listing(PROPERTY, {"page_id": page_id, "property_id": property_id}, {}, None)

    def _listing(
        self, call: Call, path: Mapping[str, str], body: Mapping[str, Any], start: str | None
    ) -> Iterator[Results]:
        tokens = PageTokens(f"notion {call.name}")
        restarts = 0
        while True:
            try:
                results = _results(call, self._response(call, path, body, start))
            except StartCursorError:
                restarts += 1
                if start is None or restarts > MOST_RESTARTS:
                    raise
                tokens, start = PageTokens(f"notion {call.name}"), None
                continue
            if results.next is not None:
                tokens.step(results.next)
            yield results
            if results.next is None:
                return
            start = results.next

    def _response(
        self, call: Call, path: Mapping[str, str], body: Mapping[str, Any], start: str | None
    ) -> dict[str, Any]:
        """Ask once more for less where Notion runs out of time; what was enough once stays."""
        while True:
            size = self._page_size
            asked = {**body, "page_size": size, **({} if start is None else {"start_cursor": start})}
            try:
                if call.method == "GET":
                    return self._api.json(call, path=path, params=asked)
                return self._api.json(call, path=path, body=asked)
            except SourceUnavailableError as error:
                if error.details.get("status") != 504 or size <= LEAST_RESULTS:
                    raise
                self._page_size = min(self._page_size, size // 2)


def _search_body(kind: str | None, direction: str) -> dict[str, Any]:
    body: dict[str, Any] = {"sort": {"timestamp": "last_edited_time", "direction": direction}}
    return body if kind is None else {**body, "filter": {"property": "object", "value": kind}}


def _query_body(edited_since: str | None, created_from: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"sorts": [{"timestamp": "created_time", "direction": "ascending"}]}
    bounds = {"last_edited_time": edited_since, "created_time": created_from}
    filters = [{"timestamp": name, name: {"on_or_after": value}} for name, value in bounds.items() if value is not None]
    if not filters:
        return body
    return {**body, "filter": filters[0] if len(filters) == 1 else {"and": filters}}


def _results(call: Call, fields: Mapping[str, Any]) -> Results:
    found, has_more, after = fields.get("results"), fields.get("has_more"), fields.get("next_cursor")
    if not isinstance(found, list) or not isinstance(has_more, bool):
        raise UnexpectedReplyError(f"notion {call.name}: the answer has no `results` or no `has_more`", wait_s=60)
    if has_more and not (isinstance(after, str) and after):
        raise UnexpectedReplyError(f"notion {call.name}: there is more, but no `next_cursor` to it", wait_s=60)
    status = fields.get("request_status")
    is_incomplete = isinstance(status, Mapping) and status.get("type") == "incomplete"
    return Results(found, after if has_more else None, is_incomplete)


def _last_created(objects: list[Any]) -> str | None:
    for found in reversed(objects):
        created = found.get("created_time") if isinstance(found, Mapping) else None
        if isinstance(created, str):
            return created
    return None
