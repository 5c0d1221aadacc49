"""References in the config of a node: `${nodes.search.output.hits}` is what that node gave, `${secrets.KEY}` a secret.

Scope is what expressions are evaluated on: {"input": {...}, "variables": {...}, "nodes": {id: {"output": ...}},
"execution": {"id", "workflow", "number"}}, with the nodes before this one.

A string that is one reference and nothing else becomes the value, whatever its type. In a longer text values are put in as
text: text as it is, null as nothing, everything else as JSON. `$${` stands for `${`. What a reference gives is data: it is
never looked through for references again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Json
from workstation_pipelines.workflows.expressions import MOST_CHARACTERS, as_text, evaluate, is_true, node_ids_in
from workstation_pipelines.workflows.problems import pointer, quoted
from workstation_pipelines.workflows.redaction import HIDDEN, redacted

__all__ = [
    "MOST_REFERENCES",
    "Reference",
    "Resolved",
    "as_text",
    "evaluate",
    "has_references",
    "is_true",
    "names_of_secrets",
    "node_ids_in",
    "pieces",
    "resolve",
    "strings_in",
]

MOST_REFERENCES = 200
"""How many references one string may hold."""
MOST_RESOLVED = 10_000_000
"""Characters of the text that a string with references may become."""

_OPENING = re.compile(r"\$\$\{|\$\{")
_INSIDE = re.compile(r"""[{}]|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`""", re.DOTALL)
_SECRET = re.compile(r"secrets\.([A-Za-z_][A-Za-z0-9_]{0,99})")
_SECRET_LIKE = re.compile(r"\s*(?:@\.)?\"?secrets\b")


@dataclass(frozen=True, slots=True)
class Reference:
    """`secret` is the name of one, None for an expression."""

    expression: str
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """`value` is what the block gets, `shown` the same with every secret hidden: that may be stored."""

    value: Json
    shown: Json
    secret_names: frozenset[str]


def resolve(
    config: Mapping[str, Any],
    scope: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    lazy_fields: Collection[str] = (),
) -> Resolved:
    """Put values in the place of references; `lazy_fields` of the config are left as they are, for their block to resolve.

    A config without references comes back equal. Raises InvalidRequestError naming the expression and its place when it
    cannot be evaluated, or a secret is not there.
    """
    values: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for name, value in config.items():
        resolver = _Resolver(scope, secrets)
        is_lazy = name in lazy_fields
        values[name], shown[name] = (value, value) if is_lazy else resolver.resolved(value, pointer(name))
    names = names_of_secrets(config)
    opened = [secrets[name] for name in names if name in secrets]
    return Resolved(values, redacted(shown, opened), names)


def resolve_value(value: Json, scope: Mapping[str, Any], secrets: Mapping[str, str], *, path: str = "") -> Json:
    """Return one value with its references resolved; `path` is told in errors. Raises InvalidRequestError."""
    return _Resolver(scope, secrets).resolved(value, path)[0]


def names_of_secrets(config: Json) -> frozenset[str]:
    """Return the names of all secrets that the config refers to, those in fields that are resolved later, too."""
    found = (
        piece.secret for _, text in strings_in(config) for piece in _well_formed(text) if isinstance(piece, Reference)
    )
    return frozenset(name for name in found if name is not None)


def has_references(value: Json) -> bool:
    return any("${" in text for _, text in strings_in(value))


def pieces(text: str) -> Iterator[str | Reference]:
    """Yield the literal text and the references of a string in their order.

    Raises InvalidRequestError, after what stands before it, for a reference that is not closed, empty, too long, or a
    malformed one to a secret. The time is linear.
    """
    at = count = 0
    while opening := _OPENING.search(text, at):
        if opening.start() > at:
            yield text[at : opening.start()]
        if opening.group() == "$${":
            yield "${"
            at = opening.end()
            continue
        count += 1
        if count > MOST_REFERENCES:
            raise InvalidRequestError(
                f"a text holds more than {MOST_REFERENCES} references: make it in a transform block"
            )
        end = _end_of(text, opening.end())
        yield _reference(text[opening.end() : end])
        at = end + 1
    if at < len(text):
        yield text[at:]


def strings_in(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string that is a value, with the JSON pointer to it, in the order of the document."""
    waiting = [(path, value)]
    while waiting:
        where, found = waiting.pop()
        if isinstance(found, str):
            yield where, found
        elif isinstance(found, Mapping):
            waiting.extend((where + pointer(name), inner) for name, inner in reversed(list(found.items())))
        elif isinstance(found, list):
            waiting.extend((where + pointer(place), found[place]) for place in range(len(found) - 1, -1, -1))


def _well_formed(text: str) -> Iterator[str | Reference]:
    if "${" not in text:
        return
    try:
        yield from pieces(text)
    except InvalidRequestError:
        return


def _end_of(text: str, start: int) -> int:
    """Return where the brace is that closes a reference; braces in quotes and pairs of them belong to the expression."""
    open_braces = 1
    within = start + MOST_CHARACTERS + 1
    for mark in _INSIDE.finditer(text, start, within):
        if mark.group() == "{":
            open_braces += 1
        elif mark.group() == "}":
            open_braces -= 1
            if open_braces == 0:
                return mark.start()
    if within < len(text):
        raise InvalidRequestError(
            f"the reference {quoted(text[start - 2 :], 30)} is not closed within {MOST_CHARACTERS:,} characters: "
            "end it with }, or write $${ for a literal ${"
        )
    raise InvalidRequestError(
        f"the reference {quoted(text[start - 2 :], 30)} is not closed: end it with }}, or write $${{ for a literal ${{"
    )


def _reference(expression: str) -> Reference:
    secret = _SECRET.fullmatch(expression)
    if secret:
        return Reference(expression, secret[1])
    if _SECRET_LIKE.match(expression):
        raise InvalidRequestError(
            f"{quoted(expression)} is no reference to a secret: write exactly ${{secrets.NAME}}, letters, digits and _ alone"
        )
    if not expression.strip():
        raise InvalidRequestError("a reference is empty: write one such as ${input.topic}")
    return Reference(expression)


@dataclass(frozen=True, slots=True)
class _Resolver:
    scope: Mapping[str, Any]
    secrets: Mapping[str, str]

    def resolved(self, value: Json, path: str) -> tuple[Json, Json]:
        """Return the value and its shown form."""
        if isinstance(value, str):
            return self._text(value, path) if "${" in value else (value, value)
        if isinstance(value, Mapping):
            pairs = {name: self.resolved(inner, path + pointer(name)) for name, inner in value.items()}
            return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}
        if isinstance(value, list):
            both = [self.resolved(inner, path + pointer(place)) for place, inner in enumerate(value)]
            return [pair[0] for pair in both], [pair[1] for pair in both]
        return value, value

    def _text(self, text: str, path: str) -> tuple[Json, Json]:
        try:
            parts = [(piece, piece) if isinstance(piece, str) else self._value(piece) for piece in pieces(text)]
            if len(parts) == 1:
                return parts[0]
            return _joined(part[0] for part in parts), _joined(part[1] for part in parts)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{path or '/'}: {error.message}") from None

    def _value(self, reference: Reference) -> tuple[Json, Json]:
        if reference.secret is not None:
            if reference.secret not in self.secrets:
                raise InvalidRequestError(
                    f"there is no secret {reference.secret!r}: set it with `workstation workflow secret set`"
                )
            return self.secrets[reference.secret], HIDDEN
        found = evaluate(reference.expression, self.scope)
        if isinstance(found, float) and not math.isfinite(found):
            raise InvalidRequestError(f"{quoted(reference.expression)} gives {found}, which JSON does not have")
        return found, found


def _joined(parts: Iterator[Json]) -> str:
    texts: list[str] = []
    left = MOST_RESOLVED
    for part in parts:
        try:
            texts.append("" if part is None else as_text(part, left))
        except ValueError:
            raise InvalidRequestError(
                f"the text with its references resolved is no JSON, or has more than {MOST_RESOLVED:,} characters"
            ) from None
        left -= len(texts[-1])
    return "".join(texts)
