"""What a workflow is given at its start, held against the inputs that it declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import InputField, Json
from workstation_pipelines.workflows.problems import nearest, quoted

TYPES = ("any", "string", "number", "integer", "boolean", "object", "array", "null")
"""Types of JSON; an integer is a number, and so is not a boolean."""


def checked(fields: Sequence[InputField], given: Mapping[str, Json]) -> dict[str, Json]:
    """Return the input with the defaults of what was not given.

    Raises InvalidRequestError that names everything that is missing, not declared or of another type.
    """
    wrong: list[str] = []
    known = {field.name: field for field in fields}
    for name, value in given.items():
        if name not in known:
            wrong.append(f"there is no input {quoted(name)}{nearest(name, known)}")
        elif not is_of_type(value, known[name].type) and (value is not None or known[name].is_required):
            wrong.append(f"input {name!r} is no {known[name].type}")
    wrong += [
        f"input {field.name!r} is missing: give {_article(field.type)}"
        for field in fields
        if field.is_required and field.default is None and field.name not in given
    ]
    if wrong:
        raise InvalidRequestError("; ".join(wrong))
    return {field.name: given.get(field.name, field.default) for field in fields}


def is_of_type(value: Any, kind: str) -> bool:
    if kind == "any":
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    expected: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "number": (int, float),
        "integer": int,
        "object": Mapping,
        "array": list,
        "null": type(None),
    }
    return kind in expected and (isinstance(value, expected[kind]) or _is_whole(value, kind))


def _is_whole(value: Any, kind: str) -> bool:
    return kind == "integer" and isinstance(value, float) and value.is_integer()


def _article(kind: str) -> str:
    return "a value" if kind == "any" else f"{'an' if kind[0] in 'aio' else 'a'} {kind}"
