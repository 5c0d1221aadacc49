"""Notion's own kind of client reads the fake without help, and finds what our connector found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from notion_client import APIErrorCode, APIResponseError, Client
from notion_client.helpers import collect_paginated_api

from tests.fakes.notion import FakeNotion, error
from tests.fakes.notion_workspace import Property
from tests.sources.notion_account import NotionAccount
from tests.sources.test_notion_errors import reply
from workstation_pipelines.sources.http import Call
from workstation_pipelines.sources.notion.calls import PAGE, SEARCH
from workstation_pipelines.sources.notion.connector import NOTION_VERSION
from workstation_pipelines.sources.notion.errors import error_of

STATUSES = {
    APIErrorCode.Unauthorized: 401,
    APIErrorCode.RestrictedResource: 403,
    APIErrorCode.ObjectNotFound: 404,
    APIErrorCode.RateLimited: 429,
    APIErrorCode.InvalidJSON: 400,
    APIErrorCode.InvalidRequestURL: 400,
    APIErrorCode.InvalidRequest: 400,
    APIErrorCode.ValidationError: 400,
    APIErrorCode.ConflictError: 409,
    APIErrorCode.InternalServerError: 500,
    APIErrorCode.ServiceUnavailable: 503,
    APIErrorCode.GatewayTimeout: 504,
}


@pytest.fixture
def account() -> Iterator[NotionAccount]:
    account = NotionAccount()
    _furnish(account.vendor)
    yield account
    account.vendor.close()
    assert account.vendor.violations == []
    assert account.vendor.writes == []


@pytest.fixture
def client(account: NotionAccount) -> Iterator[Client]:
    options = {"auth": "test-token", "base_url": account.vendor.url, "notion_version": NOTION_VERSION, "retry": False}
    client = Client(options)
    yield client
    client.close()


def _furnish(vendor: FakeNotion) -> None:
    workspace = vendor.workspace
    top = workspace.page("Engineering", "How we build.")
    for number in range(7):
        workspace.page(f"page {number}", f"words {number}", parent=top)
    _, [tasks] = workspace.database("Tasks", parent=top)
    related = [{"id": top} for _ in range(30)]
    workspace.row(tasks, "Row", "of a row", properties={"Up": Property("%3CLrR", "relation", related)})
    vendor.most_page_size = 3


def _title(page: dict[str, Any]) -> str:
    value = next(each for each in page["properties"].values() if each["type"] == "title")
    return "".join(part["plain_text"] for part in value["title"])


def test_a_full_listing_of_both_agrees(account: NotionAccount, client: Client) -> None:
    account.sync()
    by_search = {page["id"] for page in _search(client, "page")}
    by_query = {
        row["id"]
        for source in _search(client, "data_source")
        for row in collect_paginated_api(client.data_sources.query, data_source_id=source["id"])
    }
    assert by_search | by_query == set(account.mirror.live)
    assert len(by_query) == 1


def test_titles_and_parents_agree(account: NotionAccount, client: Client) -> None:
    account.sync()
    for external_id, item in account.mirror.live.items():
        page: Any = client.pages.retrieve(external_id)
        assert _title(page) == item.title
        parent = page["parent"]
        assert parent.get(parent["type"]) in (item.place, True)


def test_the_content_of_both_agrees(account: NotionAccount, client: Client) -> None:
    account.sync()
    for external_id, content in account.mirror.contents.items():
        rendered: Any = client.pages.retrieve_markdown(external_id)
        blocks = collect_paginated_api(client.blocks.children.list, block_id=external_id)
        words = [part["plain_text"] for block in blocks for part in block.get("paragraph", {}).get("rich_text", [])]
        text = content.body.decode()
        assert words
        assert all(word in text and word in rendered["markdown"] for word in words)


def test_what_was_edited_since_agrees(account: NotionAccount, client: Client) -> None:
    account.sync()
    account.workspace.advance(days=1)
    since = account.workspace.now
    page = next(thing.id for thing in account.workspace.things.values() if thing.title == "page 3")
    row = next(thing.id for thing in account.workspace.things.values() if thing.title == "Row")
    source = account.workspace.things[row].parent[1]
    account.workspace.edit(page, "edited")
    account.workspace.edit(row, "edited")
    bound = {"timestamp": "last_edited_time", "last_edited_time": {"on_or_after": since.isoformat()}}
    rows = collect_paginated_api(client.data_sources.query, data_source_id=source, filter=bound)
    newest: Any = client.search(sort={"timestamp": "last_edited_time", "direction": "descending"}, page_size=2)
    assert {each["id"] for each in rows} | {each["id"] for each in newest["results"]} == {page, row}
    assert set(account.sync().fetched) == {page, row}


def test_the_trash_agrees(account: NotionAccount, client: Client) -> None:
    account.sync()
    page = next(thing.id for thing in account.workspace.things.values() if thing.title == "page 3")
    account.workspace.trash(page)
    trashed: Any = client.search(filter={"in_trash": True})
    assert [each["id"] for each in trashed["results"]] == [page]
    assert account.sync().deleted == [page]


def test_references_beyond_those_shown_agree(account: NotionAccount, client: Client) -> None:
    account.sync()
    row = next(thing.id for thing in account.workspace.things.values() if thing.title == "Row")
    items: Any = collect_paginated_api(client.pages.properties.retrieve, page_id=row, property_id="%3CLrR")
    assert len(items) == 30
    assert account.text("Engineering/Tasks/Row").count("Engineering") == 30


def test_who_it_is_agrees(account: NotionAccount, client: Client) -> None:
    me: Any = client.users.me()
    source = account.open()
    assert source.check().external_account == me["bot"]["workspace_id"]
    source.close()


def test_the_clients_errors_are_the_fakes(account: NotionAccount, client: Client) -> None:
    with pytest.raises(APIResponseError) as caught:
        client.pages.retrieve("1f000000-0000-4000-8000-00000000ffff")
    assert caught.value.code == APIErrorCode.ObjectNotFound
    account.vendor.fail("/users/me", answer=error(429, "rate_limited", headers={"Retry-After": "90"}))
    with pytest.raises(APIResponseError) as caught:
        client.users.me()
    assert caught.value.code == APIErrorCode.RateLimited


@pytest.mark.parametrize("code", list(APIErrorCode))
@pytest.mark.parametrize("call", [SEARCH, PAGE])
def test_every_code_that_the_client_knows_has_a_meaning(code: APIErrorCode, call: Call) -> None:
    found = error_of(reply(call, STATUSES[code], code.value), lambda: NotImplemented)
    assert found is not None or code is APIErrorCode.Unauthorized


def _search(client: Client, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = collect_paginated_api(client.search, filter={"property": "object", "value": kind})
    return found
