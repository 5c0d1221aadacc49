"""Takes secrets out of what is stored or logged, in whatever form they stand there."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from workstation_pipelines.workflow_model import Json

HIDDEN = "***"
SHORTEST = 4
"""A secret of fewer characters is hidden only where it is the whole value: everything else would be full of holes."""

_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ESCAPE = re.compile(r"(?:\\u[0-9A-Fa-f]{4})+|\\.", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_ENCODED_LEAST = 6
_LEVELS_OF_ESCAPES = 3

Span = tuple[int, int]


def redacted(value: Json, secrets: Collection[str]) -> Json:
    """Return the JSON value with `***` for every secret in its texts and keys, at any depth; the value itself stays.

    Found are a secret as it is, percent-encoded, escaped as in JSON (also JSON in JSON) or HTML, and within base64, there
    also percent-encoded or escaped. A number or text that is a secret as a whole is hidden however short. Texts take time
    linear in their length.
    """
    wanted = _Wanted.of(secrets)
    if not wanted.whole:
        return value
    root: list[Any] = [value]
    waiting: list[tuple[Any, Any]] = [(root, root)]
    while waiting:
        source, target = waiting.pop()
        for key in range(len(source)) if isinstance(source, list) else list(source):
            place = key if isinstance(source, list) else _unused(wanted.hidden_in(str(key)), target)
            inner = source[key]
            if isinstance(inner, list | Mapping):
                target[place] = [None] * len(inner) if isinstance(inner, list) else {}
                waiting.append((inner, target[place]))
            elif isinstance(inner, str):
                target[place] = wanted.hidden_in(inner)
            else:
                target[place] = HIDDEN if wanted.is_number(inner) else inner
    return root[0]


@dataclass(frozen=True, slots=True)
class _Wanted:
    whole: frozenset[str]
    plain: Sequence[tuple[str, int]]
    """Those that are looked for within texts, each with its period."""
    encoded: Sequence[tuple[str, int]]
    shortest: int

    @staticmethod
    def of(secrets: Iterable[str]) -> _Wanted:
        whole = frozenset(secret for secret in secrets if secret)
        long = sorted(secret for secret in whole if len(secret) >= SHORTEST)
        forms = sorted({form for secret in long for form in _forms(secret)} - set(long))
        shortest = min(map(len, (*long, *forms)), default=0)
        return _Wanted(whole, [(s, _period(s)) for s in long], [(f, _period(f)) for f in forms], shortest)

    def hidden_in(self, text: str) -> str:
        if text in self.whole:
            return HIDDEN
        if not self.plain or len(text) < self.shortest:
            return text
        spans = [span for form, period in (*self.plain, *self.encoded) for span in _places(text, form, period)]
        for decoded, ends in _decodings(text):
            spans.extend(
                (ends[start], ends[end]) for form, period in self.plain for start, end in _places(decoded, form, period)
            )
        return _without(text, spans)

    def is_number(self, value: object) -> bool:
        """Whether a number is a secret as JSON writes it."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        try:
            return json.dumps(value) in self.whole
        except ValueError:  # more digits than Python turns into text
            return False


def _forms(secret: str) -> Iterator[str]:
    as_bytes = secret.encode("utf-8", "surrogatepass")
    yield html.escape(secret)
    yield as_bytes.hex()
    yield as_bytes.hex().upper()
    # Three thirds of a byte may come before it in a longer text: what its neighbours change of the code is left away.
    in_urls = {quote(as_bytes, safe=safe).encode() for safe in ("", "/")}
    for before, inner in product(range(3), {as_bytes, json.dumps(secret)[1:-1].encode(), *in_urls}):
        code = base64.b64encode(b"\0" * before + inner).decode()
        bits = 8 * (before + len(inner))
        inside = code[-(-8 * before // 6) : bits // 6]
        if len(inside) >= _ENCODED_LEAST:
            yield inside
            yield inside.replace("+", "-").replace("/", "_")


def _period(form: str) -> int:
    """Return the least shift at which a text fits on itself, its length if none does."""
    borders = [0] * len(form)
    length = 0
    for place in range(1, len(form)):
        while length and form[place] != form[length]:
            length = borders[length - 1]
        length += form[place] == form[length]
        borders[place] = length
    return len(form) - borders[-1]


def _places(text: str, form: str, period: int) -> Iterator[Span]:
    """Yield where the form stands, overlapping ones joined where it repeats itself."""
    at = text.find(form)
    while at >= 0:
        end = at + len(form)
        while text.startswith(form[-period:], end):
            end += period
        yield at, end
        at = text.find(form, end - len(form) + 1)


def _decodings(text: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield what a text says once decoded, with the place in `text` where each of its characters begins."""
    if "%" in text or "+" in text:
        yield _decoded(text, _PERCENT, _unpercented)
        if "+" in text:
            yield _decoded(text.replace("+", " "), _PERCENT, _unpercented)
    inner = text
    starts: Sequence[int] = range(len(text) + 1)
    for _ in range(_LEVELS_OF_ESCAPES):
        if "\\" not in inner:
            return
        inner, ends = _decoded(inner, _ESCAPE, _unescaped)
        starts = [starts[end] for end in ends]
        yield inner, starts


def _decoded(text: str, pattern: re.Pattern[str], decode: Any) -> tuple[str, list[int]]:
    written: list[str] = []
    starts: list[int] = []
    at = 0
    for match in pattern.finditer(text):
        written.append(text[at : match.start()])
        starts.extend(range(at, match.start()))
        for character, place in decode(match.group()):
            written.append(character)
            starts.append(match.start() + place)
        at = match.end()
    written.append(text[at:])
    starts.extend(range(at, len(text) + 1))
    return "".join(written), starts


def _unpercented(run: str) -> Iterator[tuple[str, int]]:
    place = 0
    for character in unquote_to_bytes(run).decode("utf-8", "surrogateescape"):
        yield character, place
        place += 3 * len(character.encode("utf-8", "surrogateescape"))


def _unescaped(run: str) -> Iterator[tuple[str, int]]:
    if not run.startswith("\\u") or len(run) < 6:
        yield _ESCAPED.get(run[1], run[1]), 0
        return
    units = b"".join(int(run[place + 2 : place + 6], 16).to_bytes(2, "little") for place in range(0, len(run), 6))
    place = 0
    for character in units.decode("utf-16-le", "surrogatepass"):
        yield character, place
        place += 12 if ord(character) > 0xFFFF else 6


def _without(text: str, spans: list[Span]) -> str:
    if not spans:
        return text
    written: list[str] = []
    kept_to = 0
    for start, end in sorted(spans):
        if start >= kept_to:
            written.extend((text[kept_to:start], HIDDEN))
        kept_to = max(kept_to, end)
    return "".join((*written, text[kept_to:]))


def _unused(key: str, taken: Mapping[str, Any]) -> str:
    """Two keys with secrets in them must not become one."""
    name, number = key, len(taken)
    while name in taken:
        number += 1
        name = f"{key}{number}"
    return name
