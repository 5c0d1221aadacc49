"""The JSON Schema of a workflow (draft 2020-12), for editors and other programs; parse() checks more than a schema can say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from workstation_pipelines.workflow_model import Isolation
from workstation_pipelines.workflows.expressions import MOST_CHARACTERS
from workstation_pipelines.workflows.inputs import TYPES
from workstation_pipelines.workflows.linear import MOST_NODES

NODE_ID = "^[A-Za-z_][A-Za-z0-9_]{0,59}$"
MOST_TIMEOUT_S = 86_400
MOST_RETRIES = 20
MOST_PARALLEL = 32

_REFERENCE = {"$ref": "#/$defs/reference"}
_OF_VALUES = ("properties", "patternProperties")
_OF_VALUE = ("items", "additionalProperties", "prefixItems")


def json_schema(blocks: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """Return the schema of both forms of a workflow with the config of each block type."""
    definitions: dict[str, Any] = {}
    for name in sorted(blocks):
        definitions |= _config(name, blocks[name])
    node_types = [
        {
            "if": {"properties": {"type": {"const": name}}},
            "then": {"properties": {"config": {"$ref": f"#/$defs/{name}"}}} | _required(blocks[name]),
        }
        for name in sorted(blocks)
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Workflow",
        "description": "A workflow as a graph of nodes and edges, or in the older form of a list of steps.",
        "type": "object",
        "oneOf": [{"$ref": "#/$defs/graph"}, {"$ref": "#/$defs/linear"}],
        "$defs": {
            "graph": _object(
                {
                    "nodes": _list("node", least=1, most=MOST_NODES),
                    "edges": _list("edge", least=0, most=None),
                    **_common(),
                },
                required=["nodes"],
            ),
            "linear": _object(
                {"steps": _list("step", least=1, most=MOST_NODES - 1), "modelId": _nullable(_text(200)), **_common()},
                required=["steps"],
            ),
            "node": _node(sorted(blocks)) | {"allOf": node_types},
            "edge": _object(
                {"source": _ID, "target": _ID, "condition": _nullable(_EXPRESSION)}, required=["source", "target"]
            ),
            "step": _step(),
            "input": _input(),
            "retry": _retry(),
            "reference": {
                "description": "A value from elsewhere, such as ${input.topic} or ${nodes.search.output.hits}.",
                "type": "string",
                "pattern": r"\$\{",
            },
            **definitions,
        },
    }


def _config(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas of a block's config: wherever a value stands, a reference may stand, too."""
    found = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    inner = found.pop("$defs", {})
    found["description"] = found.get("description", "") or f"The config of {name}."
    return {name: _relaxed(found), **{f"{name}.{part}": _relaxed(schema) for part, schema in inner.items()}}


def _relaxed(schema: Any) -> Any:
    """Return the schema with references allowed at each value inside it, without the titles that repeat the names."""
    if not isinstance(schema, dict):
        return schema
    relaxed: dict[str, Any] = {}
    for word, inner in schema.items():
        if word in _OF_VALUES:
            relaxed[word] = {name: _or_reference(value) for name, value in inner.items()}
        elif word in _OF_VALUE:
            relaxed[word] = [_or_reference(each) for each in inner] if isinstance(inner, list) else _or_reference(inner)
        elif word in ("anyOf", "oneOf", "allOf"):
            relaxed[word] = [_relaxed(each) for each in inner]
        elif word != "title":
            relaxed[word] = inner
    return relaxed


def _or_reference(schema: Any) -> Any:
    relaxed = _relaxed(schema)
    if not isinstance(relaxed, dict) or not set(relaxed) - {"description", "default"}:
        return relaxed
    told = {word: relaxed.pop(word) for word in ("description", "default") if word in relaxed}
    variants = relaxed["anyOf"] if set(relaxed) == {"anyOf"} else [relaxed]
    return {"anyOf": [*variants, _REFERENCE], **told}


def _required(model: type[BaseModel]) -> dict[str, Any]:
    return {"required": ["config"]} if any(field.is_required() for field in model.model_fields.values()) else {}


def _node(types: list[str]) -> dict[str, Any]:
    fields = {
        "id": _ID,
        "type": {"enum": types},
        "name": _nullable(_text(200)),
        "description": _nullable(_text(5000)),
        "config": {"type": ["object", "null"]},
        "retry": _nullable({"$ref": "#/$defs/retry"}),
        "timeout_s": _seconds(0.1),
    }
    return _object(fields, required=["id", "type"])


def _step() -> dict[str, Any]:
    fields = {
        "name": {"type": "string", "minLength": 1},
        "description": {"description": "The prompt of a step without a tool.", "type": ["string", "null"]},
        "tool": {
            "description": "A block type, or a tool of Composio's; without one the language model is asked.",
            "type": ["string", "null"],
        },
        "config": {"type": ["object", "null"]},
        "retry": _nullable({"$ref": "#/$defs/retry"}),
        "timeout_s": _seconds(0.1),
    }
    return _object(fields, required=["name"])


def _common() -> dict[str, Any]:
    return {
        "$schema": {"type": "string"},
        "description": _nullable(_text(5000)),
        "inputs": {
            "description": "What the workflow is given at its start, by name.",
            "type": ["object", "null"],
            "propertyNames": {"pattern": NODE_ID},
            "additionalProperties": {"$ref": "#/$defs/input"},
        },
        "variables": {"description": "Constants: ${variables.name}.", "type": ["object", "null"]},
        "mode": _nullable(_text(100) | {"description": "A label that costs are summed up by."}),
        "model_id": _nullable(_text(200) | {"description": "The model of llm blocks that name none."}),
        "timeout_s": _seconds(1),
        "max_parallel": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_PARALLEL, "default": 4},
        "isolation": {"enum": [*(kind.value for kind in Isolation), None], "default": "threads"},
    }


def _input() -> dict[str, Any]:
    fields = {
        "type": {"enum": [*TYPES, None], "default": "any"},
        "required": {"type": ["boolean", "null"], "default": False},
        "default": {},
        "description": _nullable(_text(5000)),
    }
    return _object(fields, required=[])


def _retry() -> dict[str, Any]:
    fields = {
        "max_retries": {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_RETRIES, "default": 0},
        "delay_s": _seconds(0) | {"default": 1},
        "max_delay_s": _seconds(0) | {"default": 60},
    }
    return _object(fields, required=[])


_ID = {"type": "string", "pattern": NODE_ID}
_EXPRESSION = {"type": "string", "format": "jmespath", "minLength": 1, "maxLength": MOST_CHARACTERS}


def _object(properties: Mapping[str, Any], *, required: list[str]) -> dict[str, Any]:
    found = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return found | {"required": required} if required else found


def _list(of: str, *, least: int, most: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "array" if least else ["array", "null"], "items": {"$ref": f"#/$defs/{of}"}}
    return found | ({"minItems": least} if least else {}) | ({"maxItems": most} if most else {})


def _text(most: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": most}


def _seconds(least: float) -> dict[str, Any]:
    return {"type": ["number", "null"], "minimum": least, "maximum": MOST_TIMEOUT_S}


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    return (
        {**schema, "type": [schema["type"], "null"]}
        if "type" in schema
        else {"anyOf": [dict(schema), {"type": "null"}]}
    )
