"""Apify's REST API as far as it concerns us: runs of actors, waited for, aborted, and the items that they store.

Written from its API reference (v2): a Bearer token, `{data: ...}` around what is told, `{error: {type, message}}` around
what is refused, 201 for a run that was started, and paths, queries and bodies that are checked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.fakes.server import Answer, FakeVendor, Request

_START = {"timeout", "memory", "build", "maxTotalChargeUsd", "maxItems", "waitForFinish"}
_ITEMS = {"format", "clean", "limit", "offset", "fields"}


@dataclass
class Run:
    id: str
    actor: str
    input: Any
    options: dict[str, str]
    status: str = "READY"
    items: list[Any] = field(default_factory=list)


class FakeApify(FakeVendor):
    """`ends_after` looks a run is over, as `ends_as`, with `items`; `actors` are those there are."""

    provider: ClassVar[str] = "apify"

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.actors = {"acme~crawler"}
        self.runs: dict[str, Run] = {}
        self.items: list[Any] = [{"url": "https://example.com", "text": "hello"}]
        self.ends_after = 1
        self.ends_as = "SUCCEEDED"

    def is_write(self, request: Request) -> bool:
        return request.method == "POST"

    def violation(self, request: Request, answer: Answer) -> str | None:
        if request.one("token") is not None:
            return "the token is in the URL"
        if request.method == "POST" and request.body and request.headers.get("content-type") != "application/json":
            return "the input is not announced as JSON"
        return None

    def answer(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            given = request.headers.get("authorization")
            return _refused(401, "user-or-token-not-found", f"User was not found or {given} is not valid")
        match (request.method, *request.steps):
            case ("POST", "v2", "acts", actor, "runs"):
                return self._start(actor, request)
            case ("GET", "v2", "actor-runs", run_id) if run_id in self.runs:
                return self._look(self.runs[run_id], request)
            case ("POST", "v2", "actor-runs", run_id, "abort") if run_id in self.runs:
                self.runs[run_id].status = "ABORTED"
                return Answer.of({"data": self._told(self.runs[run_id])})
            case ("GET", "v2", "datasets", dataset, "items") if dataset.removeprefix("ds") in self.runs:
                return self._items(self.runs[dataset.removeprefix("ds")], request)
        return _refused(404, "record-not-found", "Record was not found")

    def _start(self, actor: str, request: Request) -> Answer:
        options = dict(request.query)
        if actor not in self.actors:
            return _refused(404, "record-not-found", f"Actor {actor} was not found")
        if set(options) - _START or not isinstance(request.json, dict):
            return _refused(400, "invalid-input", f"Input is not valid: {request.body!r}")
        run = Run(f"run{len(self.runs)}", actor, request.json, options)
        self.runs[run.id] = run
        return Answer.of({"data": self._told(run)}, 201)

    def _look(self, run: Run, request: Request) -> Answer:
        if not 0 <= int(request.one("waitForFinish", "0") or 0) <= 60:
            return _refused(400, "invalid-value", "waitForFinish")
        if run.status in ("READY", "RUNNING"):
            self.ends_after -= 1
            run.status = "RUNNING" if self.ends_after > 0 else self.ends_as
            run.items = list(self.items) if run.status == "SUCCEEDED" else []
        return Answer.of({"data": self._told(run)})

    def _items(self, run: Run, request: Request) -> Answer:
        if {name for name, _ in request.query} - _ITEMS or request.one("format") != "json":
            return _refused(400, "invalid-parameter", "unknown parameter")
        names = (request.one("fields") or "").split(",")
        items = [{k: v for k, v in item.items() if names == [""] or k in names} for item in run.items]
        limit = int(request.one("limit") or len(items))
        return Answer.of(items[:limit], headers={"X-Apify-Pagination-Total": str(len(items))})

    def _told(self, run: Run) -> dict[str, Any]:
        is_over = run.status not in ("READY", "RUNNING")
        return {
            "id": run.id,
            "actId": "HG7ML7M8z78YcAPEB",
            "status": run.status,
            "statusMessage": f"was given {run.input}",
            "startedAt": "2026-11-22T11:50:00.000Z",
            "finishedAt": "2026-11-22T11:59:00.000Z" if is_over else None,
            "defaultDatasetId": f"ds{run.id}",
            "usageTotalUsd": 0.25 if is_over else None,
        }


def _refused(status: int, kind: str, message: str) -> Answer:
    return Answer.of({"error": {"type": kind, "message": message}}, status)
