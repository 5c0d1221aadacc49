"""Answers in which one thing is described in a way that no contract allows, and all the others as always."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tests.fakes.server import Answer, FakeVendor, Fault, Request

MISSING = object()
WRONG: Mapping[str, Any] = {
    "missing": MISSING,
    "null": None,
    "unknown": "frobnicate",
    "number": 17,
    "list": [],
    "object": {},
    "before 1970": "1901-02-03T04:05:06.000Z",
    "year 9999": "9999-12-31T23:59:59.999Z",
    "huge": 10**30,
    "nul": "a\0b",
    "surrogate": "a\ud800b",
    "long": "x" * 4000,
}

Path = tuple[str, ...]


class Spoiling:
    """Spoils what a vendor says of one thing: every object in its JSON in which `marks` is the value of a field.

    `seen` are the paths of all fields of such objects, two deep.
    """

    def __init__(self, vendor: FakeVendor, marks: str) -> None:
        self._vendor = vendor
        self._marks = marks.lower()
        self.seen: dict[Path, None] = {}

    @contextmanager
    def spoiled(self, path: Path | None, wrong: Any = None) -> Iterator[None]:
        """Let the field at `path` be wrong, or none."""
        respond = self._vendor.respond

        def spoilt(request: Request) -> tuple[Answer, Fault | None]:
            answer, fault = respond(request)
            return self._spoilt(answer, path, wrong), fault

        self._vendor.respond = spoilt  # type: ignore[method-assign]
        try:
            yield
        finally:
            self._vendor.respond = respond  # type: ignore[method-assign]

    def _spoilt(self, answer: Answer, path: Path | None, wrong: Any) -> Answer:
        if "json" not in answer.headers.get("Content-Type", ""):
            return answer
        fields = json.loads(answer.body)
        for found in self._objects(fields):
            self.seen |= dict.fromkeys(_paths(found))
            if path is not None:
                _put(found, path, wrong)
        body = json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return replace(answer, body=body)

    def _objects(self, fields: Any) -> Iterator[dict[str, Any]]:
        if isinstance(fields, dict):
            if any(isinstance(value, str) and value.lower() == self._marks for value in fields.values()):
                yield fields
            for value in list(fields.values()):
                yield from self._objects(value)
        elif isinstance(fields, list):
            for value in fields:
                yield from self._objects(value)


def _paths(fields: Mapping[str, Any]) -> Iterator[Path]:
    for name, value in fields.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, inner) for inner in value)


def _put(fields: dict[str, Any], path: Sequence[str], wrong: Any) -> None:
    for name in path[:-1]:
        inner = fields.get(name)
        if not isinstance(inner, dict):
            return
        fields = inner
    if path[-1] in fields:
        if wrong is MISSING:
            del fields[path[-1]]
        else:
            fields[path[-1]] = wrong
