"""Google Drive: what is listed, what its log tells, and where things lie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.google_drive import FakeGoogleDrive
from tests.fakes.google_drive_state import COLLEAGUE, ME
from tests.sources.google_drive_account import Account
from workstation_pipelines.errors import CursorExpiredError, InvalidRequestError, ReauthorizeError
from workstation_pipelines.model import ChangeKind, JobType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.google_drive.connector import GoogleDrive


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeGoogleDrive]:
    with FakeGoogleDrive() as opened:
        yield opened


@pytest.fixture
def account(fake: FakeGoogleDrive) -> Iterator[Account]:
    with Account(fake) as opened:
        yield opened


def test_everything_that_the_account_sees_is_found_at_its_path(account: Account) -> None:
    state = account.state
    plans = state.add_folder("Plans")
    state.add_file("a.txt", "alpha", state.add_folder("2026", plans))
    state.add_file("b.txt", "beta")
    state.add_file("c.txt", "gamma", owner=COLLEAGUE, readers={ME})
    team = state.add_folder("Team", owner=COLLEAGUE, readers={ME})
    state.add_file("d.txt", "delta", team, owner=COLLEAGUE)
    state.add_file("hidden.txt", "not ours", owner=COLLEAGUE)
    state.add_file("e.txt", "epsilon", state.add_folder("Q1/Q2", state.add_drive("Sales")))
    account.sync()
    assert account.texts() == {
        "My Drive/Plans/2026/a.txt": "alpha",
        "My Drive/b.txt": "beta",
        "Shared with me/c.txt": "gamma",
        "Shared with me/Team/d.txt": "delta",
        "Shared drives/Sales/Q1\N{DIVISION SLASH}Q2/e.txt": "epsilon",
    }


def test_files_of_the_same_name_in_one_folder_are_two_items(account: Account) -> None:
    first, second = account.state.add_file("same.txt", "one"), account.state.add_file("same.txt", "two")
    account.sync()
    assert {key: content.body for key, content in account.mirror.contents.items()} == {first: b"one", second: b"two"}


def test_what_changes_while_everything_is_listed_is_found_by_the_next_delta(account: Account) -> None:
    keys = [account.state.add_file(f"{number}.txt", "before") for number in range(4)]
    account.fake.page_cap = 2
    done: list[str] = []

    def edit_once() -> None:
        if not done and account.fake.calls("/files") > 2:
            done.append(account.state.add_file("late.txt", "made meanwhile"))
            account.state.delete(keys[0])

    account.fake.meanwhile = edit_once
    account.sync()
    account.sync()
    assert done
    assert account.paths() == ["My Drive/1.txt", "My Drive/2.txt", "My Drive/3.txt", "My Drive/late.txt"]


def test_a_delta_without_changes_takes_one_call_and_fetches_nothing(account: Account) -> None:
    account.state.add_file("a.txt", "alpha")
    account.sync()
    before = len(account.fake.requests)
    assert account.sync().upserted == []
    assert len(account.fake.requests) - before == 1


def test_an_edit_is_fetched_and_a_touch_is_not(account: Account) -> None:
    key, other = account.state.add_file("a.txt", "alpha"), account.state.add_file("b.txt", "beta")
    doc = account.state.add_doc("Minutes", "# Minutes")
    account.sync()
    account.state.edit(key, "alpha two")
    account.state.touch(other)
    account.state.touch(doc)
    report = account.sync()
    assert report.fetched == [key]
    assert sorted(report.upserted) == sorted([key, other, doc])


def test_an_upload_with_an_old_modification_time_is_found(account: Account) -> None:
    account.sync()
    key = account.state.add_file("old.txt", "from my disk")
    account.state.nodes[key].modified = account.state.nodes[key].modified.replace(year=2009)
    assert account.sync().fetched == [key]


def test_trash_deletes_and_restoring_brings_an_old_file_back(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.state.nodes[key].modified = account.state.nodes[key].modified.replace(year=2009)
    account.sync()
    account.state.trash(key)
    assert account.sync().deleted == [key]
    account.state.restore(key)
    account.sync()
    assert account.texts() == {"My Drive/a.txt": "alpha"}


def test_a_trashed_folder_takes_its_content_along_and_brings_it_back(account: Account) -> None:
    outer = account.state.add_folder("Outer")
    keys = {account.state.add_file("a.txt", "alpha", account.state.add_folder("Inner", outer))}
    keys |= {account.state.add_file("b.txt", "beta", outer)}
    account.sync()
    account.state.trash(outer)
    assert set(account.sync().deleted) == keys
    account.state.restore(outer)
    account.sync()
    assert account.texts() == {"My Drive/Outer/Inner/a.txt": "alpha", "My Drive/Outer/b.txt": "beta"}
    account.state.rename(outer, "Again")
    account.sync()
    assert account.paths() == ["My Drive/Again/Inner/a.txt", "My Drive/Again/b.txt"]


def test_a_deleted_folder_does_not_take_along_what_others_own_in_it(account: Account) -> None:
    folder = account.state.add_folder("Common")
    mine = account.state.add_file("mine.txt", "mine", folder)
    account.state.add_file("theirs.txt", "theirs", folder, owner=COLLEAGUE, readers={ME})
    account.sync()
    account.state.delete(folder)
    assert account.sync().deleted == [mine]
    assert account.texts() == {"Shared with me/theirs.txt": "theirs"}


def test_a_renamed_folder_gives_new_paths_and_fetches_nothing(account: Account) -> None:
    top = account.state.add_folder("Top")
    for number in range(5):
        account.state.add_file(f"{number}.txt", str(number), account.state.add_folder(f"F{number}", top))
    account.sync()
    account.state.rename(top, "Bottom")
    report = account.sync()
    assert (report.fetched, len(report.upserted)) == ([], 5)
    assert account.paths() == [f"My Drive/Bottom/F{number}/{number}.txt" for number in range(5)]


def test_a_file_edited_and_its_folder_renamed_in_one_page_has_the_new_path_and_the_new_text(account: Account) -> None:
    folder = account.state.add_folder("Before")
    key = account.state.add_file("a.txt", "old", folder)
    account.sync()
    account.state.edit(key, "new")
    account.state.rename(folder, "After")
    account.sync()
    assert account.texts() == {"My Drive/After/a.txt": "new"}


@pytest.mark.parametrize("page_cap", [1, 2, 1000])
def test_pages_of_any_size_show_the_same(account: Account, page_cap: int) -> None:
    account.fake.page_cap = page_cap
    folder = account.state.add_folder("Folder")
    for number in range(5):
        account.state.add_file(f"{number}.txt", str(number), folder)
    account.sync()
    moved = account.state.add_folder("Moved", folder)
    account.state.add_file("new.txt", "new", moved)
    account.state.rename(folder, "Renamed")
    account.sync()
    expected = {f"My Drive/Renamed/{number}.txt": str(number) for number in range(5)}
    assert account.texts() == {**expected, "My Drive/Renamed/Moved/new.txt": "new"}


def test_a_file_told_of_before_its_folder_ends_up_below_it(account: Account) -> None:
    account.sync()
    account.fake.page_cap = 1
    folder = account.state.add_folder("Late")
    account.state.add_file("early.txt", "early", folder)
    account.state.touch(folder)  # its entry is now behind the file's
    account.sync()
    assert account.texts() == {"My Drive/Late/early.txt": "early"}


def test_pages_that_show_files_twice_and_in_another_order_change_nothing(account: Account) -> None:
    account.fake.page_cap, account.fake.repeats, account.fake.is_reversed = 2, True, True
    for number in range(6):
        account.state.add_file(f"{number}.txt", str(number), account.state.add_folder(f"F{number}"))
    report = account.sync()
    assert len(report.fetched) == 6
    assert account.paths() == [f"My Drive/F{number}/{number}.txt" for number in range(6)]


@pytest.mark.parametrize("killed_after", range(1, 11))
def test_a_listing_killed_after_any_page_goes_on_where_it_was(account: Account, killed_after: int) -> None:
    account.fake.page_cap = 2
    drive = account.state.add_drive("Sales")
    for number in range(3):
        account.state.add_file(f"{number}.txt", str(number), account.state.add_folder(f"F{number}"))
        account.state.add_file(f"s{number}.txt", f"s{number}", account.state.add_folder(f"S{number}", drive))
    account.sync(most_pages=killed_after)
    assert account.mirror.resume is not None
    assert account.sync().listings == 0
    assert account.paths() == sorted(
        [f"My Drive/F{number}/{number}.txt" for number in range(3)]
        + [f"Shared drives/Sales/S{number}/s{number}.txt" for number in range(3)]
    )


@pytest.mark.parametrize("killed_after", range(1, 9))
def test_a_delta_killed_after_any_page_loses_nothing(account: Account, killed_after: int) -> None:
    account.config = {"folders": [account.state.add_folder("Picked")]}
    picked = account.config["folders"][0]
    outside = account.state.add_folder("Outside")
    account.state.add_file("kept.txt", "kept", outside)
    inner = account.state.add_folder("Inner", outside)
    account.state.add_file("deep.txt", "deep", inner)
    account.state.add_file("here.txt", "here", picked)
    account.sync()
    account.fake.page_cap = 1
    account.state.move(outside, picked)
    account.state.rename(picked, "Renamed")
    account.state.add_file("new.txt", "new", picked)
    account.sync(most_pages=killed_after)
    account.sync()
    account.sync()
    assert account.texts() == {
        "My Drive/Renamed/here.txt": "here",
        "My Drive/Renamed/new.txt": "new",
        "My Drive/Renamed/Outside/kept.txt": "kept",
        "My Drive/Renamed/Outside/Inner/deep.txt": "deep",
    }


def test_rejected_page_tokens_start_only_their_corpus_over(account: Account) -> None:
    account.fake.page_cap = 2
    for number in range(5):
        account.state.add_file(f"{number}.txt", str(number))
    account.sync(most_pages=4)
    account.fake.expire_page_tokens()
    report = account.sync()
    assert report.listings == 0
    assert len(account.paths()) == 5


def test_an_incomplete_search_deletes_nothing(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.fake.is_incomplete = True
    account.state.nodes[key].readers.clear()
    del account.state.nodes[key]
    report = account.sync(full=True)
    assert report.deleted == []
    assert set(report.failures) == {"user"}


def test_a_complete_listing_deletes_what_is_gone_without_a_word(account: Account) -> None:
    key = account.state.add_file("shared.txt", "shared", owner=COLLEAGUE, readers={ME})
    account.sync()
    account.state.unshare(key, is_told=False)
    assert account.sync().deleted == []
    assert account.sync(full=True).deleted == [key]


def test_a_file_that_a_listing_skips_by_mistake_is_asked_for_before_it_is_given_up(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.fake.sees_own_files_only = True  # listings come empty, as a broken index shows them
    report = account.sync(full=True)
    assert report.deleted == []
    assert report.upserted == [key]


def test_unsharing_deletes_and_sharing_an_old_file_adds(account: Account) -> None:
    key = account.state.add_file("old.txt", "old", owner=COLLEAGUE)
    account.state.make_old(key)
    account.sync()
    account.state.share(key)
    assert account.sync().fetched == [key]
    account.state.unshare(key)
    assert account.sync().deleted == [key]


def test_a_shared_folder_comes_with_its_old_content_and_goes_with_it(account: Account) -> None:
    team = account.state.add_folder("Team", owner=COLLEAGUE)
    key = account.state.add_file(
        "a.txt", "alpha", account.state.add_folder("Inner", team, owner=COLLEAGUE), owner=COLLEAGUE
    )
    account.state.make_old(team)
    account.sync()
    account.state.share(team)
    account.sync()
    assert account.texts() == {"Shared with me/Team/Inner/a.txt": "alpha"}
    account.state.unshare(team)
    assert account.sync().deleted == [key]


def test_what_others_share_can_be_left_out(account: Account) -> None:
    account.config = {"include_shared_with_me": False}
    account.state.add_file("mine.txt", "mine")
    account.state.add_file("theirs.txt", "theirs", owner=COLLEAGUE, readers={ME})
    team = account.state.add_folder("Team", owner=COLLEAGUE, readers={ME})
    account.state.add_file("in team.txt", "team", team, owner=COLLEAGUE)
    account.sync()
    account.state.share(account.state.add_file("later.txt", "later", owner=COLLEAGUE))
    account.sync()
    assert account.paths() == ["My Drive/mine.txt"]


def test_only_picked_folders_are_read_and_moves_across_their_border_add_and_delete(account: Account) -> None:
    picked, outside = account.state.add_folder("Picked"), account.state.add_folder("Outside")
    inner = account.state.add_folder("Inner", outside)
    key = account.state.add_file("a.txt", "alpha", inner)
    account.state.add_file("out.txt", "out", outside)
    account.config = {"folders": [picked]}
    account.sync()
    assert account.paths() == []
    account.state.move(inner, picked)
    account.sync()
    assert account.texts() == {"My Drive/Picked/Inner/a.txt": "alpha"}
    account.state.move(inner, outside)
    assert account.sync().deleted == [key]
    account.state.move(key, picked)
    account.sync()
    assert account.texts() == {"My Drive/Picked/a.txt": "alpha"}


def test_changes_elsewhere_in_the_account_are_no_items(account: Account) -> None:
    picked, outside = account.state.add_folder("Picked"), account.state.add_folder("Outside")
    account.config = {"folders": [picked]}
    account.sync()
    account.state.edit(account.state.add_file("out.txt", "out", outside), "more")
    assert account.sync().upserted == []


def test_root_picks_my_drive_and_nothing_else(account: Account) -> None:
    account.config = {"folders": ["root"]}
    account.state.add_file("a.txt", "alpha", account.state.add_folder("Deep"))
    account.state.add_file("theirs.txt", "theirs", owner=COLLEAGUE, readers={ME})
    account.state.add_file("sold.txt", "sold", account.state.add_drive("Sales"))
    account.sync()
    account.state.add_file("b.txt", "beta")
    account.sync()
    assert account.paths() == ["My Drive/Deep/a.txt", "My Drive/b.txt"]


def test_a_picked_folder_that_is_gone_is_told_of(account: Account) -> None:
    gone = account.state.add_folder("Gone")
    account.state.delete(gone)
    account.config = {"folders": [gone, account.state.add_file("a.txt", "alpha")]}
    assert len(account.sync().failures) == 2


def test_a_folder_in_a_picked_folder_that_is_picked_itself_stays_when_it_moves_out(account: Account) -> None:
    outer = account.state.add_folder("Outer")
    inner = account.state.add_folder("Inner", outer)
    account.state.add_file("a.txt", "alpha", inner)
    account.config = {"folders": [outer, inner]}
    account.sync()
    account.state.move(inner, account.state.root())
    account.sync()
    assert account.paths() == ["My Drive/Inner/a.txt"]


def test_a_shortcut_is_no_item_and_its_target_is_indexed_once(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    folder = account.state.add_folder("Folder")
    account.state.add_shortcut("to a", key, folder)
    account.state.add_shortcut("to my own parent", folder, folder)
    account.state.add_shortcut("dangling", "1Gone", folder)
    account.sync()
    account.state.add_shortcut("another", key)
    account.sync()
    assert list(account.mirror.live) == [key]


def test_folders_in_a_circle_end(account: Account) -> None:
    first = account.state.add_folder("First")
    second = account.state.add_folder("Second", first)
    account.state.add_file("a.txt", "alpha", second)
    account.sync()
    account.state.nodes[first].parent = second  # what a race between two moves has been seen to leave
    account.state.nodes[first].readers.add(ME)
    account.state.touch(first)
    account.sync()
    account.config = {"folders": [first]}
    account.sync()
    assert [item.title for item in account.mirror.live.values()] == ["a.txt"]


def test_an_expired_change_token_lists_everything_in_the_same_sync(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.fake.expire_change_tokens()
    account.state.delete(key)
    account.state.add_file("b.txt", "beta")
    report = account.sync()
    assert report.listings == 1
    assert account.texts() == {"My Drive/b.txt": "beta"}


@pytest.mark.parametrize(
    "cursor",
    [{"v": 2, "tokens": {"user": "1"}}, {"v": 1}, {"v": 1, "tokens": {"user": 7}}, {"v": 1, "tokens": ["user"]}],
)
def test_a_cursor_of_another_shape_is_an_expired_one(account: Account, cursor: dict[str, object]) -> None:
    source = account.open()
    with pytest.raises(CursorExpiredError):
        list(source.pages(cursor, account.mirror, JobType.DELTA))
    source.close()


def test_a_probe_differs_only_when_there_is_something_to_sync(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.sync()
    source = account.open()
    quiet = source.probe("earlier", account.mirror.cursor)
    assert quiet == "earlier"
    account.state.add_file("a.txt", "alpha", drive)
    told = source.probe("earlier", account.mirror.cursor)
    assert told != "earlier"
    assert source.probe(told, account.mirror.cursor) != told
    account.sync()
    assert source.probe(told, account.mirror.cursor) == told
    account.fake.expire_change_tokens()
    assert source.probe(told, account.mirror.cursor) != told
    assert source.probe(told, None) != told
    source.close()


def test_a_probe_asks_for_one_entry_and_hardly_any_of_it(account: Account) -> None:
    account.sync()
    source = account.open()
    before = len(account.fake.requests)
    source.probe(None, account.mirror.cursor)
    source.close()
    (request,) = account.fake.requests[before:]
    assert (request.one("pageSize"), request.one("fields")) == (
        "1",
        "nextPageToken,newStartPageToken,changes(changeType)",
    )


def test_check_names_the_account_and_what_it_sees(account: Account) -> None:
    account.state.add_drive("Sales")
    account.state.add_folder("Plans")
    source = account.open()
    told = source.check()
    source.close()
    assert (told.external_account, told.label) == ("permission-of-user-1", "user-1@example.com")
    assert told.sample == "1 folders, 1 shared drives"


def test_without_credentials_the_message_says_how_to_connect() -> None:
    context = SourceContext(clock=None, new_id=None, detect=None)  # type: ignore[arg-type]
    with pytest.raises(ReauthorizeError, match="workstation source connect NAME"):
        GoogleDrive.open({}, context)


@pytest.mark.parametrize(
    "config", [{"folders": ["a/b"]}, {"shared_drives": "some"}, {"folder": ["x"]}, {"folders": [7]}]
)
def test_config_that_cannot_be_meant_is_refused(account: Account, config: dict[str, object]) -> None:
    account.config = config
    with pytest.raises(InvalidRequestError):
        account.open()


def test_each_change_of_scope_has_its_own_digest(account: Account) -> None:
    scopes = set()
    for account.config in ({}, {"folders": ["a"]}, {"shared_drives": "none"}, {"include_shared_with_me": False}):
        source = account.open()
        scopes.add(source.scope)
        source.close()
    assert len(scopes) == 4


def test_no_cursor_holds_more_than_positions(account: Account) -> None:
    account.state.add_file("secret name.txt", "alpha", account.state.add_folder("Folder"))
    source = account.open()
    start = source.start_cursor()
    cursors = [page.cursor_after for page in source.pages(None, account.mirror, JobType.FULL_SYNC)]
    source.close()
    assert start is not None
    assert all(cursor is not None and cursor["v"] == 1 for cursor in [start, *cursors])
    assert "secret" not in str([start, *cursors])
    assert "test-token" not in str([start, *cursors])


def test_a_removed_entry_is_a_deletion_and_not_a_suspicion(account: Account) -> None:
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.state.delete(key)
    source = account.open()
    pages = list(source.pages(account.mirror.cursor, account.mirror, JobType.DELTA))
    source.close()
    assert [change.kind for page in pages for change in page.changes] == [ChangeKind.DELETED]


def test_a_new_folder_is_listed_once_and_known_ones_in_it_are_not(account: Account) -> None:
    known = account.state.add_folder("Known")
    account.state.add_file("a.txt", "alpha", known)
    account.sync()
    account.state.move(known, account.state.add_folder("New"))
    account.sync()
    assert len(account.requests("in parents")) == 1
    before = len(account.fake.requests)
    account.sync()
    assert len(account.fake.requests) - before == 1
    assert account.paths() == ["My Drive/New/Known/a.txt"]


@pytest.mark.parametrize("killed_after", [None, 1, 2])
def test_a_listing_forgets_the_folders_that_it_did_not_show(account: Account, killed_after: int | None) -> None:
    folder = account.state.add_folder("Folder")
    account.sync()
    assert folder in account.mirror.boxes
    del account.state.nodes[folder]
    account.sync(full=True, most_pages=killed_after)
    account.sync()
    assert folder not in account.mirror.boxes
