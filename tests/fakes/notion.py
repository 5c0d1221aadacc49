"""A Notion that lives on loopback: https://developers.notion.com/reference, version 2026-03-11, as far as it is read.

It does what is documented and known of Notion: times are rounded down to the minute, a query ends silently after so many
results, search misses what it pleases, signed addresses differ in each answer, relations are cut at 25. The workspace is
edited through `workspace`; attributes make it meaner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from tests.fakes.notion_contract import QUERIES, problem_of_answer, problem_of_body
from tests.fakes.notion_objects import BOT_ID, Shown, minute
from tests.fakes.notion_workspace import WORKSPACE_ID, Block, Thing, Workspace
from tests.fakes.server import Answer, FakeVendor, Request

VERSIONS = ("2025-09-03", "2026-03-11")
URL_SETTING = "NOTION_API_URL"


class Refusal(Exception):
    """Raised to answer with one of Notion's errors."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = error(status, code, message)


def error(
    status: int, code: str, message: str = "-", *, headers: Mapping[str, str] | None = None, **extra: Any
) -> Answer:
    """One of Notion's error answers; `extra` becomes `additional_data`."""
    body = {"object": "error", "status": status, "code": code, "message": message, "request_id": "r-1"}
    return Answer.of({**body, **({"additional_data": extra} if extra else {})}, status, headers)


class FakeNotion(FakeVendor):
    """`result_limit` ends a query or search early. `most_page_size` makes pages smaller than asked for.

    `most_markdown_blocks` is how much of a page a rendering holds. `is_reversed` turns the results of each response round,
    `repeats_pages` gives out the same next_cursor for ever. `missing` names fields, by thing, that answers leave out, and
    `partial` things of which only the id is shown. `every_nth_limited` answers each nth request with 429.
    """

    provider: ClassVar[str] = "notion"

    def __init__(self, *, workspace: Workspace | None = None, latency_s: float = 0.0) -> None:
        self.workspace = workspace or Workspace()
        self.shown = Shown(self.workspace)
        self.result_limit = 10_000
        self.most_page_size = 100
        self.most_markdown_blocks = 20_000
        self.is_reversed = False
        self.repeats_pages = False
        self.every_nth_limited = 0
        self.retry_after_s = 1
        self.missing: dict[str, set[str]] = {}
        self.partial: set[str] = set()
        self.lacks_capability = False
        self._cursors: dict[str, tuple[str, tuple[Any, ...], int]] = {}
        """start_cursor -> what was asked, the sort key of the last result, and how many there were so far."""
        super().__init__(latency_s=latency_s)

    def throttle(self, part: str, *, retry_after_s: int, times: int = 1, reason: str = "connection_limit") -> None:
        """Answer requests whose path contains `part` with 429, so many times."""
        headers = {"Retry-After": str(retry_after_s)}
        self.fail(part, times=times, answer=error(429, "rate_limited", headers=headers, rate_limit_reason=reason))

    def expire_cursors(self) -> None:
        """Make every start_cursor given out so far invalid."""
        with self.lock:
            self._cursors.clear()

    def is_write(self, request: Request) -> bool:
        is_reading_post = request.path == "/v1/search" or (
            request.path.startswith("/v1/data_sources/") and request.path.endswith("/query")
        )
        return request.method != "GET" and not (request.method == "POST" and is_reading_post)

    def violation(self, request: Request, answer: Answer) -> str | None:
        try:
            fields = json.loads(answer.body)
        except ValueError:
            return "the answer is no JSON"
        if answer.status >= 400:
            code = fields.get("code")
            if code in ("validation_error", "invalid_json", "invalid_request_url", "missing_version"):
                return f"refused: {fields.get('message')}" if "start_cursor" not in str(fields.get("message")) else None
            return problem_of_answer("error", fields)
        if self.missing:
            return None
        return problem_of_answer(self._kind(request), fields)

    def answer(self, request: Request) -> Answer:
        limited = self.every_nth_limited and len(self.requests) % self.every_nth_limited == 0
        if limited:
            headers = {"Retry-After": str(self.retry_after_s)}
            return error(429, "rate_limited", headers=headers, rate_limit_reason="workspace_limit")
        try:
            user = self._user(request)
            kind = self._kind(request)
            self._check(kind, request)
            endpoint: Callable[[Request, str], Any] = getattr(self, f"_{kind}")
            return Answer.of(endpoint(request, user))
        except Refusal as refusal:
            return refusal.answer

    def _user(self, request: Request) -> str:
        if request.token not in self.tokens:
            raise Refusal(401, "unauthorized", "API token is invalid.")
        version = request.headers.get("notion-version")
        if version is None:
            raise Refusal(400, "missing_version", "Notion-Version header should be defined, instead was undefined.")
        if version not in VERSIONS:
            raise Refusal(400, "validation_error", f"Notion-Version header should be a known version, was {version}.")
        if self.lacks_capability and request.path != "/v1/users/me":
            raise Refusal(403, "restricted_resource", "API token does not have access to this resource.")
        return self.tokens[request.token]

    def _kind(self, request: Request) -> str:
        match (request.method, request.steps):
            case ("GET", ["v1", "users", "me"]):
                return "me"
            case ("POST", ["v1", "search"]):
                return "search"
            case ("POST", ["v1", "data_sources", _, "query"]):
                return "query"
            case ("GET", ["v1", "pages", _, "markdown"]):
                return "markdown"
            case ("GET", ["v1", "pages", _, "properties", _]):
                return "property"
            case ("GET", ["v1", "blocks", _, "children"]):
                return "children"
            case ("GET", ["v1", ("pages" | "databases" | "data_sources" | "blocks") as plural, _]):
                return plural[:-1]
        raise Refusal(400, "invalid_request_url", "Invalid request URL.")

    def _check(self, kind: str, request: Request) -> None:
        try:
            body = request.json
        except ValueError:
            raise Refusal(400, "invalid_json", "Error parsing JSON body.") from None
        problem = problem_of_body(kind, body)
        extra = [name for name, _ in request.query if name not in QUERIES.get(kind, ())]
        if problem or extra:
            raise Refusal(400, "validation_error", f"body failed validation: {problem or extra}")

    def _me(self, _request: Request, _user: str) -> Any:
        owner = {"type": "workspace", "workspace": True}
        limits = {"max_file_upload_size_in_bytes": 5_242_880}
        bot = {"owner": owner, "workspace_id": WORKSPACE_ID, "workspace_name": "Acme", "workspace_limits": limits}
        return {"object": "user", "id": BOT_ID, "name": "Reader", "avatar_url": None, "type": "bot", "bot": bot}

    def _search(self, request: Request, user: str) -> Any:
        body = request.json
        chosen = body.get("filter", {})
        words = str(body.get("query", "")).lower()
        found = [
            thing
            for thing in self.workspace.things.values()
            if thing.kind in ("page", "data_source")
            and chosen.get("value", thing.kind) == thing.kind
            and thing.id not in self.workspace.unsearchable
            and words in thing.title.lower()
            and self.workspace.sees(user, thing.id)
            and (thing.is_trashed if chosen.get("in_trash") else not self.workspace.is_in_trash(thing.id))
        ]
        sort = body.get("sort", {"timestamp": "last_edited_time", "direction": "descending"})
        return self._things(request, found, [sort], "search")

    def _query(self, request: Request, user: str) -> Any:
        source = self._thing(request.steps[2], user, "data_source")
        if self.workspace.is_in_trash(source.id):
            raise self._not_found(source.id)
        body = request.json
        chosen = body.get("filter", {})
        conditions = chosen.get("and", [chosen] if chosen else [])
        found = [
            row
            for row in self.workspace.rows_of(source.id)
            if self.workspace.sees(user, row.id)
            and row.is_trashed is body.get("in_trash", False)
            and all(_holds(condition, row) for condition in conditions)
        ]
        return self._things(request, found, body.get("sorts", []), f"query {source.id}")

    def _things(self, request: Request, found: list[Thing], sorts: Sequence[Mapping[str, str]], scan: str) -> Any:
        body = {key: value for key, value in request.json.items() if key not in ("start_cursor", "page_size")}
        order = {thing.id: number for number, thing in enumerate(self.workspace.things.values())}

        def key(thing: Thing) -> tuple[Any, ...]:
            sort = sorts[0] if sorts else {"timestamp": "created_time", "direction": "descending"}
            moment = thing.edited if sort["timestamp"] == "last_edited_time" else thing.created
            sign = 1 if sort["direction"] == "ascending" else -1
            return (sign * int(moment.timestamp() // 60), sign * order[thing.id])

        what = json.dumps([scan, body], sort_keys=True)
        answer = self._paged(request, what, sorted(found, key=key), key, self._object, limit=self.result_limit)
        return {**answer, "type": "page_or_data_source", "page_or_data_source": {}}

    def _paged(
        self,
        request: Request,
        what: str,
        found: list[Any],
        key: Callable[[Any], tuple[Any, ...]],
        show: Callable[[Any], Any],
        *,
        limit: int | None = None,
    ) -> dict[str, Any]:
        """Answer with what comes behind the cursor in the order of now: what moved meanwhile is seen twice, or not."""
        asked = request.json if request.method == "POST" else dict(request.query)
        start, size = asked.get("start_cursor"), min(int(asked.get("page_size", 100)), self.most_page_size)
        so_far, left = 0, found
        if start is not None:
            if start not in self._cursors or self._cursors[start][0] != what:
                raise Refusal(400, "validation_error", "body failed validation: the start_cursor provided is invalid")
            _, last, so_far = self._cursors[start]
            left = [each for each in found if key(each) > last]
        is_capped = limit is not None and so_far + len(left) > limit
        if limit is not None:
            left = left[: limit - so_far]
        shown, more = left[:size], left[size:]
        after = None
        if more:
            after = self.workspace.new_id()
            self._cursors[after] = (what, key(shown[-1]), so_far + len(shown))
            if self.repeats_pages and start is not None:
                after = start
        results = [show(each) for each in shown]
        answer = {
            "object": "list",
            "results": results[::-1] if self.is_reversed else results,
            "has_more": bool(more),
            "next_cursor": after,
        }
        if limit is not None:
            incomplete = {"type": "incomplete", "incomplete_reason": "query_result_limit_reached"}
            answer["request_status"] = incomplete if is_capped else {"type": "complete"}
        return answer

    def _page(self, request: Request, user: str) -> Any:
        return self._object(self._thing(request.steps[2], user, "page"))

    def _database(self, request: Request, user: str) -> Any:
        return self._object(self._thing(request.steps[2], user, "database"))

    def _data_source(self, request: Request, user: str) -> Any:
        return self._object(self._thing(request.steps[2], user, "data_source"))

    def _block(self, request: Request, user: str) -> Any:
        external_id = _uuid(request.steps[2])
        block, owner = self._block_of(external_id, user)
        return self.shown.block(block, {"type": "page_id", "page_id": owner})

    def _children(self, request: Request, user: str) -> Any:
        external_id = _uuid(request.steps[2])
        if external_id in self.workspace.blocks:
            block, _ = self._block_of(external_id, user)
            content, parent = block.children, {"type": "block_id", "block_id": external_id}
        else:
            thing = self._thing(external_id, user, "page")
            content, parent = thing.content, {"type": "page_id", "page_id": thing.id}
        seen = [block for block in content if self._is_shown(block, user)]
        order = {block.id: number for number, block in enumerate(seen)}
        answer = self._paged(
            request,
            f"children {external_id}",
            seen,
            lambda block: (order[block.id],),
            lambda block: self.shown.block(block, parent),
        )
        return {**answer, "type": "block", "block": {}}

    def _is_shown(self, block: Block, user: str) -> bool:
        held = self.workspace.things.get(block.id)
        return held is None or (not held.is_trashed and self.workspace.sees(user, block.id))

    def _markdown(self, request: Request, user: str) -> Any:
        external_id = _uuid(request.steps[2])
        if external_id in self.workspace.blocks:
            block, owner = self._block_of(external_id, user)
            content, page_id = [block], owner
        else:
            thing = self._thing(external_id, user, "page")
            content, page_id = thing.content, thing.id
        text, left_out, _ = self.shown.markdown(content, page_id, user, self.most_markdown_blocks)
        return {
            "object": "page_markdown",
            "id": external_id,
            "markdown": text,
            "truncated": bool(left_out),
            "unknown_block_ids": left_out,
        }

    def _property(self, request: Request, user: str) -> Any:
        thing = self._thing(request.steps[2], user, "page")
        asked = request.raw_path.rpartition("/")[2]
        value = next((each for each in thing.properties.values() if each.id == asked), None)
        if value is None:
            raise Refusal(404, "object_not_found", f"Could not find property with ID: {asked}.")
        if value.type not in ("relation", "people"):
            return self.shown.property_item(value, value.inner)
        numbered = list(enumerate(value.inner))
        answer = self._paged(
            request,
            f"property {thing.id} {asked}",
            numbered,
            lambda pair: (pair[0],),
            lambda pair: self.shown.property_item(value, pair[1]),
        )
        kind: dict[str, Any] = {"id": value.id, "type": value.type, value.type: {}, "next_url": None}
        return {**answer, "type": "property_item", "property_item": kind}

    def _object(self, thing: Thing) -> dict[str, Any]:
        if thing.id in self.partial:
            return {"object": "page", "id": thing.id}
        shown = self.shown.of(thing)
        return {name: value for name, value in shown.items() if name not in self.missing.get(thing.id, ())}

    def _thing(self, asked: str, user: str, kind: str) -> Thing:
        external_id = _uuid(asked)
        thing = self.workspace.things.get(external_id)
        if thing is None or thing.kind != kind or not self.workspace.sees(user, external_id):
            raise self._not_found(external_id)
        return thing

    def _block_of(self, external_id: str, user: str) -> tuple[Block, str]:
        found = self.workspace.blocks.get(external_id)
        if found is None or found[1] not in self.workspace.things or not self.workspace.sees(user, found[1]):
            raise self._not_found(external_id)
        return found

    def _not_found(self, external_id: str) -> Refusal:
        message = f"Could not find object with ID: {external_id}. Make sure it is shared with your integration."
        return Refusal(404, "object_not_found", message)


def _uuid(asked: str) -> str:
    try:
        return str(UUID(asked))
    except ValueError:
        message = f"path failed validation: id should be a valid uuid, instead was `{asked}`."
        raise Refusal(400, "validation_error", message) from None


def _holds(condition: Mapping[str, Any], row: Thing) -> bool:
    name = condition["timestamp"]
    value = datetime.fromisoformat(minute(row.edited if name == "last_edited_time" else row.created))
    tests: dict[str, Callable[[datetime], bool]] = {
        "equals": lambda bound: value == bound,
        "before": lambda bound: value < bound,
        "after": lambda bound: value > bound,
        "on_or_before": lambda bound: value <= bound,
        "on_or_after": lambda bound: value >= bound,
    }
    return all(tests[test](datetime.fromisoformat(bound)) for test, bound in condition[name].items())


def sample() -> FakeNotion:
    """A small workspace to look at by hand."""
    vendor = FakeNotion()
    workspace = vendor.workspace
    engineering = workspace.page("Engineering", "How we build things.")
    runbooks = workspace.page("Runbooks", "What to do when it breaks.", parent=engineering)
    workspace.page("On call", "Whoever is on call answers within ten minutes.", parent=runbooks)
    _, [tasks] = workspace.database("Tasks", parent=engineering)
    workspace.row(tasks, "Renew the certificate", "It expires in March.")
    workspace.row(tasks, "Rotate the keys", "Twice a year.")
    return vendor


def main() -> None:
    from tests.fakes.by_hand import serve

    vendor = sample()
    serve(vendor, {URL_SETTING: vendor.url})


if __name__ == "__main__":
    main()
