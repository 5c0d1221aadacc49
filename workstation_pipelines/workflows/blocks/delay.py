"""The block `delay`: lets time pass. A longer one costs nothing meanwhile: no run stays open for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from pydantic import Field, model_validator

from workstation_pipelines.workflow_model import BlockResult, Wait, WaitKind
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.blocks.fields import Moment

LONGEST_S = 366 * 24 * 3600.0
SLEPT_S = 20.0
"""A shorter delay is slept through: to end a run and to begin another one takes longer."""


class DelayConfig(BlockConfig):
    """Either so many `seconds`, or `until` a time; one that is past is no delay."""

    seconds: float | None = Field(default=None, ge=0, le=LONGEST_S)
    until: Moment | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("give either `seconds` or `until`")
        return self


def run(call: BlockCall[DelayConfig]) -> BlockResult | Wait:
    """Return {"until"} when the time has come."""
    until = _until(call)
    left_s = (until - call.clock()).total_seconds()
    if left_s > SLEPT_S:
        return Wait(WaitKind.TIME, until=until, message=f"waits until {until:%Y-%m-%d %H:%M:%S} UTC")
    if left_s > 0:
        call.stop.wait(left_s)
    return BlockResult({"until": until.isoformat()})


def _until(call: BlockCall[DelayConfig]) -> datetime:
    if call.wait is not None and call.wait.until is not None:
        return call.wait.until
    if call.config.until is not None:
        return call.config.until
    return call.clock() + timedelta(seconds=call.config.seconds or 0.0)
