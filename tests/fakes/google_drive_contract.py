"""Holds requests and answers against Drive's own contract: the discovery document of its official client library."""

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

_METHODS = {
    ("about", "get"): None,
    ("changes", "getStartPageToken"): None,
    ("changes", "list"): None,
    ("drives", "get"): None,
    ("drives", "list"): None,
    ("files", "export"): None,
    ("files", "get"): None,
    ("files", "list"): None,
}


@cache
def discovery() -> Mapping[str, Any]:
    """The discovery document of drive.v3 as installed with google-api-python-client."""
    found = files("googleapiclient.discovery_cache") / "documents" / "drive.v3.json"
    document: Mapping[str, Any] = json.loads(found.read_text("utf-8"))
    return document


def method_of(request: Request) -> tuple[str, dict[str, str]] | None:
    """Return the discovery id of the method that a request calls, and the parameters in its path."""
    for resource, name in _METHODS:
        method = discovery()["resources"][resource]["methods"][name]
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", "/" + discovery()["servicePath"] + method["path"])
        match = re.fullmatch(pattern, request.raw_path)
        if match is not None and request.method == method["httpMethod"]:
            return method["id"], {key: unquote(value) for key, value in match.groupdict().items()}
    return None


def broken_request(request: Request, method_id: str, in_path: Mapping[str, str]) -> str | None:
    """Say which parameter the contract does not know, or wants otherwise."""
    method = _method(method_id)
    known = {**discovery()["parameters"], **method["parameters"]}
    given = dict(in_path)
    for name, value in request.query:
        if name in given:
            return f"parameter {name} is given twice"
        given[name] = value
        if name not in known or known[name]["location"] != "query":
            return f"parameter {name} is unknown to {method_id}"
        problem = _broken_value(known[name], value)
        if problem:
            return f"parameter {name} {problem}"
    missing = [name for name, rule in method["parameters"].items() if rule.get("required") and name not in given]
    if missing:
        return f"parameter {missing[0]} is required by {method_id}"
    if request.body:
        return f"{method_id} takes no body"
    return None


def broken_answer(method_id: str, request: Request, answer: Answer) -> str | None:
    """Say how the JSON of an answer differs from the method's response schema."""
    response = _method(method_id).get("response")
    if answer.status != 200 or response is None or request.one("alt") == "media":
        return None
    errors = sorted(_validator(response["$ref"]).iter_errors(json.loads(answer.body)), key=str)
    return f"{errors[0].json_path}: {errors[0].message}" if errors else None


def _method(method_id: str) -> Mapping[str, Any]:
    _, resource, name = method_id.split(".")
    found: Mapping[str, Any] = discovery()["resources"][resource]["methods"][name]
    return found


def _broken_value(rule: Mapping[str, Any], value: str) -> str | None:
    if rule["type"] == "boolean" and value not in ("true", "false"):
        return "is no boolean"
    if rule["type"] == "integer":
        if not value.isdigit():
            return "is no number"
        if not int(rule.get("minimum", 0)) <= int(value) <= int(rule.get("maximum", 2**31)):
            return "is out of bounds"
    if "enum" in rule and value not in rule["enum"]:
        return f"is none of {rule['enum']}"
    return None


@cache
def _validator(schema_name: str) -> Draft202012Validator:
    schemas = {name: _converted(schema) for name, schema in discovery()["schemas"].items()}
    return Draft202012Validator({"$ref": f"#/$defs/{schema_name}", "$defs": schemas})


def _converted(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Turn Google's dialect of JSON Schema draft 3 into the present one; what is not described is not allowed."""
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    if schema.get("type") == "any":
        return {}
    found: dict[str, Any] = {"type": schema["type"]}
    if "enum" in schema:
        found["enum"] = schema["enum"]
    if schema.get("format") in ("int64", "uint64"):
        found["pattern"] = r"^-?\d+$"
    if schema.get("format") == "date-time":
        found["pattern"] = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
    if "items" in schema:
        found["items"] = _converted(schema["items"])
    if schema["type"] == "object":
        found["properties"] = {name: _converted(part) for name, part in schema.get("properties", {}).items()}
        more = schema.get("additionalProperties")
        found["additionalProperties"] = _converted(more) if more is not None else False
    return found
