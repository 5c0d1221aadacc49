"""The registry of block types: the one place that lists them."""

from __future__ import annotations

from collections.abc import Mapping

from workstation_pipelines.workflows.blocks.contract import BlockType

BLOCKS: Mapping[str, BlockType] = {}
