"""Notion's pages and data sources as values: the fields that are used, read with suspicion."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

WORKSPACE = "workspace"
"""The kind of parent that has no id, and the place of what lies at the top."""

UNTITLED = "Untitled"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID_IN_URL = re.compile(
    r"([0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12})(?![0-9a-fA-F])"
)


class MalformedError(ValueError):
    """Raised when one thing of a listing lacks what identifies or dates it; `external_id` is its id or a stand-in."""

    def __init__(self, external_id: str, what: str) -> None:
        super().__init__(what)
        self.external_id = external_id
        self.what = what


@dataclass(frozen=True, slots=True)
class Parent:
    """Where a thing lies. `kind` is page, data_source, database, block or workspace; others are read as workspace."""

    kind: str
    id: str | None


TOP = Parent(WORKSPACE, None)


@dataclass(frozen=True, slots=True)
class NotionPage:
    """A page or a row. `edited_at` is the text of `last_edited_time`, which Notion rounds down to the minute."""

    id: str
    title: str
    parent: Parent
    edited_at: str
    edited: datetime | None
    created: datetime | None
    created_at: str
    is_trashed: bool
    url: str | None
    properties: Mapping[str, Any] = field(repr=False)

    @property
    def is_row(self) -> bool:
        return self.parent.kind in ("data_source", "database")


@dataclass(frozen=True, slots=True)
class NotionSource:
    """A data source: the rows of a database. `database_parent` is where the database lies."""

    id: str
    title: str
    database_id: str | None
    database_parent: Parent
    edited: datetime | None
    is_trashed: bool


def read_page(fields: Mapping[str, Any]) -> NotionPage:
    """Read a page object. Raises MalformedError."""
    external_id = read_id(fields)
    edited_at = fields.get("last_edited_time")
    if not isinstance(edited_at, str) or not isinstance(fields.get("parent"), Mapping):
        raise MalformedError(external_id, "it has no `last_edited_time` or no `parent`")
    properties = fields.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    created_at = fields.get("created_time")
    url = fields.get("url")
    return NotionPage(
        id=external_id,
        title=_title_property(properties),
        parent=read_parent(fields["parent"]),
        edited_at=edited_at[:40],
        edited=moment(edited_at),
        created=moment(created_at),
        created_at=created_at if isinstance(created_at, str) else "",
        is_trashed=is_trashed(fields),
        url=url if isinstance(url, str) else None,
        properties=properties,
    )


def read_source(fields: Mapping[str, Any]) -> NotionSource:
    """Read a data source object, of which Notion may show no more than the id. Raises MalformedError."""
    parent = read_parent(fields.get("parent"))
    return NotionSource(
        id=read_id(fields),
        title=plain_text(fields.get("title")) or UNTITLED,
        database_id=parent.id if parent.kind == "database" else None,
        database_parent=read_parent(fields.get("database_parent")),
        edited=moment(fields.get("last_edited_time")),
        is_trashed=is_trashed(fields),
    )


def read_id(fields: Mapping[str, Any]) -> str:
    value = fields.get("id")
    if not isinstance(value, str) or not _is_id(same_id(value)):
        raise MalformedError("unknown", "it has no `id` that is one")
    return same_id(value)


def same_id(value: str) -> str:
    """Return the one spelling of an id that has several: Notion takes dashes and capitals or leaves them."""
    try:
        return str(UUID(value)) if len(value) in (32, 36) else value
    except ValueError:
        return value


def id_in_url(url: str) -> str | None:
    """Return the id of the page or database that a Notion URL leads to; it is the last one of its path."""
    found = _ID_IN_URL.findall(url.partition("?")[0].partition("#")[0])
    return same_id(found[-1]) if found else None


def is_partial(fields: Mapping[str, Any]) -> bool:
    """Whether a page object tells only its id, as Notion may do where the rest is not for this connection."""
    return "last_edited_time" not in fields and "parent" not in fields and isinstance(fields.get("id"), str)


def is_trashed(fields: Mapping[str, Any]) -> bool:
    """`archived` is the name before 2026-03-11, which Notion still sends beside the new one."""
    return fields.get("in_trash") is True or fields.get("archived") is True


def read_parent(value: object) -> Parent:
    if isinstance(value, Mapping):
        for kind in ("data_source", "database", "page", "block"):
            found = value.get(f"{kind}_id")
            # A row names its data source and, beside it, the database.
            if isinstance(found, str) and _is_id(same_id(found)) and value.get("type", f"{kind}_id") == f"{kind}_id":
                return Parent(kind, same_id(found))
    return TOP


def moment(value: object) -> datetime | None:
    """Read a time; None for what is none, or lies before 1970."""
    if not isinstance(value, str):
        return None
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        return None
    read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    return read if read >= _EPOCH else None


def plain_text(rich_text: object) -> str:
    """Return the words of a rich text, without marks and links."""
    return "".join(_plain(part) for part in rich_text) if isinstance(rich_text, list) else ""


def mappings(values: object) -> Iterable[Mapping[str, Any]]:
    """Return the objects of what should be a list of objects."""
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def _is_id(value: str) -> bool:
    return _ID_IN_URL.fullmatch(value) is not None


def _plain(part: object) -> str:
    text = part.get("plain_text") if isinstance(part, Mapping) else None
    return text if isinstance(text, str) else ""


def _title_property(properties: Mapping[str, Any]) -> str:
    for value in properties.values():
        if isinstance(value, Mapping) and value.get("type") == "title":
            return " ".join(plain_text(value.get("title")).split()) or UNTITLED
    return UNTITLED
