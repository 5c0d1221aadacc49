"""Google Drive: what is fetched, exported and refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.fakes.google_drive import FakeGoogleDrive
from tests.fakes.google_drive_state import COLLEAGUE, ME
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.google_drive_account import Account
from workstation_pipelines.errors import (
    ItemGoneError,
    ItemTooLargeError,
    SkipItemError,
    UnexpectedReplyError,
    UnreadableContentError,
    UnsupportedContentError,
)
from workstation_pipelines.sources.google_drive.export import EXPORTS, without_pictures
from workstation_pipelines.text.formats.table import FORMATS

APPS = "application/vnd.google-apps."
OOXML = "application/vnd.openxmlformats-officedocument."


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeGoogleDrive]:
    with FakeGoogleDrive() as opened:
        yield opened


@pytest.fixture
def account(fake: FakeGoogleDrive) -> Iterator[Account]:
    with Account(fake) as opened:
        yield opened


def test_a_file_comes_with_the_checksum_of_its_bytes(account: Account) -> None:
    key = account.state.add_file("a.txt", b"\x00\xff alpha")
    account.sync()
    content = account.fetch(key)
    assert content.body == b"\x00\xff alpha"
    assert content.external_hash == "sha256:" + hashlib.sha256(content.body).hexdigest()


def test_without_a_sha256_the_md5_counts(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha", without={"sha256Checksum"})
    account.sync()
    assert account.fetch(key).external_hash == "md5:" + hashlib.md5(b"alpha", usedforsecurity=False).hexdigest()


def test_without_any_checksum_the_revision_counts(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha", has_checksum=False)
    account.sync()
    assert account.mirror.live[key].external_hash.startswith("rev:")
    account.state.touch(key)
    assert account.sync().fetched == []
    account.state.edit(key, "beta")
    assert account.sync().fetched == [key]


def test_a_file_replaced_since_it_was_listed_comes_with_its_new_hash(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.state.edit(key, "beta")
    content = account.fetch(key)
    assert (content.body, content.external_hash) == (b"beta", "sha256:" + hashlib.sha256(b"beta").hexdigest())


def test_bytes_broken_on_their_way_are_fetched_again(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.fake.fail(key, answer=Answer(200, b"alph", {"Content-Type": "text/plain"}))
    assert account.fetch(key).body == b"alpha"


@pytest.mark.parametrize(
    ("kind", "mime_type", "extension"),
    [
        ("document", "text/markdown", ".md"),
        ("spreadsheet", f"{OOXML}spreadsheetml.sheet", ".xlsx"),
        ("presentation", f"{OOXML}presentationml.presentation", ".pptx"),
        ("drawing", "application/pdf", ".pdf"),
    ],
)
def test_native_files_are_exported_to_what_the_extractor_reads(
    account: Account, kind: str, mime_type: str, extension: str
) -> None:
    key = account.state.add_doc("Harbour", "The harbour freezes in winter.", mime_type=APPS + kind)
    account.sync()
    content = account.fetch(key)
    assert (content.mime_type, content.name) == (mime_type, f"Harbour{extension}")
    assert content.external_hash.startswith("mt:2026-")
    assert mime_type in FORMATS
    assert account.mirror.live[key].size_bytes == -1


def test_every_export_has_a_reader() -> None:
    assert {export.mime_type for export in EXPORTS.values()} <= FORMATS.keys()


def test_embedded_pictures_are_left_out_of_an_exported_document(account: Account) -> None:
    key = account.state.add_doc("Minutes", "# Minutes\n\nThe council met.")
    account.sync()
    assert account.fetch(key).body.decode().strip() == "# Minutes\n\nThe council met."


def test_text_that_only_looks_like_a_picture_stays() -> None:
    text = b"See [image1] and ![a map][image2].\n[link]: https://example.com\n"
    assert without_pictures(text) == b"See [image1] and a map.\n[link]: https://example.com\n"


def test_an_export_above_ten_megabytes_comes_by_its_link(account: Account) -> None:
    key = account.state.add_doc("Long", "A very long text.", is_export_too_large=True)
    account.sync()
    assert b"A very long text." in account.fetch(key).body
    assert [request.token for request in account.requests("/docs-host/")] == ["test-token"] * 2


@pytest.mark.parametrize(
    "links",
    [
        None,
        {},
        {"text/markdown": 7},
        {"text/markdown": "https://evil.example/x"},
        {"text/markdown": "http://127.0.0.1:1/x"},
    ],
)
def test_an_export_link_that_is_not_drives_own_is_not_followed(account: Account, links: object) -> None:
    key = account.state.add_doc("Long", "text", is_export_too_large=True, instead={"exportLinks": links})
    account.sync()
    assert account.mirror.live[key].external_hash.startswith("mt:")
    with pytest.raises(ItemTooLargeError) as caught:
        account.fetch(key)
    assert caught.value.reason == "too_large"
    account.fake.violations.clear()  # the fake was told to answer what Drive never does


def test_a_sign_in_page_is_never_taken_for_a_file(account: Account) -> None:
    doc = account.state.add_doc("Minutes", "text")
    plain = account.state.add_file("a.txt", "alpha", has_checksum=False)
    account.sync()
    account.fake.fail(doc, answer=LOGIN_PAGE)
    account.fake.fail(plain, answer=LOGIN_PAGE)
    for key in (doc, plain):
        with pytest.raises(UnexpectedReplyError):
            account.fetch(key)


@pytest.mark.parametrize("kind", ["form", "site", "map", "script", "vid", "something.new"])
def test_native_files_without_text_are_refused_without_a_call(account: Account, kind: str) -> None:
    key = account.state.add_doc("Thing", "", mime_type=APPS + kind)
    assert account.sync().skipped == {key: "unsupported"}
    assert account.requests("export") == []


def test_types_without_text_are_refused_without_a_call(account: Account) -> None:
    key = account.state.add_file("a.png", b"\x89PNG", mime_type="image/png")
    sheet = account.state.add_doc("Sheet", "1\t2", mime_type=f"{APPS}spreadsheet")
    account.sync()
    before = len(account.fake.requests)
    for refused in (key, sheet):
        with pytest.raises(UnsupportedContentError):
            account.fetch(refused, text_types={"text/plain"})
    assert len(account.fake.requests) == before


@pytest.mark.parametrize("mime_type", ["application/octet-stream", "video/mp2t"])
def test_what_drive_has_no_type_or_one_without_text_for_is_told_by_its_name(account: Account, mime_type: str) -> None:
    key = account.state.add_file("notes.md", "# Notes", mime_type=mime_type)
    film = account.state.add_file("film.mts", b"\x47", mime_type="video/mp2t")
    source = account.open(text_types={"text/markdown"})
    account.mirror.sync(source)
    source.close()
    assert account.mirror.live[key].mime_type == account.mirror.contents[key].mime_type == "text/markdown"
    assert account.mirror.live[film].mime_type == "video/mp2t"
    assert film not in account.mirror.contents


def test_a_file_too_large_is_refused_without_a_call(account: Account) -> None:
    account.config = {"max_file_bytes": 4}
    key = account.state.add_file("a.txt", "alpha")
    assert account.sync().skipped == {key: "too_large"}
    assert account.requests("media") == []


def test_an_export_above_the_limit_is_too_large(account: Account) -> None:
    account.config = {"max_file_bytes": 20}
    key = account.state.add_doc("Minutes", "long " * 100)
    assert account.sync().skipped == {key: "too_large"}


def test_what_may_not_be_downloaded_is_skipped(account: Account) -> None:
    plain = account.state.add_file("a.txt", "alpha", can_download=False)
    doc = account.state.add_doc("Minutes", "text", can_download=False)
    bad = account.state.add_file("b.txt", "beta", is_abusive=True)
    account.state.add_file("c.txt", "gamma")
    assert account.sync().skipped == {plain: "forbidden", doc: "forbidden", bad: "flagged"}
    assert list(account.texts()) == ["My Drive/c.txt"]


def test_a_link_shared_file_is_asked_for_with_its_key(account: Account) -> None:
    keys = {
        account.state.add_file("a.txt", "alpha", owner=COLLEAGUE, readers={ME}, resource_key="0-Key_a"),
        account.state.add_doc("Minutes", "text", owner=COLLEAGUE, readers={ME}, resource_key="0-Key_b"),
    }
    assert set(account.sync().fetched) == keys
    assert set(account.mirror.contents) == keys
    assert all("resourcekey=0-Key_" in (item.external_url or "") for item in account.mirror.live.values())


def test_a_file_gone_since_it_was_listed_is_gone(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.state.delete(key)
    with pytest.raises(ItemGoneError):
        account.fetch(key)


def test_a_document_without_a_time_is_fetched_whenever_it_is_told_of(account: Account) -> None:
    key = account.state.add_doc("Minutes", "text", without={"modifiedTime"})
    account.sync()
    account.state.touch(key)
    assert account.sync().fetched == [key]


def test_a_download_quota_is_tried_again_another_day(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    spent = {"error": {"code": 403, "errors": [{"domain": "usageLimits", "reason": "downloadQuotaExceeded"}]}}
    account.fake.fail(key, answer=Answer.of(spent, 403))
    with pytest.raises(SkipItemError) as caught:
        account.fetch(key)
    assert (caught.value.reason, caught.value.transient) == ("download_quota", True)


def test_a_checksum_that_no_bytes_fit_makes_a_file_unreadable(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.state.nodes[key].instead["sha256Checksum"] = "0" * 64
    with pytest.raises(UnreadableContentError):
        account.fetch_item(replace(account.mirror.live[key], external_hash="sha256:" + "0" * 64))
