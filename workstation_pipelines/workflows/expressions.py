"""JMESPath as workflows use it: read once, checked for what it asks for, and bounded in what it may cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any

from jmespath import exceptions, parser
from jmespath.functions import Functions, signature
from jmespath.visitor import Options, TreeInterpreter
from pydantic import AfterValidator, ValidationInfo, WithJsonSchema

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Json
from workstation_pipelines.workflows.problems import nearest, quoted

MOST_CHARACTERS = 1000
MOST_LEVELS = 64
MOST_GROWTH = 1000
"""How many times larger than what it is evaluated on a result may be: `[@, @] | [@, @] | ...` doubles each time."""
MOST_VISITS = 1_000_000
"""How many parts may be visited in one evaluation: about two seconds."""
MOST_TEXT = 10_000_000
"""Characters of JSON that a result may have, and of what `join` and `to_string` make on the way to it."""

_ABOVE_NOT = frozenset(
    {
        *("not_expression", "or_expression", "and_expression", "comparator", "pipe"),
        *("function_expression", "expref", "multi_select_list", "multi_select_dict", "key_val_pair"),
    }
)
_SPECIAL_ERRORS = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Mention:
    """What an expression asks the scope for: `nodes.search.output` is ("nodes", "search", "output").

    What is not told in so many words is None: `nodes.*.output` is ("nodes", None, None).
    """

    root: str
    name: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Expression:
    """`growth` is how many times larger than what it reads its result may be."""

    text: str
    tree: Mapping[str, Any]
    mentions: frozenset[Mention]
    growth: int


def evaluate(expression: str, scope: Mapping[str, Any]) -> Json:
    """Return what the expression selects, null where there is nothing.

    Raises InvalidRequestError for what is no JMESPath, cannot be evaluated on this scope, or would cost too much.
    """
    read = compiled(expression)
    try:
        found = _Bounded().visit(read.tree, scope)
        if read.growth > 1:  # one list may stand in it a thousand times, and is written out as often
            as_text(found)
        return found
    except (exceptions.JMESPathError, *_SPECIAL_ERRORS) as error:
        raise InvalidRequestError(f"{quoted(expression)} cannot be evaluated: {_reason(error)}") from None


def as_text(value: Json, most: int = MOST_TEXT, *, is_compact: bool = False) -> str:
    """Return a value as JSON, and text as it is. Raises ValueError above so many characters, and for what JSON has not."""
    written: list[str] = []
    length = 0
    for chunk in [value] if isinstance(value, str) else (_COMPACT if is_compact else _JSON).iterencode(value):
        written.append(chunk)
        length += len(chunk)
        if length > most:
            raise ValueError(f"its result has more than {most:,} characters")
    return "".join(written)


def is_true(value: Json) -> bool:
    """Whether JMESPath takes the value for true: anything but false, null, and empty text, lists and objects; 0 is true."""
    return value is not None and value is not False and value != "" and value != [] and value != {}


def node_ids_in(expression: str) -> frozenset[str]:
    """Return the ids of the nodes that the expression names. Raises InvalidRequestError."""
    return frozenset(m.name for m in compiled(expression).mentions if m.root == "nodes" and m.name is not None)


@dataclass(frozen=True, slots=True)
class Written:
    """An expression that stands in a field of its own; one `of_item` may ask for `item` and `index` besides."""

    text: str
    of_item: bool = False


def _checked(expression: str, info: ValidationInfo, *, of_item: bool) -> str:
    """Return the expression, and note it in the context of the validation if that is a list.

    Raises ValueError with the reason why it is none, as pydantic wants it.
    """
    if isinstance(info.context, list):
        info.context.append(Written(expression, of_item))
    try:
        compiled(expression)
    except InvalidRequestError as error:
        raise ValueError(error.message) from None
    return expression


_IN_SCHEMA = WithJsonSchema({"type": "string", "format": "jmespath", "minLength": 1, "maxLength": MOST_CHARACTERS})
JmesPath = Annotated[str, AfterValidator(partial(_checked, of_item=False)), _IN_SCHEMA]
"""The type of a field of a block's config that is an expression itself, without ${}."""

ItemJmesPath = Annotated[str, AfterValidator(partial(_checked, of_item=True)), _IN_SCHEMA]
"""The same for one that is evaluated for each item of a list."""


@lru_cache(maxsize=4096)
def compiled(expression: str) -> Expression:
    """Read an expression, once. Raises InvalidRequestError for a malformed one, an unknown function or too much of it."""
    if not expression or expression.isspace():
        raise InvalidRequestError("an expression is empty: write one such as nodes.search.output.hits")
    if len(expression) > MOST_CHARACTERS:
        raise InvalidRequestError(
            f"the expression {quoted(expression, 30)} has more than {MOST_CHARACTERS:,} characters: use a transform block"
        )
    try:
        tree: Mapping[str, Any] = parser.Parser().parse(expression).parsed
    except (exceptions.JMESPathError, *_SPECIAL_ERRORS) as error:
        raise InvalidRequestError(
            f"{quoted(expression)} is no JMESPath expression: {_reason(error)}. Text stands in single quotes, "
            "numbers in backticks"
        ) from None
    _refuse_deep(expression, tree)
    _refuse_unknown_functions(expression, tree)
    _refuse_misread_not(expression, tree)
    growth = _growth(tree)
    if growth > MOST_GROWTH:
        raise InvalidRequestError(f"{quoted(expression)} makes its result too many times larger than what it reads")
    mentions: set[Mention] = set()
    _focus(tree, _ROOT, mentions)
    return Expression(expression, tree, frozenset(mentions), growth)


class _BoundedFunctions(Functions):  # type: ignore[misc,unused-ignore]
    @signature({"types": ["string"]}, {"types": ["array-string"]})
    def _func_join(self, glue: str, texts: Sequence[str]) -> str:
        if len(glue) * len(texts) + sum(map(len, texts)) > MOST_TEXT:
            raise ValueError("join() would make too long a text")
        return glue.join(texts)

    @signature({"types": []})
    def _func_to_string(self, value: Any) -> str:
        return as_text(value, is_compact=True)


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_OPTIONS = Options(custom_functions=_BoundedFunctions())


class _Bounded(TreeInterpreter):  # type: ignore[misc,unused-ignore]
    def __init__(self) -> None:
        super().__init__(_OPTIONS)
        self._left = MOST_VISITS

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it would take too long on what it is given: select less")
        return super().visit(node, *args, **kwargs)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        self._left -= sum(len(element) if isinstance(element, list) else 1 for element in base)
        if self._left < 0:
            raise ValueError("it would make too long a list: select less")
        return [item for element in base for item in (element if isinstance(element, list) else [element])]


def _reason(error: Exception) -> str:
    """What was wrong, on one line, without the picture of where and without the data it was evaluated on."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, exceptions.JMESPathTypeError):
        expected = " or ".join(str(kind) for kind in error.expected_types)
        return f"{error.function_name}() wants {expected}, not {error.actual_type}"
    if isinstance(error, exceptions.JMESPathError) or type(error) is ValueError:
        line = next(iter(str(error).splitlines()), "").removeprefix("Bad jmespath expression: ")
        return line.partition(", for expression")[0].removesuffix(":")[:200]
    return type(error).__name__


def _children(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (child for child in node.get("children", ()) if isinstance(child, dict))


def _refuse_deep(expression: str, tree: Mapping[str, Any]) -> None:
    level: list[Mapping[str, Any]] = [tree]
    for _ in range(MOST_LEVELS):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise InvalidRequestError(f"{quoted(expression)} is nested more than {MOST_LEVELS} levels deep")


def _refuse_unknown_functions(expression: str, tree: Mapping[str, Any]) -> None:
    if tree["type"] == "function_expression":
        known = _BoundedFunctions.FUNCTION_TABLE.get(tree["value"])
        if known is None:
            near = nearest(tree["value"], _BoundedFunctions.FUNCTION_TABLE)
            raise InvalidRequestError(f"{quoted(expression)} calls an unknown function {quoted(tree['value'])}{near}")
        wanted, given = len(known["signature"]), len(tree["children"])
        is_open = bool(wanted) and bool(known["signature"][-1].get("variadic"))
        if given < wanted or (given > wanted and not is_open):
            raise InvalidRequestError(
                f"{quoted(expression)} gives {tree['value']}() {given} arguments instead of {wanted}"
            )
    for child in _children(tree):
        _refuse_unknown_functions(expression, child)


def _refuse_misread_not(expression: str, tree: Mapping[str, Any]) -> None:
    """The parser reads `!a.b` as `(!a).b`, which is null whatever b is."""
    inside = list(_children(tree))
    if tree["type"] not in _ABOVE_NOT and inside and inside[0]["type"] == "not_expression":
        raise InvalidRequestError(
            f"{quoted(expression)} denies the first name alone: put the rest in brackets, as in !(a.b)"
        )
    for child in inside:
        _refuse_misread_not(expression, child)


def _growth(node: Mapping[str, Any]) -> int:
    """Return how many times larger than its subject a result may be at most, or what is made on the way to it."""
    inside = [max(1, _growth(child)) for child in _children(node)] or [1]
    kind = node["type"]
    if kind in ("multi_select_list", "multi_select_dict"):
        return sum(inside)
    if kind in ("or_expression", "and_expression", "not_expression", "comparator"):
        return max(inside)
    if kind == "filter_projection":
        base, then, condition = inside
        return max(base * then, condition)
    if kind == "function_expression" and node["value"] != "map":
        grown = sum(inside) if node["value"] in ("join", "merge") else max(inside)
        return grown * (2 if node["value"] == "to_string" else 1)
    return math.prod(inside)


_Focus = tuple[str, ...] | None
"""Where in the scope an expression is: () at its top, ("nodes", "a") at a node, None anywhere else."""
_ROOT: tuple[str, ...] = ()
_KNOWN_DEPTH = 3


def _focus(node: Mapping[str, Any], focus: _Focus, mentions: set[Mention]) -> _Focus:
    """Note what the node asks the scope for, and return where its result stands in the scope."""
    kind = node["type"]
    if kind == "field":
        if focus is None or len(focus) >= _KNOWN_DEPTH:
            return None
        there = (*focus, str(node["value"]))
        mentions.discard(Mention(*focus)) if focus else None
        mentions.add(Mention(*there))
        return there
    if kind in ("subexpression", "pipe", "index_expression"):
        for child in _children(node):
            focus = _focus(child, focus, mentions)
        return focus
    if kind in ("current", "identity"):
        return focus
    if kind in ("projection", "value_projection", "filter_projection"):
        base, *others = _children(node)
        _focus(base, focus, mentions)
        for child in others:
            _focus(child, None, mentions)
        return None
    for child in _children(node):
        _focus(child, None if kind == "expref" else focus, mentions)
    return None
