"""Reads the fields of a JSON object, and notes those that are not what they should be."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping
from typing import Any

from workstation_pipelines.workflows.problems import Problem, nearest, pointer, quoted

_NOT_GIVEN: Any = object()


class Fields:
    """An object at `path`. A field that cannot be read is noted in `problems`, and a value that fits is returned for it."""

    def __init__(self, found: Mapping[str, Any], path: str, problems: builtins.list[Problem], *, of: str = "") -> None:
        self._found = found
        self._path = path
        self._problems = problems
        self._of = of

    def problem(self, name: str, message: str) -> None:
        self._problems.append(Problem(self._path + pointer(name), self._of + message))

    def refuse_unknown(self, known: Collection[str]) -> None:
        for name in self._found:
            if name not in known:
                self.problem(name, f"unknown field {quoted(name)}{nearest(name, known)}")

    def text(self, name: str, *, default: str | None = None, most: int) -> str:
        value = self._found.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or (default is None and not value):
            self.problem(name, f"give text, not {quoted(value)}" if name in self._found else f"{name!r} is missing")
            return default or ""
        if len(value) > most:
            self.problem(name, f"give at most {most:,} characters, not {len(value):,}")
        return value

    def seconds(self, name: str, *, default: float, least: float, most: float) -> float:
        value = self._found.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.problem(name, f"give seconds, a number from {least:g} to {most:,}")
            return default
        return float(value)

    def whole(self, name: str, *, default: int, least: int, most: int) -> int:
        value = self._found.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.problem(name, f"give a whole number from {least} to {most}")
            return default
        return value

    def boolean(self, name: str) -> bool:
        value = self._found.get(name)
        if value is not None and not isinstance(value, bool):
            self.problem(name, "give true or false")
        return value is True

    def one_of(self, name: str, known: Collection[str], *, default: str) -> str:
        value = self._found.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in known:
            self.problem(name, f"{quoted(value)} is not known: use one of {', '.join(known)}")
            return default
        return value

    def object(self, name: str) -> Mapping[str, Any]:
        value = self._found.get(name)
        if value is not None and not isinstance(value, Mapping):
            self.problem(name, f"give an object, not {quoted(value)}")
        return value if isinstance(value, Mapping) else {}

    def list(self, name: str) -> builtins.list[Any]:
        value = self._found.get(name)
        if value is not None and not isinstance(value, builtins.list):
            self.problem(name, f"give a list, not {quoted(value)}")
        return value if isinstance(value, builtins.list) else []

    def inner(self, name: str) -> Fields:
        return Fields(self.object(name), self._path + pointer(name), self._problems, of=self._of)
