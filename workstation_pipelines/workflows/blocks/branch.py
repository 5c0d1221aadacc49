"""The block `branch`: names the first case that is true, for the conditions of the edges behind it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.expressions import JmesPath, evaluate, is_true


class Case(BaseModel):
    """A way to go, and when."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1, max_length=100)
    when: JmesPath


class BranchConfig(BlockConfig):
    """`default` is the branch when no case is true."""

    cases: list[Case] = Field(min_length=1, max_length=100)
    default: str | None = None


def run(call: BlockCall[BranchConfig]) -> BlockResult:
    """Return the name of the first case that is true, else the default. Raises InvalidRequestError."""
    taken = (case.name for case in call.config.cases if is_true(evaluate(case.when, call.scope)))
    return BlockResult({"branch": next(taken, call.config.default)})
