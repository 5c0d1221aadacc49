"""Whether a document may be stored at all: it is JSON, not too much of it and not too deep."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from workstation_pipelines.workflows.problems import Problem, pointer, quoted

MOST_BYTES = 1_000_000
MOST_LEVELS = 50

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def problems_of(document: object) -> Iterator[Problem]:
    """Yield why PostgreSQL could not store the document as it is; where it is too large or too deep, that is the last."""
    size = 0
    waiting: list[tuple[str, object, int]] = [("", document, 1)]
    while waiting:
        path, value, level = waiting.pop()
        if level > MOST_LEVELS:
            yield Problem(path, f"it is nested more than {MOST_LEVELS} levels deep")
            return
        if isinstance(value, Mapping):
            size += 2
            for name, inner in value.items():
                if not isinstance(name, str):
                    yield Problem(path, f"a name is text, not {quoted(name)}: put {str(name)[:40]!r} in quotes")
                    continue
                size += _text_bytes(name) + 4
                if _UNSTORABLE.search(name):
                    yield Problem(path, f"the name {quoted(name)} holds a character that cannot be stored")
                waiting.append((path + pointer(name), inner, level + 1))
        elif isinstance(value, list):
            size += 2 + 2 * len(value)
            if size <= MOST_BYTES:
                waiting.extend((f"{path}/{place}", inner, level + 1) for place, inner in enumerate(value))
        elif isinstance(value, str):
            size += _text_bytes(value)
            if _UNSTORABLE.search(value):
                yield Problem(path, "it holds a character that cannot be stored: NUL or half of a surrogate pair")
        else:
            problem = _scalar_problem(value)
            if problem:
                yield Problem(path, problem)
            else:
                size += _scalar_bytes(value)
        if size > MOST_BYTES:
            yield Problem("", f"it has more than {MOST_BYTES:,} bytes of JSON: move content into documents")
            return


def _text_bytes(text: str) -> int:
    if len(text) > MOST_BYTES:
        return len(text)
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _scalar_problem(value: object) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is no JSON value: use null"
    if isinstance(value, int):
        return "" if value.bit_length() <= 1024 else "the number is too large: write it as text"
    return f"{type(value).__name__} is no JSON value"


def _scalar_bytes(value: object) -> int:
    # The database writes numbers out: 1e300 takes 301 characters there.
    if isinstance(value, float):
        return len(format(Decimal(repr(value)), "f"))
    return 5 if value is None or isinstance(value, bool) else len(str(value))
