"""The block `sync_source`: brings one data source up to date and waits for it, without a run of its own meanwhile."""

from __future__ import annotations

from pydantic import Field

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import JobType
from workstation_pipelines.workflow_model import BlockResult, Wait
from workstation_pipelines.workflows.blocks import source_syncs
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.blocks.source_syncs import LONGEST_MINUTES


class SyncSourceConfig(BlockConfig):
    """`source` is a name or an id; `full` lists everything instead of what has changed."""

    source: str = Field(min_length=1)
    full: bool = False
    max_wait_minutes: float = Field(default=24 * 60, gt=0, le=LONGEST_MINUTES)


def run(call: BlockCall[SyncSourceConfig]) -> BlockResult | Wait:
    """Return {"source", "source_id", "sync_job_id", "status"} and the counts of the sync once it has ended well.

    A sync of the source that waits or runs already is joined. Raises NotFoundError for the source, and
    InvalidRequestError when the sync ends otherwise, wants an answer, or takes too long.
    """
    config = call.config
    earlier = source_syncs.earlier_wait(call)
    if earlier is not None and earlier.sync_job_id is not None:
        sync = source_syncs.job_of(call, earlier.sync_job_id)
    else:
        source = source_syncs.source_named(call, config.source)
        job_type = JobType.FULL_SYNC if config.full else JobType.MANUAL
        sync = source_syncs.ask_for(call, source, key=call.idempotency_key, job_type=job_type)
    if sync.is_open and not source_syncs.has_waited_enough(call):
        return source_syncs.wait_for(call, sync, max_wait_minutes=config.max_wait_minutes)
    done = sync if sync.has_ended_well else source_syncs.done_since(call, sync)
    if done is None:
        raise InvalidRequestError(sync.problem)
    ids = {"source": done.source_name, "source_id": str(done.data_source_id), "sync_job_id": str(done.job_id)}
    return BlockResult({**ids, "status": done.status.value, **done.counts})
