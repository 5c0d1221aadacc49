"""A definition is read, or every error in it told at its place; whatever JSON it is."""

# ruff: noqa: S311 - chance here is no secret
from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from tests.workflows.dags import SCRIPTED, ScriptedConfig, documents
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Definition, InputField, Isolation
from workstation_pipelines.workflows import definition as definitions
from workstation_pipelines.workflows import inputs
from workstation_pipelines.workflows.blocks.contract import BlockConfig
from workstation_pipelines.workflows.definition import InvalidDefinitionError, Problem
from workstation_pipelines.workflows.expressions import ItemJmesPath, JmesPath


class Http(BlockConfig):
    url: str
    method: Literal["GET", "POST"] = "GET"
    retries: int = Field(default=0, ge=0, le=9)
    body: Any = None
    tags: list[str] = Field(default_factory=list)
    select: JmesPath | None = None
    where: ItemJmesPath | None = None

    @model_validator(mode="after")
    def _get_has_no_body(self) -> Http:
        if self.method == "GET" and self.body == "never":
            raise ValueError("a GET has no body")
        return self


class Llm(BlockConfig):
    prompt: str


class Composio(BlockConfig):
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Each(BlockConfig):
    items: JmesPath | list[Any]
    block: dict[str, Any]


class Output(BlockConfig):
    values: dict[str, Any]


CONFIGS: Mapping[str, type[BlockConfig]] = {
    "http": Http,
    "llm": Llm,
    "composio_tool": Composio,
    "each": Each,
    "output": Output,
    SCRIPTED: ScriptedConfig,
}


def parsed(document: Any) -> Definition:
    return definitions.parse(
        document, blocks=CONFIGS, default_timeouts={"http": 30.0}, lazy_fields={"each": frozenset({"block"})}
    )


def problems(document: Any) -> list[Problem]:
    with pytest.raises(InvalidDefinitionError) as caught:
        parsed(document)
    return list(caught.value.problems)


VALID: dict[str, Any] = {
    "$schema": "workflow.schema.json",
    "description": "a base to break",
    "inputs": {"topic": {"type": "string", "required": True, "description": "what about"}, "most": {"default": 3}},
    "variables": {"host": "example.org", "raw": "${never.resolved}"},
    "mode": "standard",
    "timeout_s": 60,
    "max_parallel": 2,
    "isolation": "processes",
    "nodes": [
        {"id": "last", "type": "output", "config": {"values": {"found": "${nodes.each.output}"}}},
        {"id": "get", "type": "http", "name": "Get", "config": {"url": "https://${variables.host}/${input.topic}"}},
        {"id": "ask", "type": "llm", "config": {"prompt": "About ${nodes.get.output.body}: $${x} ${secrets.KEY}"}},
        {
            "id": "each",
            "type": "each",
            "config": {
                "items": "nodes.get.output.hits",
                "block": {"type": "http", "config": {"url": "${item.url}", "retries": "${index}"}},
            },
            "retry": {"max_retries": 3, "delay_s": 0.5},
            "timeout_s": 5,
        },
    ],
    "edges": [
        {"source": "get", "target": "ask", "condition": "output.score > `3` && nodes.get.output && input.most"},
        {"source": "get", "target": "each"},
        {"source": "ask", "target": "last"},
        {"source": "each", "target": "last"},
    ],
}


def test_valid_definition_is_read_in_topological_order() -> None:
    found = parsed(VALID)
    assert [node.id for node in found.nodes] == ["get", "ask", "each", "last"]
    each = found.node("each")
    assert (each.retry.max_retries, each.retry.delay_s, each.timeout_s) == (3, 0.5, 5.0)
    assert (found.node("get").timeout_s, found.node("get").name, each.name) == (30.0, "Get", "each")
    assert (found.timeout_s, found.max_parallel, found.isolation) == (60.0, 2, Isolation.PROCESSES)
    assert [(field.name, field.type, field.is_required, field.default) for field in found.inputs] == [
        ("topic", "string", True, None),
        ("most", "any", False, 3),
    ]
    assert found.source == VALID
    assert definitions.digest(VALID) == definitions.digest(dict(reversed(VALID.items())))
    assert definitions.digest(VALID) != definitions.digest(VALID | {"mode": "other"})


def _with(path: str, value: Any) -> dict[str, Any]:
    """Return the valid document with one value put at a place, "-" for the end of a list; None takes it away."""
    document = copy.deepcopy(VALID)
    *way, last = path.split("/")[1:]
    inner: Any = document
    for part in way:
        inner = inner[int(part)] if isinstance(inner, list) else inner[part]
    if isinstance(inner, list) and last == "-":
        inner.append(value)
    elif value is None:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return document


_URL = "/nodes/1/config/url"


@pytest.mark.parametrize(
    ("place", "value", "path", "words"),
    [
        ("/nodes/0/id", "get", "/nodes/1/id", "'get' is there already, at /nodes/0"),
        ("/nodes/1/id", "1st", "/nodes/1/id", "cannot be used"),
        ("/nodes/1/id", "x" * 61, "/nodes/1/id", "cannot be used"),
        ("/nodes/1/id", 7, "/nodes/1/id", "cannot be used"),
        ("/nodes/1/id", None, "/nodes/1/id", "needs an id"),
        ("/nodes/1/type", "htttp", "/nodes/1/type", "node 'get': there is no block type 'htttp': did you mean 'http'?"),
        ("/nodes/1/type", None, "/nodes/1/type", "'type' is missing"),
        ("/nodes/1/config", {}, _URL, "'url' is missing"),
        ("/nodes/1/config", [], "/nodes/1/config", "give an object"),
        ("/nodes/1/config/ulr", 1, "/nodes/1/config/ulr", "unknown field 'ulr': did you mean 'url'?"),
        ("/nodes/1/config/method", "PUT", "/nodes/1/config/method", "'GET' or 'POST'"),
        ("/nodes/1/config/retries", "many", "/nodes/1/config/retries", "integer"),
        ("/nodes/1/config/retries", 10, "/nodes/1/config/retries", "less than or equal to 9"),
        ("/nodes/1/config/tags", ["a", 7], "/nodes/1/config/tags/1", "string"),
        ("/nodes/1/config", {"url": "x", "body": "never"}, "/nodes/1/config", "node 'get': a GET has no body"),
        ("/nodes/1/config/where", "items[?x", "/nodes/1/config/where", "no JMESPath"),
        ("/nodes/1/config/where", "item.x == nodes.ask.output", "/nodes/1/config/where", "'ask' does not come before 'get'"),
        ("/nodes/1/config/select", "nodes.ask.output", "/nodes/1/config/select", "'ask' does not come before 'get'"),
        ("/nodes/1/config/select", "item.x", "/nodes/1/config/select", "does not begin with 'item'"),
        ("/nodes/3/config/items", "nodes.gett.output", "/nodes/3/config/items", "did you mean 'get'"),
        ("/nodes/3/config/block/config/urn", 1, "/nodes/3/config/block/config/urn", "did you mean 'url'"),
        ("/nodes/3/config/block/config/retries", "x", "/nodes/3/config/block/config/retries", "node 'each': "),
        ("/nodes/1/retry", {"max_retries": 21}, "/nodes/1/retry/max_retries", "from 0 to 20"),
        ("/nodes/1/retry", {"max_retries": True}, "/nodes/1/retry/max_retries", "from 0 to 20"),
        ("/nodes/1/retry", {"delay_s": -1}, "/nodes/1/retry/delay_s", "seconds"),
        ("/nodes/1/retry", {"dleay_s": 1}, "/nodes/1/retry/dleay_s", "did you mean 'delay_s'"),
        ("/nodes/1/timeout_s", 86_401, "/nodes/1/timeout_s", "86,400"),
        ("/nodes/1/timeout_s", 0, "/nodes/1/timeout_s", "from 0.1"),
        ("/nodes/1/confg", {}, "/nodes/1/confg", "did you mean 'config'"),
        ("/nodes/1", "get", "/nodes/1", "a node is an object"),
        ("/nodes", {}, "/nodes", "give a list"),
        ("/nodes", [], "/nodes", "at least one node"),
        ("/timeout_s", "60", "/timeout_s", "seconds"),
        ("/timeout_s", 10**300, "/timeout_s", "seconds"),
        ("/max_parallel", 0, "/max_parallel", "from 1"),
        ("/isolation", "vm", "/isolation", "use one of threads, processes"),
        ("/mode", 5, "/mode", "give text"),
        ("/model_id", "x" * 201, "/model_id", "at most 200"),
        ("/nodse", [], "/nodse", "did you mean 'nodes'"),
        ("/variables", [1], "/variables", "give an object"),
        ("/inputs/a-b", {}, "/inputs/a-b", "cannot be used"),
        ("/inputs/a~b~1", {}, "/inputs/a~0b~01", "cannot be used"),
        ("/inputs/most/type", "text", "/inputs/most/type", "use one of"),
        ("/inputs/most/type", "string", "/inputs/most/default", "the default is no string"),
        ("/inputs/most/required", "yes", "/inputs/most/required", "true or false"),
        ("/inputs/most", 3, "/inputs/most", "an input is an object"),
        ("/edges/-", {"source": "get", "target": "ask"}, "/edges/4", "already, at /edges/0"),
        ("/edges/-", {"source": "get", "target": "nowhere"}, "/edges/4/target", "there is no node 'nowhere'"),
        ("/edges/-", {"source": "gett", "target": "last"}, "/edges/4/source", "did you mean 'get'?"),
        ("/edges/-", {"target": "last"}, "/edges/4/source", "is missing"),
        ("/edges/-", {"source": "get", "target": "zz", "condition": "("}, "/edges/4/condition", "no JMESPath"),
        ("/edges/-", {"source": "ask", "target": "each", "when": "x"}, "/edges/4/when", "unknown field"),
        ("/edges/-", ["get", "last"], "/edges/4", "an edge is an object"),
        ("/edges/-", {"source": "last", "target": "get"}, "/edges/4", "circle, get -> ask -> last -> get:"),
        ("/edges/-", {"source": "ask", "target": "ask"}, "/edges/4", "circle, ask -> ask"),
        ("/edges/0/condition", "output.score >", "/edges/0/condition", "edge get -> ask: "),
        ("/edges/0/condition", "nodes.each.output", "/edges/0/condition", "'each' does not come before 'get'"),
        ("/edges/0/condition", "score > `3`", "/edges/0/condition", "does not begin with 'score'"),
        ("/edges/0/condition", "", "/edges/0/condition", "give text"),
        ("/edges/0/condition", "output." * 150 + "a", "/edges/0/condition", "more than 1,000 characters"),
        ("/edges/0/condition", "!" * 90 + "output", "/edges/0/condition", "levels deep"),
        ("/edges/0/condition", "!" * 900 + "output", "/edges/0/condition", "nested too deeply"),
        ("/edges/0/condition", "(" * 900 + "output", "/edges/0/condition", "JMESPath"),
        ("/edges/0/condition", "|".join(["[@,@]"] * 20), "/edges/0/condition", "times larger"),
        ("/edges/0/condition", "lenght(output)", "/edges/0/condition", "did you mean 'length'"),
        ("/edges/0/condition", "length(output, output)", "/edges/0/condition", "2 arguments instead of 1"),
        (_URL, "${nodes.nobody.output}", _URL, "there is no node 'nobody'"),
        (_URL, "${nodes.ask.output}", _URL, "'ask' does not come before 'get'"),
        (_URL, "${nodes.get.output}", _URL, "'get' does not come before 'get'"),
        (_URL, "${nodes.each.output || input.topic}", _URL, "'each' does not come before 'get'"),
        ("/nodes/2/config/prompt", "${nodes.get.result}", "/nodes/2/config/prompt", "write nodes.get.output"),
        (_URL, "${input.topik}", _URL, "did you mean 'topic'?"),
        (_URL, "${variables.hots}", _URL, "did you mean 'host'?"),
        (_URL, "${execution.name}", _URL, "an execution has no 'name'"),
        (_URL, "${item.url}", _URL, "does not begin with 'item'"),
        (_URL, "${topic}", _URL, "does not begin with 'topic'"),
        (_URL, "a ${secrets.} b", _URL, "write exactly ${secrets.NAME}"),
        (_URL, "${secrets.A.b}", _URL, "write exactly ${secrets.NAME}"),
        (_URL, "${ secrets.A }", _URL, "write exactly ${secrets.NAME}"),
        (_URL, "${join('', [secrets.A])}", _URL, "write exactly ${secrets.NAME}"),
        (_URL, "a ${input.topic", _URL, "is not closed"),
        (_URL, "a ${'}", _URL, "Unclosed ' delimiter"),
        (_URL, "a ${ }", _URL, "is empty"),
        (_URL, "${`NaN", _URL, "is not closed"),
        ("/nodes/1/config/body", {"a/b": [{"c~d": "${x}"}]}, "/nodes/1/config/body/a~1b/0/c~0d", "node 'get': "),
        ("/variables/bad", float("nan"), "/variables/bad", "no JSON value"),
        ("/variables/bad", 10**400, "/variables/bad", "too large"),
        ("/variables/bad", "a\x00b", "/variables/bad", "cannot be stored"),
        ("/variables/bad", "\ud800", "/variables/bad", "cannot be stored"),
        ("/variables/b\ud800d", 1, "/variables", "cannot be stored"),
        ("/variables/bad", {7: 1}, "/variables/bad", "a name is text"),
        ("/variables/bad", (1, 2), "/variables/bad", "tuple is no JSON value"),
        ("/variables/bad", ["x" * 1000] * 1001, "", "more than 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_error_is_told_at_its_place(place: str, value: Any, path: str, words: str) -> None:
    place = place.replace("~1", "/") if place.count("/") > 8 else place
    found = problems(_with(place, value))
    assert any(each.path == path and words in each.message for each in found), found


def test_everything_wrong_is_told_at_once_in_order() -> None:
    document = _with("/nodes/1/config/ulr", 1)
    document["nodes"] += [{"id": f"n{number}", "type": "nope"} for number in range(12)]
    document["edges"].append({"source": "last", "target": "get"})
    document["mode"] = ["x"]
    found = problems(document)
    assert [each.path for each in found] == [
        *("/edges/4", "/mode", "/nodes/1/config/ulr", "/nodes/3"),
        *(f"/nodes/{place}/type" for place in range(4, 16)),
    ]
    with pytest.raises(InvalidDefinitionError, match=r"16 errors: .*; and 6 more"):
        parsed(document)


def test_what_only_a_circle_leads_to_cannot_be_reached() -> None:
    nodes = [{"id": name, "type": "llm", "config": {"prompt": "x"}} for name in "abcdef"]
    pairs = ["ab", "bc", "ca", "cd", "ef", "fe"]
    found = problems({"nodes": nodes, "edges": [{"source": a, "target": b} for a, b in map(tuple, pairs)]})
    assert [(each.path, each.message.split(":")[0]) for each in found] == [
        ("/edges/2", "the nodes go in a circle, a -> b -> c -> a"),
        ("/edges/5", "the nodes go in a circle, e -> f -> e"),
        ("/nodes/3", "node 'd' cannot be reached"),
    ]


def test_values_that_hold_references_are_not_judged_before_they_are_known() -> None:
    config = {
        "url": "x",
        "retries": "${input.most}",
        "tags": "${input.most}",
        "method": "${input.topic}",
        "where": "${input.topic}",
    }
    assert parsed(_with("/nodes/1/config", config)).node("get").config == config


@pytest.mark.parametrize(
    "document", [None, 1, "x", [], [{}], True, {}, {"nodes": None}, {"steps": None}, {"steps": [1]}]
)
def test_other_json_is_refused(document: Any) -> None:
    assert problems(document)


def test_limits_of_a_workflow_are_kept() -> None:
    def chain(count: int) -> dict[str, Any]:
        nodes = [{"id": f"n{number}", "type": "llm", "config": {"prompt": "x"}} for number in range(count)]
        return {"nodes": nodes, "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(count - 1)]}

    assert len(parsed(chain(500)).nodes) == 500
    assert problems(chain(501))[0].message == "a workflow has at most 500 nodes, not 501"
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert "levels deep" in problems(_with("/variables/bad", deep))[0].message


_HOSTILE: dict[str, Callable[[], Any]] = {
    "openings": lambda: "${" * 480_000,
    "openings with quotes": lambda: "${'" * 320_000,
    "openings with backticks": lambda: "${`" * 320_000,
    "openings with escapes": lambda: "${'\\" * 240_000,
    "literal openings": lambda: "$${" * 320_000,
    "dollars": lambda: "$" * 960_000,
    "the same reference": lambda: "${input.topic}" * 68_000,
    "other references": lambda: [f"${{a{number}}}" for number in range(2_500)],
    "long expressions": lambda: ["${" + "a[?b]." * 150 + f"x{n}" + "}" for n in range(80)],
    "long broken expressions": lambda: ["${" + "((" * 450 + f"x{n}" + "}" for n in range(80)],
    "many names": lambda: {f"name{number}": 1 for number in range(25_000)},
    "many values of the wrong type": lambda: [1] * 50_000,
}


@pytest.mark.parametrize("kind", _HOSTILE)
def test_hostile_sizes_are_read_in_little_time(kind: str) -> None:
    document = _with("/nodes/1/config/tags", _HOSTILE[kind]())
    began_s = time.thread_time()
    problems(document)
    assert time.thread_time() - began_s < 1.0


_NUMBERS = st.integers() | st.floats() | st.just(10**400)
_TEXTS = st.text(max_size=8) | st.sampled_from(
    ["${", "${a}", "$${", "${secrets.A}", "${nodes.a.output}", "http", "a", "\ud800"]
)
_NAMES = st.sampled_from(
    [
        *(*definitions.FIELDS, *definitions.NODE_FIELDS, *definitions.EDGE_FIELDS, *definitions.RETRY_FIELDS),
        *("steps", "tool", "modelId", "default", "required", "url", "a", ""),
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | _TEXTS, inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    _read_or_refused(document)


@settings(max_examples=80, deadline=None)
@given(documents(most_nodes=8), st.integers(0, 2**32 - 1), _JSON)
def test_any_json_within_a_workflow_is_read_or_refused(document: dict[str, Any], seed: int, value: Any) -> None:
    random = Random(seed)
    inner: Any = document
    while True:
        key: Any = random.choice(range(len(inner)) if isinstance(inner, list) else list(inner))
        if not isinstance(inner[key], dict | list) or not inner[key] or random.random() < 0.2:
            inner[key] = value
            break
        inner = inner[key]
    _read_or_refused(document)


def _read_or_refused(document: Any) -> None:
    told: tuple[Problem, ...] = ()
    try:
        found = parsed(document)
    except InvalidDefinitionError as error:
        told = error.problems
        assert told
    else:
        assert parsed(json.loads(json.dumps(found.source))) == found
    for each in told:
        assert each.message
        _follow(document, each.path)


def _follow(document: Any, path: str) -> None:
    """A path leads to a value, or to one that is missing in an object that is there."""
    way = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    for place, part in enumerate(way):
        if document is None or (isinstance(document, dict) and part not in document):
            assert place == len(way) - 1, path
            return
        document = document[int(part)] if isinstance(document, list) else document[part]


def test_linear_form_becomes_a_chain() -> None:
    document = {
        "steps": [
            {"name": "Get the page!", "tool": "http", "config": {"url": "https://example.org"}},
            {"name": "Summarize", "description": "Say it in one line."},
            {"name": "Summarize", "description": "Shorter." * 1000},
            {"name": "Post", "tool": "SLACK_SEND_MESSAGE", "config": {"text": "${nodes.summarize_2.output.text}"}},
            {"name": "Überblick", "description": "And now?", "retry": {"max_retries": 2}},
        ],
        "mode": "fast",
        "modelId": "gpt-5-mini",
    }
    found = parsed(document)
    assert (found.mode, found.model_id) == ("fast", "gpt-5-mini")
    assert [(node.id, node.type, node.config) for node in found.nodes] == [
        ("get_the_page", "http", {"url": "https://example.org"}),
        ("summarize", "llm", {"prompt": "Say it in one line.\n\n${nodes.get_the_page.output}"}),
        ("summarize_2", "llm", {"prompt": "Shorter." * 1000 + "\n\n${nodes.summarize.output.text}"}),
        (
            "post",
            "composio_tool",
            {"tool": "SLACK_SEND_MESSAGE", "arguments": {"text": "${nodes.summarize_2.output.text}"}},
        ),
        ("uberblick", "llm", {"prompt": "And now?\n\n${nodes.post.output}"}),
        ("output", "output", {"values": {"result": "${nodes.uberblick.output.text}"}}),
    ]
    assert found.nodes[0].name == "Get the page!"
    assert found.node("uberblick").retry.max_retries == 2
    assert parsed(found.source) == found


def test_linear_form_tells_errors_by_its_steps() -> None:
    step = {"name": "Get", "tool": "http", "config": {"ulr": 1}}
    assert {each.path for each in problems({"steps": [{"name": "a"}, step]})} == {
        "/steps/1/config/ulr",
        "/steps/1/config/url",
    }
    steps = [
        {"name": "a", "description": "On ${input.x}"},
        {"name": "${input.x}"},
        {"name": "b", "config": {"prompt": "${input.x}"}},
        {"name": "c", "tool": "SLACK", "config": {"text": "${input.x}"}},
        {"name": "d", "tool": "composio_tool", "config": {"tool": "${input.x}", "arguments": {"a": "${input.x}"}}},
    ]
    assert [each.path for each in problems({"steps": steps})] == [
        *("/steps/0/description", "/steps/1/name", "/steps/2/config/prompt", "/steps/3/config/text"),
        *("/steps/4/config/arguments/a", "/steps/4/config/tool"),
    ]
    wrong = {"steps": [{"name": "", "tool": 1}, 7, {"name": "a", "descripton": "x"}], "model": 1}
    assert [each.path for each in problems(wrong)] == [
        "/model",
        "/steps/0/name",
        "/steps/0/tool",
        "/steps/1",
        "/steps/2/descripton",
    ]
    assert [each.path for each in problems({"steps": [{"name": "a"}] * 500})] == ["/steps"]


def test_first_step_of_a_linear_workflow_with_inputs_gets_them() -> None:
    found = parsed({"steps": [{"name": "a", "description": "Do it."}], "inputs": {"x": {}}})
    assert found.nodes[0].config == {"prompt": "Do it.\n\n${input}"}


def test_error_survives_the_way_between_processes() -> None:
    with pytest.raises(InvalidDefinitionError) as caught:
        parsed({})
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (again.problems, again.message) == (caught.value.problems, caught.value.message)


_FIELDS = [
    InputField("topic", "string", is_required=True),
    InputField("most", "integer", default=3),
    InputField("share", "number"),
    InputField("any", "any", is_required=True, default=[]),
]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"topic": "x"}, {"topic": "x", "most": 3, "share": None, "any": []}),
        ({"topic": "", "most": 4.0, "share": 1, "any": None}, {"topic": "", "most": 4.0, "share": 1, "any": None}),
        ({"topic": "x", "share": None}, {"topic": "x", "most": 3, "share": None, "any": []}),
        ({}, ["input 'topic' is missing: give a string"]),
        (
            {"topic": None, "most": True, "share": "1", "topics": 1},
            [
                *("input 'topic' is no string", "input 'most' is no integer", "input 'share' is no number"),
                "there is no input 'topics': did you mean 'topic'?",
            ],
        ),
    ],
)
def test_input_is_held_against_what_is_declared(given: dict[str, Any], expected: dict[str, Any] | list[str]) -> None:
    if isinstance(expected, dict):
        assert inputs.checked(_FIELDS, given) == expected
        return
    with pytest.raises(InvalidRequestError) as caught:
        inputs.checked(_FIELDS, given)
    assert str(caught.value).split("; ") == expected
