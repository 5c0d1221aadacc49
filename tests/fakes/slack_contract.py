"""Slack's contract for the methods that read, as JSON Schemas written from docs.slack.dev/reference (read 2026-11-22).

Slack publishes no current schema: their OpenAPI document ends in 2021. Arguments are complete here; of answers the fields
that are documented are typed, and what is said to be always there is required.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from tests.fakes.server import Answer

_TS = {"type": "string", "pattern": r"^[0-9]{10}\.[0-9]{6}$"}
_TIME = {"type": "string", "pattern": r"^(0|[0-9]{10}(\.[0-9]{6})?)$"}
_BOOL = {"enum": ["true", "false", "True", "False", "0", "1"]}
_LIMIT = {"type": "string", "pattern": "^[1-9][0-9]{0,3}$"}
_TEXT = {"type": "string", "minLength": 1}
_ID = {"type": "string", "pattern": "^[A-Z][A-Z0-9]+$"}
_PAGED = {"cursor": _TEXT, "limit": _LIMIT}
_HISTORY = {
    "channel": _ID,
    "latest": _TIME,
    "oldest": _TIME,
    "inclusive": _BOOL,
    "include_all_metadata": _BOOL,
    **_PAGED,
}

_ARGUMENTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "auth.test": ({}, []),
    "conversations.list": ({"types": _TEXT, "exclude_archived": _BOOL, "team_id": _ID, **_PAGED}, []),
    "conversations.info": ({"channel": _ID, "include_locale": _BOOL, "include_num_members": _BOOL}, ["channel"]),
    "conversations.history": (_HISTORY, ["channel"]),
    "conversations.replies": ({**_HISTORY, "ts": _TS}, ["channel", "ts"]),
    "users.list": ({"include_locale": _BOOL, "team_id": _ID, **_PAGED}, []),
    "users.info": ({"user": _ID, "include_locale": _BOOL}, ["user"]),
    "files.info": ({"file": _ID, "page": _LIMIT, "count": _LIMIT, **_PAGED}, ["file"]),
}
READS = frozenset(_ARGUMENTS)

_FILE = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": _ID,
        "name": {"type": ["string", "null"]},
        "title": {"type": "string"},
        "mimetype": {"type": "string"},
        "filetype": {"type": "string"},
        "size": {"type": "integer", "minimum": 0},
        "mode": {"type": "string"},
        "is_external": {"type": "boolean"},
        "file_access": {"type": "string"},
        "url_private": {"type": "string"},
        "url_private_download": {"type": "string"},
        "created": {"type": "integer"},
        "timestamp": {"type": "integer"},
        "user": _ID,
        "permalink": {"type": "string"},
    },
    "additionalProperties": False,
}
_MESSAGE = {
    "type": "object",
    "required": ["type", "ts"],
    "properties": {
        "type": {"const": "message"},
        "subtype": _TEXT,
        "ts": _TS,
        "user": _ID,
        "bot_id": _ID,
        "bot_profile": {"type": "object"},
        "app_id": _ID,
        "username": {"type": "string"},
        "team": _ID,
        "text": {"type": "string"},
        "blocks": {"type": "array", "items": {"type": "object", "required": ["type"]}},
        "attachments": {"type": "array", "items": {"type": "object"}},
        "files": {"type": "array", "items": _FILE},
        "upload": {"type": "boolean"},
        "edited": {"type": "object", "required": ["user", "ts"], "properties": {"user": _ID, "ts": _TS}},
        "reactions": {"type": "array", "items": {"type": "object", "required": ["name", "users", "count"]}},
        "thread_ts": _TS,
        "parent_user_id": {"type": "string"},
        "root": {"type": "object"},
        "reply_count": {"type": "integer", "minimum": 0},
        "reply_users_count": {"type": "integer", "minimum": 0},
        "reply_users": {"type": "array", "items": {"type": "string"}},
        "latest_reply": _TS,
        "is_locked": {"type": "boolean"},
        "subscribed": {"type": "boolean"},
        "hidden": {"type": "boolean"},
        "inviter": _ID,
        "client_msg_id": {"type": "string"},
    },
    "additionalProperties": False,
    "dependentRequired": {"reply_count": ["thread_ts", "latest_reply", "reply_users", "reply_users_count"]},
}
_CHANNEL = {
    "type": "object",
    "required": ["id", "is_im", "is_archived", "created"],
    "properties": {
        "id": _ID,
        "name": {"type": "string", "minLength": 1},
        "user": _ID,
        "is_member": {"type": "boolean"},
        "is_archived": {"type": "boolean"},
        "is_private": {"type": "boolean"},
        "is_mpim": {"type": "boolean"},
        "previous_names": {"type": "array", "items": {"type": "string"}},
    },
    "if": {"properties": {"is_im": {"const": True}}},
    "then": {"required": ["user"], "not": {"required": ["name"]}},
    "else": {"required": ["name", "is_member", "is_private", "is_mpim", "previous_names"]},
}
_USER = {
    "type": "object",
    "required": ["id", "team_id", "name", "deleted", "profile"],
    "properties": {"id": _ID, "name": _TEXT, "profile": {"type": "object"}, "deleted": {"type": "boolean"}},
}
_METADATA = {"type": "object", "required": ["next_cursor"], "properties": {"next_cursor": {"type": "string"}}}


def _list(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {name: {"type": "array", "items": item}}


_MESSAGES = {**_list("messages", _MESSAGE), "has_more": {"type": "boolean"}, "response_metadata": _METADATA}
_NAMES = ("url", "team", "user", "team_id", "user_id", "bot_id")
_ANSWERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "auth.test": (
        {**dict.fromkeys(_NAMES, _TEXT), "is_enterprise_install": {"type": "boolean"}},
        ["url", "team", "user", "team_id", "user_id"],
    ),
    "conversations.list": ({**_list("channels", _CHANNEL), "response_metadata": _METADATA}, ["channels"]),
    "conversations.info": ({"channel": _CHANNEL}, ["channel"]),
    "conversations.history": ({**_MESSAGES, "pin_count": {"type": "integer"}}, ["messages", "has_more"]),
    "conversations.replies": (_MESSAGES, ["messages", "has_more"]),
    "users.list": (
        {**_list("members", _USER), "cache_ts": {"type": "integer"}, "response_metadata": _METADATA},
        ["members"],
    ),
    "users.info": ({"user": _USER}, ["user"]),
    "files.info": ({"file": _FILE}, ["file"]),
}
_REFUSAL = {
    "type": "object",
    "required": ["ok", "error"],
    "properties": {
        "ok": {"const": False},
        "error": {"type": "string", "pattern": "^[a-z_]+$"},
        "needed": _TEXT,
        "provided": {"type": "string"},
    },
    "additionalProperties": False,
}


def violation(method: str, arguments: Mapping[str, str], answer: Answer) -> str | None:
    """Say what breaks the contract of a method, in the request or in its answer."""
    if method not in READS:
        return f"{method} is not a method that only reads"
    wrong = _first(_validator("arguments", method), dict(arguments))
    if wrong:
        return f"arguments: {wrong}"
    body = json.loads(answer.body)
    kind = "answer" if body.get("ok") else "refusal"
    if answer.status != (429 if body.get("error") == "ratelimited" else 200):
        return f"status {answer.status}"
    wrong = _first(_validator(kind, method), body)
    return f"{kind}: {wrong}" if wrong else None


@cache
def _validator(kind: str, method: str) -> Draft202012Validator:
    if kind == "refusal":
        return Draft202012Validator(_REFUSAL)
    properties, required = (_ARGUMENTS if kind == "arguments" else _ANSWERS)[method]
    if kind == "answer":
        properties, required = {"ok": {"const": True}, **properties}, ["ok", *required]
    return Draft202012Validator(
        {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    )


def _first(validator: Draft202012Validator, value: Any) -> str | None:
    error = next(iter(validator.iter_errors(value)), None)
    return f"{'/'.join(str(part) for part in error.absolute_path)}: {error.message[:200]}" if error else None
