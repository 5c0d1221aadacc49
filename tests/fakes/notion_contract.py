"""Notion's API reference for version 2026-03-11 as JSON Schemas of our own: what may be asked, and how answers look.

Written from developers.notion.com/reference and held against the types of Notion's own SDK 5.26, seen 2026-11-22. Objects
whose fields are documented completely take no others; values of properties and blocks are checked as far as their frame.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator, ValidationError

ID = {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"}
MINUTE = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:00\.000Z$"}
TEXT = {"type": "string"}
NULLABLE_TEXT = {"type": ["string", "null"]}
FLAG = {"type": "boolean"}
PAGE_SIZE = {"type": "integer", "minimum": 1, "maximum": 100}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _listing(item: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
    required = {
        "object": {"const": "list"},
        "results": {"type": "array", "items": item, "maxItems": 100},
        "has_more": FLAG,
        "next_cursor": NULLABLE_TEXT,
        "type": {"const": kind},
        kind: {"type": "object"},
    }
    optional = {"request_id": TEXT, **more}
    schema = _object(required, optional)
    has_cursor = {"properties": {"has_more": {"const": True}, "next_cursor": {"type": "string"}}}
    has_none = {"properties": {"has_more": {"const": False}, "next_cursor": {"type": "null"}}}
    return {**schema, "anyOf": [has_cursor, has_none]}


USER = {"type": "object", "properties": {"object": {"const": "user"}, "id": ID}, "required": ["object", "id"]}
RICH_TEXT = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "type": {"enum": ["text", "mention", "equation"]},
            "plain_text": TEXT,
            "href": NULLABLE_TEXT,
            "annotations": {"type": "object"},
        },
        "required": ["type", "plain_text", "href", "annotations"],
    },
}
PARENT = {
    "oneOf": [
        _object({"type": {"const": "workspace"}, "workspace": {"const": True}}),
        _object({"type": {"const": "page_id"}, "page_id": ID}),
        _object({"type": {"const": "block_id"}, "block_id": ID}),
        _object({"type": {"const": "database_id"}, "database_id": ID}),
        _object({"type": {"const": "data_source_id"}, "data_source_id": ID, "database_id": ID}),
    ]
}
PROPERTY_VALUE = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "type": TEXT,
        "has_more": FLAG,
        "relation": {"type": "array", "maxItems": 25, "items": _object({"id": ID})},
        "people": {"type": "array", "items": USER},
        "title": RICH_TEXT,
    },
    "required": ["id", "type"],
}
_COMMON = {
    "id": ID,
    "created_time": MINUTE,
    "last_edited_time": MINUTE,
    "in_trash": FLAG,
    "archived": FLAG,
    "icon": {"type": ["object", "null"]},
    "cover": {"type": ["object", "null"]},
    "url": TEXT,
    "public_url": NULLABLE_TEXT,
    "parent": PARENT,
}
PAGE = _object(
    {
        **_COMMON,
        "object": {"const": "page"},
        "is_archived": FLAG,
        "is_locked": FLAG,
        "created_by": USER,
        "last_edited_by": USER,
        "properties": {"type": "object", "additionalProperties": PROPERTY_VALUE},
    },
    {"request_id": TEXT},
)
DATABASE = _object(
    {
        **_COMMON,
        "object": {"const": "database"},
        "title": RICH_TEXT,
        "description": RICH_TEXT,
        "is_inline": FLAG,
        "is_locked": FLAG,
        "data_sources": {"type": "array", "items": _object({"id": ID, "name": TEXT})},
    },
    {"request_id": TEXT},
)
DATA_SOURCE = _object(
    {
        **_COMMON,
        "object": {"const": "data_source"},
        "title": RICH_TEXT,
        "description": RICH_TEXT,
        "database_parent": PARENT,
        "is_inline": FLAG,
        "created_by": USER,
        "last_edited_by": USER,
        "properties": {"type": "object"},
    },
    {"request_id": TEXT},
)
PARTIAL_PAGE = _object({"object": {"const": "page"}, "id": ID})
PARTIAL_DATA_SOURCE = _object({"object": {"const": "data_source"}, "id": ID, "properties": {"type": "object"}})
BLOCK = {
    "type": "object",
    "properties": {
        "object": {"const": "block"},
        "id": ID,
        "type": TEXT,
        "parent": PARENT,
        "has_children": FLAG,
        "in_trash": FLAG,
        "archived": FLAG,
        "created_time": MINUTE,
        "last_edited_time": MINUTE,
        "created_by": USER,
        "last_edited_by": USER,
    },
    "required": ["object", "id", "type", "parent", "has_children", "in_trash", "created_time", "last_edited_time"],
}
REQUEST_STATUS = _object(
    {"type": {"enum": ["complete", "incomplete"]}}, {"incomplete_reason": {"const": "query_result_limit_reached"}}
)
FOUND = {"oneOf": [PAGE, DATA_SOURCE, PARTIAL_PAGE, PARTIAL_DATA_SOURCE]}
ERROR = _object(
    {"object": {"const": "error"}, "status": {"type": "integer", "minimum": 400}, "code": TEXT, "message": TEXT},
    {"request_id": TEXT, "additional_data": {"type": "object"}, "developer_survey": TEXT},
)
PROPERTY_ITEM = {
    "type": "object",
    "properties": {"object": {"const": "property_item"}, "id": TEXT, "type": TEXT},
    "required": ["object", "id", "type"],
}

ANSWERS: dict[str, dict[str, Any]] = {
    "me": {
        "type": "object",
        "properties": {
            "object": {"const": "user"},
            "id": ID,
            "name": NULLABLE_TEXT,
            "avatar_url": NULLABLE_TEXT,
            "type": {"const": "bot"},
            "bot": {"type": "object", "properties": {"workspace_name": NULLABLE_TEXT, "workspace_id": ID}},
        },
        "required": ["object", "id", "name", "avatar_url", "type", "bot"],
    },
    "search": _listing(FOUND, "page_or_data_source", request_status=REQUEST_STATUS),
    "query": _listing(FOUND, "page_or_data_source", request_status=REQUEST_STATUS),
    "page": {"oneOf": [PAGE, PARTIAL_PAGE]},
    "database": DATABASE,
    "data_source": DATA_SOURCE,
    "block": BLOCK,
    "children": _listing(BLOCK, "block"),
    "markdown": _object(
        {
            "object": {"const": "page_markdown"},
            "id": ID,
            "markdown": TEXT,
            "truncated": FLAG,
            "unknown_block_ids": {"type": "array", "items": ID},
        },
        {"request_id": TEXT},
    ),
    "property": {"oneOf": [_listing(PROPERTY_ITEM, "property_item"), PROPERTY_ITEM]},
    "error": ERROR,
}

_DATE = {
    "type": "object",
    "properties": dict.fromkeys(("equals", "before", "after", "on_or_before", "on_or_after"), TEXT),
    "additionalProperties": False,
    "minProperties": 1,
}
_TIMESTAMP = {
    "oneOf": [_object({"timestamp": {"const": name}, name: _DATE}) for name in ("created_time", "last_edited_time")]
}
_PAGING = {"start_cursor": NULLABLE_TEXT, "page_size": PAGE_SIZE}
_DIRECTION = {"enum": ["ascending", "descending"]}

BODIES: dict[str, dict[str, Any]] = {
    "search": _object(
        {},
        {
            **_PAGING,
            "query": TEXT,
            "sort": _object({"timestamp": {"const": "last_edited_time"}, "direction": _DIRECTION}),
            "filter": {
                "oneOf": [
                    _object(
                        {"property": {"const": "object"}, "value": {"enum": ["page", "data_source"]}},
                        {"in_trash": FLAG},
                    ),
                    _object({"in_trash": FLAG}),
                ]
            },
        },
    ),
    "query": _object(
        {},
        {
            **_PAGING,
            "sorts": {
                "type": "array",
                "items": _object(
                    {"timestamp": {"enum": ["created_time", "last_edited_time"]}, "direction": _DIRECTION}
                ),
            },
            "filter": {"oneOf": [_TIMESTAMP, _object({"and": {"type": "array", "items": _TIMESTAMP}})]},
            "in_trash": FLAG,
            "result_type": {"enum": ["page", "data_source"]},
        },
    ),
}
QUERIES: dict[str, frozenset[str]] = {
    "children": frozenset({"start_cursor", "page_size"}),
    "property": frozenset({"start_cursor", "page_size"}),
    "markdown": frozenset({"include_transcript"}),
    "page": frozenset({"filter_properties"}),
}

_VALIDATORS = {name: Draft202012Validator(schema) for name, schema in ANSWERS.items()}
_BODY_VALIDATORS = {name: Draft202012Validator(schema) for name, schema in BODIES.items()}


def problem_of_answer(kind: str, fields: Any) -> str | None:
    """Return what is wrong with an answer's body; None when nothing is."""
    return _first(_VALIDATORS[kind], fields)


def problem_of_body(kind: str, body: Any) -> str | None:
    return _first(_BODY_VALIDATORS[kind], body) if kind in BODIES else ("a body" if body else None)


def _first(validator: Draft202012Validator, value: Any) -> str | None:
    errors: list[ValidationError] = sorted(
        validator.iter_errors(value), key=lambda error: list(error.path), reverse=False
    )
    if not errors:
        return None
    return f"{'.'.join(str(step) for step in errors[0].absolute_path)}: {errors[0].message[:300]}"
