"""A page's blocks as markdown, for where Notion does not render it: one request a block that has children.

Iterative, since pages nest deeper than Python recurses. Child pages and databases are told of and not entered; a synced
block is followed once; what Notion calls unsupported, or is new, costs nothing but itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workstation_pipelines.errors import ItemTooLargeError, SkipItemError
from workstation_pipelines.sources.notion.calls import NotionCalls
from workstation_pipelines.sources.notion.markdown import file_name, is_signed
from workstation_pipelines.sources.notion.objects import plain_text, same_id

MOST_BLOCKS_ENTERED = 1000

_PREFIXES = {
    "heading_1": "# ",
    "heading_2": "## ",
    "heading_3": "### ",
    "heading_4": "#### ",
    "bulleted_list_item": "- ",
    "numbered_list_item": "1. ",
    "toggle": "- ",
    "quote": "> ",
}
_FILES = frozenset({"image", "video", "file", "pdf", "audio"})
_ADDRESSES = frozenset({"bookmark", "embed", "link_preview"})
_FLAT = frozenset(
    {"column_list", "column", "synced_block", "table", "tab", "template", "meeting_notes", "transcription"}
)
"""What only groups: its children stand as deep as itself."""


def render(calls: NotionCalls, page_id: str, find: Callable[[str, str], None], *, limit_bytes: int) -> str:
    """Return a page's blocks as markdown. Raises ItemTooLargeError, and what reading the page itself raises."""
    lines: list[str] = []
    size_bytes = 0
    entered = {page_id}
    # Each entry is a block to print, or the id of one to enter, with its depth.
    waiting: list[tuple[Mapping[str, Any] | str, int]] = [(page_id, 0)]
    while waiting:
        block, depth = waiting.pop()
        if isinstance(block, str):
            waiting.extend((child, depth) for child in reversed(_children(calls, block, is_page=block == page_id)))
            continue
        line = _line(block, find)
        if line:
            lines.append("\n".join("  " * depth + part for part in line.split("\n")))
            size_bytes += len(lines[-1].encode("utf-8", "replace")) + 1
        inside = _inside(block)
        if inside is not None and inside not in entered:
            entered.add(inside)
            waiting.append((inside, depth + (block.get("type") not in _FLAT)))
        if size_bytes > limit_bytes or len(entered) > MOST_BLOCKS_ENTERED:
            raise ItemTooLargeError(
                f"notion: page {page_id} has more than `max_file_bytes` = {limit_bytes} bytes, or more than"
                f" {MOST_BLOCKS_ENTERED} nested blocks: raise that, or split the page",
                reason="too_large",
            )
    return "\n".join(lines)


def _children(calls: NotionCalls, block_id: str, *, is_page: bool) -> list[Mapping[str, Any]]:
    children: list[Mapping[str, Any]] = []
    try:
        for results in calls.children(block_id):
            children.extend(found for found in results.objects if isinstance(found, Mapping))
    except SkipItemError:
        # A synced block's original may lie in a page that is not shared.
        if is_page:
            raise
    return children


def _inside(block: Mapping[str, Any]) -> str | None:
    """Return the id under which a block's children are found; None when it has none, or they are another page's."""
    kind = block.get("type")
    if kind in ("child_page", "child_database", "unsupported"):
        return None
    if kind == "synced_block":
        source = _inner(block).get("synced_from")
        if isinstance(source, Mapping) and isinstance(source.get("block_id"), str):
            return same_id(source["block_id"])
    found = block.get("id")
    return same_id(found) if block.get("has_children") is True and isinstance(found, str) else None


def _line(block: Mapping[str, Any], find: Callable[[str, str], None]) -> str:
    kind = str(block.get("type"))
    inner = _inner(block)
    if kind in ("child_page", "child_database"):
        if isinstance(block.get("id"), str):
            find(kind.removeprefix("child_"), same_id(block["id"]))
        return _text(inner.get("title"))
    if kind == "to_do":
        return f"- [{'x' if inner.get('checked') is True else ' '}] {plain_text(inner.get('rich_text'))}"
    if kind == "code":
        return f"```{_text(inner.get('language'))}\n{plain_text(inner.get('rich_text'))}\n```"
    if kind == "equation":
        return f"$$ {_text(inner.get('expression'))} $$"
    if kind == "table_row":
        cells = inner.get("cells")
        return " | ".join(plain_text(cell) for cell in cells) if isinstance(cells, list) else ""
    if kind in _FILES:
        return _file(inner)
    if kind in _ADDRESSES:
        url = _text(inner.get("url"))
        return " ".join(part for part in (plain_text(inner.get("caption")), "" if is_signed(url) else url) if part)
    if kind == "divider":
        return "---"
    text = plain_text(inner.get("rich_text")) or plain_text(inner.get("title"))
    return f"{_PREFIXES.get(kind, '')}{text}" if text else ""


def _file(inner: Mapping[str, Any]) -> str:
    held = inner.get(str(inner.get("type")))
    url = _text(held.get("url")) if isinstance(held, Mapping) else ""
    name = _text(inner.get("name")) or file_name(url)
    caption = plain_text(inner.get("caption"))
    return " ".join(part for part in (caption, name if name != caption else "") if part)


def _inner(block: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = block.get(str(block.get("type")))
    return inner if isinstance(inner, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
