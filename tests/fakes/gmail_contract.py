"""Holds requests and answers against Gmail's own contract: the discovery document of its official client library."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator

from tests.fakes.server import Answer, Request

_READS = {
    "getProfile": ("users",),
    "messages.list": ("users", "messages"),
    "messages.get": ("users", "messages"),
    "attachments.get": ("users", "messages", "attachments"),
    "threads.get": ("users", "threads"),
    "threads.list": ("users", "threads"),
    "labels.list": ("users", "labels"),
    "labels.get": ("users", "labels"),
    "history.list": ("users", "history"),
}
_FORMATS = {"uint64": r"^[0-9]{1,20}$", "int64": r"^-?[0-9]{1,19}$", "byte": r"^[A-Za-z0-9_-]*={0,2}$"}


@cache
def discovery() -> Mapping[str, Any]:
    """The discovery document of gmail.v1 as installed with google-api-python-client."""
    found = files("googleapiclient.discovery_cache") / "documents" / "gmail.v1.json"
    document: Mapping[str, Any] = json.loads(found.read_text("utf-8"))
    return document


def method_of(request: Request) -> tuple[Mapping[str, Any], dict[str, str]] | None:
    """Return the method that a request calls, and the parameters in its path; None for what only reads is not."""
    for name, way in _READS.items():
        resource: Mapping[str, Any] = discovery()
        for step in way:
            resource = resource["resources"][step]
        method = resource["methods"][name.rpartition(".")[2]]
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", "/" + discovery()["servicePath"] + method["path"])
        match = re.fullmatch(pattern, request.raw_path)
        if match is not None and request.method == method["httpMethod"]:
            return method, {key: unquote(value) for key, value in match.groupdict().items()}
    return None


def broken(request: Request, answer: Answer) -> str | None:
    """Say what in a request or its answer breaks the contract; None when nothing does."""
    found = method_of(request)
    if found is None:
        return "no method of Gmail reads by this"
    method, in_path = found
    return _broken_request(request, method, in_path) or _broken_answer(method, answer)


def _broken_request(request: Request, method: Mapping[str, Any], in_path: Mapping[str, str]) -> str | None:
    known = {**discovery()["parameters"], **method["parameters"]}
    given = dict(in_path)
    for name, value in request.query:
        if name not in known or known[name]["location"] != "query":
            return f"parameter {name} is unknown to {method['id']}"
        if name in given and not known[name].get("repeated"):
            return f"parameter {name} is given twice"
        given[name] = value
        if "enum" in known[name] and value not in known[name]["enum"]:
            return f"parameter {name} may not be {value!r}"
        if known[name]["type"] == "boolean" and value not in ("true", "false"):
            return f"parameter {name} is no boolean"
        if known[name]["type"] == "integer" and not value.isdigit():
            return f"parameter {name} is no number"
        if name == "maxResults" and not 1 <= int(value) <= 500:
            return "maxResults is not between 1 and 500"
    if method["id"] == "gmail.users.history.list" and "startHistoryId" not in given:
        return "startHistoryId is required"
    if "authorization" not in request.headers:
        return "no token"
    return "a read has no body" if request.body else None


def _broken_answer(method: Mapping[str, Any], answer: Answer) -> str | None:
    fields = json.loads(answer.body)
    if answer.status != 200:
        error = fields.get("error") if isinstance(fields, dict) else None
        is_error = isinstance(error, dict) and error.get("code") == answer.status and error.get("errors")
        return None if is_error else f"an error that is not Google's: {answer.status}"
    problem = next(_validator(method["response"]["$ref"]).iter_errors(fields), None)
    return None if problem is None else f"answer of {method['id']}: {problem.json_path}: {problem.message[:200]}"


@cache
def _validator(name: str) -> Draft202012Validator:
    schemas = {key: _schema(schema) for key, schema in discovery()["schemas"].items()}
    return Draft202012Validator({"$defs": schemas, "$ref": f"#/$defs/{name}"})


def _schema(found: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of the discovery format as JSON Schema: what it does not name may not be there."""
    if "$ref" in found:
        return {"$ref": f"#/$defs/{found['$ref']}"}
    kind = found["type"]
    if kind == "array":
        return {"type": "array", "items": _schema(found["items"])}
    if kind == "object":
        properties = {name: _schema(value) for name, value in found.get("properties", {}).items()}
        more = _schema(found["additionalProperties"]) if "additionalProperties" in found else False
        return {"type": "object", "properties": properties, "additionalProperties": more}
    schema: dict[str, Any] = {} if kind == "any" else {"type": kind}
    if found.get("format") in _FORMATS:
        schema["pattern"] = _FORMATS[found["format"]]
    if "enum" in found:
        schema["enum"] = found["enum"]
    return schema
