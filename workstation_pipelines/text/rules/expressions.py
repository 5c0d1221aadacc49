"""JMESPath over what is known of an item without its content, checked when a rule is saved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jmespath
from jmespath import exceptions

from workstation_pipelines.errors import InvalidRequestError, UnreadableContentError
from workstation_pipelines.model import Item
from workstation_pipelines.text.rules.patterns import FAILED

Metadata = Mapping[str, str | int]
"""FIELDS of one item. Times are ISO 8601 in UTC and may be compared as text; what is unknown is "" (a size: -1)."""

FIELDS = (
    "title",
    "path",
    "folder",
    "name",
    "url",
    "external_id",
    "item_type",
    "mime_type",
    "size_bytes",
    "modified_at",
    "created_at",
    "source_name",
    "source_type",
)
MOST_CHARACTERS = 2000

_SAMPLE: Metadata = {name: -1 if name == "size_bytes" else "" for name in FIELDS}


def metadata_of(item: Item, *, source_name: str, source_type: str) -> Metadata:
    """Return what rules may ask about an item as its source lists it."""
    folder, _, name = item.external_path.rpartition("/")
    return {
        "title": item.title,
        "path": item.external_path,
        "folder": folder,
        "name": name,
        "url": item.external_url or "",
        "external_id": item.external_id,
        "item_type": item.item_type.value,
        "mime_type": item.mime_type,
        "size_bytes": item.size_bytes,
        "modified_at": item.external_modified_at.isoformat() if item.external_modified_at else "",
        "created_at": item.external_created_at.isoformat() if item.external_created_at else "",
        "source_name": source_name,
        "source_type": source_type,
    }


def checked(expression: str) -> str:
    """Return the expression. Raises InvalidRequestError for what cannot be read, an unknown function or an unknown field."""
    parsed = _parsed(expression)
    unknown = sorted(_fields(parsed.parsed) - set(FIELDS))
    if unknown:
        raise InvalidRequestError(f"{expression!r} asks for {', '.join(unknown)}: the fields are {', '.join(FIELDS)}")
    try:
        parsed.search(_SAMPLE)
    except exceptions.JMESPathError as error:
        raise InvalidRequestError(f"{expression!r} cannot be evaluated: {_plain(error)}") from None
    return expression


def search(expression: str, metadata: Metadata, rule: str) -> Any:
    """Return what the expression selects. Raises UnreadableContentError when it cannot be evaluated on this item."""
    try:
        return _parsed(expression).search(metadata)
    except exceptions.JMESPathError as error:
        raise UnreadableContentError(
            f"the expression of the rule {rule!r} cannot be evaluated on it ({_plain(error)}): mend the rule",
            reason=FAILED,
        ) from None


def is_true(expression: str, metadata: Metadata, rule: str) -> bool:
    """Return whether the expression selects anything but false, null and what is empty."""
    found = search(expression, metadata, rule)
    return found is not None and found is not False and found not in ("", [], {})


@lru_cache(maxsize=256)
def _parsed(expression: str) -> Any:
    if not 0 < len(expression) <= MOST_CHARACTERS:
        raise InvalidRequestError(f"an expression has 1 to {MOST_CHARACTERS:,} characters")
    try:
        return jmespath.compile(expression)
    except exceptions.JMESPathError as error:
        raise InvalidRequestError(
            f"{expression!r} is no JMESPath expression: {_plain(error)}. Text is written in single quotes"
        ) from None
    except RecursionError:
        raise InvalidRequestError("the expression is nested too deeply") from None


def _fields(node: Mapping[str, Any]) -> set[str]:
    """Return the names that an expression asks for, those left out that it defines itself."""
    if node["type"] == "field":
        return {node["value"]}
    inside: set[str] = set()
    defined: set[str] = set()
    for child in node.get("children", ()):
        if child["type"] == "key_val_pair":
            defined.add(child["value"])
        inside |= _fields(child)
    return inside - defined


def _plain(error: Exception) -> str:
    """The parser's message on one line, without the picture of where it failed."""
    return str(error).splitlines()[0].removeprefix("Bad jmespath expression: ")[:200]
