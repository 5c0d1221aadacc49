"""HTML mail to plain text: what a reader sees. Scripts, styles, hidden preheaders, images and link targets are left out."""

from __future__ import annotations

import re
from typing import Any

_UNSEEN = frozenset(
    [
        "script",
        "style",
        "noscript",
        "template",
        "head",
        "title",
        "svg",
        "math",
        "object",
        "iframe",
        "canvas",
        "select",
        "audio",
        "video",
        "img",
        "map",
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
        "header",
        "footer",
        "main",
        "hr",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
    ]
)
_LINES = frozenset(["div", "li", "tr", "dt", "dd", "br", "caption", "address"])
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all|font-size\s*:\s*0(?:px|pt|em|%)?\s*(?:;|!|$)", re.I
)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^<>]*>")
_ANY_TAG = re.compile(r"<[^<>]*>")
_UNCLOSED = frozenset(
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
_SPACE = re.compile(r"[ \t\r\n\f\xa0\u200b\u034f\ufeff]+")
# A tree is built in the square of its depth; no mail that a person wrote nests its tables so deep.
_MOST_DEPTH = 2_000


def text_of_html(markup: str) -> str:
    """Return the visible text, a line a block, quoted blocks with `> ` before each line. Markup too deep is only stripped."""
    if _depth(markup) > _MOST_DEPTH:
        return _SPACE.sub(" ", _ANY_TAG.sub(" ", markup)).strip()
    from selectolax.lexbor import LexborHTMLParser

    body = LexborHTMLParser(markup).body
    if body is None:
        return ""
    walk = _Walk()
    walk.run(body)
    while walk.lines and not walk.lines[-1].strip("> "):
        walk.lines.pop()
    return "\n".join(walk.lines)


def _depth(markup: str) -> int:
    if markup.count("<") <= _MOST_DEPTH:
        return 0
    depth = deepest = 0
    for closing, name in _TAG.findall(markup):
        if name.lower() not in _UNCLOSED:
            depth = max(0, depth - 1) if closing else depth + 1
            deepest = max(deepest, depth)
    return deepest


class _Walk:
    """One pass over a tree, without recursion."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._inline: list[str] = []
        self._quotes = 0
        self._preformatted = 0

    def run(self, root: Any) -> None:
        node, root_id = root, root.mem_id
        while True:
            child = node.child if self._enter(node) else None
            if child is not None:
                node = child
                continue
            self._leave(node)
            while node.mem_id != root_id and node.next is None:
                node = node.parent
                self._leave(node)
            if node.mem_id == root_id:
                self._break(is_paragraph=False)
                return
            node = node.next

    def _enter(self, node: Any) -> bool:
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            self._inline.append(text if self._preformatted else _SPACE.sub(" ", text))
            return False
        if tag in _UNSEEN or tag.startswith("-") or _is_hidden(node):
            return False
        if tag in _PARAGRAPHS or tag in _LINES:
            self._break(is_paragraph=tag in _PARAGRAPHS)
        if tag == "li":
            self._inline.append("- ")
        elif tag in ("td", "th"):
            self._inline.append(" ")
        elif tag == "pre":
            self._preformatted += 1
        elif tag == "blockquote":
            self._quotes += 1
        return True

    def _leave(self, node: Any) -> None:
        tag = node.tag
        if tag not in _PARAGRAPHS and tag not in _LINES:
            return
        if _is_hidden(node):
            return
        self._break(is_paragraph=tag in _PARAGRAPHS)
        if tag == "pre":
            self._preformatted -= 1
        elif tag == "blockquote":
            self._quotes -= 1

    def _break(self, *, is_paragraph: bool) -> None:
        text = "".join(self._inline)
        self._inline.clear()
        mark = "> " * self._quotes
        lines = text.split("\n") if self._preformatted else [re.sub(r" {2,}", " ", text).strip()]
        if any(line.strip(" -") for line in lines):
            self.lines += [mark + line.rstrip() for line in lines]
        if is_paragraph and self.lines and self.lines[-1].strip("> "):
            self.lines.append(mark.rstrip())


def _is_hidden(node: Any) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    return "hidden" in attributes or bool(_HIDDEN.search(attributes.get("style") or ""))
