"""One page as text: its title, a row's properties, and its content, which Notion renders or its blocks make up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from workstation_pipelines.errors import (
    ItemGoneError,
    ItemTooLargeError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    UnreadableContentError,
)
from workstation_pipelines.model import Clock, Content, Item
from workstation_pipelines.sources.notion.blocks import render
from workstation_pipelines.sources.notion.calls import NotionCalls
from workstation_pipelines.sources.notion.intake import MIME_TYPE
from workstation_pipelines.sources.notion.markdown import clean, unknown_ids, with_subtree
from workstation_pipelines.sources.notion.memory import Memory
from workstation_pipelines.sources.notion.objects import MalformedError, NotionPage, mappings, read_page, same_id
from workstation_pipelines.sources.notion.properties import has_more, lines
from workstation_pipelines.sources.notion.stamp import stamp, stamp_again

MOST_SUBTREES = 500
"""Parts of one page that Notion left out of its rendering and that are asked for one by one."""

_MARKDOWN_FAILS = (400, 500, 504)
"""Statuses after which the blocks are tried: Notion renders a page at once, and gives up on some."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row's properties, and the hash of the moment at which they were read; None for a page that is no row."""

    page: NotionPage | None
    external_hash: str


class Reader:
    """Reads pages; thread-safe."""

    def __init__(self, calls: NotionCalls, memory: Memory, clock: Clock, *, limit_bytes: int) -> None:
        self._calls = calls
        self._memory = memory
        self._clock = clock
        self._limit_bytes = limit_bytes

    def read(self, item: Item) -> Content:
        """Return a page as markdown. Raises SkipItemError for this page alone, RetryableError, ReauthorizeError."""
        row = self._row(item)
        parts = [f"# {row.page.title if row.page is not None else item.title}"]
        if row.page is not None:
            parts.append("\n".join(self._properties(row.page)))
        parts.append(self._content(item.external_id))
        body = ("\n\n".join(part for part in parts if part) + "\n").encode("utf-8", "replace")
        self._refuse_large(item.external_id, len(body))
        return Content(body, f"{item.title[:200]}.md", MIME_TYPE, row.external_hash)

    def _row(self, item: Item) -> _Row:
        """Return the properties that the listing brought along, or ask for them if this is, or may be, a row."""
        read_at = self._clock()
        kept = self._memory.take_row(item.external_id, item.external_hash)
        if kept is not None:
            return _Row(kept, item.external_hash)
        noted = self._memory.place(item.external_id)
        if noted is not None and noted[1].kind not in ("data_source", "database"):
            return _Row(None, stamp_again(item.external_hash, item.external_modified_at, read_at))
        try:
            page = read_page(self._calls.page(item.external_id))
        except MalformedError as error:
            raise UnreadableContentError(
                f"notion: page {item.external_id} cannot be read: {error.what}", reason="malformed", transient=True
            ) from None
        if page.is_trashed:
            raise ItemGoneError(f"notion: page {item.external_id} is in the trash", reason="gone")
        self._memory.note(page)
        return _Row(page if page.is_row else None, stamp(page.edited_at, page.edited, read_at))

    def _properties(self, page: NotionPage) -> list[str]:
        properties: dict[str, Any] = {}
        for name, value in page.properties.items():
            # Notion writes property ids as they go into an address; VendorApi encodes what it is given.
            property_id = unquote(str(value.get("id"))) if isinstance(value, dict) and has_more(value) else ""
            properties[name] = value
            # An id with a slash in it is let into no address, so that what the page shows has to do.
            if property_id and not set(property_id) & set("/\\"):
                kind = value["type"]
                properties[name] = {**value, kind: self._all_of(page.id, property_id, kind)}
        return lines(properties, self._title)

    def _all_of(self, page_id: str, property_id: str, kind: str) -> list[Any]:
        items: list[Any] = []
        for results in self._calls.property_items(page_id, property_id):
            items.extend(found.get(kind) for found in mappings(results.objects))
        return items

    def _title(self, page_id: str) -> str | None:
        noted = self._memory.place(same_id(page_id))
        if noted is None:
            try:
                page = read_page(self._calls.page(page_id))
            except (SkipItemError, MalformedError):
                return None
            self._memory.note(page)
            return page.title
        return noted[0]

    def _content(self, page_id: str) -> str:
        try:
            return clean(self._rendered(page_id), self._memory.find)
        except UnreadableContentError as error:
            if error.details.get("status") not in _MARKDOWN_FAILS:
                raise
        except UnexpectedReplyError as error:
            if error.details.get("status") != 404:  # a kind of request that this Notion does not know
                raise
        except SourceUnavailableError as error:
            if error.details.get("status") not in _MARKDOWN_FAILS:
                raise
        return render(self._calls, page_id, self._memory.find, limit_bytes=self._limit_bytes)

    def _rendered(self, page_id: str) -> str:
        """Return Notion's rendering, with the parts that it left out put in their places as far as they can be seen."""
        markdown, waiting = self._markdown(page_id)
        asked = {page_id}
        while waiting:
            block_id = waiting.pop(0)
            if block_id in asked:
                continue
            asked.add(block_id)
            if len(asked) > MOST_SUBTREES:
                raise ItemTooLargeError(
                    f"notion: page {page_id} comes in more than {MOST_SUBTREES} parts: split the page",
                    reason="too_large",
                )
            try:
                subtree, more = self._markdown(block_id)
            except SkipItemError:
                continue  # not shared, or of a kind that has no markdown
            markdown = with_subtree(markdown, block_id, subtree)
            waiting.extend(more)
            self._refuse_large(page_id, len(markdown))
        return markdown

    def _markdown(self, block_id: str) -> tuple[str, list[str]]:
        fields = self._calls.markdown(block_id)
        markdown, left_out = fields.get("markdown"), fields.get("unknown_block_ids")
        if not isinstance(markdown, str):
            raise UnexpectedReplyError("notion markdown: the answer has no `markdown`", wait_s=60)
        if fields.get("truncated") is not True:
            return markdown, []
        tagged = unknown_ids(markdown)
        named = [same_id(found) for found in left_out if isinstance(found, str)] if isinstance(left_out, list) else []
        return markdown, [found for found in named or tagged if tagged.get(found, True)]

    def _refuse_large(self, page_id: str, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise ItemTooLargeError(
                f"notion: page {page_id} has more than `max_file_bytes` = {self._limit_bytes} bytes: raise that, or leave"
                " it out",
                reason="too_large",
            )
