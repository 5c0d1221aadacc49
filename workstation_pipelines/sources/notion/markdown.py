"""Notion's enhanced markdown as text to index: without its tags, and without addresses that expire.

The format is at developers.notion.com/guides/data-apis/enhanced-markdown (seen 2026-11-22). Code blocks are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, urlsplit

from workstation_pipelines.sources.notion.objects import id_in_url

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})")
_CHILD = re.compile(r"<(page|database)\b([^>]*?)(?:/>|>(.*?)</\1>)", re.DOTALL)
_URL = re.compile(r'\burl="([^"]*)"')
_UNKNOWN = re.compile(r"<unknown\b([^>]*?)(?:/>|>(?:.*?</unknown>)?)", re.DOTALL)
_FILE = re.compile(r"<(file|video|audio|pdf|image)\b([^>]*?)(?:/>|>(.*?)</\1>)", re.DOTALL)
_ALT = re.compile(r'\balt="([^"]*)"')
_SRC = re.compile(r'\bsrc="([^"]*)"')
_CELLS = re.compile(r"</t[dh]>\s*<t[dh]\b[^>]*>")
_TAG = re.compile(
    r"</?(?:callout|columns?|colgroup|col|details|summary|synced_block(?:_reference)?|table|tr|td|th|thead|tbody|tabs?"
    r"|meeting-notes|notes|transcript|span|toggle|mention-[a-z-]+|table_of_contents|empty-block|breadcrumb|button|br)"
    r"\b[^>]*>"
)
_ATTRIBUTES = re.compile(r'[ \t]*\{(?:color|toggle|icon)="[^"\n]*"(?:[ \t]+\w+="[^"\n]*")*\}(?=[ \t]*$)', re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:\\.|[^\]\\\n])*)\]\(((?:[^()\n\\]|\\.|\([^()\n]*\))*)\)")
_BARE_URL = re.compile(r"https?://[^\s<>\"')\]]+")
_ESCAPED = re.compile(r"\\([\\*~`$\[\]<>{}|^_#+.!()-])")
_BLANKS = re.compile(r"\n{3,}")
_SIGNED = frozenset(
    (
        "x-amz-signature",
        "x-amz-credential",
        "x-amz-security-token",
        "signature",
        "expirationtimestamp",
        "expires",
        "exp",
    )
)
_NO_MARKDOWN = frozenset({"bookmark", "embed", "link_preview", "breadcrumb", "template", "button"})
_FILE_HOSTS = ("secure.notion-static.com", "file.notion.so", "img.notionusercontent.com")


def clean(markdown: str, find: Callable[[str, str], None]) -> str:
    """Return the text of enhanced markdown. `find` is told the kind and id of each page and database that it holds."""
    pieces = []
    for is_code, piece in _pieces(markdown):
        pieces.append(piece if is_code else _clean(piece, find))
    return _BLANKS.sub("\n\n", "".join(pieces)).strip()


def unknown_ids(markdown: str) -> dict[str, bool]:
    """Return the ids of the blocks in whose place stands an `unknown` tag, and whether their kind has any markdown."""
    found: dict[str, bool] = {}
    for match in _UNKNOWN.finditer(markdown):
        url, alt = _URL.search(match[1]), _ALT.search(match[1])
        block_id = _fragment_id(url[1]) if url is not None else None
        if block_id is not None:
            found[block_id] = alt is None or alt[1] not in _NO_MARKDOWN
    return found


def with_subtree(markdown: str, block_id: str, subtree: str) -> str:
    """Put a block's own rendering where its `unknown` tag stands, or at the end if it has none."""

    def replaced(match: re.Match[str]) -> str:
        url = _URL.search(match[1])
        return subtree if url is not None and _fragment_id(url[1]) == block_id else match[0]

    filled = _UNKNOWN.sub(replaced, markdown)
    return filled if filled != markdown else f"{markdown}\n{subtree}"


def is_signed(url: str) -> bool:
    """Whether an address is one of Notion's files, or carries a signature: it changes with each answer and expires."""
    try:
        parts = urlsplit(url)
        names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        host = parts.hostname or ""
    except ValueError:
        return True
    is_notions = host in _FILE_HOSTS or (host.startswith("prod-files-secure.") and host.endswith(".amazonaws.com"))
    return is_notions or bool(names & _SIGNED)


def file_name(url: str) -> str:
    """Return the last step of an address, which for Notion's files is the name that they were uploaded with."""
    try:
        return unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:
        return ""


def _pieces(markdown: str) -> list[tuple[bool, str]]:
    pieces: list[tuple[bool, list[str]]] = [(False, [])]
    fence = ""
    for line in markdown.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark is not None and not fence:
            fence = mark[1]
            pieces.append((True, [line]))
        elif mark is not None and mark[1].startswith(fence) and line.strip() == mark[1]:
            fence = ""
            pieces[-1][1].append(line)
            pieces.append((False, []))
        else:
            pieces[-1][1].append(line)
    return [(is_code, "".join(lines)) for is_code, lines in pieces if lines]


def _clean(text: str, find: Callable[[str, str], None]) -> str:
    def child(match: re.Match[str]) -> str:
        url = _URL.search(match[2])
        external_id = id_in_url(url[1]) if url is not None else None
        if external_id is not None:
            find(match[1], external_id)
        return match[3] or ""

    text = _CHILD.sub(child, text)
    text = _UNKNOWN.sub("", text)
    text = _FILE.sub(_file, text)
    text = _LINK.sub(_link, text)
    text = _BARE_URL.sub(lambda match: file_name(match[0]) if is_signed(match[0]) else match[0], text)
    text = _CELLS.sub(" | ", text)
    text = re.sub(r"<br\s*/?>|</tr>", "\n", text)
    text = _TAG.sub("", text)
    text = _ATTRIBUTES.sub("", text)
    return _ESCAPED.sub(r"\1", text)


def _file(match: re.Match[str]) -> str:
    src = _SRC.search(match[2])
    name = file_name(src[1]) if src is not None else ""
    caption = (match[3] or "").strip()
    return " ".join(part for part in (caption, name if name != caption else "") if part)


def _link(match: re.Match[str]) -> str:
    bang, words, url = match[1], match[2], match[3]
    if not is_signed(url):
        return match[0]
    name = file_name(url)
    return f"{bang}[{words}]({name})" if name and bang else words or name


def _fragment_id(url: str) -> str | None:
    """A block is named in the fragment of its page's address, or takes the place of the page in it."""
    base, _, fragment = url.partition("#")
    return id_in_url(fragment) or id_in_url(base)
