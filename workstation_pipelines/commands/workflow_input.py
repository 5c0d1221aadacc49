"""What a workflow is given, as options of the commands that start one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from workstation_pipelines.errors import InvalidRequestError

LONGEST_FILE_BYTES = 4_000_000
"""Somewhat more than a document of a megabyte, however it is indented."""

Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=VALUE", help="One input; JSON where the workflow wants no text."),
]
InputFile = Annotated[str | None, typer.Option("--input-file", metavar="FILE", help="A JSON object of inputs, or -.")]


def given_input(definition: Mapping[str, Any], pairs: Sequence[str] | None, file: str | None) -> dict[str, Any]:
    """Return the input that options give; a single one overrides the file's.

    A value is read as JSON unless the definition declares its input to be a string, and is text where it is not JSON.
    Raises InvalidRequestError.
    """
    given: dict[str, Any] = {}
    if file is not None:
        read = read_json(file)
        if not isinstance(read, dict):
            raise InvalidRequestError(f"{file} holds no JSON object of inputs")
        given.update(read)
    fields = definition.get("inputs") or {}
    for pair in pairs or ():
        name, found, value = pair.partition("=")
        if not found or not name:
            raise InvalidRequestError(f"{pair!r} gives no input: write NAME=VALUE")
        declared = fields.get(name, {})
        given[name] = value if declared.get("type") == "string" else _read_value(value)
    return given


def read_json(file: str) -> Any:
    """Read a JSON document from a file, or stdin for `-`. Raises InvalidRequestError; also where it is far too large."""
    try:
        if file == "-":
            content = sys.stdin.buffer.read(LONGEST_FILE_BYTES + 1)
        else:
            with Path(file).expanduser().open("rb") as stream:
                content = stream.read(LONGEST_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > LONGEST_FILE_BYTES:
        raise InvalidRequestError(f"{file} is larger than {LONGEST_FILE_BYTES:,} bytes")
    try:
        return json.loads(content)
    except RecursionError:
        raise InvalidRequestError(f"{file} is nested too deeply") from None
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidRequestError(f"{file} is not JSON{where}") from None


def _read_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
