"""The block `merge`: makes one value of the outputs that led to it, in the order of the edges."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, assert_never

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import BlockResult, Json
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig


class MergeMode(StrEnum):
    """`object`: objects into one, of two members of one name the later counts. `list`: a list of the outputs.

    `first`: the first that is not null. `concat`: lists into one.
    """

    OBJECT = "object"
    LIST = "list"
    FIRST = "first"
    CONCAT = "concat"


class MergeConfig(BlockConfig):
    mode: MergeMode = MergeMode.OBJECT


def run(call: BlockCall[MergeConfig]) -> BlockResult:
    """Return the outputs as one. Nodes that were skipped are not among them.

    Raises InvalidRequestError naming the node whose output is of another kind than the mode wants.
    """
    return BlockResult(_merged(call.config.mode, call.inputs))


def _merged(mode: MergeMode, inputs: Mapping[str, Any]) -> Json:
    match mode:
        case MergeMode.LIST:
            return list(inputs.values())
        case MergeMode.FIRST:
            return next((output for output in inputs.values() if output is not None), None)
        case MergeMode.OBJECT:
            members: dict[str, Json] = {}
            for node_id, output in inputs.items():
                members |= _checked(node_id, output, dict, "an object")
            return members
        case MergeMode.CONCAT:
            return [item for node_id, output in inputs.items() for item in _checked(node_id, output, list, "a list")]
        case _:
            assert_never(mode)


def _checked(node_id: str, output: Json, kind: type, wanted: str) -> Any:
    if not isinstance(output, kind):
        raise InvalidRequestError(f"the output of {node_id!r} is not {wanted}: transform it first, or merge as a list")
    return output
