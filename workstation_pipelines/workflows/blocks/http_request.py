"""http_request: any request to a public address.

GET, HEAD, PUT and DELETE are tried again after any failure that may pass, as HTTP says that they may. POST and PATCH only
when nothing was sent, or when the answer is 429 or 503: a lost answer does not tell whether the request was acted upon.
`is_idempotent` says that it may be repeated all the same, for receivers that know the Idempotency-Key that is sent along.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

import httpx
from pydantic import Field, model_validator

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows import answers
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.outbound import MOST_BYTES, Incoming, Outbound, Outgoing, too_long
from workstation_pipelines.workflows.redaction import redacted

_REPEATABLE = frozenset(("GET", "HEAD", "PUT", "DELETE"))
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_NOT_GIVEN = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect")
)
_NOT_TOLD = re.compile(
    r"cookie|auth|token|secret|api-?key|^connection$|^keep-alive$|^transfer-encoding$", re.IGNORECASE
)
_MOST_HEADER_CHARACTERS = 8000

Value = str | int | float | bool | None


class HttpRequestConfig(BlockConfig):
    """`url` without what is in `query`; at most one of `json`, `body` and `form`; `expected` statuses, any 2xx if empty."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: str = Field(repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    query: dict[str, Value | list[Value]] = Field(default_factory=dict, repr=False)
    json_: Any = Field(None, alias="json", repr=False)
    body: str | None = Field(None, repr=False)
    form: dict[str, Value | list[Value]] | None = Field(None, repr=False)
    expected: list[Annotated[int, Field(ge=200, le=599)]] = Field(default_factory=list)
    parse: Literal["json", "text", "base64"] = "json"
    max_bytes: int = Field(1_000_000, ge=1, le=MOST_BYTES)
    follow_redirects: bool = True
    is_idempotent: bool | None = None

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if len(self.model_fields_set & {"json_", "body", "form"}) > 1:
            raise ValueError("give one of json, body and form")
        return self


def run(call: BlockCall[HttpRequestConfig]) -> BlockResult:
    """Output: {status, headers, body}; headers with lower-case names, without those that are about credentials."""
    config = call.config
    is_repeatable = config.method in _REPEATABLE if config.is_idempotent is None else config.is_idempotent
    outgoing = Outgoing(
        config.method,
        _url(config),
        headers=_headers(config, call.idempotency_key),
        body=_body(config),
        is_repeatable=is_repeatable,
        follows=config.follow_redirects,
        most_bytes=config.max_bytes,
    )
    answer = Outbound.to_public(call.workspace.settings).send(outgoing, stop=call.stop)
    call.log(f"{config.method} {answer.who} answered {answer.status} with {len(answer.body):,} bytes")
    if not _is_expected(config, answer.status):
        raise answers.refusal(answer, clock=call.clock, secrets=call.secrets, is_repeatable=is_repeatable)
    if answer.is_too_long:
        raise too_long(answer.who, config.max_bytes)
    body = _parsed(config, answer, call.secrets, is_repeatable=is_repeatable)
    return BlockResult({"status": answer.status, "headers": _told(answer.headers, call.secrets), "body": body})


def _is_expected(config: HttpRequestConfig, status: int) -> bool:
    return status in config.expected if config.expected else 200 <= status < 300


def _url(config: HttpRequestConfig) -> str:
    pairs = _pairs(config.query)
    if not pairs:
        return config.url
    url, _, _ = config.url.partition("#")
    return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs)}"


def _headers(config: HttpRequestConfig, idempotency_key: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in config.headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _NOT_GIVEN or name.lower().startswith("proxy-"):
            raise InvalidRequestError(f"the header {name[:60]!r} cannot be given: leave it out")
        if not (value.isascii() and value.isprintable()) or len(value) > _MOST_HEADER_CHARACTERS:
            raise InvalidRequestError(f"the header {name} holds characters that no header may, or too many of them")
        headers[name] = value.strip()
    given = {name.lower() for name in headers}
    kind = _content_type(config)
    if kind is not None and "content-type" not in given:
        headers["Content-Type"] = kind
    if config.method in ("POST", "PUT", "PATCH") and "idempotency-key" not in given:
        headers["Idempotency-Key"] = idempotency_key
    return headers


def _content_type(config: HttpRequestConfig) -> str | None:
    if "json_" in config.model_fields_set:
        return "application/json"
    if config.form is not None:
        return "application/x-www-form-urlencoded"
    return "text/plain; charset=utf-8" if config.body is not None else None


def _body(config: HttpRequestConfig) -> bytes | None:
    if "json_" in config.model_fields_set:
        return json.dumps(config.json_, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    if config.form is not None:
        return urlencode(_pairs(config.form)).encode()
    return config.body.encode("utf-8", "replace") if config.body is not None else None


def _pairs(given: Mapping[str, Value | list[Value]]) -> list[tuple[str, str]]:
    return [
        (name, ("true" if each else "false") if isinstance(each, bool) else str(each))
        for name, value in given.items()
        for each in (value if isinstance(value, list) else [value])
        if each is not None
    ]


def _parsed(config: HttpRequestConfig, answer: Incoming, secrets: frozenset[str], *, is_repeatable: bool) -> Any:
    if config.method == "HEAD":
        return None
    if config.parse == "json":
        return answers.json_in(answer, secrets=secrets, is_repeatable=is_repeatable)
    if config.parse == "base64":
        return base64.b64encode(answer.body).decode("ascii")
    return redacted(answers.text_of(answer.body), secrets)


def _told(headers: httpx.Headers, secrets: frozenset[str]) -> dict[str, str]:
    return {
        name.lower(): redacted(answers.text_of(value), secrets)
        for name, value in headers.items()
        if not _NOT_TOLD.search(name) and len(value) <= _MOST_HEADER_CHARACTERS
    }
