"""The block `output`: says what the execution as a whole gives."""

from __future__ import annotations

from typing import Any

from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig


class OutputConfig(BlockConfig):
    values: dict[str, Any]


def run(call: BlockCall[OutputConfig]) -> BlockResult:
    """Return the values as they are."""
    return BlockResult(dict(call.config.values))
