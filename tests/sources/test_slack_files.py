"""Files that are shared in messages: attachments of their thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.server import LOGIN_PAGE, Answer
from tests.fakes.slack import ALL_SCOPES, TOKEN, FakeSlack
from tests.sources.mirror import Mirror
from tests.sources.slack_account import sync
from workstation_pipelines.errors import ReauthorizeError
from workstation_pipelines.model import Content


@pytest.fixture
def vendor() -> Iterator[FakeSlack]:
    with FakeSlack() as vendor:
        yield vendor
        assert vendor.violations == []
        assert vendor.writes == []


@pytest.fixture
def general(vendor: FakeSlack) -> str:
    return vendor.add_channel("general")


def only(mirror: Mirror) -> Content:
    (content,) = mirror.contents.values()
    return content


def bodies(content: Content) -> dict[str, bytes]:
    return {attachment.name: attachment.body for attachment in content.attachments}


def test_files_with_text_come_with_their_thread_from_wherever_in_it(vendor: FakeSlack, general: str) -> None:
    plan = vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown")
    notes = vendor.add_file("notes.txt", b"notes", mime_type="application/octet-stream")
    photo = vendor.add_file("photo.png", b"\x89PNG", mime_type="image/png")
    parent = vendor.post(general, "files", files=[plan, photo])
    vendor.post(general, "more", thread=parent, files=[notes, plan])
    mirror = Mirror()

    sync(mirror, vendor)

    assert bodies(only(mirror)) == {"plan.md": b"# Plan", "notes.txt": b"notes"}
    assert [attachment.key for attachment in only(mirror).attachments] == [plan, notes]
    assert "[file: photo.png, has no text]" in only(mirror).body.decode()
    assert vendor.calls("files-pri") == 2
    assert {request.token for request in vendor.requests} == {TOKEN}


def test_a_message_with_only_a_picture_is_found_by_its_name_and_fetches_nothing(
    vendor: FakeSlack, general: str
) -> None:
    vendor.post(general, "", files=[vendor.add_file("sunset.png", b"\x89PNG", mime_type="image/png")])
    mirror = Mirror()

    report = sync(mirror, vendor)

    assert report.fetched == []
    assert "sunset.png" in only(mirror).body.decode()
    assert next(iter(mirror.live.values())).title.endswith(": sunset.png")


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"mode": "tombstone"}, "deleted"),
        ({"mode": "hidden_by_limit"}, "hidden by Slack's plan"),
        ({"mode": "external"}, "kept elsewhere"),
        ({"is_external": True}, "kept elsewhere"),
        ({"url_private_download": "https://files.example/x", "url_private": ""}, "cannot be downloaded"),
        ({"url_private_download": "", "url_private": ""}, "cannot be downloaded"),
        ({"size": 10**9}, "too large"),
    ],
)
def test_files_that_are_not_to_be_had_are_not_asked_for(
    vendor: FakeSlack, general: str, fields: dict[str, Any], note: str
) -> None:
    file = vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown", **fields)
    vendor.post(general, "see", files=[file])
    mirror = Mirror()

    sync(mirror, vendor)

    assert f"[file: plan.md, {note}]" in only(mirror).body.decode()
    assert vendor.calls("files-pri") == 0


def test_a_file_that_must_be_looked_up_is(vendor: FakeSlack, general: str) -> None:
    file = vendor.add_file("shared.md", b"# Shared", mime_type="text/markdown")
    vendor.checked_files.add(file)
    vendor.post(general, "from the other company", files=[file])
    mirror = Mirror()

    sync(mirror, vendor)

    assert bodies(only(mirror)) == {"shared.md": b"# Shared"}
    assert vendor.calls("files.info") == 1


def test_a_file_larger_than_it_said_is_left_out_and_the_text_stays(vendor: FakeSlack, general: str) -> None:
    file = vendor.add_file("plan.md", b"x" * 200, mime_type="text/markdown", size=10)
    vendor.post(general, "see", files=[file])
    mirror = Mirror()

    sync(mirror, vendor, max_file_bytes=100)

    assert list(only(mirror).attachments) == []
    assert "[file: plan.md, too large]" in only(mirror).body.decode()


def test_the_files_of_a_thread_share_one_cap(vendor: FakeSlack, general: str) -> None:
    files = [vendor.add_file(f"{number}.md", b"x" * 40, mime_type="text/markdown") for number in range(3)]
    vendor.post(general, "see", files=files)
    mirror = Mirror()

    sync(mirror, vendor, max_file_bytes=100)

    assert list(bodies(only(mirror))) == ["0.md", "1.md"]


def test_a_deleted_file_goes_with_the_next_delta(vendor: FakeSlack, general: str) -> None:
    file = vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown")
    vendor.post(general, "see", files=[file])
    mirror = Mirror()
    sync(mirror, vendor)
    vendor.delete_file(file)

    sync(mirror, vendor)

    assert list(only(mirror).attachments) == []
    assert "deleted" in only(mirror).body.decode()


def test_a_file_that_is_gone_at_fetch_is_left_out(vendor: FakeSlack, general: str) -> None:
    file = vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown")
    vendor.post(general, "see", files=[file])
    del vendor.files[file]
    mirror = Mirror()

    sync(mirror, vendor)

    assert "[file: plan.md, could not be read]" in only(mirror).body.decode()


def test_a_login_page_is_never_taken_for_a_file(vendor: FakeSlack, general: str) -> None:
    file = vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown")
    page = vendor.add_file("page.html", b"<html>ours</html>", mime_type="text/html")
    vendor.post(general, "see", files=[file])
    mirror = Mirror()
    vendor.fail("files-pri", answer=LOGIN_PAGE, times=2)

    report = sync(mirror, vendor)
    assert list(report.skipped.values()) == ["login_page"]
    assert mirror.contents == {}

    parent = vendor.post(general, "a page", files=[page])
    report = sync(mirror, vendor)
    assert report.skipped[f"T0ACME:{general}:{parent}"] == "login_page"

    mirror.live.clear()
    sync(mirror, vendor)
    assert [bodies(content) for content in mirror.contents.values()] == [
        {"page.html": b"<html>ours</html>"},
        {"plan.md": b"# Plan"},
    ]


def test_a_login_page_to_a_dead_token_asks_to_connect_again(vendor: FakeSlack, general: str) -> None:
    file = vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown")
    vendor.post(general, "see", files=[file])

    vendor.fail("files-pri", answer=LOGIN_PAGE)
    vendor.fail("auth.test", answer=Answer.of({"ok": False, "error": "token_revoked"}), after=1)

    with pytest.raises(ReauthorizeError):
        sync(Mirror(), vendor)


def test_without_the_scope_for_files_they_are_named_and_not_asked_for(vendor: FakeSlack, general: str) -> None:
    vendor.scopes[TOKEN] = tuple(scope for scope in ALL_SCOPES if scope != "files:read")
    vendor.post(general, "see", files=[vendor.add_file("plan.md", b"# Plan", mime_type="text/markdown")])
    mirror = Mirror()

    sync(mirror, vendor)

    assert "[file: plan.md, not read: the scope files:read is missing]" in only(mirror).body.decode()
    assert vendor.calls("files-pri") == 0
    assert vendor.calls("replies") == 0

    vendor.scopes[TOKEN] = ALL_SCOPES
    sync(mirror, vendor)
    assert bodies(only(mirror)) == {"plan.md": b"# Plan"}
