"""Google Drive: shared drives, their own logs, and what moves between logs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.google_drive import FakeGoogleDrive
from tests.fakes.google_drive_state import COLLEAGUE, ME
from tests.fakes.server import Answer
from tests.sources.google_drive_account import Account
from workstation_pipelines.errors import UnexpectedReplyError


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeGoogleDrive]:
    with FakeGoogleDrive() as opened:
        yield opened


@pytest.fixture
def account(fake: FakeGoogleDrive) -> Iterator[Account]:
    with Account(fake) as opened:
        yield opened


def test_each_shared_drive_is_followed_by_its_own_log(account: Account) -> None:
    drives = [account.state.add_drive(name) for name in ("Sales", "Legal")]
    keys = [account.state.add_file("a.txt", "alpha", drive) for drive in drives]
    account.sync()
    account.state.edit(keys[0], "alpha two")
    account.state.delete(keys[1])
    account.sync()
    assert account.texts() == {"Shared drives/Sales/a.txt": "alpha two"}
    assert sorted(account.mirror.cursor["tokens"]) == sorted(["user", *(f"drive:{drive}" for drive in drives)])  # type: ignore[index]


def test_more_shared_drives_than_a_page_shows_are_all_read(account: Account) -> None:
    account.fake.page_cap = 2
    for number in range(5):
        account.state.add_file("a.txt", str(number), account.state.add_drive(f"D{number}"))
    account.sync()
    assert account.paths() == [f"Shared drives/D{number}/a.txt" for number in range(5)]


@pytest.mark.parametrize("chosen", ["none", [], "one"])
def test_only_chosen_shared_drives_are_read_even_where_one_opened_a_file(account: Account, chosen: object) -> None:
    sales, legal = account.state.add_drive("Sales"), account.state.add_drive("Legal")
    account.config = {"shared_drives": [sales] if chosen == "one" else chosen}
    account.state.add_file("s.txt", "sold", sales, opened_by={ME})
    key = account.state.add_file("l.txt", "law", legal, opened_by={ME})
    account.sync()
    account.state.edit(key, "more law")
    account.sync()
    assert account.paths() == (["Shared drives/Sales/s.txt"] if chosen == "one" else [])


def test_a_file_that_shows_in_two_logs_is_told_of_once(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    key = account.state.add_file("a.txt", "alpha", drive, opened_by={ME})
    assert account.sync().upserted == [key]
    account.state.edit(key, "two")
    assert account.sync().upserted == [key]


def test_a_file_that_moves_between_my_drive_and_a_shared_drive_stays(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.state.move(key, drive)
    report = account.sync()
    assert (report.deleted, report.fetched) == ([], [])
    assert account.paths() == ["Shared drives/Sales/a.txt"]
    account.state.move(key, account.state.root())
    report = account.sync()
    assert (report.deleted, report.fetched) == ([], [])
    assert account.paths() == ["My Drive/a.txt"]


def test_a_folder_that_moves_into_a_shared_drive_keeps_its_content(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    folder = account.state.add_folder("Folder")
    account.state.add_file("a.txt", "alpha", account.state.add_folder("Inner", folder))
    account.sync()
    account.state.move(folder, drive)
    account.sync()
    assert account.texts() == {"Shared drives/Sales/Folder/Inner/a.txt": "alpha"}


def test_a_file_that_moves_into_a_shared_drive_that_is_not_read_is_deleted(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.config = {"shared_drives": "none"}
    key = account.state.add_file("a.txt", "alpha")
    account.sync()
    account.state.move(key, drive)
    assert account.sync().deleted == [key]


def test_a_joined_shared_drive_comes_with_all_its_old_files_and_is_followed(account: Account) -> None:
    drive = account.state.add_drive("Sales", members={COLLEAGUE})
    key = account.state.add_file("a.txt", "alpha", account.state.add_folder("Folder", drive))
    account.state.make_old(drive)
    account.sync()
    assert account.paths() == []
    account.state.join(drive)
    account.sync()
    assert account.texts() == {"Shared drives/Sales/Folder/a.txt": "alpha"}
    account.state.edit(key, "beta")
    assert account.sync().fetched == [key]


@pytest.mark.parametrize("killed_after", range(1, 6))
def test_a_joined_shared_drive_is_read_to_its_end_after_any_crash(account: Account, killed_after: int) -> None:
    account.sync()
    cursor = account.mirror.cursor
    drive = account.state.add_drive("Sales", members={COLLEAGUE})
    for number in range(3):
        account.state.add_file(f"{number}.txt", str(number), account.state.add_folder(f"F{number}", drive))
    account.fake.page_cap = 2
    account.state.join(drive)
    account.sync(most_pages=killed_after)
    account.mirror.resume, account.mirror.cursor = None, cursor  # not even the place where it stopped is known
    account.sync()
    assert account.paths() == [f"Shared drives/Sales/F{number}/{number}.txt" for number in range(3)]


def test_a_left_shared_drive_takes_its_files_along_and_its_log_is_not_asked_again(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    key = account.state.add_file("a.txt", "alpha", account.state.add_folder("Folder", drive))
    account.state.add_file("b.txt", "beta")
    account.sync()
    account.state.leave(drive)
    before = len(account.fake.requests)
    assert account.sync().deleted == [key]
    assert [request.one("driveId") for request in account.fake.requests[before:]] == [None]
    assert list(account.mirror.cursor["tokens"]) == ["user"]  # type: ignore[index]
    before = len(account.fake.requests)
    account.sync()
    assert len(account.fake.requests) - before == 1


def test_a_shared_drive_left_without_a_word_is_noticed_by_its_log(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    key = account.state.add_file("a.txt", "alpha", drive)
    account.sync()
    account.state.drives[drive].members.clear()
    assert account.sync().deleted == [key]
    assert list(account.mirror.cursor["tokens"]) == ["user"]  # type: ignore[index]


def test_a_log_that_is_refused_though_we_are_members_concludes_nothing(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.state.add_file("a.txt", "alpha", drive)
    account.sync()
    refused = Answer.of({"error": {"code": 404, "errors": [{"reason": "notFound"}]}}, 404)
    account.fake.fail("/changes", answer=refused, after=1)
    with pytest.raises(UnexpectedReplyError):
        account.sync()
    assert account.paths() == ["Shared drives/Sales/a.txt"]


def test_an_expired_token_of_one_shared_drive_lists_everything(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    key = account.state.add_file("a.txt", "alpha", drive)
    account.sync()
    account.fake.expire_change_tokens(f"drive:{drive}")
    account.state.edit(key, "beta")
    assert account.sync().listings == 1
    assert account.texts() == {"Shared drives/Sales/a.txt": "beta"}


def test_a_renamed_shared_drive_gives_new_paths(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.state.add_file("a.txt", "alpha", account.state.add_folder("Folder", drive))
    account.sync()
    account.state.rename_drive(drive, "Vente")
    assert account.sync().fetched == []
    assert account.paths() == ["Shared drives/Vente/Folder/a.txt"]


def test_a_folder_picked_in_a_shared_drive_reads_that_drive_alone(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.state.add_file("elsewhere.txt", "no", account.state.add_drive("Legal"))
    picked = account.state.add_folder("Picked", drive)
    account.state.add_file("a.txt", "alpha", picked)
    account.config = {"folders": [picked]}
    account.sync()
    account.state.add_file("b.txt", "beta", account.state.add_folder("New", picked))
    account.state.add_file("c.txt", "gamma", drive)
    account.sync()
    assert account.paths() == ["Shared drives/Sales/Picked/New/b.txt", "Shared drives/Sales/Picked/a.txt"]
    assert not [request for request in account.requests("/files") if request.one("corpora") == "user"]


def test_a_whole_shared_drive_can_be_picked_as_a_folder(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.state.add_file("a.txt", "alpha", drive)
    account.state.add_file("mine.txt", "mine")
    account.config = {"folders": [drive]}
    account.sync()
    assert account.paths() == ["Shared drives/Sales/a.txt"]


def test_a_file_shared_out_of_a_drive_of_others_is_found_and_followed(account: Account) -> None:
    drive = account.state.add_drive("Theirs", members={COLLEAGUE})
    key = account.state.add_file("a.txt", "alpha", drive, owner=COLLEAGUE, readers={ME})
    account.sync()
    assert account.texts() == {"Shared with me/a.txt": "alpha"}
    account.state.edit(key, "beta")
    account.sync()
    assert account.texts() == {"Shared with me/a.txt": "beta"}


def test_both_flags_and_never_all_drives_at_once_go_with_every_listing(account: Account) -> None:
    account.state.add_file("a.txt", "alpha", account.state.add_drive("Sales"))
    account.sync()
    account.sync()
    listings = [
        request for request in account.fake.requests if request.path in ("/drive/v3/files", "/drive/v3/changes")
    ]
    assert {request.one("supportsAllDrives") for request in listings} == {"true"}
    assert {request.one("includeItemsFromAllDrives") for request in listings} == {"true"}
    assert {request.one("corpora") for request in listings} == {"user", "drive", None}
    assert {request.one("pageSize") for request in listings} == {"1000"}
    assert all("version" not in (request.one("fields") or "version") for request in listings)


def test_my_drive_and_shared_drives_that_turn_up_as_folders_stay_what_they_are(account: Account) -> None:
    drive = account.state.add_drive("Sales")
    account.state.add_file("a.txt", "alpha", drive)
    account.state.add_file("b.txt", "beta")
    account.sync()
    account.state.touch(drive)
    account.state.touch(account.state.root())
    assert account.sync().upserted == []
    account.state.add_file("c.txt", "gamma", drive)
    account.sync()
    assert account.paths() == ["My Drive/b.txt", "Shared drives/Sales/a.txt", "Shared drives/Sales/c.txt"]
