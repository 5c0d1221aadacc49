"""What is listed from Notion, from which side, and what becomes of changes between two syncs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.fakes.notion import error
from tests.fakes.server import Answer, Fault, Request
from tests.sources.mirror import Mirror
from tests.sources.notion_account import NotionAccount
from workstation_pipelines.errors import CursorExpiredError, RateLimitedError, UnexpectedReplyError
from workstation_pipelines.model import JobType, Page

YEAR = timedelta(days=365)


@pytest.fixture
def account() -> Iterator[NotionAccount]:
    account = NotionAccount()
    yield account
    account.vendor.close()
    assert account.vendor.violations == []
    assert account.vendor.writes == []


def bodies(account: NotionAccount, part: str) -> list[dict[str, object]]:
    return [request.json for request in account.vendor.requests if part in request.path and request.method == "POST"]


def completeness(account: NotionAccount) -> bool:
    source = account.open()
    pages: list[Page] = list(source.pages(None, account.mirror, JobType.DELTA))
    source.close()
    return pages[-1].complete


class TestFullListing:
    def test_paths_are_the_titles_from_the_top(self, account: NotionAccount) -> None:
        top = account.workspace.page("Engineering")
        runbooks = account.workspace.page("Runbooks", parent=top)
        account.workspace.page("On call / off call", "words", parent=runbooks)
        account.sync()
        assert "Engineering/Runbooks/On call \N{DIVISION SLASH} off call" in account.paths

    def test_a_row_lies_below_its_data_source_and_the_page_that_holds_the_database(
        self, account: NotionAccount
    ) -> None:
        top = account.workspace.page("Engineering")
        _, [tasks] = account.workspace.database("Tasks", parent=top)
        row = account.workspace.row(tasks, "Renew")
        account.workspace.page("Notes", parent=row)
        account.sync()
        assert {"Engineering/Tasks/Renew", "Engineering/Tasks/Renew/Notes"} <= account.paths

    def test_a_page_inside_a_block_has_no_step_for_the_block(self, account: NotionAccount) -> None:
        top = account.workspace.page("Engineering")
        toggle = account.workspace.add_block(top, "toggle", "More")
        account.workspace.page("Hidden away", parent=toggle)
        account.sync()
        assert "Engineering/Hidden away" in account.paths

    def test_more_than_a_hundred_pages_and_rows_are_all_listed(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        for number in range(101):
            account.workspace.row(tasks, f"row {number}")
            account.workspace.page(f"page {number}")
        account.sync()
        assert len(account.paths) == 202

    def test_every_data_source_of_a_database_is_asked(self, account: NotionAccount) -> None:
        _, [one, two] = account.workspace.database("Plans", sources=["Old", "New"])
        account.workspace.row(one, "a")
        account.workspace.row(two, "b")
        account.sync()
        assert account.paths == {"Old/a", "New/b"}

    def test_rows_that_search_does_not_show_are_listed_all_the_same(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        account.workspace.unsearchable.add(account.workspace.row(tasks, "unseen"))
        account.sync()
        assert account.paths == {"Tasks/unseen"}

    def test_children_that_search_does_not_show_are_found_in_their_parents(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        child = account.workspace.page("Child", parent=top)
        grandchild = account.workspace.page("Grandchild", "deep words", parent=child)
        _, [tasks] = account.workspace.database("Tasks", parent=grandchild)
        row = account.workspace.row(tasks, "Row", "in a database that nobody listed")
        account.workspace.unsearchable |= {child, grandchild, tasks, row}
        report = account.sync()
        assert account.paths == {
            "Top",
            "Top/Child",
            "Top/Child/Grandchild",
            "Top/Child/Grandchild/Tasks/Row",
        }
        assert report.listings == 1

    def test_a_known_page_that_search_no_longer_shows_is_asked_for_and_stays(self, account: NotionAccount) -> None:
        lost = account.workspace.page("Lost to search", "words")
        account.sync()
        account.workspace.unsearchable.add(lost)
        report = account.sync(full=True)
        assert report.fetched == []
        assert report.deleted == []
        assert account.vendor.calls(f"/v1/pages/{lost}") == 2  # its markdown once, itself once

    def test_a_row_is_not_emitted_by_search_after_its_data_source_showed_it(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row")
        assert account.sync().upserted == [row]

    def test_the_position_is_taken_before_the_listing(self, account: NotionAccount) -> None:
        for number in range(3):
            account.workspace.page(f"page {number}")
        account.vendor.most_page_size = 1
        source = account.open()
        start = source.start_cursor()
        pages = source.pages(None, account.mirror, JobType.DELTA)
        next(pages)
        late = account.workspace.page("late", "made while the listing ran")
        list(pages)
        account.workspace.advance(days=2)
        account.workspace.page("much later")
        source.close()
        account.mirror.cursor, account.mirror.scope = start, source.scope
        assert late in account.sync().upserted

    def test_containers_come_with_the_page_that_needs_them(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        account.workspace.page("Child", parent=top)
        account.sync()
        assert account.mirror.boxes[top].name == "Top"

    def test_a_full_listing_mentions_every_container_again(self, account: NotionAccount) -> None:
        secret = account.workspace.page("Secret", shared_with=())
        top = account.workspace.page("Top", parent=secret)
        account.workspace.share(top)
        toggle = account.workspace.add_block(top, "toggle", "More")
        middle = account.workspace.page("Middle", parent=toggle)
        database, [tasks] = account.workspace.database("Tasks", parent=middle)
        account.workspace.row(tasks, "Row")
        account.sync()
        source = account.open()
        pages = list(source.pages(None, account.mirror, JobType.DELTA))
        source.close()
        mentioned = {box.external_id for page in pages for box in page.containers if not box.is_deleted}
        assert mentioned == {secret, top, toggle, middle, database, tasks}


class TestResuming:
    def test_a_listing_killed_after_any_page_ends_with_everything(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        _, [one] = account.workspace.database("One", parent=top)
        _, [two] = account.workspace.database("Two", parent=top)
        account.workspace.row(one, "row")
        account.workspace.row(two, "row")
        account.workspace.page("page", parent=top)
        account.vendor.most_page_size = 1
        account.sync()
        wanted = account.paths
        assert len(wanted) == 4
        for pages in range(1, 10):
            account.mirror = Mirror()
            account.sync(most_pages=pages)
            assert account.sync().listings <= 1
            assert (pages, account.paths) == (pages, wanted)

    def test_killed_after_each_page_it_still_goes_forward(self, account: NotionAccount) -> None:
        for number in range(5):
            account.workspace.page(f"page {number}")
        account.vendor.most_page_size = 1
        listings = sum(account.sync(most_pages=1).listings for _ in range(30))
        assert len(account.paths) == 5
        assert listings == 1

    def test_a_refused_start_cursor_begins_that_search_again(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        for number in range(4):
            account.workspace.row(tasks, f"row {number}")
            account.workspace.page(f"page {number}")
        account.vendor.most_page_size = 2
        account.sync(most_pages=3)
        account.vendor.expire_cursors()
        report = account.sync()
        assert report.listings == 0
        assert len(account.paths) == 8

    def test_a_start_cursor_refused_for_ever_is_an_error_and_no_expiry(self, account: NotionAccount) -> None:
        for number in range(4):
            account.workspace.page(f"page {number}")
        account.vendor.most_page_size = 2
        refusal = error(400, "validation_error", "body failed validation: body.start_cursor is invalid")
        account.vendor.faults.append(_on_cursor(refusal))
        with pytest.raises(UnexpectedReplyError):
            account.sync()

    def test_a_repeating_cursor_is_an_error(self, account: NotionAccount) -> None:
        for number in range(6):
            account.workspace.page(f"page {number}")
        account.vendor.most_page_size = 1
        account.vendor.repeats_pages = True
        with pytest.raises(UnexpectedReplyError, match="repeat"):
            account.sync()

    def test_a_cursor_of_another_version_asks_for_everything(self, account: NotionAccount) -> None:
        source = account.open()
        with pytest.raises(CursorExpiredError):
            list(source.pages({"v": 2}, account.mirror, JobType.DELTA))
        source.close()

    def test_results_in_another_order_change_nothing(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        for number in range(6):
            account.workspace.page(f"page {number}", parent=top)
        account.vendor.most_page_size, account.vendor.is_reversed = 3, True
        account.sync()
        assert len(account.paths) == 7


class TestIncompleteAnswers:
    def test_a_query_that_ends_early_goes_on_from_the_last_creation_time(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        for number in range(11):
            account.workspace.row(tasks, f"row {number}")
        account.vendor.result_limit, account.vendor.most_page_size = 4, 2
        account.sync()
        assert len(account.paths) == 11
        bounds = [str(body["filter"]) for body in bodies(account, "/query") if "filter" in body]
        assert bounds
        assert all("created_time" in bound for bound in bounds)

    def test_more_rows_of_one_minute_than_a_query_shows_are_no_complete_listing(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        account.workspace.step = timedelta()
        account.workspace.unsearchable |= {account.workspace.row(tasks, f"row {number}") for number in range(6)}
        account.vendor.result_limit = 4
        assert not completeness(account)

    def test_an_incomplete_search_is_made_up_for_from_the_other_end(self, account: NotionAccount) -> None:
        for number in range(7):
            account.workspace.page(f"page {number}")
        account.vendor.result_limit = 5
        assert completeness(account)
        account.sync()
        assert len(account.paths) == 7

    def test_a_search_that_does_not_meet_from_both_ends_is_no_complete_listing(self, account: NotionAccount) -> None:
        for number in range(9):
            account.workspace.page(f"page {number}")
        account.sync()
        account.vendor.result_limit = 4
        assert not completeness(account)
        assert account.sync(full=True).deleted == []
        assert len(account.paths) == 9


class TestWindow:
    def test_a_quiet_sync_fetches_nothing(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top", "words")
        account.workspace.page("Child", "words", parent=top)
        account.sync()
        for _ in range(2):
            assert account.sync().fetched == []

    def test_an_edited_child_is_found_below_an_unedited_parent(self, account: NotionAccount) -> None:
        top = account.workspace.page("Top")
        child = account.workspace.page("Child", "before", parent=top)
        account.workspace.advance(days=30)
        account.sync()
        account.workspace.edit(child, "after")
        assert account.sync().fetched == [child]
        assert "after" in account.text("Top/Child")

    def test_rows_are_asked_for_by_their_last_edit(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row", "before")
        account.workspace.page("newest")
        account.sync()
        account.workspace.edit(row, "after")
        account.workspace.unsearchable.add(row)
        assert account.sync().fetched == [row]
        assert bodies(account, "/query")[-1]["filter"] == {
            "timestamp": "last_edited_time",
            "last_edited_time": {"on_or_after": "2020-06-01T08:53:00Z"},
        }

    def test_a_search_ends_at_the_window(self, account: NotionAccount) -> None:
        for number in range(40):
            account.workspace.page(f"page {number}")
        account.sync()
        account.vendor.requests.clear()
        account.vendor.most_page_size = 1
        account.sync()
        pages = [body for body in bodies(account, "/search") if "'page'" in str(body)]
        assert len(pages) == 12  # ten minutes of pages a minute apart, and the first one below them

    def test_the_position_moves_with_the_last_page_only(self, account: NotionAccount) -> None:
        for number in range(3):
            account.workspace.page(f"page {number}")
        account.sync()
        account.workspace.advance(days=1)
        account.workspace.page("new")
        source = account.open()
        cursors = [page.cursor_after for page in source.pages(account.mirror.cursor, account.mirror, JobType.DELTA)]
        source.close()
        assert all(cursor == account.mirror.cursor for cursor in cursors[:-1])
        assert cursors[-1] == {"v": 1, "after": "2020-06-02T09:03:00+00:00"}

    def test_a_pass_that_broke_off_is_repeated(self, account: NotionAccount) -> None:
        for number in range(3):
            account.workspace.page(f"page {number}")
        account.sync()
        account.workspace.advance(days=1)
        pages = [account.workspace.page(f"new {number}") for number in range(3)]
        account.vendor.throttle("/markdown", retry_after_s=600)
        with pytest.raises(RateLimitedError):
            account.sync()
        account.vendor.faults.clear()
        assert set(account.sync().fetched) == set(pages)

    def test_edits_of_the_same_minute_as_the_last_pass_are_found(self, account: NotionAccount) -> None:
        one = account.workspace.page("One")
        account.sync()
        account.workspace.step = timedelta()
        account.workspace.touch(one)
        account.sync()
        other = account.workspace.page("Other")
        assert other in account.sync().fetched

    def test_what_is_edited_behind_the_search_is_found_by_the_next_pass(self, account: NotionAccount) -> None:
        pages = [account.workspace.page(f"page {number}") for number in range(4)]
        account.sync()
        account.workspace.advance(days=1)
        account.vendor.most_page_size = 1
        account.workspace.edit(pages[3], "newest when the pass begins")
        source = account.open()
        passing = source.pages(account.mirror.cursor, account.mirror, JobType.DELTA)
        seen = [next(passing), next(passing)]
        account.workspace.edit(pages[2], "edited behind it")
        account.workspace.advance(hours=1)
        account.workspace.edit(pages[0], "edited an hour later, before the pass ends")
        seen += list(passing)
        source.close()
        account.mirror.cursor = seen[-1].cursor_after
        assert pages[2] in account.sync().fetched

    def test_a_new_database_is_listed_with_its_old_rows(self, account: NotionAccount) -> None:
        account.workspace.page("Top")
        account.sync()
        account.workspace.advance(days=1)
        _, [tasks] = account.workspace.database("Tasks")
        old = account.workspace.row(tasks, "Old", age=YEAR)
        account.workspace.unsearchable.add(old)
        account.sync()
        assert "Tasks/Old" in account.paths

    def test_a_workspace_that_was_empty_is_found_when_it_is_not(self, account: NotionAccount) -> None:
        assert account.sync().fetched == []
        account.workspace.page("First")
        account.sync()
        assert account.paths == {"First"}


def _on_cursor(answer: Answer) -> Fault:
    def matches(request: Request) -> bool:
        return request.path == "/v1/search" and "start_cursor" in request.json

    return Fault(matches, answer=answer, times=1000)
