"""What becomes of renamed, moved, trashed, shared and deleted pages, of edits within one minute, and of the scope."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.fakes.notion import error
from tests.sources.notion_account import NotionAccount
from workstation_pipelines.errors import InvalidRequestError, ReauthorizeError
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.notion.connector import Notion

YEAR = timedelta(days=365)


@pytest.fixture
def account() -> Iterator[NotionAccount]:
    account = NotionAccount()
    yield account
    account.vendor.close()
    assert account.vendor.violations == []
    assert account.vendor.writes == []


class TestMinutes:
    def test_a_second_edit_within_the_minute_is_fetched_and_then_it_is_quiet(self, account: NotionAccount) -> None:
        account.together()
        page = account.workspace.page("Page", "first")
        account.workspace.advance(seconds=10)
        account.sync()
        account.workspace.advance(seconds=10)
        account.workspace.edit(page, "second")
        account.workspace.advance(seconds=5)
        assert account.sync().fetched == [page]
        assert "second" in account.text("Page")
        account.workspace.advance(minutes=4)
        assert account.sync().fetched == [page]  # nobody can say that the minute held no third edit
        for _ in range(2):
            account.workspace.advance(minutes=1)
            assert account.sync().fetched == []

    def test_an_edit_after_the_last_fetch_of_that_minute_is_found_when_it_is_over(self, account: NotionAccount) -> None:
        account.together()
        page = account.workspace.page("Page", "first")
        account.workspace.advance(seconds=10)
        account.sync()
        account.workspace.advance(seconds=40)
        account.workspace.edit(page, "second")
        account.workspace.advance(hours=3)
        account.sync()
        assert "second" in account.text("Page")

    def test_a_row_listed_within_its_minute_is_read_again(self, account: NotionAccount) -> None:
        account.together()
        _, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row", "first")
        account.workspace.advance(seconds=10)
        account.sync()
        account.workspace.edit(row, "second")
        account.workspace.advance(hours=3)
        assert account.sync().fetched == [row]
        assert "second" in account.text("Tasks/Row")

    def test_pages_edited_long_before_they_are_first_seen_are_fetched_once(self, account: NotionAccount) -> None:
        account.together()
        account.workspace.page("Old", "words", age=YEAR)
        account.workspace.advance(minutes=5)
        assert len(account.sync().fetched) == 1
        account.workspace.advance(minutes=5)
        assert account.sync().fetched == []

    def test_probing_changes_while_the_last_edit_may_not_be_the_last(self, account: NotionAccount) -> None:
        account.together()
        account.workspace.page("Page")
        source = account.open()
        first = source.probe(None, None)
        account.workspace.advance(seconds=5)
        assert source.probe(first, None) != first
        account.workspace.advance(minutes=5)
        settled = source.probe(None, None)
        account.workspace.advance(seconds=5)
        assert source.probe(settled, None) == settled
        account.workspace.page("Another")
        assert source.probe(settled, None) != settled
        source.close()

    def test_probing_is_one_request(self, account: NotionAccount) -> None:
        source = account.open()
        source.probe(None, None)
        assert source.provider_calls == 1
        source.close()


class TestNamesAndPlaces:
    def test_a_rename_changes_the_paths_below_without_fetching_them(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        middle = account.workspace.page("Middle", parent=top)
        account.workspace.page("Leaf", "words", parent=middle)
        account.workspace.advance(days=1)
        account.workspace.page("Newest")
        account.sync()
        account.vendor.most_page_size = 1  # so that nothing below is listed again
        account.workspace.rename(top, "Renamed")
        assert account.sync().fetched == [top]
        assert account.paths == {"Newest", "Renamed", "Renamed/Middle", "Renamed/Middle/Leaf"}

    def test_a_renamed_database_changes_the_paths_of_its_rows(self, account: NotionAccount) -> None:
        database, [tasks] = account.workspace.database("Tasks")
        account.workspace.row(tasks, "Row")
        account.sync()
        account.workspace.rename(database, "Work")
        assert account.sync().fetched == []
        assert account.paths == {"Work/Row"}

    def test_a_moved_page_takes_its_children_along(self, account: NotionAccount) -> None:
        one, two = account.workspace.page("One"), account.workspace.page("Two")
        page = account.workspace.page("Page", parent=one)
        account.workspace.page("Child", "words", parent=page)
        account.workspace.advance(days=1)
        account.workspace.page("Newest")
        account.sync()
        account.vendor.most_page_size = 1
        account.workspace.move(page, two)
        account.sync()
        assert account.paths == {"Newest", "One", "Two", "Two/Page", "Two/Page/Child"}

    def test_a_move_that_counts_as_no_edit_is_found_by_a_full_listing(self, account: NotionAccount) -> None:
        account.workspace.moves_touch = False
        one, two = account.workspace.page("One"), account.workspace.page("Two")
        page = account.workspace.page("Page", parent=one)
        account.workspace.page("Child", "words", parent=page)
        account.sync()
        account.workspace.move(page, two)
        assert account.sync(full=True).fetched == []
        assert account.paths == {"One", "Two", "Two/Page", "Two/Page/Child"}

    def test_a_rename_that_a_full_listing_meets_mends_the_paths_that_it_showed_before(
        self, account: NotionAccount
    ) -> None:
        top = account.workspace.page("Top")
        account.workspace.page("Leaf", parent=top)
        account.sync()
        account.workspace.advance(days=1)
        account.workspace.rename(top, "Renamed")
        account.sync(full=True)
        assert account.paths == {"Renamed", "Renamed/Leaf"}

    def test_pages_that_lie_in_each_other_are_survived(self, account: NotionAccount) -> None:
        one = account.workspace.page("One")
        two = account.workspace.page("Two", parent=one)
        account.workspace.things[one].parent = ("page", two)
        account.sync()
        assert len(account.paths) == 2

    def test_a_parent_that_is_not_shared_ends_the_path(self, account: NotionAccount) -> None:
        top = account.workspace.page("Secret", shared_with=())
        child = account.workspace.page("Shared", parent=top)
        account.workspace.share(child)
        account.sync()
        assert account.paths == {"Shared"}

    def test_unknown_parents_are_asked_for_once(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        account.workspace.unsearchable.add(top)
        for number in range(5):
            account.workspace.page(f"page {number}", parent=top)
        for _ in range(2):
            account.sync()
            asked = [request for request in account.vendor.requests if request.path == f"/v1/pages/{top}"]
            assert len(asked) == 2  # as a parent, and as a page of its own that no listing showed
        assert len(account.paths) == 6


class TestTrashAndSharing:
    def test_the_trash_and_back(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top", "words")
        account.workspace.page("Child", "words", parent=top)
        account.workspace.advance(days=1)
        account.sync()
        account.workspace.trash(top)
        account.sync()
        assert account.paths == set()
        account.workspace.restore(top)
        account.sync()
        assert account.paths == {"Top", "Top/Child"}

    def test_a_trashed_page_is_found_though_its_time_does_not_tell(self, account: NotionAccount) -> None:
        account.workspace.trash_touches = False
        old = account.workspace.page("Old", age=YEAR)
        account.workspace.page("New")
        account.sync()
        account.workspace.trash(old)
        assert account.sync().deleted == [old]

    def test_a_trashed_database_takes_its_rows_along_and_brings_them_back(self, account: NotionAccount) -> None:
        database, [tasks] = account.workspace.database("Tasks")
        account.workspace.row(tasks, "Row", "words")
        account.workspace.page("Other")
        account.sync()
        account.workspace.trash(tasks)
        account.sync()
        assert account.paths == {"Other"}
        account.workspace.restore(tasks)
        account.sync()
        assert account.paths == {"Other", "Tasks/Row"}
        assert database

    def test_what_is_trashed_is_not_listed_in_full(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.sync()
        account.workspace.trash(page)
        assert account.sync(full=True).deleted == [page]

    def test_unsharing_is_found_by_a_full_listing_and_by_no_window(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        page = account.workspace.page("Page", parent=top)
        account.sync()
        account.workspace.unshare(page)
        assert account.sync().deleted == []
        assert account.sync(full=True).deleted == [page]
        account.workspace.share(page)
        assert account.sync(full=True).fetched == [page]

    def test_a_deletion_for_good_is_found_by_a_full_listing(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.workspace.page("Other")
        account.sync()
        account.workspace.delete(page)
        assert account.sync(full=True).deleted == [page]

    def test_something_old_that_is_shared_is_found_by_a_full_listing(self, account: NotionAccount) -> None:
        account.vendor.most_page_size = 1
        for number in range(3):
            account.workspace.page(f"page {number}")
            account.workspace.advance(hours=1)
        account.sync()
        account.workspace.page("Old", age=YEAR)
        account.sync()
        assert "Old" not in account.paths
        account.sync(full=True)
        assert "Old" in account.paths

    def test_the_rows_of_a_data_source_that_vanished_are_suspected_only(self, account: NotionAccount) -> None:
        database, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row")
        account.workspace.page("Other")
        account.sync()
        account.workspace.unshare(database)
        assert account.sync().deleted == [row]

    def test_a_page_without_rights_is_no_deleted_page(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.sync()
        account.workspace.unsearchable.add(page)
        account.vendor.fail(f"/v1/pages/{page}", answer=error(403, "restricted_resource"))
        report = account.sync(full=True)
        assert report.failures == [page]


class TestScope:
    def test_a_page_with_everything_below_it(self, account: NotionAccount) -> None:
        top, beside = account.workspace.page("Top"), account.workspace.page("Beside")
        child = account.workspace.page("Child", parent=top)
        _, [tasks] = account.workspace.database("Tasks", parent=child)
        account.workspace.row(tasks, "Row")
        account.workspace.page("Other", parent=beside)
        account.config = {"pages": [top.replace("-", "").upper()]}
        account.sync()
        assert account.paths == {"Top", "Top/Child", "Top/Child/Tasks/Row"}

    @pytest.mark.parametrize("kind", ["databases", "data_sources"])
    def test_a_database_or_data_source_with_everything_below_its_rows(self, account: NotionAccount, kind: str) -> None:
        database, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row")
        account.workspace.page("Notes", parent=row)
        account.workspace.page("Other")
        account.workspace.unsearchable.add(tasks)
        account.config = {kind: [database if kind == "databases" else tasks]}
        account.sync()
        assert account.paths == {"Tasks/Row", "Tasks/Row/Notes"}

    def test_moving_out_and_in_takes_all_below_along(self, account: NotionAccount) -> None:
        home, away = account.workspace.page("Home"), account.workspace.page("Away")
        page = account.workspace.page("Page", parent=home)
        child = account.workspace.page("Child", "words", parent=page)
        account.config = {"pages": [home]}
        account.workspace.advance(days=1)
        account.workspace.touch(away)
        account.sync()
        account.vendor.most_page_size = 1
        account.workspace.move(page, away)
        assert set(account.sync().deleted) == {page, child}
        account.workspace.move(page, home)
        account.sync()
        assert account.paths == {"Home", "Home/Page", "Home/Page/Child"}

    def test_the_scope_is_part_of_the_digest_however_ids_are_written(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        chosen: list[dict[str, list[str]]] = [
            {"pages": [page]},
            {"pages": [page.replace("-", "").upper(), page]},
            {"pages": []},
            {},
        ]
        scopes = [account.open(**config).scope for config in chosen]
        assert scopes[0] == scopes[1] != scopes[2] == scopes[3]

    def test_what_is_no_id_is_refused(self, account: NotionAccount) -> None:
        with pytest.raises(InvalidRequestError, match="32 hexadecimal digits"):
            account.open(pages=["My page"])

    def test_checking_refuses_a_root_that_cannot_be_seen(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", shared_with=())
        source = account.open(pages=[page])
        with pytest.raises(InvalidRequestError, match=page):
            source.check()
        source.close()


class TestAccount:
    def test_checking_names_the_workspace(self, account: NotionAccount) -> None:
        source = account.open()
        assert "nothing is shared" in source.check().sample
        account.workspace.page("Page")
        found = source.check()
        assert (found.label, found.missing_scopes) == ("Acme (Reader)", ())
        assert "at least one page" in found.sample
        source.close()

    def test_without_credentials_it_says_how_to_connect(self) -> None:
        context = SourceContext(clock=lambda: NotImplemented, new_id=lambda: NotImplemented, detect=lambda _n, _h: "")
        with pytest.raises(ReauthorizeError, match="workstation source connect NAME"):
            Notion.open({}, context)

    def test_it_lists_everything_each_day_unless_told_otherwise(self, account: NotionAccount) -> None:
        assert account.open().reconcile_every == timedelta(days=1)
        assert account.open(reconcile_days=7).reconcile_every == timedelta(days=7)
