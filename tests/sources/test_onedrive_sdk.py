"""Microsoft's own client reads the fake as it reads Graph, and finds what our connector finds.

`msgraph-core` is the part of Microsoft's SDK below the generated models: its HTTP pipeline (retries, redirects, telemetry)
and its PageIterator. The SDK proper adds 400 MB of models and nothing that the fake could get wrong besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import uuid4

import httpx
import pytest
from kiota_abstractions.authentication import AnonymousAuthenticationProvider
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from kiota_abstractions.serialization import Parsable, ParseNode, ParseNodeFactoryRegistry, SerializationWriter
from kiota_serialization_json.json_parse_node_factory import JsonParseNodeFactory
from msgraph_core import BaseGraphRequestAdapter, GraphClientFactory
from msgraph_core.tasks.page_iterator import PageIterator

from tests.fakes.onedrive import FakeOneDrive
from tests.sources.mirror import Mirror
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.onedrive.connector import OneDrive


@pytest.fixture(params=["work", "personal"])
def vendor(request: pytest.FixtureRequest) -> Iterator[FakeOneDrive]:
    with FakeOneDrive(is_work=request.param == "work") as fake:
        yield fake
        assert fake.violations == []
        assert fake.writes == []


def ours(vendor: FakeOneDrive) -> OneDrive:
    context = SourceContext(
        clock=lambda: datetime(2026, 3, 1, tzinfo=UTC),
        new_id=uuid4,
        detect=lambda _name, _head: "text/plain",
        credentials=StaticToken("test-token"),
        urls={"api": vendor.url},
    )
    return OneDrive.open({}, context)


@asynccontextmanager
async def client_of(vendor: FakeOneDrive) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(trust_env=False)
    plain = httpx.AsyncClient(
        base_url=f"{vendor.url}/v1.0", headers={"Authorization": "Bearer test-token"}, transport=transport
    )
    try:
        yield GraphClientFactory.create_with_default_middleware(client=plain)
    finally:
        await transport.aclose()  # the pipeline that takes its place in the client does not close it


@dataclass
class Shown(Parsable):
    """An item, as far as it is compared."""

    id: str = ""
    name: str | None = None
    is_file: bool = False
    is_deleted: bool = False

    @staticmethod
    def create_from_discriminator_value(parse_node: ParseNode) -> Shown:
        return Shown()

    def get_field_deserializers(self) -> dict[str, Callable[[ParseNode], None]]:
        return {
            "id": lambda node: setattr(self, "id", node.get_str_value()),
            "name": lambda node: setattr(self, "name", node.get_str_value()),
            "file": lambda _node: setattr(self, "is_file", True),
            "deleted": lambda _node: setattr(self, "is_deleted", True),
        }

    def serialize(self, writer: SerializationWriter) -> None:
        raise NotImplementedError("nothing is ever sent")


@dataclass
class FeedPage(Parsable):
    """A page as PageIterator wants it, which passes over the deltaLink: that is kept in `links`."""

    links: ClassVar[list[str]] = []
    odata_next_link: str | None = None
    value: list[Shown] = field(default_factory=list)

    @staticmethod
    def create_from_discriminator_value(parse_node: ParseNode) -> FeedPage:
        return FeedPage()

    def get_field_deserializers(self) -> dict[str, Callable[[ParseNode], None]]:
        return {
            "@odata.nextLink": lambda node: setattr(self, "odata_next_link", node.get_str_value()),
            "@odata.deltaLink": lambda node: self.links.append(node.get_str_value() or ""),
            "value": lambda node: setattr(self, "value", node.get_collection_of_object_values(Shown) or []),
        }

    def serialize(self, writer: SerializationWriter) -> None:
        raise NotImplementedError("nothing is ever sent")


async def read_feed(client: httpx.AsyncClient, link: str) -> tuple[dict[str, Shown], str]:
    """Follow a link to the end of the feed; return the last state of each item by id in lower case, and the deltaLink."""
    ParseNodeFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES["application/json"] = JsonParseNodeFactory()
    adapter = BaseGraphRequestAdapter(AnonymousAuthenticationProvider(), http_client=client)
    request = RequestInformation()
    request.http_method, request.url = Method.GET, link
    request.headers.add("Accept", "application/json")
    page = await adapter.send_async(request, FeedPage, {})
    assert page is not None
    found: dict[str, Shown] = {}

    def keep(item: Any) -> bool:
        found[item.id.lower()] = item
        return True

    await PageIterator(page, adapter).iterate(keep)
    return found, FeedPage.links.pop()


def test_full_listing_delta_and_download_agree(vendor: FakeOneDrive) -> None:
    vendor.page_size = 2
    folder = vendor.folder("Docs")
    kept = vendor.file("a.txt", "alpha", folder)
    gone = vendor.file("b.txt", "beta", folder)
    vendor.file("c.txt", "gamma", vendor.folder("Deep", folder))
    source, mirror = ours(vendor), Mirror()

    async def read() -> None:
        async with client_of(vendor) as client:
            found, link = await read_feed(client, f"{vendor.url}/v1.0/me/drive/root/delta?$top=2")
            mirror.sync(source)
            assert {key for key, item in found.items() if item.is_file} == ids(mirror)
            vendor.rename(kept, "z.txt")
            vendor.delete(gone)
            changed, _ = await read_feed(client, link)
            report = mirror.sync(source)
            assert {key for key, item in changed.items() if item.is_deleted} == {short(one) for one in report.deleted}
            assert {key for key, item in changed.items() if item.is_file and not item.is_deleted} == {kept.lower()}
            content = await client.get(f"/drives/{vendor.mine.id}/items/{kept}/content", follow_redirects=True)
            assert (content.status_code, content.text) == (200, mirror.texts()["Docs/z.txt"])

    asyncio.run(read())
    source.close()


def ids(mirror: Mirror) -> set[str]:
    return {short(key) for key in mirror.live}


def short(key: str) -> str:
    return key.partition(":")[2].lower()
