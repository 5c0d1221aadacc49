"""The block `filter`: keeps those items of a list for which an expression is true."""

from __future__ import annotations

from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.blocks.fields import Items, items_of
from workstation_pipelines.workflows.expressions import ItemJmesPath, evaluate, is_true


class FilterConfig(BlockConfig):
    """`where` is evaluated for each item on the scope with `item` and `index` added."""

    items: Items
    where: ItemJmesPath


def run(call: BlockCall[FilterConfig]) -> BlockResult:
    """Return the items that are kept, in their order, and how many of both. Raises InvalidRequestError."""
    items = items_of(call.config.items, call.scope)
    kept = []
    for index, item in enumerate(items):
        call.stop.check()
        if is_true(evaluate(call.config.where, {**call.scope, "item": item, "index": index})):
            kept.append(item)
    return BlockResult({"items": kept, "count": len(kept), "dropped": len(items) - len(kept)})
