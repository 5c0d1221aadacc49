"""A chat endpoint that speaks OpenAI's protocol as strictly as the real one.

Written from its API reference: Bearer key, unknown fields and wrong types are refused with `{"error": {message, type, param,
code}}`, whose message quotes what was sent; newer models refuse `max_tokens`. Tokens are words here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from tests.fakes.server import Answer, FakeVendor, Request

NEWER_MODEL = "gpt-newer"
_FIELDS = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "response_format"}
_ROLES = {"system", "user", "assistant"}


class FakeChat(FakeVendor):
    """`write` makes what the model writes of the messages; `tells_usage` False is a server that does not count.

    `completions` are the requests that were answered; what they cost at the real vendor.
    """

    provider: ClassVar[str] = "openai_chat"

    def __init__(self, key: str | None) -> None:
        super().__init__()
        self.key = key
        self.write: Callable[[list[dict[str, str]]], str] = lambda messages: f"You said: {messages[-1]['content']}"
        self.finish_reason = "stop"
        self.refusal: str | None = None
        self.tells_usage = True
        self.completions: list[dict[str, Any]] = []

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    def is_write(self, request: Request) -> bool:
        return True

    def violation(self, request: Request, answer: Answer) -> str | None:
        if request.headers.get("content-type") != "application/json":
            return "the body is not announced as JSON"
        return "a cookie is sent" if "cookie" in request.headers else None

    def answer(self, request: Request) -> Answer:
        if request.path != "/v1/chat/completions" or request.method != "POST":
            return _refused(404, "unknown_url", f"Invalid URL ({request.method} {request.path})")
        if request.headers.get("authorization") != (f"Bearer {self.key}" if self.key else None):
            given = request.headers.get("authorization")
            return _refused(401, "invalid_api_key", f"Incorrect API key provided: {given}")
        body = request.json
        problem = _problem(body)
        if problem is not None:
            return _refused(400, "invalid_value", f"{problem} in {body}")
        if body["model"] == NEWER_MODEL and "max_tokens" in body:
            return _refused(400, "unsupported_parameter", "Use 'max_completion_tokens' instead.", param="max_tokens")
        self.completions.append(body)
        return Answer.of(self._completion(body))

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        text = "" if self.refusal else self.write(body["messages"])
        message = {"role": "assistant", "content": None if self.refusal else text, "refusal": self.refusal}
        read, written = sum(len(each["content"].split()) for each in body["messages"]), len(text.split())
        told: dict[str, Any] = {
            "id": f"chatcmpl-{len(self.completions)}",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": f"{body['model']}-2026-01-01",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}],
        }
        if self.tells_usage:
            told["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return told


def _problem(body: Any) -> str | None:
    if not isinstance(body, dict) or set(body) - _FIELDS or not isinstance(body.get("model"), str):
        return "unknown or missing fields"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "no messages"
    for each in messages:
        if set(each) != {"role", "content"} or each["role"] not in _ROLES or not isinstance(each["content"], str):
            return "a message that is none"
    for name in ("max_tokens", "max_completion_tokens"):
        if name in body and (not isinstance(body[name], int) or body[name] < 1):
            return name
    if not 0 <= body.get("temperature", 1) <= 2:
        return "temperature"
    return _format_problem(body.get("response_format"), json.dumps(messages))


def _format_problem(wanted: Any, messages: str) -> str | None:
    if wanted is None or (wanted == {"type": "json_object"} and "json" in messages.lower()):
        return None
    if wanted == {"type": "json_object"}:
        return "'messages' must contain the word 'json' in some form"
    if wanted.get("type") != "json_schema" or set(wanted) != {"type", "json_schema"}:
        return "response_format"
    schema = wanted["json_schema"]
    is_named = isinstance(schema.get("name"), str) and isinstance(schema.get("schema"), dict)
    return None if is_named and set(schema) <= {"name", "schema", "strict", "description"} else "json_schema"


def _refused(status: int, code: str, message: str, param: str | None = None) -> Answer:
    return Answer.of(
        {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}, status
    )
