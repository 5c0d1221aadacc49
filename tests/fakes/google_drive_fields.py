"""Google's partial responses: the `fields` parameter, such as `nextPageToken,files(id,owners/emailAddress)`."""

from __future__ import annotations

import json
from typing import Any


class BadSelectorError(ValueError):
    """Raised for a selector that cannot be read."""


def selected(answer: dict[str, Any], fields: str | None) -> Any:
    """Return only what `fields` names; everything when it is None or `*`. An empty list stays one."""
    if fields is None or fields == "*":
        return answer
    # The lock of a fake is held meanwhile and listings ask the same for a thousand files: parse once.
    tree, rest = _parsed(fields, 0)
    if rest != len(fields):
        raise BadSelectorError(fields)
    return json.loads(json.dumps(_pick(answer, tree)))


def _pick(value: Any, tree: dict[str, Any]) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [_pick(entry, tree) for entry in value]
    if not isinstance(value, dict):
        return value
    return {name: _pick(value[name], below) for name, below in tree.items() if name in value}


def _parsed(fields: str, at: int) -> tuple[dict[str, Any], int]:
    tree: dict[str, Any] = {}
    while True:
        start = at
        while at < len(fields) and (fields[at].isalnum() or fields[at] == "*"):
            at += 1
        if at == start:
            raise BadSelectorError(fields)
        below = tree.setdefault(fields[start:at], {})
        if at < len(fields) and fields[at] == "/":
            inner, at = _step(fields, at + 1)
            below |= inner
        elif at < len(fields) and fields[at] == "(":
            inner, at = _parsed(fields, at + 1)
            below |= inner
            if at >= len(fields) or fields[at] != ")":
                raise BadSelectorError(fields)
            at += 1
        if at >= len(fields) or fields[at] != ",":
            return tree, at
        at += 1


def _step(fields: str, at: int) -> tuple[dict[str, Any], int]:
    start = at
    while at < len(fields) and fields[at].isalnum():
        at += 1
    if at == start:
        raise BadSelectorError(fields)
    return {fields[start:at]: {}}, at
