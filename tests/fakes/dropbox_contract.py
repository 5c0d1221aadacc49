"""Dropbox's contract: the compiled Stone types of the vendor's own Python package, and what these do not say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dropbox import auth, common, files, users
from stone.backends.python_rsrc import (
    stone_serializers,
    stone_validators,
)

from tests.fakes.server import Answer, Request


@dataclass(frozen=True)
class Route:
    """A route's types. Those of content take their argument in a header and give their result in another one."""

    argument: Any
    result: Any
    error: Any
    is_content: bool = False


ROUTES: Mapping[str, Route] = {
    "/2/users/get_current_account": Route(
        stone_validators.Void(), users.FullAccount_validator, stone_validators.Void()
    ),
    "/2/files/list_folder": Route(
        files.ListFolderArg_validator, files.ListFolderResult_validator, files.ListFolderError_validator
    ),
    "/2/files/list_folder/continue": Route(
        files.ListFolderContinueArg_validator,
        files.ListFolderResult_validator,
        files.ListFolderContinueError_validator,
    ),
    "/2/files/download": Route(
        files.DownloadArg_validator, files.FileMetadata_validator, files.DownloadError_validator, is_content=True
    ),
    "/2/files/export": Route(
        files.ExportArg_validator, files.ExportResult_validator, files.ExportError_validator, is_content=True
    ),
}
_CONTENT_TYPES = (
    None,
    "application/octet-stream",
    "text/plain; charset=utf-8",
    "text/plain; charset=dropbox-cors-hack",
)


def broken_request(request: Request) -> str | None:
    route = ROUTES.get(request.raw_path)
    if route is None:
        return "no such route, or none that only reads"
    if request.method != "POST":
        return "every call is a POST"
    if request.query:
        return "no call has query parameters"
    if request.token is None:
        return "it has no token"
    for name in ("dropbox-api-arg", "dropbox-api-path-root"):
        if not request.headers.get(name, "").isascii():
            return f"{name} is not ASCII"
    root = request.headers.get("dropbox-api-path-root")
    if root is not None and (problem := _undecodable(common.PathRoot_validator, root)):
        return f"path root: {problem}"
    return _broken_content_request(request, route) if route.is_content else _broken_rpc_request(request, route)


def broken_answer(request: Request, answer: Answer) -> str | None:
    route = ROUTES[request.raw_path]
    if answer.status == 200:
        if not route.is_content:
            return _undecodable(route.result, answer.body.decode())
        return _undecodable(route.result, answer.headers["Dropbox-API-Result"])
    if answer.headers.get("Content-Type") != "application/json":
        return None if answer.status in (400, 404, 429, 599) or answer.status >= 500 else "an error that is not JSON"
    errors = {
        401: auth.AuthError_validator,
        409: route.error,
        422: common.PathRootError_validator,
        429: auth.RateLimitError_validator,
    }
    fields = json.loads(answer.body)
    if not isinstance(fields.get("error_summary"), str):
        return "an error without a summary"
    if answer.status not in errors:
        return f"status {answer.status} has no JSON body"
    return _undecodable(errors[answer.status], json.dumps(fields["error"]))


def _broken_rpc_request(request: Request, route: Route) -> str | None:
    body = request.body.decode()
    if isinstance(route.argument, stone_validators.Void):
        return None if body in ("", "null") else "it takes no argument"
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return "its body is not announced as JSON"
    problem = _undecodable(route.argument, body)
    if problem is None and json.loads(body).get("path") == "/":
        return 'the root is "", not "/"'  # the vendor's types let it pass
    if problem is None and not 1 <= json.loads(body).get("limit", 1) <= 2000:
        return "a limit is 1 to 2000"
    return problem


def _broken_content_request(request: Request, route: Route) -> str | None:
    if request.body:
        return "a download has no body"
    if request.headers.get("content-type") not in _CONTENT_TYPES:
        return "a content type that this call refuses"
    return _undecodable(route.argument, request.headers.get("dropbox-api-arg", ""))


def _undecodable(validator: Any, serialized: str) -> str | None:
    decode: Any = stone_serializers.json_decode
    try:
        decode(validator, serialized, strict=True)
    except (stone_validators.ValidationError, ValueError) as error:
        return str(error)[:300]
    return None
