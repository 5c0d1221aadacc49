"""The registry of block types: the one place that lists them."""

from __future__ import annotations

from collections.abc import Mapping

from workstation_pipelines.workflows.blocks import http_request
from workstation_pipelines.workflows.blocks.contract import BlockType

BLOCKS: Mapping[str, BlockType] = {
    "http_request": BlockType(
        http_request.run,
        http_request.HttpRequestConfig,
        "Ask any public address over HTTP.",
        calls="the address in its config",
    ),
}
