"""The text of a page: what Notion renders, what its blocks make up, a row's properties, and nothing that expires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.notion import error
from tests.fakes.notion_workspace import Property
from tests.fakes.server import LOGIN_PAGE, Answer
from tests.sources.notion_account import NotionAccount
from workstation_pipelines.errors import (
    ItemTooLargeError,
    RateLimitedError,
    SourceUnavailableError,
    UnexpectedReplyError,
)
from workstation_pipelines.sources.notion.markdown import clean, is_signed
from workstation_pipelines.sources.notion.properties import lines

GATEWAY_TIMEOUT = error(504, "gateway_timeout")


@pytest.fixture
def account() -> Iterator[NotionAccount]:
    account = NotionAccount()
    yield account
    account.vendor.close()
    assert account.vendor.violations == []
    assert account.vendor.writes == []


@pytest.fixture
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _wait_s: None)


def ignore(_kind: str, _external_id: str) -> None:
    """Children do not matter here."""


class TestPages:
    def test_the_title_stands_above_the_content(self, account: NotionAccount) -> None:
        account.workspace.page("Title", "First words.")
        account.sync()
        assert account.text("Title") == "# Title\n\nFirst words.\n"

    def test_a_page_takes_one_request(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", "words")
        account.sync()
        assert account.vendor.calls(page) == 1

    def test_a_row_takes_one_request_besides_the_listing(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row", properties={"Points": Property("p1", "number", 5)})
        account.sync()
        assert account.vendor.calls(row) == 1
        assert "Points: 5" in account.text("Tasks/Row")

    def test_a_page_that_is_fetched_by_itself_has_its_properties_too(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        row = account.workspace.row(tasks, "Row", properties={"Points": Property("p1", "number", 5)})
        account.sync()
        source = account.open()
        content = source.fetch(account.mirror.live[row])
        source.close()
        assert content.body == account.mirror.contents[row].body
        assert content.external_hash == account.mirror.live[row].external_hash

    def test_an_empty_page_is_its_title(self, account: NotionAccount) -> None:
        account.workspace.page("Nothing yet")
        account.sync()
        assert account.text("Nothing yet") == "# Nothing yet\n"

    def test_addresses_that_expire_get_into_no_text(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        for kind in ("file", "image", "pdf"):
            account.workspace.add_block(page, kind, f"the {kind}", inner={"name": f"a {kind}.bin"})
        account.sync()
        first = account.text("Page")
        assert "X-Amz" not in first
        assert "a pdf.bin" in first
        source = account.open()
        again = source.fetch(account.mirror.live[page])
        source.close()
        assert again.body.decode() == first

    def test_files_of_a_row_are_their_names(self, account: NotionAccount) -> None:
        _, [tasks] = account.workspace.database("Tasks")
        account.workspace.row(tasks, "Row", properties={"Files": Property("f1", "files", ["plan.pdf", "b.png"])})
        account.sync()
        assert account.text("Tasks/Row") == "# Row\n\nFiles: plan.pdf, b.png\n"

    def test_parts_that_a_rendering_leaves_out_are_asked_for(self, account: NotionAccount) -> None:
        page = account.workspace.page("Long")
        for number in range(6):
            toggle = account.workspace.add_block(page, "toggle", f"toggle {number}")
            account.workspace.add_block(toggle, "paragraph", f"inside {number}")
        account.vendor.most_markdown_blocks = 4
        account.sync()
        text = account.text("Long")
        wanted = [f"{word} {number}" for number in range(6) for word in ("toggle", "inside")]
        assert [text.find(words) for words in wanted] == sorted(text.find(words) for words in wanted)
        assert "unknown" not in text
        assert all(words in text for words in wanted)

    def test_a_child_that_is_not_shared_is_left_out(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", "words")
        secret = account.workspace.page("Secret", parent=page)
        account.workspace.unshare(secret)
        account.sync()
        assert account.paths == {"Page"}
        assert "Secret" not in account.text("Page")

    def test_kinds_without_markdown_cost_no_request(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", "words")
        bookmark = account.workspace.add_block(page, "bookmark", inner={"url": "https://example.com", "caption": []})
        secret = account.workspace.page("Secret", parent=page)
        account.workspace.unshare(secret)
        account.sync()
        assert account.vendor.calls(bookmark) == 0

    def test_too_large_a_page_is_refused(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", "words " * 100)
        account.config = {"max_file_bytes": 500}
        assert account.sync().skipped == {page: "too_large"}

    def test_a_page_trashed_between_listing_and_fetch_is_gone(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.vendor.fail(f"{page}/markdown", answer=error(404, "object_not_found"))
        assert account.sync().skipped == {}
        assert account.paths == set()

    def test_a_login_page_is_no_text(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.vendor.fail(f"{page}/markdown", answer=LOGIN_PAGE)
        with pytest.raises(UnexpectedReplyError):
            account.sync()

    def test_a_rendering_without_markdown_is_an_unexpected_reply(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page")
        account.vendor.fail(f"{page}/markdown", answer=Answer.of({"object": "page_markdown"}))
        with pytest.raises(UnexpectedReplyError):
            account.sync()


@pytest.mark.usefixtures("_without_waiting")
class TestBlocks:
    """What is read when Notion does not render a page."""

    def page(self, account: NotionAccount) -> str:
        page = account.workspace.page("Page")
        account.vendor.fail(f"{page}/markdown", answer=error(400, "validation_error"), times=9)
        return page

    def test_blocks_are_rendered_in_their_order(self, account: NotionAccount) -> None:
        page = self.page(account)
        add = account.workspace.add_block
        add(page, "heading_2", "Steps")
        item = add(page, "bulleted_list_item", "first")
        add(item, "bulleted_list_item", "inner")
        add(page, "to_do", "do it", inner={"checked": True})
        add(page, "code", "x = 1", inner={"language": "python"})
        add(page, "quote", "said")
        add(page, "divider")
        add(page, "unsupported", inner={"block_type": "form"})
        add(page, "kind_of_tomorrow", "still has words")
        account.sync()
        assert account.text("Page") == (
            "# Page\n\n## Steps\n- first\n  - inner\n- [x] do it\n```python\nx = 1\n```\n> said\n---\nstill has words\n"
        )

    def test_more_than_a_hundred_blocks(self, account: NotionAccount) -> None:
        page = self.page(account)
        for number in range(120):
            account.workspace.add_block(page, "paragraph", f"line {number}")
        account.sync()
        assert account.text("Page").count("line ") == 120

    def test_a_synced_block_is_followed_once_even_if_it_holds_itself(self, account: NotionAccount) -> None:
        page = self.page(account)
        original = account.workspace.add_block(page, "synced_block", inner={"synced_from": None})
        account.workspace.add_block(original, "paragraph", "written once")
        source = {"type": "block_id", "block_id": original}
        account.workspace.add_block(original, "synced_block", inner={"synced_from": source})
        account.sync()
        assert account.text("Page").count("written once") == 1

    def test_a_synced_block_of_a_page_that_is_not_shared_is_left_out(self, account: NotionAccount) -> None:
        secret = account.workspace.page("Secret", shared_with=())
        original = account.workspace.add_block(secret, "paragraph", "secret words")
        page = self.page(account)
        source = {"type": "block_id", "block_id": original}
        account.workspace.add_block(page, "synced_block", inner={"synced_from": source})
        account.workspace.add_block(page, "paragraph", "own words")
        account.sync()
        assert account.text("Page") == "# Page\n\nown words\n"

    def test_child_pages_are_named_and_not_entered(self, account: NotionAccount) -> None:
        page = self.page(account)
        child = account.workspace.page("Child", "words of the child", parent=page)
        account.workspace.unsearchable.add(child)
        account.sync()
        assert account.text("Page") == "# Page\n\nChild\n"
        assert "words of the child" in account.text("Page/Child")

    def test_deep_nesting_is_no_recursion(self, account: NotionAccount) -> None:
        at = self.page(account)
        for number in range(120):
            at = account.workspace.add_block(at, "toggle", f"level {number}")
        account.sync()
        assert "level 119" in account.text("Page")

    def test_files_leave_their_names(self, account: NotionAccount) -> None:
        page = self.page(account)
        account.workspace.add_block(page, "pdf", "the plan", inner={"name": "plan.pdf"})
        account.sync()
        assert account.text("Page") == "# Page\n\nthe plan plan.pdf\n"

    def test_a_page_that_takes_notion_too_long_is_read_by_its_blocks(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", "words")
        account.vendor.fail(f"{page}/markdown", answer=GATEWAY_TIMEOUT, times=9)
        account.sync()
        assert "words" in account.text("Page")

    def test_a_limit_is_no_reason_for_more_requests(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", "words")
        account.vendor.throttle(f"{page}/markdown", retry_after_s=120)
        with pytest.raises(RateLimitedError):
            account.sync()
        assert account.vendor.calls("/children") == 0

    def test_an_outage_is_an_outage(self, account: NotionAccount) -> None:
        page = account.workspace.page("Page", "words")
        account.vendor.fail(page, answer=error(503, "service_unavailable"), times=99)
        with pytest.raises(SourceUnavailableError):
            account.sync()

    def test_a_page_of_very_many_nested_blocks_is_refused(
        self, account: NotionAccount, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workstation_pipelines.sources.notion.blocks.MOST_BLOCKS_ENTERED", 3)
        page = self.page(account)
        for number in range(4):
            toggle = account.workspace.add_block(page, "toggle", f"toggle {number}")
            account.workspace.add_block(toggle, "paragraph", "inside")
        source = account.open()
        account.sync()
        with pytest.raises(ItemTooLargeError):
            source.fetch(next(iter(account.mirror.live.values())))
        source.close()


class TestProperties:
    def test_more_references_than_a_page_shows_are_asked_for(self, account: NotionAccount) -> None:
        _, [projects] = account.workspace.database("Projects")
        _, [tasks] = account.workspace.database("Tasks")
        related = [{"id": account.workspace.row(projects, f"project {number}")} for number in range(27)]
        people = [
            {"object": "user", "id": f"0bbb0000-0000-4000-8000-0000000001{number:02}", "name": f"person {number}"}
            for number in range(26)
        ]
        properties = {
            "Projects": Property("f%3A%3Cp", "relation", related),
            "Who": Property("%3CLrR", "people", people),
            "Again": Property("f%5C%5C%3Ap", "relation", related),
        }
        account.workspace.row(tasks, "Row", properties=properties)
        account.sync()
        shown = dict(line.split(": ", 1) for line in account.text("Tasks/Row").splitlines() if ": " in line)
        assert len(shown["Projects"].split(", ")) == 27
        assert len(shown["Who"].split(", ")) == 26
        assert len(shown["Again"].split(", ")) == 25  # its id holds a backslash, which no address may

    def test_each_type_is_a_line_that_people_can_read(self) -> None:
        values: dict[str, Any] = {
            "Name": {"type": "title", "title": [{"plain_text": "the title stands above"}]},
            "Note": {"type": "rich_text", "rich_text": [{"plain_text": "two\n"}, {"plain_text": "parts"}]},
            "Points": {"type": "number", "number": 2.5},
            "State": {"type": "status", "status": {"name": "Done"}},
            "Kind": {"type": "select", "select": None},
            "Tags": {"type": "multi_select", "multi_select": [{"name": "a"}, {"name": "b"}]},
            "When": {"type": "date", "date": {"start": "2026-01-01", "end": "2026-01-02"}},
            "Sure": {"type": "checkbox", "checkbox": False},
            "Link": {"type": "url", "url": "https://example.com"},
            "Sum": {"type": "formula", "formula": {"type": "number", "number": 7}},
            "Total": {"type": "rollup", "rollup": {"type": "number", "number": 9}},
            "All": {"type": "rollup", "rollup": {"type": "array", "array": [{"type": "number", "number": 1}] * 2}},
            "Id": {"type": "unique_id", "unique_id": {"prefix": "T", "number": 4}},
            "Others": {"type": "relation", "relation": [{"id": "x"}, {"id": "hidden"}]},
            "Edited": {"type": "last_edited_time", "last_edited_time": "2026-01-01T00:00:00.000Z"},
            "New": {"type": "kind_of_tomorrow", "kind_of_tomorrow": {"anything": 1}},
            "Broken": {"type": "people", "people": "none"},
            "Odd": "no object",
        }
        assert lines(values, {"x": "Related"}.get) == [
            "Note: two parts",
            "Points: 2.5",
            "State: Done",
            "Tags: a, b",
            "When: 2026-01-01 to 2026-01-02",
            "Sure: No",
            "Link: https://example.com",
            "Sum: 7",
            "Total: 9",
            "All: 1, 1",
            "Id: T-4",
            "Others: Related",
        ]


class TestMarkdown:
    @pytest.mark.parametrize(
        ("markdown", "text"),
        [
            ('<callout icon="i" color="gray_bg">\n\tMind this\n</callout>', "Mind this"),
            ('# Title {color="red"}', "# Title"),
            ("<table><tr><td>a</td><td>b</td></tr></table>", "a | b"),
            ("a\\*b \\[c\\]", "a*b [c]"),
            ('<unknown url="https://www.notion.so/x" alt="bookmark"/>after', "after"),
            ('<mention-page url="https://www.notion.so/x">Other</mention-page>', "Other"),
            ('```\n<callout> \\* {color="red"}\n```', '```\n<callout> \\* {color="red"}\n```'),
            ("[site](https://example.com/a?b=1)", "[site](https://example.com/a?b=1)"),
            ("see https://file.notion.so/f/a.pdf?expirationTimestamp=1&signature=s now", "see a.pdf now"),
            ("one<br>two", "one\ntwo"),
            ("<empty-block/>", ""),
        ],
    )
    def test_tags_go_and_words_stay(self, markdown: str, text: str) -> None:
        assert clean(markdown, ignore) == text

    def test_children_are_told_of_and_mentions_are_not(self) -> None:
        found: list[tuple[str, str]] = []
        external_id = "1f000000-0000-4000-8000-000000000001"
        plain = external_id.replace("-", "")
        clean(
            f'<page url="https://www.notion.so/Some-title-{plain}?pvs=4">a</page>'
            f'<database url="https://www.notion.so/{plain}" inline="true"/>'
            f'<mention-page url="https://www.notion.so/{plain}">b</mention-page>',
            lambda kind, found_id: found.append((kind, found_id)),
        )
        assert found == [("page", external_id), ("database", external_id)]

    @pytest.mark.parametrize(
        ("url", "signed"),
        [
            ("https://prod-files-secure.s3.us-west-2.amazonaws.com/a/b/c.png?X-Amz-Signature=1", True),
            ("https://file.notion.so/f/c.png", True),
            ("https://example.com/a.png?Signature=1&Expires=2", True),
            ("https://example.com/a.png?page=2", False),
            ("http://[broken", True),
        ],
    )
    def test_signed_addresses_are_known_by_host_or_signature(self, url: str, signed: bool) -> None:
        assert is_signed(url) is signed
