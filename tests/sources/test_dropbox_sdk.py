"""The vendor's own Python package reads the fake, and finds what our connector finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from dropbox import Dropbox as VendorsClient
from dropbox import common, exceptions, files
from requests.adapters import HTTPAdapter

from tests.fakes.dropbox import FakeDropbox
from tests.sources.dropbox_bench import TOKEN, Opened, served, sources_of
from tests.sources.mirror import Mirror


class _ToFake(HTTPAdapter):
    """Sends to the fake what is meant for the vendor's hosts."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        assert request.url is not None
        _, _, path = request.url.removeprefix("https://").partition("/")
        request.url = f"{self._url}/{path}"
        return super().send(request, *args, **more)


@pytest.fixture
def vendor() -> Iterator[FakeDropbox]:
    with served() as vendor:
        yield vendor


@pytest.fixture
def opened(vendor: FakeDropbox) -> Iterator[Opened]:
    with sources_of(vendor) as opened:
        yield opened


@pytest.fixture
def client(vendor: FakeDropbox) -> Iterator[Any]:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", _ToFake(vendor.url))
        yield VendorsClient(
            TOKEN, session=session, max_retries_on_error=0, max_retries_on_rate_limit=0, user_agent="test"
        )


def everything(client: Any) -> tuple[list[Any], str]:
    result = client.files_list_folder("", recursive=True, limit=2000)
    entries = list(result.entries)
    while result.has_more:
        result = client.files_list_folder_continue(result.cursor)
        entries += result.entries
    return entries, result.cursor


def test_the_vendors_client_lists_and_downloads_what_our_connector_finds(
    vendor: FakeDropbox, client: Any, opened: Opened
) -> None:
    for number in range(5):
        vendor.space.put(f"/Folder/Ünïcode {number}.txt", f"text {number}")
    vendor.space.put("/Plan.paper", "", is_downloadable=False, exports={"markdown": b"# Plan"}, export_as="markdown")
    vendor.page_size = 2
    mirror = Mirror()
    mirror.sync(opened())
    found = {entry.id: entry for entry in everything(client)[0] if isinstance(entry, files.FileMetadata)}
    assert {key: entry.path_lower for key, entry in found.items()} == {
        key: item.place for key, item in mirror.live.items()
    }
    for key, entry in found.items():
        item, content = mirror.live[key], mirror.contents[key]
        if entry.is_downloadable:
            told, response = client.files_download(key)
            assert item.external_hash == f"dbx:{entry.content_hash}" == f"dbx:{told.content_hash}"
        else:
            _, response = client.files_export(key, export_format="markdown")
        assert content.body == response.content
        assert item.external_modified_at is not None
        assert item.external_modified_at.replace(tzinfo=None) == entry.server_modified


def test_the_vendors_client_and_our_connector_follow_the_same_feed(
    vendor: FakeDropbox, client: Any, opened: Opened
) -> None:
    for path in ("/A/1.txt", "/A/2.txt", "/B/3.txt", "/4.txt"):
        vendor.space.put(path, path)
    mirror, source = Mirror(), opened()
    mirror.sync(source)
    entries, cursor = everything(client)
    by_path = {entry.path_lower: entry.id for entry in entries if isinstance(entry, files.FileMetadata)}
    vendor.space.move("/A", "/C")
    vendor.space.remove("/B")
    vendor.space.put("/4.txt", "edited")
    vendor.space.put("/5.txt", "new")
    has_more = True
    while has_more:
        result = client.files_list_folder_continue(cursor)
        for entry in result.entries:
            path = entry.path_lower
            if isinstance(entry, files.FileMetadata):
                by_path[path] = entry.id
            elif isinstance(entry, files.DeletedMetadata):
                by_path = {
                    other: key for other, key in by_path.items() if other != path and not other.startswith(path + "/")
                }
        cursor, has_more = result.cursor, result.has_more
    mirror.sync(source)
    assert by_path == {item.place: key for key, item in mirror.live.items()}


def test_the_vendors_client_understands_the_fakes_errors(vendor: FakeDropbox, client: Any) -> None:
    vendor.space.put("/a.txt", "one")
    _, cursor = everything(client)
    vendor.expire_cursors()
    with pytest.raises(exceptions.ApiError) as reset:
        client.files_list_folder_continue(cursor)
    assert reset.value.error.is_reset()
    with pytest.raises(exceptions.ApiError) as missing:
        client.files_list_folder("/nowhere")
    assert missing.value.error.get_path().is_not_found()
    vendor.throttle("list_folder", retry_after_s=7)
    with pytest.raises(exceptions.RateLimitError) as limited:
        client.files_list_folder("")
    assert limited.value.backoff == 7
    vendor.join_team("/Ann Example")
    with pytest.raises(exceptions.PathRootError) as root:
        client.with_path_root(common.PathRoot.root("1001")).files_list_folder("")
    assert root.value.error.get_invalid_root().root_namespace_id == "2002"
    info = client.users_get_current_account().root_info
    assert info.home_path == "/Ann Example"
    vendor.user.scopes -= {"files.metadata.read"}
    with pytest.raises(exceptions.AuthError) as scope:
        client.files_list_folder("")
    assert scope.value.error.get_missing_scope().required_scope == "files.metadata.read"
