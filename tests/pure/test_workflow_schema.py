"""docs/workflow.schema.json is that of the registry, and says of workflows what parse() says, as far as a schema can."""

# ruff: noqa: S311 - chance here is no secret
from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest

from tests.workflows.dags import random_document, scripted_blocks
from workstation_pipelines.workflows.catalog import read, schema_text
from workstation_pipelines.workflows.definition import InvalidDefinitionError

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "workflows.md"
FILES = sorted(
    [*(ROOT / "examples" / "workflows").glob("*.json"), *ROOT.glob("workstation_pipelines/workflows/templates/*.json")]
)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "workflow.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _examples() -> list[tuple[str, dict[str, Any]]]:
    """Every workflow in the files that we ship and in the document that explains them."""
    found = [(path.name, json.loads(path.read_text())) for path in FILES]
    written = re.findall(r"^```json\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    found += [(f"{DOCS.name} {place}", json.loads(text)) for place, text in enumerate(written)]
    return [(name, document.get("definition", document)) for name, document in found]


def test_published_schema_is_that_of_the_registry() -> None:
    published = (ROOT / "docs" / "workflow.schema.json").read_text()
    assert published == schema_text(), "write it anew: python -m scripts.write_workflow_schema"


@pytest.mark.parametrize(("name", "document"), _examples(), ids=lambda value: value if isinstance(value, str) else "")
def test_shipped_workflow_is_valid(
    name: str, document: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    validator.validate(document)
    found = read(document)
    validator.validate(dict(found.source))


def test_random_workflow_is_valid_by_a_schema_that_knows_its_blocks() -> None:
    with scripted_blocks():
        validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    for seed in range(10):
        validator.validate(random_document(Random(seed), most_nodes=8))


_URL = {"url": "https://example.org"}


@pytest.mark.parametrize(
    "node",
    [
        {"id": "1a", "type": "http_request", "config": _URL},
        {"id": "a", "type": "http_requst", "config": _URL},
        {"id": "a", "type": "http_request", "config": {}},
        {"id": "a", "type": "http_request"},
        {"id": "a", "type": "http_request", "config": _URL | {"ulr": "x"}},
        {"id": "a", "type": "http_request", "config": _URL | {"method": "FETCH"}},
        {"id": "a", "type": "http_request", "config": _URL | {"max_bytes": "many"}},
        {"id": "a", "type": "http_request", "config": _URL, "retry": {"max_retries": 21}},
        {"id": "a", "type": "http_request", "config": _URL, "timeout_s": 0},
        {"id": "a", "type": "http_request", "config": _URL, "nam": "x"},
        {"id": "a", "type": "branch", "config": {"cases": [{"name": "x"}]}},
    ],
)
def test_schema_and_reader_refuse_the_same(node: dict[str, Any], validator: jsonschema.Draft202012Validator) -> None:
    document = {"nodes": [node]}
    assert not validator.is_valid(document)
    with pytest.raises(InvalidDefinitionError):
        read(document)


def test_reference_may_stand_for_any_value(validator: jsonschema.Draft202012Validator) -> None:
    config = {"url": "${input.url}", "method": "${input.url}", "max_bytes": "${input.url}", "headers": "${input.url}"}
    document = {"inputs": {"url": {}}, "nodes": [{"id": "a", "type": "http_request", "config": config}]}
    validator.validate(document)
    read(document)


def test_document_shows_errors_as_they_are_told() -> None:
    document = next(document for name, document in _examples() if name == f"{DOCS.name} 0")
    document["edges"][2]["target"] = "sumarize"
    document["nodes"][0]["config"]["qurey"] = document["nodes"][0]["config"].pop("query")
    document["nodes"][1]["config"]["prompt"] += "${nodes.keep.output}"
    with pytest.raises(InvalidDefinitionError) as caught:
        read(document)
    written = re.findall(r"^```text\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert set(written[0].splitlines()) < {str(problem) for problem in caught.value.problems}
