"""References become values, once; expressions are bounded in what they cost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pure.growth import is_linear
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflows import references
from workstation_pipelines.workflows.expressions import Mention, compiled
from workstation_pipelines.workflows.references import evaluate, is_true, node_ids_in, resolve, resolve_value

SCOPE: dict[str, Any] = {
    "input": {
        "topic": "tea",
        "most": 3,
        "is_on": True,
        "nothing": None,
        "list": [1, "two"],
        "map": {"a": "ä"},
        "float": 0.5,
    },
    "variables": {"raw": "${input.topic} ${secrets.KEY} $${x}", "brace": "}"},
    "nodes": {"get": {"output": {"hits": [{"title": "A"}, {"title": "B"}]}}},
    "execution": {"id": "e-1", "workflow": "w", "number": 1},
}
SECRETS = {"KEY": "s3cr3t-value", "OTHER": "second secret"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${input.topic}", "tea"),
        ("${input.most}", 3),
        ("${input.is_on}", True),
        ("${input.nothing}", None),
        ("${input.missing}", None),
        ("${input.list}", [1, "two"]),
        ("${nodes.get.output.hits[*].title}", ["A", "B"]),
        ("${ input.most }", 3),
        (" ${input.most}", " 3"),
        ("on ${input.topic}, ${input.most} times", "on tea, 3 times"),
        ("${input.topic}${input.most}", "tea3"),
        ("${to_string(input.list)}", '[1,"two"]'),
        ("${input.is_on} ${input.nothing}|${input.float}", "true |0.5"),
        ("${input.list} ${input.map}", '[1, "two"] {"a": "ä"}'),
        ("$${input.topic}", "${input.topic}"),
        ("$$${input.topic}", "$${input.topic}"),
        ("a $${ b", "a ${ b"),
        ("costs $5 or $ {x} or {$}", "costs $5 or $ {x} or {$}"),
        ("${{a: input.most, b: {c: input.topic}}}", {"a": 3, "b": {"c": "tea"}}),
        ("${'}'}", "}"),
        ("${'${input.topic}'}", "${input.topic}"),
        ("""${join('', ['{', input.topic, '\\'}'])}""", "{tea'}"),
        ('${`{"a": "}"}`}', {"a": "}"}),
        ('${input."topic"}', "tea"),
        ("${variables.raw}", "${input.topic} ${secrets.KEY} $${x}"),
        ("<${variables.raw}>", "<${input.topic} ${secrets.KEY} $${x}>"),
        ("${variables.brace}${input.most}", "}3"),
        ("${secrets.KEY}", "s3cr3t-value"),
        ("Bearer ${secrets.KEY}", "Bearer s3cr3t-value"),
        ({"a": ["${input.most}", {"${input.topic}": "x"}]}, {"a": [3, {"${input.topic}": "x"}]}),
        (7, 7),
    ],
)
def test_reference_becomes_its_value(written: Any, value: Any) -> None:
    found = resolve({"field": written}, SCOPE, SECRETS)
    assert found.value == {"field": value}
    assert type(found.value["field"]) is type(value)
    assert resolve_value(written, SCOPE, SECRETS) == value


def test_what_is_shown_hides_secrets_wherever_they_come_from() -> None:
    config = {
        "short": "pin ${secrets.PIN}",
        "header": "Bearer ${secrets.KEY}",
        "alone": "${secrets.OTHER}",
        "by data": "${input.copied}",
        "literal": "s3cr3t-value",
        "other": "${input.topic}",
    }
    scope = SCOPE | {"input": {"topic": "tea", "copied": {"second secret": ["at s3cr3t%2Dvalue"]}}}
    found = resolve(config, scope, {**SECRETS, "PIN": "12"})
    assert found.secret_names == {"KEY", "OTHER", "PIN"}
    assert found.value["header"] == "Bearer s3cr3t-value"
    assert found.value["by data"] == {"second secret": ["at s3cr3t%2Dvalue"]}
    assert found.shown == {
        "short": "pin ***",
        "header": "Bearer ***",
        "alone": "***",
        "by data": {"***": ["at ***"]},
        "literal": "***",
        "other": "tea",
    }


def test_lazy_fields_stay_as_they_are_written() -> None:
    config = {"items": "${input.list}", "block": {"config": {"url": "${item.url}", "key": "${secrets.KEY}"}}}
    found = resolve(config, SCOPE, SECRETS, lazy_fields={"block"})
    assert found.value == {"items": [1, "two"], "block": config["block"]}
    assert found.shown == found.value
    assert found.secret_names == {"KEY"}
    inner = resolve_value(found.value["block"], SCOPE | {"item": {"url": "${secrets.KEY}"}}, SECRETS)
    assert inner == {"config": {"url": "${secrets.KEY}", "key": "s3cr3t-value"}}


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("${secrets.MISSING}", "there is no secret 'MISSING'"),
        ("${length(input.most)}", r"'length\(input.most\)' cannot be evaluated: length\(\) wants .*, not number"),
        ("${input.list[::0]}", "cannot be evaluated"),
        ("${sort(input.list)}", r"sort\(\) wants"),
        ("${to_number('1e999')}", "gives inf, which JSON does not have"),
        ("${avg(`[1, 2]`) ||}", "no JMESPath expression"),
        ("${!input.is_on}", r"brackets, as in !\(a.b\)"),
        ("${input.a && !input.list[0]}", "brackets"),
        ("${nope(input)}", "unknown function"),
        ("${a", "is not closed"),
    ],
)
def test_what_cannot_be_evaluated_is_told_with_its_place(written: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"^/a/0/b~1c: .*{words}"):
        resolve({"a": [{"b/c": written}]}, SCOPE, SECRETS)


def test_message_of_what_cannot_be_evaluated_holds_no_data() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        evaluate("abs(input.topic)", {"input": {"topic": "private words"}})
    assert "private" not in str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_CONFIGS = st.dictionaries(st.text(max_size=5), _JSON, max_size=4)


def _is_plain(value: Any) -> bool:
    return "${" not in json.dumps(value)


@settings(max_examples=60, deadline=None)
@given(_CONFIGS.filter(_is_plain))
def test_config_without_references_comes_back_equal(config: dict[str, Any]) -> None:
    found = resolve(config, SCOPE, {})
    assert found.value == found.shown == config
    assert not found.secret_names


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(["${", "}", "$", "$${", "secrets.KEY", "input.topic", "x", "{", "'", "`", " "])).map(
        "".join
    )
)
def test_data_is_never_looked_through_for_references(data: str) -> None:
    scope = SCOPE | {"input": {"data": data}}
    assert resolve({"a": "${input.data}", "b": "<${input.data}>"}, scope, SECRETS).value == {
        "a": data,
        "b": f"<{data}>",
    }
    escaped = data.replace("${", "$${")
    if "$$${" not in escaped:  # a dollar before the escape belongs to what stands before it
        assert resolve({"a": escaped}, scope, {}).value == {"a": data}


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_what_jmespath_takes_for_false(value: Any) -> None:
    assert not is_true(value)


@pytest.mark.parametrize("value", [0, 0.0, True, "false", [None], {"a": None}, " "])
def test_what_jmespath_takes_for_true(value: Any) -> None:
    assert is_true(value)


@pytest.mark.parametrize(
    ("expression", "mentions"),
    [
        ("nodes.a.output.hits[0].x", {("nodes", "a", "output")}),
        ("@.nodes.a", {("nodes", "a", None)}),
        ('nodes."a".output | [0]', {("nodes", "a", "output")}),
        ("nodes.*.output", {("nodes", None, None)}),
        ("nodes", {("nodes", None, None)}),
        ("nodes | b.output", {("nodes", "b", "output")}),
        ("nodes.{x: a.output, y: b.output.c}", {("nodes", "a", "output"), ("nodes", "b", "output")}),
        ("nodes.[a, b]", {("nodes", "a", None), ("nodes", "b", None)}),
        ("input.x && nodes.a.output > `3`", {("input", "x", None), ("nodes", "a", "output")}),
        ("input.x || !(variables.y)", {("input", "x", None), ("variables", "y", None)}),
        ("nodes.a.output.hits[?input.x].nodes.z", {("nodes", "a", "output")}),
        ("map(&nodes.z, nodes.a.output)", {("nodes", "a", "output")}),
        ("join(input.sep, nodes.a.output)", {("input", "sep", None), ("nodes", "a", "output")}),
        ("'nodes.z' == `\"nodes.z\"`", set()),
        ("output.nodes.z", {("output", "nodes", "z")}),
    ],
)  # fmt: skip
def test_expression_tells_what_it_asks_for(expression: str, mentions: set[tuple[str, str | None, str | None]]) -> None:
    assert compiled(expression).mentions == {Mention(*mention) for mention in mentions}
    assert node_ids_in(expression) == {name for root, name, _ in mentions if root == "nodes" and name}


_BOMBS = {
    "flattened doubles": "hits" + " | [@, @][]" * 60,
    "joined doubles": "input.topic" + " | join('', [@, @])" * 40,
    "nested pairs": "nodes" + " | [@, @]" * 60,
    "texts of texts": "nodes" + " | to_string(@)" * 50,
    "a long list": "nodes.many" + " | [@, @][]" * 9,
    "a wide list": "nodes.many | [" + ", ".join("@" * 200) + "][]",
    "a wide text": "nodes.text | [" + ", ".join("@" * 200) + "] | to_string(@)",
    "a wide value": "nodes.text | [" + ", ".join("@" * 200) + "]",
    "glued": "join(join('', nodes.text), nodes.many)",
    "pairs compared": "{a: nodes" + " | [@, @]" * 30 + ", b: nodes" + " | [@, @]" * 30 + "} | a == b",
    "too much of it": "nodes.many[?" + " && ".join(["contains(@, 'a')"] * 20) + "]",
}


@pytest.mark.parametrize("kind", _BOMBS)
def test_bomb_is_refused_in_little_time(kind: str) -> None:
    scope = {"input": {"topic": "x" * 1000}, "nodes": {"text": ["x" * 100_000] * 90, "many": ["ab"] * 30_000}}
    began_s = time.thread_time()
    with pytest.raises(InvalidRequestError):
        evaluate(_BOMBS[kind], scope)
    assert time.thread_time() - began_s < 8.0


def test_expressions_of_daily_use_are_not_taken_for_bombs() -> None:
    where = " && ".join(["contains(title, 'A')"] * 20)
    expression = (
        f"nodes.get.output.hits[?{where}] | [?length(title) > `0`] | [*].{{a: title, b: join('-', [title, title])}}"
    )
    assert evaluate(expression, SCOPE) == [{"a": "A", "b": "A-A"}]


def test_text_that_references_would_make_too_long_is_refused() -> None:
    scope = {"input": {"long": "x" * 1_000_000}}
    with pytest.raises(InvalidRequestError, match="more than 10,000,000 characters"):
        resolve({"a": "${input.long} " * 20}, scope, {})


@pytest.mark.parametrize("piece", ["${a} ", "$${", "$", "}", "${'", "a$"])
def test_time_to_find_references_is_linear(piece: str) -> None:
    def found(text: str) -> None:
        try:
            list(references.pieces(text))
        except InvalidRequestError:
            return

    assert is_linear(found, piece, count=100_000)
