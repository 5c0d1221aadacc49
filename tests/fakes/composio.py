"""Composio's REST API as far as it concerns us: connected accounts, tools, and the proxy that calls a vendor with tokens.

Written from its API reference (v3): x-api-key authenticates, unknown fields are refused, the proxy answers 200 with the
vendor's status inside, JSON as `data`, text as a string, anything else as a link below `/files/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from tests.fakes.server import Answer, FakeVendor, Request

API_KEY = "composio-key-canary"
_CALL_FIELDS = {"endpoint", "method", "connected_account_id", "parameters", "body"}
_TOOL_FIELDS = {"arguments", "text", "user_id", "connected_account_id", "version"}
_TEXT = ("text/", "application/json")


@dataclass
class ConnectedAccount:
    """`origin` is where the vendor's API is: the proxy calls nothing else. `masks` is the project's setting."""

    token: str
    origin: str
    status: str = "ACTIVE"
    masks: str | None = None
    user_id: str = "default"


class FakeComposio(FakeVendor):
    provider: ClassVar[str] = "composio"

    def __init__(self, api_key: str = API_KEY) -> None:
        super().__init__()
        self.api_key = api_key
        self.accounts: dict[str, ConnectedAccount] = {}
        self.tools: dict[str, Callable[[dict[str, Any]], Any]] = {}
        """What each tool makes of its arguments; one that raises ValueError fails, as a tool of theirs does."""
        self.executed: list[dict[str, Any]] = []
        self._files: dict[str, tuple[bytes, str]] = {}

    def is_write(self, request: Request) -> bool:
        return False

    def violation(self, request: Request, answer: Answer) -> str | None:
        return None

    def answer(self, request: Request) -> Answer:
        if request.raw_path in self._files:
            body, content_type = self._files[request.raw_path]
            return Answer(200, body, {"Content-Type": content_type})
        if request.headers.get("x-api-key") != self.api_key:
            return Answer.of({"error": {"message": "Invalid API key"}}, 401)
        if request.method == "GET" and request.raw_path.startswith("/api/v3/connected_accounts/"):
            return self._account(request.steps[-1])
        if request.method == "POST" and request.raw_path == "/api/v3/tools/execute/proxy":
            return self._proxy(request.json)
        if request.method == "POST" and request.steps[:4] == ["api", "v3", "tools", "execute"]:
            return self._tool(request.steps[4], request.json)
        return Answer.of({"error": {"message": "Not found"}}, 404)

    def _account(self, name: str) -> Answer:
        account = self.accounts.get(name)
        if account is None:
            return Answer.of({"error": {"message": "Not found"}}, 404)
        values = {"access_token": account.masks or account.token, "token_type": "bearer"}
        return Answer.of(
            {
                "id": name,
                "user_id": account.user_id,
                "status": account.status,
                "state": {"authScheme": "OAUTH2", "val": values},
            }
        )

    def _tool(self, slug: str, call: dict[str, Any]) -> Answer:
        if slug not in self.tools:
            return _error(404, f"Tool {slug} not found")
        if call.keys() - _TOOL_FIELDS or not isinstance(call.get("arguments"), dict):
            return _error(400, f"Validation failed for {call}")
        account = self.accounts.get(str(call.get("connected_account_id")))
        owners = {each.user_id for each in self.accounts.values()}
        is_connected = account is not None if "connected_account_id" in call else call.get("user_id") in owners
        if not is_connected:
            return _error(400, f"No connected account found for user {call.get('user_id')}")
        self.executed.append({"tool": slug, **call})
        told: dict[str, Any] = {"data": {}, "successful": True, "error": None, "log_id": f"log_{len(self.executed)}"}
        try:
            told["data"] = self.tools[slug](call["arguments"])
        except ValueError as error:
            told |= {"successful": False, "error": str(error)}
        return Answer.of(told)

    def _proxy(self, call: dict[str, Any]) -> Answer:
        unknown = call.keys() - _CALL_FIELDS
        account = self.accounts.get(str(call.get("connected_account_id")))
        if unknown or account is None:
            return Answer.of({"error": {"message": f"unknown {unknown or 'account'}"}}, 400 if unknown else 404)
        parts = urlsplit(call["endpoint"])
        if f"{parts.scheme}://{parts.netloc}" != account.origin:
            return Answer.of({"error": {"message": "endpoint is not of this toolkit"}}, 400)
        headers = {each["name"]: each["value"] for each in call["parameters"] if each["type"] == "header"}
        with httpx.Client(trust_env=False) as client:
            reply = client.request(
                call["method"],
                call["endpoint"],
                headers={**headers, "Authorization": f"Bearer {account.token}"},
                json=call.get("body"),
            )
        return Answer.of(self._told(reply))

    def _told(self, reply: httpx.Response) -> dict[str, Any]:
        told: dict[str, Any] = {"status": reply.status_code, "headers": dict(reply.headers)}
        content_type = reply.headers.get("content-type", "")
        if content_type.startswith("application/json"):
            return {**told, "data": json.loads(reply.content)}
        if content_type.startswith(_TEXT):
            return {**told, "data": reply.text}
        path = f"/files/{len(self._files)}"
        self._files[path] = (reply.content, "application/octet-stream")
        binary = {"url": self.url + path, "content_type": content_type, "size": len(reply.content)}
        return {**told, "binary_data": binary}


def _error(status: int, message: str) -> Answer:
    return Answer.of(
        {"error": {"message": message, "status": status, "request_id": "req_1", "suggested_fix": message}}, status
    )
