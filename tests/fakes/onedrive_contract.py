"""What requests to Microsoft Graph and its answers may look like, as far as OneDrive goes.

JSON Schemas written from learn.microsoft.com/graph/api/resources/driveitem and the pages it links to, /graph/api/
driveitem-delta, driveitem-get, driveitem-list-children, driveitem-get-content and /graph/errors (read 2026-11-22): only
what the fake says of them, and nothing else.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from tests.fakes.server import Answer, Request

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_MOMENT: dict[str, Any] = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_TYPES: dict[str, Any] = {"enum": ["personal", "business", "documentLibrary"]}


def _strict(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_HASHES = _strict(
    [], quickXorHash={"type": "string", "pattern": "^[A-Za-z0-9+/]{27}=$"}, sha1Hash=_TEXT, crc32Hash=_TEXT
)
_FILE = _strict([], mimeType=_TEXT, hashes=_HASHES)
_FOLDER = _strict([], childCount=_COUNT)
_PACKAGE = _strict(["type"], type=_TEXT)
_USER = _strict([], displayName=_TEXT, id=_TEXT, email=_TEXT)
_BY = _strict(["user"], user=_USER)
_PARENT = _strict(["driveId", "driveType"], driveId=_TEXT, driveType=_TYPES, id=_TEXT, path=_TEXT, name=_TEXT)
_TIMES = _strict([], createdDateTime=_MOMENT, lastModifiedDateTime=_MOMENT)
_REMOTE = _strict(
    ["id", "parentReference"],
    id=_TEXT,
    name=_TEXT,
    size=_COUNT,
    parentReference=_PARENT,
    file=_FILE,
    folder=_FOLDER,
    package=_PACKAGE,
)
_ITEM_PROPERTIES: dict[str, Any] = {
    "@microsoft.graph.downloadUrl": _TEXT,
    "id": _TEXT,
    "name": _TEXT,
    "size": _COUNT,
    "eTag": _TEXT,
    "cTag": _TEXT,
    "createdDateTime": _MOMENT,
    "lastModifiedDateTime": _MOMENT,
    "lastModifiedBy": _BY,
    "fileSystemInfo": _TIMES,
    "webUrl": _TEXT,
    "parentReference": _PARENT,
    "file": _FILE,
    "folder": _FOLDER,
    "package": _PACKAGE,
    "root": _strict([]),
    "deleted": _strict([], state=_TEXT),
    "malware": _strict([], description=_TEXT),
    "remoteItem": _REMOTE,
}
ITEM = _strict(["id"], **_ITEM_PROPERTIES)
_LINK: dict[str, Any] = {"type": "string", "pattern": "^https?://"}
DELTA = {
    **_strict(["value"], **{"@odata.context": _TEXT, "@odata.nextLink": _LINK, "@odata.deltaLink": _LINK}),
    "oneOf": [{"required": ["@odata.nextLink"]}, {"required": ["@odata.deltaLink"]}],
}
DELTA["properties"]["value"] = {"type": "array", "items": ITEM}
CHILDREN = _strict(
    ["value"],
    **{"@odata.context": _TEXT, "@odata.nextLink": _LINK, "value": {"type": "array", "items": ITEM}},
)
DRIVE = _strict(
    ["id", "driveType"],
    **{"@odata.context": _TEXT},
    id=_TEXT,
    driveType=_TYPES,
    name=_TEXT,
    owner=_BY,
    webUrl=_TEXT,
    quota=_strict([], total=_COUNT, used=_COUNT, remaining=_COUNT, deleted=_COUNT, state=_TEXT),
)
ERROR = _strict(
    ["error"],
    error=_strict(["code", "message"], code=_TEXT, message={"type": "string"}, innerError={"type": "object"}),
)

_ITEM_PATH = r"/v1\.0/drives/[^/]+/items/[^/:]+"
_SHAPES: list[tuple[str, dict[str, Any] | None, frozenset[str]]] = [
    (r"/v1\.0/me/drive\Z", DRIVE, frozenset({"$select"})),
    (r"/v1\.0/me/drive/root/delta(\(token='[^']+'\))?\Z", DELTA, frozenset({"$select", "$expand", "$top", "token"})),
    (_ITEM_PATH + r"(:/[^/]+)?\Z", ITEM, frozenset({"$select", "$expand"})),
    (
        _ITEM_PATH + r"/children\Z",
        CHILDREN,
        frozenset({"$select", "$expand", "$top", "$skiptoken", "$orderby", "$filter"}),
    ),
    (_ITEM_PATH + r"/content\Z", None, frozenset({"format"})),
]
"""Path, shape of a 200 answer, and the query parameters that the page names."""


def violation(request: Request, answer: Answer) -> str | None:
    """Say what breaks the contract; None when nothing does."""
    if request.steps[0] == "download":
        return "a pre-authenticated link gets our token" if "authorization" in request.headers else None
    shape = next((shape for shape in _SHAPES if re.fullmatch(shape[0], request.path)), None)
    if shape is None:
        return "no such resource in Graph v1.0"
    _, schema, parameters = shape
    unknown = {name for name, _ in request.query} - parameters
    if unknown:
        return f"query parameters {sorted(unknown)} are not documented here"
    if request.method != "GET":
        return "it does not read"
    if answer.status == 302:
        return None if answer.headers.get("Location") else "a redirect without Location"
    if answer.status >= 400:
        return _first_error(ERROR, answer.body)
    return _first_error(schema, answer.body) if schema is not None else None


def _first_error(schema: dict[str, Any], body: bytes) -> str | None:
    found = next(_validator(json.dumps(schema)).iter_errors(json.loads(body)), None)
    return None if found is None else f"{found.json_path}: {found.message[:200]}"


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))
