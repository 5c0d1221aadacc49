"""The properties of a row as lines that people can read: "Name: value", in Notion's order, without empty ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workstation_pipelines.sources.notion.objects import mappings, plain_text

LISTED_TYPES = frozenset({"relation", "people"})
"""A page shows at most MOST_SHOWN of these; the rest has to be asked for."""

MOST_SHOWN = 25

_LEFT_OUT = frozenset({"title", "button", "created_time", "created_by", "last_edited_time", "last_edited_by"})
"""The title stands above; the others say nothing of their own, and change with each edit."""

TitleOf = Callable[[str], str | None]
"""Returns the title of a related page; None when it cannot be seen."""


def lines(properties: Mapping[str, Any], title_of: TitleOf) -> list[str]:
    """Render properties; types that are not known yet are left out."""
    rendered = []
    for name, value in properties.items():
        if not isinstance(value, Mapping) or value.get("type") in _LEFT_OUT:
            continue
        text = _one_line(_text(value, title_of))
        if text:
            rendered.append(f"{_one_line(str(name))}: {text}")
    return rendered


def has_more(value: Mapping[str, Any]) -> bool:
    """Whether a relation or people property may refer to more than the page shows."""
    kind = value.get("type")
    if kind not in LISTED_TYPES:
        return False
    shown = value.get(str(kind))
    return value.get("has_more") is True or (isinstance(shown, list) and len(shown) >= MOST_SHOWN)


def _text(value: Mapping[str, Any], title_of: TitleOf) -> str:
    kind = value.get("type")
    inner = value.get(str(kind))
    match kind:
        case "title" | "rich_text":
            return plain_text(inner)
        case "relation":
            titles = (title_of(str(found["id"])) for found in mappings(inner) if isinstance(found.get("id"), str))
            return ", ".join(title for title in titles if title)
        case "rollup":
            return _rollup(inner, title_of)
        case _:
            return _simple(kind, inner)


def _rollup(rollup: object, title_of: TitleOf) -> str:
    if not isinstance(rollup, Mapping):
        return ""
    if rollup.get("type") == "array":
        # A rollup of rollups is not offered; should it come, it is left out rather than followed.
        parts = (_text(part, title_of) for part in mappings(rollup.get("array")) if part.get("type") != "rollup")
        return ", ".join(part for part in parts if part)
    return _simple(rollup.get("type"), rollup.get(str(rollup.get("type"))))


def _simple(kind: object, inner: object) -> str:
    match kind:
        case "number" | "string" | "url" | "email" | "phone_number":
            return _scalar(inner)
        case "checkbox" | "boolean":
            return ("Yes" if inner else "No") if isinstance(inner, bool) else ""
        case "select" | "status":
            return _named(inner)
        case "multi_select" | "people" | "files":
            return ", ".join(name for name in map(_named, mappings(inner)) if name)
        case "date":
            return _dates(inner)
        case "formula":
            return _simple(inner.get("type"), inner.get(str(inner.get("type")))) if isinstance(inner, Mapping) else ""
        case "unique_id":
            return _unique_id(inner)
        case "verification":
            return _scalar(inner.get("state")) if isinstance(inner, Mapping) else ""
        case "place":
            parts = (inner.get("name"), inner.get("address")) if isinstance(inner, Mapping) else ()
            return ", ".join(part for part in map(_scalar, parts) if part)
    return ""


def _named(value: object) -> str:
    return _scalar(value.get("name")) if isinstance(value, Mapping) else ""


def _dates(value: object) -> str:
    if not isinstance(value, Mapping):
        return ""
    return " to ".join(part for part in (_scalar(value.get("start")), _scalar(value.get("end"))) if part)


def _unique_id(value: object) -> str:
    if not isinstance(value, Mapping) or value.get("number") is None:
        return ""
    prefix = _scalar(value.get("prefix"))
    return f"{prefix}-{_scalar(value['number'])}" if prefix else _scalar(value["number"])


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return ""
    return str(value) if isinstance(value, str | int | float) else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
