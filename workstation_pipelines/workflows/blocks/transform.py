"""The block `transform`: makes one value out of others by expressions."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.expressions import JmesPath, evaluate


class TransformConfig(BlockConfig):
    """One `expression`, or several `fields` that each become a member of an object."""

    expression: JmesPath | None = None
    fields: dict[str, JmesPath] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.expression is None) == (self.fields is None):
            raise ValueError("give either `expression` or `fields`")
        return self


def run(call: BlockCall[TransformConfig]) -> BlockResult:
    """Return what the expression selects from the scope, null where there is nothing. Raises InvalidRequestError."""
    config = call.config
    if config.expression is not None:
        return BlockResult(evaluate(config.expression, call.scope))
    fields = config.fields or {}
    return BlockResult({name: evaluate(expression, call.scope) for name, expression in fields.items()})
