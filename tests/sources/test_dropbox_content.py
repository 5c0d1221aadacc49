"""Dropbox's files: what is downloaded, exported, refused and verified, and descriptions that cannot be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from dropbox.content_hash import content_hash as vendors_hash

from tests.fakes.dropbox import FakeDropbox
from tests.fakes.server import Answer
from tests.sources.dropbox_bench import TOKEN, Opened, context_of, served, sources_of, truth
from tests.sources.mirror import Mirror
from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    ReauthorizeError,
    SkipItemError,
    UnexpectedReplyError,
    UnreadableContentError,
    UnsupportedContentError,
)
from workstation_pipelines.model import Item, JobType
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.dropbox.connector import OAUTH, Dropbox
from workstation_pipelines.sources.dropbox.hash import BLOCK_BYTES, content_hash

EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDropbox]:
    monkeypatch.setattr("workstation_pipelines.sources.http.time.sleep", lambda _wait_s: None)
    with served() as vendor:
        yield vendor


@pytest.fixture
def opened(vendor: FakeDropbox) -> Iterator[Opened]:
    with sources_of(vendor) as opened:
        yield opened


@pytest.fixture
def source(opened: Opened) -> Dropbox:
    return opened()


def listed(source: Dropbox) -> list[Item]:
    pages = list(source.pages(None, Mirror(), JobType.FULL_SYNC))
    return [change.item for page in pages for change in page.changes if change.item is not None]


# The hash


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", EMPTY_HASH),
        (b"a", "bf5d3affb73efd2ec6c36ad3112dd933efed63c4e1cbffcfa88e2759c144f2d8"),
    ],
)
def test_the_hash_of_one_block_is_the_hash_of_its_hash(body: bytes, expected: str) -> None:
    assert content_hash(body) == expected


@pytest.mark.parametrize("size_bytes", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 7])
def test_the_hash_is_the_vendors_own_at_the_edges_of_blocks(size_bytes: int) -> None:
    body = bytes(range(251)) * (size_bytes // 251 + 1)
    assert content_hash(body[:size_bytes]) == vendors_hash(body[:size_bytes])


# Downloads


def test_a_download_is_one_post_without_a_body_and_its_hash_is_that_of_its_bytes(
    vendor: FakeDropbox, source: Dropbox
) -> None:
    vendor.space.put("/Ünïcode.txt", "text with ümlauts")
    (item,) = listed(source)
    content = source.fetch(item)
    assert content.body == "text with ümlauts".encode()
    assert content.name == "Ünïcode.txt"
    assert content.mime_type == "text/plain"
    assert content.external_hash == item.external_hash == "dbx:" + content_hash(content.body)
    request = vendor.requests[-1]
    assert (request.method, request.body, request.headers.get("content-length")) == ("POST", b"", "0")
    assert json.loads(request.headers["dropbox-api-arg"]) == {"path": item.external_id}


def test_an_empty_file_has_the_hash_of_nothing(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/empty.txt", b"")
    (item,) = listed(source)
    assert item.external_hash == source.fetch(item).external_hash == f"dbx:{EMPTY_HASH}"


def test_a_file_that_changes_after_it_was_listed_has_the_new_hash(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/a.txt", "one")
    (item,) = listed(source)
    vendor.space.put("/a.txt", "two")
    content = source.fetch(item)
    assert content.body == b"two"
    assert content.external_hash == "dbx:" + content_hash(b"two")


def test_a_damaged_download_is_tried_once_more_and_then_refused(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/a.txt", "one")
    (item,) = listed(source)
    vendor.corrupt_downloads = 1
    assert source.fetch(item).body == b"one"
    vendor.corrupt_downloads = 2
    with pytest.raises(UnreadableContentError) as refused:
        source.fetch(item)
    assert (refused.value.reason, refused.value.transient) == ("hash_mismatch", True)


def test_a_download_without_a_description_is_held_against_the_listings_hash(
    vendor: FakeDropbox, source: Dropbox
) -> None:
    vendor.space.put("/a.txt", "one")
    (item,) = listed(source)
    vendor.hides_result = True
    assert source.fetch(item).external_hash == item.external_hash
    vendor.corrupt_downloads = 2
    with pytest.raises(UnreadableContentError):
        source.fetch(item)


def test_a_download_that_breaks_off_is_tried_again(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/a.txt", "one " * 1000)
    (item,) = listed(source)
    vendor.fail("download", truncate=True)
    vendor.fail("download", drop=True)
    assert len(source.fetch(item).body) == 4000


def test_a_file_without_content_hash_goes_by_its_revision(vendor: FakeDropbox, source: Dropbox, opened: Opened) -> None:
    vendor.space.put("/a.txt", "one", has_hash=False)
    mirror = Mirror()
    mirror.sync(source)
    (item,) = mirror.live.values()
    assert item.external_hash == "rev:" + vendor.space.at("/a.txt").rev
    assert mirror.sync(source, full=True).fetched == []
    vendor.space.put("/a.txt", "two")
    assert len(mirror.sync(source).fetched) == 1


def test_kinds_without_text_and_files_too_large_are_refused_before_any_download(
    vendor: FakeDropbox, opened: Opened
) -> None:
    source = opened(max_file_bytes=10)
    vendor.space.put("/photo.jpg", b"\xff\xd8")
    vendor.space.put("/large.txt", "eleven byte")
    photo, large = sorted(listed(source), key=lambda item: item.mime_type)
    with pytest.raises(UnsupportedContentError):
        source.fetch(photo)
    with pytest.raises(ItemTooLargeError) as refused:
        source.fetch(large)
    assert refused.value.reason == "too_large"
    assert vendor.calls("download") == 0
    with pytest.raises(ItemTooLargeError):
        source.fetch(replace(large, size_bytes=-1))


def test_what_is_gone_or_restricted_is_skipped_and_says_why(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/gone.txt", "one")
    vendor.space.put("/restricted.txt", "two", is_restricted=True)
    gone, restricted = listed(source)
    vendor.space.remove("/gone.txt")
    with pytest.raises(ItemGoneError):
        source.fetch(gone)
    with pytest.raises(SkipItemError) as skipped:
        source.fetch(restricted)
    assert (skipped.value.reason, skipped.value.transient) == ("restricted", False)


def test_a_stored_item_can_be_fetched_before_anything_is_listed(vendor: FakeDropbox, opened: Opened) -> None:
    vendor.join_team("/Ann Example")
    vendor.space.put("/Team/a.txt", "one")
    (item,) = listed(opened())
    assert opened().fetch(item).body == b"one"


# Exports


def put_paper(vendor: FakeDropbox, **more: Any) -> None:
    exports = {"markdown": b"# Plan", "html": b"<h1>Plan</h1>"}
    vendor.space.put("/Plan.paper", "html", is_downloadable=False, exports=exports, export_as="html", **more)


def test_what_cannot_be_downloaded_is_exported_in_the_best_format(vendor: FakeDropbox, source: Dropbox) -> None:
    put_paper(vendor)
    (item,) = listed(source)
    assert (item.mime_type, item.size_bytes) == ("text/markdown", -1)
    content = source.fetch(item)
    assert (content.body, content.name, content.mime_type) == (b"# Plan", "Plan.markdown", "text/markdown")
    assert content.external_hash == item.external_hash
    assert vendor.calls("download") == 0


def test_the_default_format_is_taken_where_there_is_no_choice(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/Plan.gdoc", b"docx bytes", is_downloadable=False, export_as="docx")
    (item,) = listed(source)
    assert "officedocument" in item.mime_type
    assert source.fetch(item).body == b"docx bytes"
    assert json.loads(vendor.requests[-1].headers["dropbox-api-arg"]) == {"path": item.external_id}


def test_an_edited_export_has_another_hash_and_a_full_listing_fetches_nothing(
    vendor: FakeDropbox, source: Dropbox
) -> None:
    put_paper(vendor)
    mirror = Mirror()
    mirror.sync(source)
    assert mirror.sync(source, full=True).fetched == []
    vendor.space.put("/Plan.paper", "newer", exports={"markdown": b"# New plan"})
    assert len(mirror.sync(source).fetched) == 1
    assert mirror.texts() == {"Plan.paper": "# New plan"}


def test_a_damaged_export_is_tried_once_more_and_then_refused(vendor: FakeDropbox, source: Dropbox) -> None:
    put_paper(vendor)
    (item,) = listed(source)
    vendor.corrupt_downloads = 1
    assert source.fetch(item).body == b"# Plan"
    vendor.corrupt_downloads = 2
    with pytest.raises(UnreadableContentError):
        source.fetch(item)


def test_what_can_neither_be_downloaded_nor_exported_is_refused_without_a_request(
    vendor: FakeDropbox, source: Dropbox
) -> None:
    vendor.space.put("/Form.gform.txt", "", is_downloadable=False)
    (item,) = listed(source)
    calls = source.provider_calls
    with pytest.raises(UnsupportedContentError):
        source.fetch(item)
    assert source.provider_calls == calls


# Descriptions


def test_an_item_says_what_dropbox_says_and_never_the_clients_time(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/Reports/Q1 & more.txt", "text")
    (item,) = listed(source)
    assert item.external_path == "Reports/Q1 & more.txt"
    assert item.title == "Q1 & more.txt"
    assert item.place == "/reports/q1 & more.txt"
    assert item.external_modified_at == vendor.space.at("/Reports/Q1 & more.txt").modified_at
    assert item.external_modified_at < datetime(2030, 1, 1, tzinfo=UTC)
    assert item.external_url == "https://www.dropbox.com/home/reports?preview=q1%20%26%20more.txt"
    assert item.size_bytes == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", 7),
        ("name", None),
        ("rev", None),
        ("rev", {}),
        ("path_lower", 5),
        ("path_lower", "no slash"),
        (".tag", "hologram"),
        (".tag", None),
    ],
)
def test_one_unreadable_entry_is_one_failure_and_the_others_go_on(
    vendor: FakeDropbox, source: Dropbox, field: str, value: Any
) -> None:
    vendor.space.put("/bad.txt", "one")
    vendor.space.put("/good.txt", "two")
    vendor.spoil = lambda entry: {**entry, field: value} if entry["name"] == "bad.txt" else entry
    pages = list(source.pages(None, Mirror(), JobType.DELTA))
    (failure,) = [failure for page in pages for failure in page.failures]
    assert failure.stage == "list"
    assert failure.reason == "unreadable_entry"
    if field != "id":
        assert failure.external_id == vendor.space.at("/bad.txt").id
    assert [change.item.title for page in pages for change in page.changes if change.item] == ["good.txt"]
    assert pages[-1].complete


def test_a_file_that_is_not_mounted_is_skipped_with_a_reason(vendor: FakeDropbox, source: Dropbox) -> None:
    vendor.space.put("/outside.txt", "one")
    vendor.space.put("/good.txt", "two")
    vendor.spoil = lambda entry: (
        {**entry, "path_lower": None, "path_display": None} if entry["name"] == "outside.txt" else entry
    )
    (page,) = source.pages(None, Mirror(), JobType.DELTA)
    assert [failure.reason for failure in page.failures] == ["not_mounted"]
    assert len(page.changes) == 1


def test_a_known_file_whose_new_entry_cannot_be_read_is_not_taken_for_deleted(
    vendor: FakeDropbox, source: Dropbox
) -> None:
    mirror = Mirror()
    vendor.space.put("/a.txt", "one")
    mirror.sync(source)
    vendor.space.move("/a.txt", "/b.txt")
    vendor.spoil = lambda entry: {**entry, "rev": None} if entry[".tag"] == "file" else entry
    report = mirror.sync(source)
    assert report.deleted == []
    assert report.failures == [vendor.space.at("/b.txt").id]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", -5),
        ("size", "many"),
        ("server_modified", "yesterday"),
        ("server_modified", "1969-12-31T23:59:59Z"),
        ("server_modified", None),
        ("content_hash", 3),
        ("export_info", []),
        ("path_display", None),
        ("sharing_info", "?"),
        ("is_downloadable", None),
        ("invented", {"later": True}),
    ],
)
def test_what_is_not_needed_may_be_wrong_or_missing(
    vendor: FakeDropbox, source: Dropbox, field: str, value: Any
) -> None:
    vendor.space.put("/a.txt", "one")
    vendor.spoil = lambda entry: {**entry, field: value}
    mirror = Mirror()
    assert mirror.sync(source).failures == []
    (item,) = mirror.live.values()
    assert item.size_bytes == (-1 if field == "size" else 3)
    assert (item.external_modified_at is None) == (field == "server_modified")


@pytest.mark.parametrize("missing", ["entries", "cursor", "has_more"])
def test_a_page_that_lacks_something_is_an_error_and_not_an_end(
    vendor: FakeDropbox, source: Dropbox, missing: str
) -> None:
    fields = {"entries": [], "cursor": "AAF", "has_more": False}
    del fields[missing]
    vendor.fail("list_folder", answer=Answer.of(fields))
    with pytest.raises(UnexpectedReplyError):
        list(source.pages(None, Mirror(), JobType.DELTA))


def test_strange_names_survive(vendor: FakeDropbox, source: Dropbox) -> None:
    deep = "/d" * 400
    for path in ("/" + "n" * 4000 + ".txt", deep + "/x.txt", "/e\u0301.txt", "/\U0001f600/%2F?#.txt", "/ .txt"):
        vendor.space.put(path, "text")
    mirror = Mirror()
    mirror.sync(source)
    assert mirror.texts() == truth(vendor)
    vendor.space.remove("/d")
    mirror.sync(source)
    assert mirror.texts() == truth(vendor)


def test_lone_surrogates_and_nul_in_names_are_replaced_the_same_way_wherever_they_occur(
    vendor: FakeDropbox, source: Dropbox
) -> None:
    vendor.space.put("/bad.txt", "one")

    def spoil(entry: dict[str, Any]) -> dict[str, Any]:
        name = entry["name"].replace("bad", "b\ud800\0d")
        return {**entry, "name": name, "path_lower": "/" + name, "path_display": "/" + name}

    vendor.spoil = spoil
    mirror = Mirror()
    mirror.sync(source)
    (item,) = mirror.live.values()
    assert item.external_path == item.title == "b?d.txt"
    vendor.space.remove("/bad.txt")
    mirror.sync(source)
    assert mirror.live == {}


# The account


def test_check_names_the_account_its_scopes_and_what_lies_in_each_folder(vendor: FakeDropbox, opened: Opened) -> None:
    vendor.space.put("/A/1.txt", "one")
    vendor.space.put("/A/2.txt", "two")
    granted = frozenset({"account_info.read", "files.metadata.read", "sharing.read"})
    account = opened(StaticToken(TOKEN, granted), folders=["/A"]).check()
    assert account.external_account == vendor.user.account_id
    assert account.label == "ann@example.com"
    assert account.missing_scopes == ["files.content.read"]
    assert account.sample == "2 files and folders in /A"
    assert account.details["is_team_space"] is False
    with pytest.raises(InvalidRequestError, match="/B"):
        opened(folders=["/B"]).check()


def test_only_reading_is_asked_for_and_for_long() -> None:
    assert set(OAUTH.scopes) == {"account_info.read", "files.metadata.read", "files.content.read"}
    assert ("token_access_type", "offline") in OAUTH.authorize_params


def test_a_source_without_credentials_says_how_to_connect_it(vendor: FakeDropbox) -> None:
    with pytest.raises(ReauthorizeError, match="workstation source connect"):
        Dropbox.open({}, context_of(vendor))
