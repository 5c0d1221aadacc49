"""OneDrive's quirks, one by one, over real HTTP to the fake."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.onedrive import FakeOneDrive, error
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.mirror import Mirror
from tests.sources.onedrive_stage import OneDriveStage
from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemGoneError,
    RateLimitedError,
    ReauthorizeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import Change, ChangeKind, Item, JobType, Page
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.onedrive.connector import OneDrive
from workstation_pipelines.sources.onedrive.hash import quick_xor_hash

Open = Callable[..., OneDrive]


class Day:
    """A clock that stands still until told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def next(self) -> None:
        self.now += timedelta(days=1)


@pytest.fixture(params=["work", "personal"])
def vendor(request: pytest.FixtureRequest) -> Iterator[FakeOneDrive]:
    with FakeOneDrive(is_work=request.param == "work") as fake:
        yield fake
        assert fake.violations == []
        assert fake.writes == []


@pytest.fixture
def day() -> Day:
    return Day()


@pytest.fixture
def opened(vendor: FakeOneDrive, day: Day, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setattr("workstation_pipelines.sources.http.time.sleep", lambda _wait_s: None)
    sources = []

    def open_it(config: Mapping[str, Any] | None = None, **context: Any) -> OneDrive:
        given = {"credentials": StaticToken("test-token"), "urls": {"api": vendor.url}, "account": "ada", **context}
        sources.append(
            OneDrive.open(
                config or {},
                SourceContext(clock=day, new_id=uuid4, detect=lambda _name, _head: "text/plain", **given),
            )
        )
        return sources[-1]

    yield open_it
    for source in sources:
        source.close()


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


def pages(source: OneDrive, mirror: Mirror) -> list[Page]:
    return list(source.pages(mirror.cursor, mirror, JobType.DELTA))


def changes(source: OneDrive, mirror: Mirror) -> list[Change]:
    return [change for page in pages(source, mirror) for change in page.changes]


def only(mirror: Mirror) -> Item:
    [item] = mirror.live.values()
    return item


# The feed


def test_last_state_of_an_item_that_comes_twice_on_a_page_counts(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.repeats = True
    vendor.file("a.txt", "alpha")
    report = mirror.sync(opened())
    assert mirror.texts() == {"a.txt": "alpha"}
    assert len(report.fetched) == 1


def test_item_that_changes_while_being_listed_comes_again_and_its_last_state_counts(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.page_size = 2
    first = vendor.file("a.txt", "alpha")
    vendor.file("b.txt", "beta")
    source = opened()
    mirror.sync(source, most_pages=1)
    vendor.rename(first, "c.txt")
    mirror.sync(source)
    assert mirror.texts() == {"c.txt": "alpha", "b.txt": "beta"}


def test_deleted_item_needs_no_name_no_size_and_no_parent(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    folder = vendor.folder("Documents")
    gone, kept = vendor.file("a.txt", "alpha", folder), vendor.file("b.txt", "beta", folder)
    mirror.sync(opened())
    vendor.delete(gone)
    vendor.node(gone).broken.update(name=None, size=None, parentReference=None)
    report = mirror.sync(opened())
    assert (len(report.deleted), report.failures) == (1, [])
    assert mirror.texts() == {"Documents/b.txt": "beta"}
    assert kept in only(mirror).external_id or kept.lower() in only(mirror).external_id


@pytest.mark.parametrize("tells_descendants", [True, False])
def test_deleted_folder_takes_what_is_in_it_but_not_what_moved_out(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, tells_descendants: bool
) -> None:
    vendor.tells_descendants = tells_descendants
    vendor.page_size = 1
    folder = vendor.folder("Old")
    inner = vendor.folder("Inner", folder)
    vendor.file("lost.txt", "lost", inner)
    saved = vendor.file("saved.txt", "saved", inner)
    mirror.sync(opened())
    vendor.delete(folder)
    vendor.node(saved).is_deleted = False
    vendor.move(saved)
    mirror.sync(opened())
    assert mirror.texts() == {"saved.txt": "saved"}
    assert {box.name for box in mirror.boxes.values()} == {""}


@pytest.mark.parametrize("tells_descendants", [True, False])
def test_restored_folder_brings_back_what_was_in_it(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, tells_descendants: bool
) -> None:
    vendor.tells_descendants = tells_descendants
    folder = vendor.folder("Docs")
    vendor.file("a.txt", "alpha", vendor.folder("Deep", folder))
    mirror.sync(opened())
    vendor.delete(folder)
    mirror.sync(opened())
    assert mirror.texts() == {}
    vendor.restore(folder)
    mirror.sync(opened())
    assert mirror.texts() == {"Docs/Deep/a.txt": "alpha"}


def test_renamed_folder_changes_all_paths_below_and_fetches_nothing(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    folder = vendor.folder("Old")
    for number in range(3):
        vendor.file(f"{number}.txt", str(number), vendor.folder(f"In {number}", folder))
    mirror.sync(opened())
    vendor.rename(folder, "New")
    report = mirror.sync(opened())
    assert sorted(mirror.texts()) == ["New/In 0/0.txt", "New/In 1/1.txt", "New/In 2/2.txt"]
    assert report.fetched == []


@pytest.mark.parametrize("most_pages", [1, 2, 3])
def test_renaming_goes_on_after_a_crash_between_its_pages(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, most_pages: int
) -> None:
    monkeypatch.setattr(OneDrive, "page_size", 2)
    folder = vendor.folder("Old")
    for number in range(5):
        vendor.file(f"{number}.txt", str(number), folder)
    mirror.sync(opened())
    vendor.rename(folder, "New")
    mirror.sync(opened(), most_pages=most_pages)
    mirror.sync(opened())
    assert sorted(mirror.texts()) == [f"New/{number}.txt" for number in range(5)]


def test_item_that_arrives_before_its_folder_gets_its_path_in_the_end(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.tells_ancestors = False
    vendor.page_size = 1
    folder = vendor.folder("Docs")
    vendor.file("a.txt", "alpha", folder)
    vendor.rename(folder, "Documents")  # so that it comes after the file
    mirror.sync(opened(), most_pages=1)
    mirror.sync(opened(), most_pages=1)
    mirror.sync(opened())
    assert mirror.texts() == {"Documents/a.txt": "alpha"}


def test_item_that_arrives_before_its_folder_waits_when_only_folders_are_chosen(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.tells_ancestors = False
    folder = vendor.folder("Docs")
    inner = vendor.folder("Inner", folder)
    vendor.file("a.txt", "alpha", inner)
    vendor.file("b.txt", "beta")
    vendor.rename(inner, "Inside")
    vendor.rename(folder, "Documents")
    vendor.page_size = 1
    report = mirror.sync(opened({"folders": ["/Documents"]}))
    assert mirror.texts() == {"Documents/Inside/a.txt": "alpha"}
    assert len(report.fetched) == 1


def test_empty_last_page_keeps_its_cursor(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.ends_empty = True
    vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    calls = vendor.calls("delta")
    vendor.file("b.txt", "beta")
    report = mirror.sync(opened())
    assert (report.listings, len(report.fetched)) == (0, 1)
    assert mirror.cursor is not None
    assert vendor.calls("delta") == calls + 2


def test_idle_feed_costs_one_request_and_one_page(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    source = opened()
    [page] = pages(source, mirror)
    assert (source.provider_calls, page.changes, page.complete) == (1, (), False)


def test_link_that_repeats_is_not_followed_for_ever(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.page_size = 1
    vendor.file("a.txt", "alpha")
    vendor.loops = True
    with pytest.raises(UnexpectedReplyError, match="repeat"):
        mirror.sync(opened())
    vendor.loops = False
    mirror.sync(opened())
    assert mirror.texts() == {"a.txt": "alpha"}


def test_listing_killed_after_any_page_goes_on_with_the_next(vendor: FakeOneDrive, opened: Open) -> None:
    vendor.page_size = 2
    folder = vendor.folder("Docs")
    for number in range(6):
        vendor.file(f"{number}.txt", str(number), folder)
    expected = {f"Docs/{number}.txt": str(number) for number in range(6)}
    for most_pages in range(1, 5):
        mirror = Mirror()
        mirror.sync(opened(), most_pages=most_pages)
        resumed = mirror.sync(opened())
        assert mirror.texts() == expected
        assert resumed.listings == 0


@pytest.mark.parametrize("has_location", [True, False])
@pytest.mark.parametrize(
    "code",
    [
        "resyncRequired",
        "resyncChangesApplyDifferences",
        "resyncChangesUploadDifferences",
        "SyncStateNotFound",
        "itemNotFound",
        "invalidRequest",
    ],
)
def test_expired_cursor_lists_everything_once(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, code: str, has_location: bool
) -> None:
    gone = vendor.file("a.txt", "alpha")
    vendor.file("b.txt", "beta")
    mirror.sync(opened())
    vendor.delete(gone)
    vendor.resync_code, vendor.has_location = code, has_location
    vendor.expire_cursors()
    with pytest.raises(CursorExpiredError):
        pages(opened(), mirror)
    report = mirror.sync(opened())
    assert (report.listings, len(report.deleted), report.fetched) == (1, 1, [])
    assert mirror.texts() == {"b.txt": "beta"}


def test_full_listing_forgets_folders_and_shortcuts_that_went_unseen(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, day: Day
) -> None:
    theirs = vendor.other()
    shared = vendor.folder("Shared", drive=theirs)
    vendor.file("a.txt", "alpha", shared, theirs)
    vendor.share(shared)
    cut, folder = vendor.shortcut(shared), vendor.folder("Docs")
    mirror.sync(opened())
    vendor.delete(cut)
    vendor.delete(folder)
    vendor.expire_cursors()
    mirror.sync(opened())
    day.next()
    mirror.sync(opened())
    assert (mirror.texts(), [box.name for box in mirror.boxes.values()]) == ({}, [""])


@pytest.mark.parametrize("status", [500, 502, 503, 504, 400])
def test_outage_is_no_expiry(vendor: FakeOneDrive, opened: Open, mirror: Mirror, status: int) -> None:
    vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    vendor.fail("delta", answer=Answer(status, b"upstream"), times=9)
    with pytest.raises(SourceUnavailableError):
        pages(opened(), mirror)


def test_link_refused_within_a_listing_begins_it_again_and_lists_once_more_next_time(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.page_size = 1
    gone = vendor.file("a.txt", "alpha")
    vendor.file("b.txt", "beta")
    mirror.sync(opened(), most_pages=2)
    vendor.delete(gone)  # it was shown, so that this listing's sweep does not find it
    vendor.expire_cursors()
    mirror.sync(opened())
    source = opened()
    assert source.probe("before", mirror.cursor) != "before"
    report = mirror.sync(source)
    assert report.listings == 1
    assert mirror.texts() == {"b.txt": "beta"}
    assert mirror.sync(opened()).listings == 0


def test_listing_refused_again_and_again_gives_up(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.page_size = 1
    vendor.file("a.txt", "alpha")
    vendor.fail("delta(", answer=error(410, "resyncRequired", "again"), times=99)
    vendor.faults[0].matches = lambda request: "token" in request.path or request.one("token") is not None
    with pytest.raises(CursorExpiredError):
        mirror.sync(opened())
    assert vendor.calls("delta") == 4


def test_huge_first_page_is_asked_for_again_with_fewer_items(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.file("a.txt", "alpha")
    vendor.fail("delta", answer=error(504, "generalException", "timeout"), times=3)
    mirror.sync(opened())
    tops = [request.one("$top") for request in vendor.requests if "delta" in request.path]
    assert tops[:4] == ["200", "200", "200", "50"]
    assert mirror.texts() == {"a.txt": "alpha"}


def test_links_are_followed_as_given_and_only_below_the_base_url(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    foreign = {"value": [], "@odata.nextLink": "https://evil.example/v1.0/me/drive/root/delta?token=1"}
    vendor.fail("delta", answer=Answer.of(foreign))
    with pytest.raises(UnexpectedReplyError, match="another host"):
        mirror.sync(opened())


def test_cursor_of_another_address_or_version_has_expired(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    for cursor in (
        {"v": 1, "drive": "d", "link": "https://graph.microsoft.us/v1.0/me/drive/root/delta?token=1"},
        {"v": 2, "drive": "d", "link": vendor.url},
        {"v": 1},
    ):
        mirror.cursor = cursor
        with pytest.raises(CursorExpiredError):
            pages(opened(), mirror)
    assert vendor.requests == []


@pytest.mark.parametrize(
    "reply", [{}, {"value": 3, "@odata.deltaLink": "x"}, {"value": []}, {"value": [], "@odata.nextLink": 7}]
)
def test_page_without_what_a_page_has_is_no_empty_page(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, reply: dict[str, Any]
) -> None:
    vendor.fail("delta", answer=Answer.of(reply))
    with pytest.raises(UnexpectedReplyError):
        mirror.sync(opened())


def test_login_page_is_no_empty_listing(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.fail("delta", answer=LOGIN_PAGE)
    with pytest.raises(SourceUnavailableError):
        mirror.sync(opened())


def test_nothing_secret_is_in_cursors_containers_and_items(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("a.txt", "alpha", vendor.folder("Docs"))
    mirror.sync(opened(), most_pages=1)
    kept = json.dumps([mirror.resume["cursor"] if mirror.resume else None, mirror.cursor])
    kept += repr(mirror.boxes) + repr(mirror.live)
    assert "secret" not in kept
    assert "test-token" not in kept


# Chosen folders


@pytest.mark.parametrize("by", ["id", "path", "other case"])
def test_only_chosen_folders_are_listed(vendor: FakeOneDrive, opened: Open, mirror: Mirror, by: str) -> None:
    folder = vendor.folder("Clients", vendor.folder("Documents"))
    vendor.file("in.txt", "in", vendor.folder("Deep", folder))
    vendor.file("out.txt", "out", vendor.folder("Clients 2"))
    chosen = {"id": folder, "path": "/Documents/Clients/", "other case": "/documents/CLIENTS"}[by]
    mirror.sync(opened({"folders": [chosen]}))
    assert mirror.texts() == {"Documents/Clients/Deep/in.txt": "in"}


def test_moves_into_and_out_of_the_chosen_folder_follow(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    scope, outside = vendor.folder("Scope"), vendor.folder("Elsewhere")
    inner = vendor.folder("Inner", outside)
    vendor.file("deep.txt", "deep", vendor.folder("Deeper", inner))
    vendor.file("near.txt", "near", inner)
    vendor.age(outside)
    vendor.page_size = 1
    config = {"folders": [scope]}
    mirror.sync(opened(config))
    assert mirror.texts() == {}
    vendor.move(inner, scope)
    mirror.sync(opened(config))
    assert mirror.texts() == {"Scope/Inner/near.txt": "near", "Scope/Inner/Deeper/deep.txt": "deep"}
    vendor.move(inner, outside)
    report = mirror.sync(opened(config))
    assert (mirror.texts(), len(report.deleted)) == ({}, 2)


@pytest.mark.parametrize("most_pages", range(1, 7))
def test_folder_moved_in_is_listed_to_the_end_after_a_crash(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, most_pages: int
) -> None:
    scope, moved = vendor.folder("Scope"), vendor.folder("Moved")
    for number in range(2):
        vendor.file(f"{number}.txt", str(number), vendor.folder(f"In {number}", moved))
    config = {"folders": [scope]}
    mirror.sync(opened(config))
    vendor.page_size = 1
    vendor.move(moved, scope)
    mirror.sync(opened(config), most_pages=most_pages)
    mirror.sync(opened(config))
    assert mirror.texts() == {"Scope/Moved/In 0/0.txt": "0", "Scope/Moved/In 1/1.txt": "1"}


def test_chosen_folder_that_is_not_there_is_told(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("a.txt", "alpha", vendor.folder("Documents"))
    report = mirror.sync(opened({"folders": ["/Documents", "/Dokumente", "01NOSUCH"]}))
    assert sorted(report.failures) == ["onedrive:/Dokumente", "onedrive:01NOSUCH"]
    assert mirror.texts() == {"Documents/a.txt": "alpha"}
    with pytest.raises(InvalidRequestError, match="/Dokumente"):
        opened({"folders": ["/Documents", "/Dokumente"]}).check()
    with pytest.raises(InvalidRequestError, match="01NOSUCH"):
        opened({"folders": ["01NOSUCH"]}).check()


@pytest.mark.parametrize("config", [{"folders": ["a/b"]}, {"folders": [""]}, {"folders": "x"}, {"folder": ["/a"]}])
def test_config_that_cannot_be_meant_is_refused(opened: Open, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        opened(config)


# Shared things


@pytest.mark.parametrize("is_work", [True, False])
def test_shared_folder_is_read_from_its_own_drive_and_looked_at_once_a_day(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, day: Day, is_work: bool
) -> None:
    theirs = vendor.other(is_work=is_work)
    shared = vendor.folder("Shared", drive=theirs)
    first = vendor.file("a.txt", "alpha", vendor.folder("In", shared, theirs), theirs)
    gone = vendor.file("b.txt", "beta", shared, theirs)
    vendor.share(shared)
    vendor.shortcut(shared, vendor.folder("Mine"), "Ours")
    source = opened()
    mirror.sync(source)
    assert mirror.texts() == {"Mine/Ours/In/a.txt": "alpha", "Mine/Ours/b.txt": "beta"}
    token = source.probe("x", mirror.cursor)
    vendor.edit(first, "alpha 2")
    vendor.delete(gone)
    mirror.sync(opened())
    assert len(mirror.texts()) == 2
    assert source.probe(token, mirror.cursor) == token
    day.next()
    assert source.probe(token, mirror.cursor) != token
    report = mirror.sync(opened())
    assert mirror.texts() == {"Mine/Ours/In/a.txt": "alpha 2"}
    assert len(report.deleted) == 1


def test_item_that_moves_within_a_shared_folder_is_neither_lost_nor_fetched_again(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, day: Day
) -> None:
    theirs = vendor.other()
    shared = vendor.folder("Shared", drive=theirs)
    one, two = vendor.folder("One", shared, theirs), vendor.folder("Two", shared, theirs)
    there, back = vendor.file("a.txt", "a", one, theirs), vendor.file("b.txt", "b", two, theirs)
    vendor.share(shared)
    vendor.shortcut(shared)
    mirror.sync(opened())
    vendor.move(there, two)
    vendor.move(back, one)
    day.next()
    report = mirror.sync(opened())
    assert mirror.texts() == {"Shared/Two/a.txt": "a", "Shared/One/b.txt": "b"}
    assert (report.deleted, report.fetched) == ([], [])


def test_shared_file_is_kept_under_its_own_id_and_goes_with_its_shortcut(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, day: Day
) -> None:
    theirs = vendor.other()
    target = vendor.file("theirs.txt", "theirs", drive=theirs)
    vendor.share(target)
    folder = vendor.folder("Mine")
    cut = vendor.shortcut(target, folder)
    mirror.sync(opened())
    assert (mirror.texts(), only(mirror).external_id) == ({"Mine/theirs.txt": "theirs"}, f"{theirs.id}:{target}")
    vendor.edit(target, "new")
    vendor.rename(cut, "renamed.txt")
    vendor.rename(folder, "Ours")
    mirror.sync(opened())
    assert mirror.texts() == {"Ours/renamed.txt": "new"}
    vendor.delete(cut)
    mirror.sync(opened())
    assert (mirror.texts(), len(mirror.boxes)) == ({}, 2)


@pytest.mark.parametrize("is_folder", [True, False])
def test_share_that_was_taken_back_is_absent_and_comes_back(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, day: Day, is_folder: bool
) -> None:
    theirs = vendor.other()
    shared = vendor.folder("Shared", drive=theirs)
    target = vendor.file("a.txt", "alpha", shared, theirs)
    vendor.share(shared)
    vendor.shortcut(shared if is_folder else target)
    mirror.sync(opened())
    path = only(mirror).external_path
    vendor.unshare(shared)
    day.next()
    found = changes(opened(), mirror)
    assert [change.kind for change in found] == [ChangeKind.ABSENT]
    mirror.sync(opened())
    assert mirror.texts() == {}
    vendor.share(shared)
    day.next()
    mirror.sync(opened())
    assert mirror.texts() == {path: "alpha"}


@pytest.mark.parametrize("config", [{}, {"folders": ["/Shared"]}])
def test_folder_deleted_within_a_shared_one_is_deleted_with_all_below(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, day: Day, config: dict[str, Any]
) -> None:
    theirs = vendor.other()
    shared = vendor.folder("Shared", drive=theirs)
    inner = vendor.folder("Inner", shared, theirs)
    vendor.file("a.txt", "alpha", inner, theirs)
    vendor.file("b.txt", "beta", vendor.folder("Deep", inner, theirs), theirs)
    vendor.share(shared)
    vendor.shortcut(shared)
    mirror.sync(opened(config))
    assert len(mirror.live) == 2
    vendor.delete(inner)
    day.next()
    assert [change.kind for change in changes(opened(config), mirror)] == [ChangeKind.DELETED] * 2
    report = mirror.sync(opened(config))
    assert (mirror.texts(), report.failures, len(mirror.boxes)) == ({}, [], 2)


def test_shortcuts_into_ones_own_drive_or_inside_a_share_are_not_followed(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    own = vendor.folder("Own")
    vendor.file("a.txt", "alpha", own)
    vendor.shortcut(own, name="Loop")
    mirror.sync(opened())
    assert mirror.texts() == {"Own/a.txt": "alpha"}


# Items of all kinds


def test_folder_scope_and_account_survive_ids_in_either_case(opened: Open, mirror: Mirror) -> None:
    with FakeOneDrive(is_work=False) as vendor:
        folder = vendor.folder("Docs")
        key = vendor.file("a.txt", "alpha", folder)
        urls = {"api": vendor.url}
        config = {"folders": [folder.swapcase()]}
        mirror.sync(opened(config, urls=urls))
        vendor.rename(key, "b.txt")
        for _ in range(2):
            vendor.edit(key, "beta")
            mirror.sync(opened(config, urls=urls))
        assert mirror.texts() == {"Docs/b.txt": "beta"}
        assert only(mirror).external_id == f"{vendor.mine.id}:{key}".lower()
        vendor.delete(key)
        mirror.sync(opened(config, urls=urls))
        assert mirror.texts() == {}
        assert vendor.violations == []


def test_notebooks_and_malware_are_skipped_without_a_download(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.notebook("Notes")
    bad = vendor.file("bad.txt", "EICAR")
    vendor.node(bad).is_malware = True
    report = mirror.sync(opened())
    assert sorted(report.skipped.values()) == ["malware", "unsupported"]
    assert vendor.calls("content") == 0


def test_what_has_no_text_or_is_too_large_is_refused_before_any_download(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.file("film.mp4", "frames", mime="video/mp4")
    vendor.file("long.txt", "x" * 100)
    source = opened({"max_file_bytes": 99}, has_text=lambda mime_type: mime_type != "video/mp4")
    report = mirror.sync(source)
    assert sorted(report.skipped.values()) == ["too_large", "unsupported"]
    assert vendor.calls("content") == 0


def test_body_longer_than_told_is_cut_off(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    key = vendor.file("a.txt", "x" * 10)
    vendor.node(key).served = b"x" * 1000
    report = mirror.sync(opened({"max_file_bytes": 99}))
    assert list(report.skipped.values()) == ["too_large"]


def test_hash_is_the_best_one_that_is_given(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("quick.txt", "alpha")
    vendor.file("empty.txt", "")
    plain = vendor.file("plain.txt", "beta")
    vendor.node(plain).has_hash = False
    old = vendor.file("sha.txt", "gamma")
    sha = "E2C569BE17396ECA2A2E3C11578123ED00000000"
    vendor.node(old).broken["file"] = {"mimeType": "text/plain", "hashes": {"sha1Hash": sha}}
    found = {change.item.title: change.item.external_hash for change in changes(opened(), mirror) if change.item}
    assert found["quick.txt"] == f"qx:{quick_xor_hash(b'alpha')}"
    assert found["empty.txt"] == "sz:0"
    assert found["plain.txt"].startswith("et:")
    assert found["sha.txt"] == f"sha1:{sha.lower()}"


@pytest.mark.parametrize(
    "broken",
    [
        {"name": None},
        {"name": 7},
        {"file": None},
        {"remoteItem": {"id": "x"}},
        {"remoteItem": 3},
    ],
)
def test_item_that_cannot_be_read_is_a_failure_and_others_go_on(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, broken: dict[str, object]
) -> None:
    vendor.file("a.txt", "alpha")
    vendor.node(vendor.file("b.txt", "beta")).broken.update(broken)
    report = mirror.sync(opened())
    assert len(report.failures) == 1
    assert mirror.texts() == {"a.txt": "alpha"}


@pytest.mark.parametrize(
    "broken",
    [
        {"parentReference": None},
        {"parentReference": "x"},
        {"parentReference": {"id": 3}},
        {"size": "12"},
        {"size": -4},
        {"lastModifiedDateTime": "yesterday", "createdDateTime": "1601-01-01T00:00:00Z"},
        {"lastModifiedDateTime": 5, "eTag": None, "webUrl": 3},
        {"file": {"hashes": {"quickXorHash": None, "sha1Hash": 5}}},
        {"file": {"mimeType": 3, "hashes": 4, "novelty": "x"}},
        {"unknownFacet": {"a": 1}},
        {"name": "x" * 4000},
    ],
)
def test_odd_fields_of_an_item_are_survived(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, broken: dict[str, object]
) -> None:
    vendor.node(vendor.file("a.txt", "alpha")).broken.update(broken)
    report = mirror.sync(opened())
    assert report.failures == []
    assert list(mirror.texts().values()) == ["alpha"]


def test_item_without_a_parent_cannot_be_placed_in_chosen_folders(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    folder = vendor.folder("Docs")
    vendor.node(vendor.file("a.txt", "alpha", folder)).broken["parentReference"] = None
    report = mirror.sync(opened({"folders": [folder]}))
    assert len(report.failures) == 1
    assert mirror.texts() == {}


def test_cyclic_folders_end(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    one, two = vendor.folder("One"), vendor.folder("Two")
    vendor.file("a.txt", "alpha", two)
    vendor.move(one, two)
    vendor.move(two, one)
    mirror.sync(opened())
    assert mirror.texts() == {"One/Two/a.txt": "alpha"}
    vendor.rename(one, "Uno")
    mirror.sync(opened())
    assert mirror.texts() == {"Uno/Two/a.txt": "alpha"}


def test_slash_in_a_name_makes_no_folder(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.node(vendor.file("a.txt", "alpha")).broken["name"] = "a/b.txt"
    mirror.sync(opened())
    assert list(mirror.texts()) == ["a\N{DIVISION SLASH}b.txt"]


# Downloads


def test_listed_link_is_used_once_and_without_our_token(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("a.txt", "alpha")
    source = opened()
    mirror.sync(source)
    [download] = [request for request in vendor.requests if request.steps[0] == "download"]
    assert "authorization" not in download.headers
    assert vendor.calls("content") == 0
    source.fetch(only(mirror))
    assert vendor.calls("content") == 1


def test_listing_goes_without_links_where_they_may_not_be_asked_for(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.refuses_links = True
    vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    assert list(mirror.texts().values()) == ["alpha"]
    assert vendor.calls("content") == 1


def test_listed_link_is_left_alone_when_it_is_old(vendor: FakeOneDrive, opened: Open, mirror: Mirror, day: Day) -> None:
    vendor.file("a.txt", "alpha")
    source = opened()
    item = next(change.item for change in changes(source, mirror) if change.item)
    day.now += timedelta(minutes=11)
    assert source.fetch(item).body == b"alpha"
    assert vendor.calls("content") == 1


def test_listed_link_of_a_shared_folder_is_used(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    other = vendor.other()
    shared = vendor.folder("Shared", drive=other)
    vendor.file("a.txt", "alpha", shared, drive=other)
    vendor.share(shared)
    vendor.shortcut(shared)
    mirror.sync(opened())
    assert mirror.texts() == {"Shared/a.txt": "alpha"}
    assert vendor.calls("content") == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 423])
def test_refused_link_of_a_listing_is_no_word_on_the_item(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, status: int
) -> None:
    vendor.file("a.txt", "alpha")
    vendor.fail("download/", answer=error(status, "InvalidAuthenticationToken", "no"))
    mirror.sync(opened())
    assert mirror.texts() == {"a.txt": "alpha"}
    assert (vendor.calls("download/"), vendor.calls("content")) == (2, 1)


def test_listed_link_into_a_private_network_is_not_followed(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    node = vendor.node(vendor.file("a.txt", "alpha"))
    node.broken["@microsoft.graph.downloadUrl"] = "http://10.0.0.1/secret"
    mirror.sync(opened())
    assert mirror.texts() == {"a.txt": "alpha"}
    assert vendor.calls("content") == 1


def test_download_follows_the_redirect_without_our_token(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.shows_links = False
    vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    [download] = [request for request in vendor.requests if request.steps[0] == "download"]
    assert "authorization" not in download.headers


@pytest.mark.parametrize("status", [401, 403, 404])
def test_dead_download_link_is_asked_for_again_once(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror, status: int
) -> None:
    vendor.shows_links = False
    vendor.file("a.txt", "alpha")
    vendor.fail("download/", answer=Answer(status, b"expired", {"Content-Type": "text/plain"}))
    mirror.sync(opened())
    assert mirror.texts() == {"a.txt": "alpha"}
    assert vendor.calls("content") == 2


def test_download_links_that_keep_dying_are_tried_again_later(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    vendor.file("a.txt", "alpha")
    vendor.ticket_uses = 0
    report = mirror.sync(opened())
    assert list(report.skipped.values()) == ["link_refused"]


def test_item_gone_or_forbidden_at_fetch_is_told_by_the_item_itself(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    key = vendor.file("a.txt", "alpha")
    source = opened()
    item = next(change.item for change in changes(source, mirror) if change.item)
    vendor.delete(key)
    with pytest.raises(ItemGoneError):
        source.fetch(item)
    vendor.restore(key)
    source = opened()
    vendor.fail("items/", answer=error(403, "accessDenied", "no"), times=2)
    with pytest.raises(SkipItemError) as refused:
        source.fetch(item)
    assert refused.value.reason == "forbidden"


def test_revoked_token_at_fetch_is_the_accounts_fault(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.shows_links = False
    vendor.file("a.txt", "alpha")
    source = opened()
    item = next(change.item for change in changes(source, mirror) if change.item)
    vendor.tokens.clear()
    with pytest.raises(ReauthorizeError):
        source.fetch(item)


def test_file_that_changed_since_it_was_listed_has_the_hash_of_its_bytes(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    key = vendor.file("a.txt", "alpha")
    source = opened()
    item = next(change.item for change in changes(source, mirror) if change.item)
    vendor.edit(key, "beta")
    content = source.fetch(item)
    assert (content.body, content.external_hash) == (b"beta", f"qx:{quick_xor_hash(b'beta')}")
    assert vendor.calls("download/") == 1


def test_body_that_never_fits_its_hash_is_unreadable(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.node(vendor.file("a.txt", "alpha")).served = b"other"
    report = mirror.sync(opened())
    assert list(report.skipped.values()) == ["hash_mismatch"]
    assert vendor.calls("download/") == 2


def test_office_files_of_work_accounts_may_differ_from_their_hash(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    key = vendor.file("letter.docx", "as stored", mime="application/msword")
    vendor.node(key).served = b"as served"
    report = mirror.sync(opened())
    if not vendor.mine.is_work:
        assert list(report.skipped.values()) == ["hash_mismatch"]
        return
    assert mirror.texts() == {"letter.docx": "as served"}
    assert only(mirror).external_hash == f"qx:{quick_xor_hash(b'as stored')}"
    assert mirror.sync(opened(), full=True).fetched == []


def test_truncated_download_is_tried_again(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.node(vendor.file("a.txt", "alpha" * 100)).has_hash = False
    vendor.fail("download/", truncate=True)
    mirror.sync(opened())
    assert mirror.texts() == {"a.txt": "alpha" * 100}


def test_locked_file_is_tried_again_later(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.shows_links = False
    vendor.file("a.txt", "alpha")
    source = opened()
    item = next(change.item for change in changes(source, mirror) if change.item)
    vendor.fail("content", answer=error(423, "resourceLocked", "locked"))
    with pytest.raises(SkipItemError) as skipped:
        source.fetch(item)
    assert (skipped.value.reason, skipped.value.transient) == ("locked", True)


# Errors


@pytest.mark.parametrize(
    ("status", "code", "headers", "kind", "wait_s"),
    [
        (401, "InvalidAuthenticationToken", {}, ReauthorizeError, None),
        (403, "accessDenied", {}, ReauthorizeError, None),
        (404, "itemNotFound", {}, InvalidRequestError, None),
        (410, "resyncRequired", {}, CursorExpiredError, None),
        (423, "resourceLocked", {}, SourceUnavailableError, 900),
        (429, "activityLimitReached", {"Retry-After": "120"}, RateLimitedError, 120),
        (429, "tooManyRequests", {"Retry-After": "Sun, 01 Mar 2026 12:01:00 GMT"}, RateLimitedError, 60),
        (503, "serviceNotAvailable", {"Retry-After": "77"}, SourceUnavailableError, 77),
        (503, "activityLimitReached", {"Retry-After": "77"}, RateLimitedError, 77),
        (509, "bandwidthLimitExceeded", {"Retry-After": "600"}, RateLimitedError, 600),
        (509, "bandwidthLimitExceeded", {}, RateLimitedError, 60),
        (500, "generalException", {}, SourceUnavailableError, 1),
        (504, "generalException", {}, SourceUnavailableError, 1),
        (400, "invalidRequest", {}, UnexpectedReplyError, 60),
    ],
)
def test_refused_listing(
    vendor: FakeOneDrive,
    opened: Open,
    mirror: Mirror,
    status: int,
    code: str,
    headers: dict[str, str],
    kind: type[WorkstationError],
    wait_s: float | None,
) -> None:
    vendor.fail("delta", answer=error(status, code, "a text that is not repeated", headers), times=99)
    with pytest.raises(kind) as raised:
        pages(opened(), mirror)
    assert type(raised.value) is kind
    assert getattr(raised.value, "wait_s", None) == wait_s
    assert "a text that" not in str(raised.value)


def test_code_of_an_inner_error_counts(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    inner = {"error": {"code": "badRequest", "message": "", "innererror": {"code": "resyncRequired"}}}
    vendor.fail("delta", answer=Answer.of(inner, 400))
    with pytest.raises(CursorExpiredError):
        pages(opened(), mirror)


def test_short_throttling_is_waited_for(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("a.txt", "alpha")
    vendor.fail("drive", answer=error(429, "activityLimitReached", "slow", {"Retry-After": "1"}))
    vendor.fail("content", answer=error(503, "serviceNotAvailable", "busy", {"Retry-After": "1"}))
    mirror.sync(opened())
    assert mirror.texts() == {"a.txt": "alpha"}


def test_source_without_credentials_says_how_to_connect(opened: Open) -> None:
    with pytest.raises(ReauthorizeError, match="workstation source connect"):
        opened(credentials=None)


# Check and probe


def test_check_names_the_account_and_what_is_missing(vendor: FakeOneDrive, opened: Open) -> None:
    vendor.file("a.txt", "alpha", vendor.folder("Clients", vendor.folder("Documents")))
    account = opened({"folders": ["/documents/Clients", "/"]}).check()
    assert account.external_account.lower() == vendor.mine.id.lower()
    assert (account.label, account.missing_scopes) == ("ada@example.com", [])
    assert account.details == {"drive_type": "business" if vendor.mine.is_work else "personal"}
    for granted, missing in (
        ("https://graph.microsoft.com/Files.Read", ["Files.Read.All"]),
        ("https://graph.microsoft.com/Files.ReadWrite.All", []),
        ("files.read.all", []),
    ):
        found = opened(credentials=StaticToken("test-token", frozenset({granted}))).check()
        assert found.missing_scopes == missing


def test_probe_is_one_request_that_moves_nothing(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    source = opened()
    idle = source.probe("seen@", mirror.cursor)
    assert (idle, source.provider_calls) == ("seen@", 1)
    key = vendor.file("b.txt", "beta")
    first = source.probe(idle, mirror.cursor)
    assert first != idle
    assert source.probe(first, mirror.cursor) == first
    vendor.edit(key, "gamma")
    assert source.probe(first, mirror.cursor) != first
    mirror.sync(source)
    assert "b.txt" in mirror.texts()
    assert source.probe(first, mirror.cursor) == first


def test_probe_of_what_cannot_be_told_asks_for_a_sync(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    source = opened()
    assert source.probe("x", None) != "x"
    vendor.file("a.txt", "alpha")
    mirror.sync(source)
    vendor.expire_cursors()
    assert source.probe("x", mirror.cursor) != "x"


# The stage of the shared suite


def test_stage_and_connector_agree(vendor: FakeOneDrive, opened: Open, mirror: Mirror) -> None:
    stage = OneDriveStage(vendor)

    def synced() -> None:
        mirror.sync(opened(stage.config))
        assert mirror.texts() == stage.truth()

    first, second = stage.create("a.txt", "alpha"), stage.create("b.txt", "beta")
    synced()
    stage.edit(first, "alpha 2")
    stage.rename(second, "c.txt")
    synced()
    stage.rename_case(second)
    stage.move_in("old.txt", "old")
    stage.rename_folder("Papers")
    synced()
    shared = stage.share_old("shared.txt", "shared")
    synced()
    stage.unshare(shared)
    stage.move_out(second)
    stage.trash(first)
    synced()
    stage.restore(first)
    synced()
    again = stage.recreate(first, "new")
    stage.expire_cursor()
    synced()
    stage.delete(again)
    synced()


# The hash


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("Sg==", "SgAAAAAAAAAAAAAAAQAAAAAAAAA="),
        ("tbQ=", "taAFAAAAAAAAAAAAAgAAAAAAAAA="),
        ("0pZP", "0rDEEwAAAAAAAAAAAwAAAAAAAAA="),
        ("eAV52qE=", "eChAHrQRCgAAAAAABQAAAAAAAAA="),
        ("qaApEj66lw==", "qQBFCiTgA11cAgAABwAAAAAAAAA="),
        ("aGVsbG8gd29ybGQ=", "aCgDG9jwBhDc4Q1yawMZAAAAAAA="),
    ],
)
def test_hash_of_short_bodies(body: str, expected: str) -> None:
    assert quick_xor_hash(base64.b64decode(body)) == expected


@pytest.mark.parametrize("length", [159, 160, 161, 320, 1000, 160 * 4096 + 7])
def test_hash_is_what_its_description_says(length: int) -> None:
    body = bytes((number * 7 + number // 251) % 256 for number in range(length))
    mixed, mask = 0, (1 << 160) - 1
    for number, byte in enumerate(body):
        at = number * 11 % 160
        mixed ^= ((byte << at) & mask) | (byte << at >> 160)
    mixed ^= length << 96
    assert quick_xor_hash(body) == base64.b64encode(mixed.to_bytes(20, "little")).decode()


def test_known_item_is_not_fetched_again_when_only_its_description_changed(
    vendor: FakeOneDrive, opened: Open, mirror: Mirror
) -> None:
    key = vendor.file("a.txt", "alpha")
    mirror.sync(opened())
    [(external_id, item)] = mirror.live.items()
    mirror.live[external_id] = replace(item, external_url="old")
    vendor.rename(key, "b.txt")
    assert mirror.sync(opened()).fetched == []
