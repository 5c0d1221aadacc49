"""HTML to text: what a reader sees, block by block, without scripts, styles, hidden parts and data URIs."""

from __future__ import annotations

import codecs
import re
from typing import Any

from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.formats import plain
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.I)
_UNSEEN = frozenset(
    [
        "script",
        "style",
        "noscript",
        "template",
        "head",
        "svg",
        "math",
        "object",
        "iframe",
        "canvas",
        "select",
        "audio",
        "video",
    ]
)
_PARAGRAPHS = frozenset(
    [
        "p",
        "table",
        "ul",
        "ol",
        "dl",
        "blockquote",
        "pre",
        "section",
        "article",
        "figure",
        "header",
        "footer",
        "main",
        "hr",
    ]
)
_LINES = frozenset(["div", "li", "tr", "dt", "dd", "br", "caption", "address", "figcaption", "option", "form"])
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all", re.I)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^<>]*>")
_ANY_TAG = re.compile(r"<[^<>]*>")
_VOID = frozenset(
    [
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
        "p",
        "li",
        "td",
        "th",
        "tr",
        "dt",
        "dd",
    ]
)
# The tree builder takes time in the square of the depth: 100,000 nested elements would keep it busy for 16 s.
_MOST_DEPTH = 2_000


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return the visible text, headings h1 to h6 and the title. Elements nested absurdly deep lose their structure."""
    builder = TextBuilder(limits)
    title = append(builder, decode(content.body))
    return builder.build(title=title)


def decode(body: bytes) -> str:
    """Return HTML bytes as text by byte order mark, by UTF-8 if valid, by their own meta charset, else by a guess."""
    declared = _META_CHARSET.search(body, 0, 4096)
    if declared and not body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return body.decode()
        except UnicodeDecodeError:
            try:
                return body.decode(declared.group(1).decode("ascii"), "replace")
            except LookupError:
                pass
    return plain.decode(body)


def append(builder: TextBuilder, markup: str) -> str | None:
    """Add the visible text of `markup` to `builder`; return the document's title, if it has one."""
    if _depth(markup) > _MOST_DEPTH:
        builder.paragraph(_ANY_TAG.sub(" ", markup))
        return None
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(markup)
    title = tree.css_first("title")
    if tree.body is not None:
        _Walk(builder).run(tree.body)
    return title.text() if title is not None else None


def _depth(markup: str) -> int:
    if markup.count("<") <= _MOST_DEPTH:
        return 0
    depth = deepest = 0
    for closing, name in _TAG.findall(markup):
        if name.lower() in _VOID:
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        deepest = max(deepest, depth)
    return deepest


class _Walk:
    """One pass over a tree, without recursion: `enter` before an element's children, `leave` after them."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._inline: list[str] = []
        self._is_paragraph = True
        self._preformatted = 0

    def run(self, root: Any) -> None:
        node, root_id = root, root.mem_id
        while True:
            child = node.child if self._enter(node) else None
            if child is not None:
                node = child
                continue
            while node.next is None or node.mem_id == root_id:
                self._leave(node.tag)
                if node.mem_id == root_id:
                    self._flush(paragraph=True)
                    return
                node = node.parent
            self._leave(node.tag)
            node = node.next

    def _enter(self, node: Any) -> bool:
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            self._inline.append(text if self._preformatted else re.sub(r"[ \t\r\n\f]+", " ", text))
            return False
        if tag in _UNSEEN or tag.startswith("-") or _is_hidden(node):
            return False
        if tag in _HEADINGS or tag in _PARAGRAPHS:
            self._flush(paragraph=True)
        elif tag in _LINES:
            self._flush(paragraph=False)
        if tag == "li":
            self._inline.append("- ")
        elif tag == "pre":
            self._preformatted += 1
        elif tag in ("td", "th") and "".join(self._inline).strip():
            self._inline.append(" | ")
        return True

    def _leave(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._builder.heading("".join(self._inline), _HEADINGS[tag])
            self._inline.clear()
            self._is_paragraph = True
        elif tag in _PARAGRAPHS:
            self._flush(paragraph=True)
        elif tag in _LINES:
            self._flush(paragraph=False)
        if tag == "pre":
            self._preformatted = max(0, self._preformatted - 1)

    def _flush(self, *, paragraph: bool) -> None:
        text = "".join(self._inline)
        self._inline.clear()
        if not self._preformatted:
            text = re.sub(r" {2,}", " ", text).strip(" ")
        if text.strip(" \n-|"):
            (self._builder.paragraph if self._is_paragraph else self._builder.line)(text)
            self._is_paragraph = paragraph
        else:
            self._is_paragraph = self._is_paragraph or paragraph


def _is_hidden(node: Any) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    return "hidden" in attributes or bool(_HIDDEN_STYLE.search(attributes.get("style") or ""))
