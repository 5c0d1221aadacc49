"""Reads definitions by the registry of blocks, and publishes their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from workstation_pipelines.workflow_model import Definition
from workstation_pipelines.workflows import definition
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockType


def read(document: Mapping[str, Any], blocks: Mapping[str, BlockType] = BLOCKS) -> Definition:
    """Return the workflow of a document in graph or linear form. Raises InvalidDefinitionError with every error at once."""
    return definition.parse(
        document,
        blocks={name: block.config for name, block in blocks.items()},
        default_timeouts={name: block.default_timeout_s for name, block in blocks.items()},
        lazy_fields={name: getattr(block, "lazy_fields", frozenset()) for name, block in blocks.items()},
    )


def schema_text(blocks: Mapping[str, BlockType] = BLOCKS) -> str:
    """Return docs/workflow.schema.json as it has to be."""
    schema = definition.json_schema({name: block.config for name, block in blocks.items()})
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
