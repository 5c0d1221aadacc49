"""Dropbox's feed: what its entries mean, in every order and whatever stops in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes.dropbox import FakeDropbox
from tests.fakes.server import Answer
from tests.sources.dropbox_bench import Opened, served, sources_of, truth
from tests.sources.mirror import Mirror, Report
from workstation_pipelines.errors import CursorExpiredError, InvalidRequestError, UnexpectedReplyError
from workstation_pipelines.model import JobType
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.dropbox import feed as feed_module
from workstation_pipelines.sources.dropbox.connector import Dropbox


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


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


def synced(mirror: Mirror, source: Dropbox, vendor: FakeDropbox, **how: Any) -> Report:
    """Sync to the end and compare everything: what is stored, at which path, and that nothing is left over to do."""
    report = mirror.sync(source, **how)
    assert mirror.texts() == truth(vendor)
    assert mirror.cursor is not None
    assert mirror.cursor["emptied"] == {}
    assert mirror.cursor["phase"] == "feed"
    places = {node.id: node.path for node in vendor.space.nodes.values() if not node.is_folder}
    assert {key: item.place for key, item in mirror.live.items()} == places
    return report


# The listing and the feed


def test_listing_names_the_root_with_the_empty_path_and_pages_to_the_end(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    for number in range(7):
        vendor.space.put(f"/Folder {number}/file {number}.txt", f"text {number}")
    vendor.page_size = 2
    report = synced(mirror, source, vendor)
    first = next(request.json for request in vendor.requests if request.path == "/2/files/list_folder")
    assert first["path"] == ""
    assert first["recursive"] is True
    assert first["include_non_downloadable_files"] is True
    assert report.pages == 7
    assert vendor.calls("list_folder/continue") == 6


def test_the_last_cursor_of_a_listing_is_the_position_of_the_feed(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/a.txt", "one")
    synced(mirror, source, vendor)
    vendor.space.put("/b.txt", "two")
    report = synced(mirror, source, vendor)
    assert report.listings == 0
    assert report.fetched == [vendor.space.at("/b.txt").id]
    assert vendor.calls("list_folder") - vendor.calls("continue") == 1


def test_what_happens_during_a_listing_is_in_it(vendor: FakeDropbox, source: Dropbox, mirror: Mirror) -> None:
    for name in "abcdef":
        vendor.space.put(f"/{name}.txt", name)
    vendor.page_size = 2
    assert mirror.sync(source, most_pages=1).pages == 1
    vendor.space.remove("/a.txt")
    vendor.space.move("/f.txt", "/0 first.txt")
    vendor.space.put("/b.txt", "edited")
    vendor.space.put("/new.txt", "new")
    synced(mirror, source, vendor)


@pytest.mark.parametrize("most_pages", range(1, 12))
def test_a_listing_that_is_stopped_after_any_page_goes_on_there(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, most_pages: int
) -> None:
    for number in range(10):
        vendor.space.put(f"/Folder {number % 3}/{number}.txt", f"text {number}")
    vendor.page_size = 1
    mirror.sync(source, most_pages=most_pages)
    vendor.requests.clear()
    synced(mirror, source, vendor)
    assert all("continue" in request.path for request in vendor.requests if "list_folder" in request.path)


def test_entries_that_repeat_and_children_before_parents_change_nothing(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    for number in range(6):
        vendor.space.put(f"/Top/Folder {number % 2}/{number}.txt", f"text {number}")
    vendor.page_size, vendor.repeats_entries, vendor.children_first = 2, True, True
    synced(mirror, source, vendor)
    vendor.space.move("/Top/Folder 1", "/Top/Other")
    report = synced(mirror, source, vendor)
    assert report.fetched == []
    assert report.deleted == []


def test_a_cursor_that_leads_back_to_itself_is_not_followed_for_ever(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/a.txt", "one")
    synced(mirror, source, vendor)
    vendor.is_stuck = True
    with pytest.raises(UnexpectedReplyError, match="repeat"):
        mirror.sync(source)


def test_an_empty_account_is_listed_completely(vendor: FakeDropbox, source: Dropbox, mirror: Mirror) -> None:
    report = synced(mirror, source, vendor)
    assert report.upserted == []
    assert mirror.cursor is not None


def test_an_empty_page_with_more_to_come_is_not_the_end(vendor: FakeDropbox, source: Dropbox, mirror: Mirror) -> None:
    synced(mirror, source, vendor)
    assert mirror.cursor is not None
    earlier = mirror.cursor["folders"][""]
    vendor.space.put("/a.txt", "one")
    synced(mirror, source, vendor)
    vendor.space.put("/b.txt", "two")
    vendor.fail("continue", answer=Answer.of({"entries": [], "cursor": earlier, "has_more": True}))
    synced(mirror, source, vendor)


# Renames and moves


@pytest.mark.parametrize("new_first", [False, True])
@pytest.mark.parametrize("page_size", [1, 2, 3, 2000])
def test_a_move_fetches_and_deletes_nothing_in_whichever_order_it_is_told(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, new_first: bool, page_size: int
) -> None:
    vendor.space.tells_new_first = new_first
    vendor.space.put("/old.txt", "one")
    vendor.space.put("/Folder/inside.txt", "two")
    synced(mirror, source, vendor)
    vendor.page_size = page_size
    vendor.space.move("/old.txt", "/Folder/new.txt")
    vendor.space.move("/Folder", "/Renamed")
    vendor.space.move("/Renamed/inside.txt", "/outside.txt")
    report = synced(mirror, source, vendor)
    assert report.fetched == []
    assert report.deleted == []


@pytest.mark.parametrize("page_size", [1, 2, 2000])
def test_two_files_that_swap_their_names_keep_their_contents(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, page_size: int
) -> None:
    vendor.space.put("/a.txt", "one")
    vendor.space.put("/b.txt", "two")
    synced(mirror, source, vendor)
    vendor.page_size = page_size
    vendor.space.move("/a.txt", "/spare.txt")
    vendor.space.move("/b.txt", "/a.txt")
    vendor.space.move("/spare.txt", "/b.txt")
    report = synced(mirror, source, vendor)
    assert report.fetched == []
    assert report.deleted == []


@pytest.mark.parametrize("most_pages", range(1, 14))
def test_a_feed_that_is_stopped_after_any_page_ends_the_same(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, most_pages: int
) -> None:
    space = vendor.space
    for path in ("/keep.txt", "/A/x.txt", "/A/y.txt", "/A/deep/z.txt", "/AB/other.txt", "/gone.txt", "/same.txt"):
        space.put(path, f"text of {path}")
    gone = {space.at(path).id for path in ("/A/y.txt", "/A/deep/z.txt", "/gone.txt", "/same.txt")}
    synced(mirror, source, vendor)
    vendor.page_size = 1
    space.move("/A/x.txt", "/x moved.txt")
    space.remove("/A")
    space.put("/A/new.txt", "came after")
    space.remove("/gone.txt")
    space.purge("/same.txt")
    space.put("/same.txt", "another one of that name")
    space.move("/AB", "/C")
    stopped = mirror.sync(source, most_pages=most_pages)
    rest = synced(mirror, source, vendor)
    assert {*stopped.deleted, *rest.deleted} == gone
    fetched = [*stopped.fetched, *rest.fetched]
    assert sorted(fetched) == sorted([space.at("/A/new.txt").id, space.at("/same.txt").id])


def test_a_renamed_folder_gives_all_below_new_paths_without_fetching(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    for number in range(5):
        vendor.space.put(f"/Old/Sub {number}/{number}.txt", f"text {number}")
    synced(mirror, source, vendor)
    vendor.page_size = 2
    vendor.space.move("/Old", "/New")
    report = synced(mirror, source, vendor)
    assert report.fetched == []
    assert report.deleted == []
    assert all(item.external_path.startswith("New/Sub") for item in mirror.live.values())
    assert not any(box.startswith("/old") for box in mirror.boxes)


# Case


def test_a_case_only_rename_is_described_and_not_fetched(vendor: FakeDropbox, source: Dropbox, mirror: Mirror) -> None:
    vendor.space.tells_case_renames = True
    vendor.space.put("/Folder/Notes.txt", "one")
    synced(mirror, source, vendor)
    vendor.space.move("/Folder/Notes.txt", "/Folder/NOTES.txt")
    report = synced(mirror, source, vendor)
    assert report.upserted == [vendor.space.at("/folder/notes.txt").id]
    assert report.fetched == []
    assert report.deleted == []
    assert list(mirror.texts()) == ["Folder/NOTES.txt"]


def test_a_case_only_rename_that_the_feed_leaves_out_is_found_by_a_full_listing(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/Folder/Notes.txt", "one")
    synced(mirror, source, vendor)
    vendor.space.move("/Folder/Notes.txt", "/Folder/NOTES.txt")
    vendor.space.move("/Folder", "/FOLDER")
    mirror.sync(source)
    assert list(mirror.texts()) == ["Folder/Notes.txt"]
    report = synced(mirror, source, vendor, full=True)
    assert list(mirror.texts()) == ["FOLDER/NOTES.txt"]
    assert report.fetched == []


@pytest.mark.parametrize("most_pages", [1, 2, 3, None])
def test_a_folder_in_another_case_mends_every_path_below_it_though_the_run_is_stopped(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, most_pages: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dropbox, "page_size", 2)
    vendor.space.tells_case_renames = True
    for number in range(5):
        vendor.space.put(f"/Folder/Sub/{number}.txt", f"text {number}")
    vendor.space.put("/Folder X/other.txt", "another folder")
    synced(mirror, source, vendor)
    vendor.space.move("/Folder", "/FOLDER")
    stopped = mirror.sync(source, most_pages=most_pages)
    report = synced(mirror, source, vendor)
    assert stopped.fetched + report.fetched == []
    assert all(
        item.external_path.startswith("FOLDER/Sub/") for item in mirror.live.values() if "Sub" in item.external_path
    )


def test_a_full_listing_that_finds_a_folder_in_another_case_does_not_revive_what_is_gone_below_it(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/Folder/a.txt", "stays")
    gone = vendor.space.put("/Folder/b.txt", "goes").id
    synced(mirror, source, vendor)
    vendor.space.move("/Folder", "/FOLDER")
    vendor.space.remove("/Folder/b.txt")
    report = synced(mirror, source, vendor, full=True)
    assert report.deleted == [gone]


def test_a_second_full_listing_forgets_no_folder(vendor: FakeDropbox, source: Dropbox, mirror: Mirror) -> None:
    """What a complete listing does not tell of is forgotten, so it tells of folders that it knows already as well."""
    vendor.space.put("/Folder/Sub/a.txt", "one")
    vendor.space.put("/Folder/b.txt", "two")
    synced(mirror, source, vendor)
    boxes = dict(mirror.boxes)
    synced(mirror, source, vendor, full=True)
    assert mirror.boxes == boxes
    vendor.space.remove("/Folder/Sub")
    synced(mirror, source, vendor)
    assert list(mirror.texts()) == ["Folder/b.txt"]


def test_paths_come_from_folders_since_a_path_shows_stale_case_above_its_last_step(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/reports/a.txt", "one")
    vendor.space.move("/reports", "/Reports")
    vendor.space.put("/rEPORTS/b.txt", "two")
    entries = [node.entry()["path_display"] for node in vendor.space.below("/reports")]
    assert entries == ["/reports/a.txt", "/rEPORTS/b.txt"]
    synced(mirror, source, vendor)
    assert sorted(mirror.texts()) == ["Reports/a.txt", "Reports/b.txt"]


# Deletions


def test_a_deleted_folder_takes_what_is_below_it_and_not_its_namesakes(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    for path in ("/a/1.txt", "/a/b/2.txt", "/ab/3.txt", "/a.txt", "/a b/4.txt", "/a0/5.txt", "/a-/6.txt"):
        vendor.space.put(path, path)
    gone = {vendor.space.at("/a/1.txt").id, vendor.space.at("/a/b/2.txt").id}
    synced(mirror, source, vendor)
    vendor.space.remove("/A")
    assert sum(event.entry[".tag"] == "deleted" for event in vendor.space.log) == 1
    assert set(synced(mirror, source, vendor).deleted) == gone
    assert "/a" not in mirror.boxes
    assert "/ab" in mirror.boxes


def test_what_is_deleted_and_made_anew_under_the_same_name_is_another_item(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    old = vendor.space.put("/a.txt", "one").id
    synced(mirror, source, vendor)
    vendor.space.remove("/a.txt")
    new = vendor.space.put("/a.txt", "two").id
    report = synced(mirror, source, vendor)
    assert old != new
    assert report.deleted == [old]
    assert report.fetched == [new]


@pytest.mark.parametrize("page_size", [1, 2000])
def test_a_folder_deleted_and_made_anew_keeps_only_what_came_after(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, page_size: int
) -> None:
    vendor.space.put("/A/old.txt", "old")
    vendor.space.put("/A/back.txt", "moved out and back in")
    synced(mirror, source, vendor)
    vendor.page_size = page_size
    vendor.space.move("/A/back.txt", "/back.txt")
    vendor.space.remove("/A")
    vendor.space.put("/A/new.txt", "new")
    vendor.space.move("/back.txt", "/A/back.txt")
    report = synced(mirror, source, vendor)
    assert len(report.deleted) == 1
    assert report.fetched == [vendor.space.at("/A/new.txt").id]


@pytest.mark.parametrize("page_size", [1, 2000])
def test_what_comes_into_an_emptied_folder_and_is_deleted_again_goes_as_well(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, page_size: int
) -> None:
    vendor.space.put("/A/old.txt", "old")
    vendor.space.put("/elsewhere.txt", "known before")
    synced(mirror, source, vendor)
    vendor.page_size = page_size
    vendor.space.remove("/A")
    vendor.space.put("/A/stays.txt", "new")
    vendor.space.move("/elsewhere.txt", "/A/goes.txt")
    vendor.space.remove("/A/goes.txt")
    synced(mirror, source, vendor)


@pytest.mark.parametrize("page_size", [1, 2, 2000])
def test_what_comes_to_an_emptied_place_and_is_replaced_there_goes_as_well(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, page_size: int
) -> None:
    vendor.space.put("/x.txt", "first")
    vendor.space.put("/second.txt", "known before")
    vendor.space.put("/third.txt", "known before")
    synced(mirror, source, vendor)
    vendor.page_size = page_size
    for name in ("second", "third"):
        vendor.space.purge("/x.txt")
        vendor.space.move(f"/{name}.txt", "/x.txt")
    vendor.space.purge("/x.txt")
    vendor.space.put("/x.txt", "fourth")
    synced(mirror, source, vendor)


@pytest.mark.parametrize("page_size", [1, 2000])
def test_a_file_in_a_folders_place_drops_its_children(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, page_size: int
) -> None:
    vendor.space.put("/thing/child.txt", "one")
    vendor.space.put("/thing/sub/grandchild.txt", "two")
    synced(mirror, source, vendor)
    vendor.page_size = page_size
    vendor.space.put_over_folder("/thing", "now a file")
    assert len(mirror.sync(source).deleted) == 2
    assert [item.place for item in mirror.live.values()] == ["/thing"]
    assert mirror.boxes == {}


@pytest.mark.parametrize("page_size", [1, 2000])
def test_a_folder_in_a_files_place_replaces_it_and_a_folder_again_keeps_its_children(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, page_size: int
) -> None:
    old = vendor.space.put("/thing", "a file").id
    vendor.space.put("/Folder/child.txt", "stays")
    mirror.sync(source)
    vendor.page_size = page_size
    vendor.space.mkdir_over_file("/thing")
    vendor.space.put("/thing/child.txt", "one")
    vendor.space._log(vendor.space.at("/Folder"))
    report = synced(mirror, source, vendor)
    assert old not in mirror.live
    assert report.fetched == [vendor.space.at("/thing/child.txt").id]


@pytest.mark.parametrize("page_size", [1, 2000])
def test_another_file_at_the_same_path_replaces_the_one_before(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, page_size: int
) -> None:
    old = vendor.space.put("/a.txt", "one").id
    synced(mirror, source, vendor)
    vendor.page_size = page_size
    middle = vendor.space.put_over_file("/a.txt", "two").id
    vendor.space.put_over_file("/A.txt", "three")
    report = synced(mirror, source, vendor)
    assert set(report.deleted) - {middle} == {old}


def test_a_deletion_of_what_is_not_known_is_ignored(vendor: FakeDropbox, source: Dropbox, mirror: Mirror) -> None:
    synced(mirror, source, vendor)
    vendor.space.put("/never seen.txt", "one")
    vendor.space.remove("/never seen.txt")
    report = mirror.sync(source)
    assert mirror.live == {}
    assert report.failures == []


def test_a_restored_folder_comes_back_with_the_same_items(vendor: FakeDropbox, source: Dropbox, mirror: Mirror) -> None:
    vendor.space.put("/A/1.txt", "one")
    vendor.space.put("/A/2.txt", "two")
    synced(mirror, source, vendor)
    removed = vendor.space.remove("/A")
    synced(mirror, source, vendor)
    vendor.space.restore(removed)
    assert len(synced(mirror, source, vendor).fetched) == 2


def test_a_folder_removed_and_restored_between_two_syncs_is_not_touched(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/A/1.txt", "one")
    synced(mirror, source, vendor)
    vendor.space.restore(vendor.space.remove("/A"))
    report = synced(mirror, source, vendor)
    assert report.fetched == []
    assert report.deleted == []


@pytest.mark.parametrize("most_pages", [1, 3, 5, 8, None])
def test_more_emptied_places_than_a_cursor_carries_are_worked_off_on_the_way(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, most_pages: int | None
) -> None:
    monkeypatch.setattr(feed_module, "MOST_EMPTIED", 6)
    for number in range(30):
        vendor.space.put(f"/{number:02}.txt", f"text {number}")
    vendor.space.put("/Folder/inside.txt", "moves")
    synced(mirror, source, vendor)
    vendor.page_size = 4
    vendor.space.move("/Folder", "/Moved")
    for number in range(30):
        if number % 3 == 0:
            vendor.space.move(f"/{number:02}.txt", f"/moved {number}.txt")
        else:
            vendor.space.remove(f"/{number:02}.txt")
    weights = []
    mirror.sync(source, most_pages=most_pages)
    if mirror.resume is not None:
        weights.append(len(mirror.resume["cursor"]["emptied"]))  # type: ignore[index]
    report = synced(mirror, source, vendor)
    assert max(weights, default=0) <= 6 + 4
    assert vendor.space.at("/Moved/inside.txt").id not in report.fetched


@pytest.mark.parametrize("others", ["moved", "deleted"])
def test_a_rename_told_pages_apart_is_one_though_more_happens_in_between_than_a_cursor_carries(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    monkeypatch.setattr(feed_module, "MOST_EMPTIED", 4)
    space = vendor.space
    for name in ("x", "a", "b", "c", "d", "e", "f"):
        space.put(f"/{name}.txt", name)
    synced(mirror, source, vendor)
    vendor.page_size = 6
    if others == "deleted":
        for name in "abcde":
            space.remove(f"/{name}.txt")
    space.move("/x.txt", "/y.txt")
    late = space.log.pop()
    if others == "moved":
        for name in "abcdef":
            space.move(f"/{name}.txt", f"/{name} moved.txt")
    space.log.append(late)
    assert synced(mirror, source, vendor).fetched == []


@pytest.mark.parametrize("most_pages", range(1, 9))
def test_a_listing_stopped_before_its_removals_still_ends_as_a_complete_one(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror, most_pages: int
) -> None:
    for name in ("a", "b", "c", "gone"):
        vendor.space.put(f"/{name}.txt", name)
    synced(mirror, source, vendor)
    vendor.space.remove("/gone.txt")
    vendor.expire_cursors()
    vendor.page_size = 1
    mirror.sync(source, most_pages=1)
    vendor.space.remove("/a.txt")
    mirror.sync(source, most_pages=most_pages)
    synced(mirror, source, vendor)


# Expiry, roots, scopes, sharing


def test_reset_lists_everything_anew_and_finds_what_was_deleted_meanwhile(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/a.txt", "one")
    vendor.space.put("/b.txt", "two")
    synced(mirror, source, vendor)
    vendor.space.remove("/a.txt")
    vendor.space.put("/c.txt", "three")
    vendor.expire_cursors()
    report = synced(mirror, source, vendor)
    assert report.listings == 1
    assert report.fetched == [vendor.space.at("/c.txt").id]
    assert len(report.deleted) == 1


def test_reset_in_the_middle_of_a_listing_expires_its_cursor(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/a.txt", "one")
    vendor.space.put("/b.txt", "two")
    vendor.page_size = 1
    mirror.sync(source, most_pages=1)
    vendor.expire_cursors()
    with pytest.raises(CursorExpiredError):
        mirror.sync(source)
    synced(mirror, source, vendor)


@pytest.mark.parametrize("stored", [{}, {"v": 2}, {"v": 1, "folders": []}, {"cursor": "AAF"}])
def test_a_position_of_another_version_is_as_good_as_expired(source: Dropbox, mirror: Mirror, stored: Any) -> None:
    with pytest.raises(CursorExpiredError):
        list(source.pages(stored, mirror, JobType.DELTA))


def test_a_new_path_root_lists_anew_under_it_and_every_call_names_it(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/Docs/a.txt", "one")
    vendor.space.put("/b.txt", "two")
    synced(mirror, source, vendor)
    assert not any("dropbox-api-path-root" in request.headers for request in vendor.requests)
    vendor.join_team("/Ann Example")
    vendor.space.put("/Team Folder/c.txt", "three")
    vendor.requests.clear()
    report = synced(mirror, source, vendor)
    assert report.listings == 1
    assert report.deleted == []
    assert report.fetched == [vendor.space.at("/Team Folder/c.txt").id]
    assert "Ann Example/Docs/a.txt" in mirror.texts()
    named = [request for request in vendor.requests if "/files/" in request.path]
    assert {request.headers.get("dropbox-api-path-root") for request in named} == {'{".tag": "root", "root": "2002"}'}
    assert mirror.cursor is not None
    assert mirror.cursor["root"] == "2002"


def test_a_root_that_changes_between_two_calls_expires_the_cursor(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.join_team("/Ann Example")
    vendor.space.put("/a.txt", "one")
    vendor.space.put("/b.txt", "two")
    vendor.page_size = 1
    pages = source.pages(None, mirror, JobType.DELTA)
    next(pages)
    vendor.user.root_namespace = "3003"
    with pytest.raises(CursorExpiredError, match="root"):
        list(pages)
    assert source.probe("before", {"v": 1}) != "before"
    synced(mirror, source, vendor)


def test_a_fetch_under_an_old_root_reads_the_new_one_and_goes_on(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.join_team("/Ann Example")
    vendor.space.put("/a.txt", "one")
    synced(mirror, source, vendor)
    vendor.user.root_namespace = "3003"
    (item,) = mirror.live.values()
    assert source.fetch(item).body == b"one"


def test_another_account_does_not_go_on_with_the_cursor_of_the_first(
    vendor: FakeDropbox, opened: Opened, mirror: Mirror
) -> None:
    vendor.space.put("/a.txt", "one")
    mirror.sync(opened())
    other = vendor.add_user("other-token", "bob@example.com")
    other.space.put("/b.txt", "two")
    report = mirror.sync(opened(StaticToken("other-token")))
    assert report.listings == 1
    assert list(mirror.texts()) == ["b.txt"]


def test_each_picked_folder_has_a_cursor_of_its_own(vendor: FakeDropbox, opened: Opened, mirror: Mirror) -> None:
    source = opened(folders=["/One", "/TWO/deep"])
    for path in ("/One/a.txt", "/Two/deep/b.txt", "/Two/c.txt", "/One more/d.txt"):
        vendor.space.put(path, path)
    mirror.sync(source)
    assert sorted(mirror.texts()) == ["One/a.txt", "Two/deep/b.txt"]
    assert mirror.cursor is not None
    assert sorted(mirror.cursor["folders"]) == ["/One", "/TWO/deep"]
    vendor.space.move("/One/a.txt", "/Two/deep/a.txt")
    vendor.space.move("/Two/deep/b.txt", "/Two/b.txt")
    vendor.space.move("/Two/c.txt", "/One/c.txt")
    report = mirror.sync(source)
    assert sorted(mirror.texts()) == ["One/c.txt", "Two/deep/a.txt"]
    assert report.fetched == [vendor.space.at("/One/c.txt").id]


@pytest.mark.parametrize("most_pages", range(1, 7))
def test_a_listing_of_several_folders_resumes_in_the_folder_where_it_stopped(
    vendor: FakeDropbox, opened: Opened, mirror: Mirror, most_pages: int
) -> None:
    source = opened(folders=["/One", "/Two"])
    for path in ("/One/a.txt", "/One/b.txt", "/Two/c.txt", "/Two/d.txt"):
        vendor.space.put(path, path)
    vendor.page_size = 1
    mirror.sync(source, most_pages=most_pages)
    mirror.sync(source)
    assert len(mirror.texts()) == 4
    assert vendor.calls("list_folder") - vendor.calls("continue") == 2


def test_a_picked_folder_that_is_not_there_is_an_error_and_not_an_empty_listing(
    vendor: FakeDropbox, opened: Opened, mirror: Mirror
) -> None:
    vendor.space.put("/Here/a.txt", "one")
    vendor.space.put("/file.txt", "no folder")
    for folder in ("/Gone", "/file.txt"):
        with pytest.raises(InvalidRequestError, match=folder):
            mirror.sync(opened(folders=[folder]))
    source = opened(folders=["/Here"])
    mirror.sync(source)
    vendor.space.move("/Here", "/There")
    with pytest.raises(InvalidRequestError, match="/Here"):
        mirror.sync(source)
    assert list(mirror.texts()) == ["Here/a.txt"]


def test_what_leaves_and_enters_the_picked_folder_is_deleted_and_added(
    vendor: FakeDropbox, opened: Opened, mirror: Mirror
) -> None:
    source = opened(folders=["/In"])
    vendor.space.put("/In/stays.txt", "one")
    vendor.space.put("/In/leaves.txt", "two")
    vendor.space.put("/Out/enters.txt", "three", age=timedelta(days=400))
    mirror.sync(source)
    leaves = vendor.space.at("/In/leaves.txt").id
    vendor.space.move("/In/leaves.txt", "/Out/leaves.txt")
    vendor.space.move("/Out/enters.txt", "/In/enters.txt")
    report = mirror.sync(source)
    assert report.deleted == [leaves]
    assert sorted(mirror.texts()) == ["In/enters.txt", "In/stays.txt"]


def test_a_mounted_folder_appears_with_its_old_files_and_goes_when_it_is_unmounted(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/mine.txt", "one")
    synced(mirror, source, vendor)
    vendor.space.mount("/Shared", {"old.txt": "a year old"}, age=timedelta(days=365))
    assert len(synced(mirror, source, vendor).fetched) == 1
    vendor.space.purge("/Shared")
    assert len(synced(mirror, source, vendor).deleted) == 1


def test_shared_folders_can_be_left_out(vendor: FakeDropbox, opened: Opened, mirror: Mirror) -> None:
    vendor.space.put("/mine.txt", "one")
    vendor.space.mount("/Shared", {"theirs.txt": "two"})
    source = opened(include_shared=False)
    mirror.sync(source)
    vendor.space.put("/Shared/more.txt", "three")
    mirror.sync(source)
    assert list(mirror.texts()) == ["mine.txt"]
    assert source.scope != opened().scope


@pytest.mark.parametrize(
    ("folders", "listed"),
    [
        (["/A/", "/a", "/A/b"], ["/A"]),
        (["/b", "/A"], ["/A", "/b"]),
        (["/"], []),
        (["/A", ""], []),
        (["/ab", "/a"], ["/a", "/ab"]),
    ],
)
def test_folders_are_picked_once_whatever_their_spelling(opened: Opened, folders: list[str], listed: list[str]) -> None:
    assert opened(folders=folders).scope == opened(folders=listed).scope


@pytest.mark.parametrize("folders", [["A"], ["id:x"], ["/A//B"], "/A", [1]])
def test_folders_that_are_no_paths_are_refused(opened: Opened, folders: Any) -> None:
    with pytest.raises(InvalidRequestError, match="folders"):
        opened(folders=folders)


# Probing


def test_a_probe_is_one_call_and_differs_only_when_there_is_news(
    vendor: FakeDropbox, source: Dropbox, mirror: Mirror
) -> None:
    vendor.space.put("/a.txt", "one")
    synced(mirror, source, vendor)
    first = source.probe(None, mirror.cursor)
    calls = source.provider_calls
    assert source.probe(first, mirror.cursor) == first
    assert source.provider_calls == calls + 1
    vendor.space.remove("/a.txt")
    second = source.probe(first, mirror.cursor)
    assert second != first
    assert source.probe(second, mirror.cursor) == second
    synced(mirror, source, vendor)
    assert source.probe(second, mirror.cursor) == second
    vendor.expire_cursors()
    assert source.probe(second, mirror.cursor) != second
    assert source.probe(second, None) != second
