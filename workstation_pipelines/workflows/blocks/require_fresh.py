"""The block `require_fresh`: goes on when data sources have been synced lately, and has those synced that have not.

Fresh is a source whose last sync that ended well has ended after a given time, as a freshness objective has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from workstation_pipelines.db import data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import SourceType
from workstation_pipelines.workflow_model import BlockResult, Json, Wait
from workstation_pipelines.workflows.blocks import source_syncs
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.blocks.fields import Moment
from workstation_pipelines.workflows.blocks.source_syncs import LONGEST_MINUTES


class RequireFreshConfig(BlockConfig):
    """Which sources: `sources` by name or id, those of some `source_types`, or else all that are connected and active.

    Synced `within_minutes` before the node was first called, or `after` a time.
    """

    sources: list[str] | None = Field(default=None, min_length=1)
    source_types: list[SourceType] | None = Field(default=None, min_length=1)
    within_minutes: float | None = Field(default=None, gt=0)
    after: Moment | None = None
    max_wait_minutes: float = Field(default=60, gt=0, le=LONGEST_MINUTES)
    on_stale: Literal["fail", "continue"] = "fail"

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.within_minutes is None) == (self.after is None):
            raise ValueError("give either `within_minutes` or `after`")
        if self.sources is not None and self.source_types is not None:
            raise ValueError("give either `sources` or `source_types`")
        return self


@dataclass(frozen=True, slots=True)
class _Checked:
    """A source that is fresh, is not and has a `problem`, or has a `wait` for its sync."""

    source: DataSource
    is_fresh: bool = False
    problem: str = ""
    wait: Wait | None = None


def run(call: BlockCall[RequireFreshConfig]) -> BlockResult | Wait:
    """Return {"fresh", "sources": [{"source", "source_id", "is_fresh", "last_sync_at", "problem"}]}.

    Syncs of the stale ones are joined or started all at once. Raises NotFoundError for a source, and
    InvalidRequestError when one stays stale, unless the config says to continue.
    """
    fresh_from = _fresh_from(call)
    checked = []
    for source in _sources(call):
        call.stop.check()
        checked.append(_checked(call, source, fresh_from))
    wait = next((each.wait for each in checked if each.wait is not None), None)
    if wait is not None:
        return wait
    stale = [each for each in checked if not each.is_fresh]
    if stale and call.config.on_stale == "fail":
        raise InvalidRequestError(f"not fresh: {'; '.join(each.problem for each in stale)}")
    return BlockResult({"fresh": not stale, "sources": [_as_json(each) for each in checked]})


def _sources(call: BlockCall[RequireFreshConfig]) -> list[DataSource]:
    config = call.config
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        if config.sources is not None:
            named = [data_sources.named(connection, user_id=call.user_id, name=name) for name in config.sources]
            return list({source.id: source for source in named}.values())
        return [
            source
            for source in data_sources.all_of(connection, user_id=call.user_id)
            if source.is_active
            and source.connection_status != "disconnected"
            and (config.source_types is None or source.source_type in config.source_types)
        ]


def _fresh_from(call: BlockCall[RequireFreshConfig]) -> datetime:
    """The same at every call of the node: else what was fresh at first might never all be fresh at once."""
    config = call.config
    if config.after is not None and config.after > call.clock():
        raise InvalidRequestError(
            f"`after` is {config.after.isoformat()}, which is yet to come: nothing is as fresh as that"
        )
    if config.after is not None:
        return config.after
    earlier = source_syncs.earlier_wait(call)
    until = earlier.until if earlier is not None else None
    first_called_at = until - timedelta(minutes=config.max_wait_minutes) if until is not None else call.clock()
    return first_called_at - timedelta(minutes=config.within_minutes or 0.0)


def _checked(call: BlockCall[RequireFreshConfig], source: DataSource, fresh_from: datetime) -> _Checked:
    if source.last_sync_at is not None and source.last_sync_at >= fresh_from:
        return _Checked(source, is_fresh=True)
    try:
        sync = source_syncs.ask_for(call, source, key=f"{call.idempotency_key}:{source.id}")
    except InvalidRequestError as refused:
        return _Checked(source, problem=refused.message)
    if sync.has_ended_well:  # since the source was read
        return _Checked(source, is_fresh=True)
    if sync.is_open and not source_syncs.has_waited_enough(call):
        wait = source_syncs.wait_for(call, sync, max_wait_minutes=call.config.max_wait_minutes)
        return _Checked(source, wait=wait)
    return _Checked(source, problem=sync.problem)


def _as_json(checked: _Checked) -> Json:
    last = checked.source.last_sync_at
    return {
        "source": checked.source.name,
        "source_id": str(checked.source.id),
        "is_fresh": checked.is_fresh,
        "last_sync_at": last.isoformat() if last is not None else None,
        "problem": checked.problem,
    }
