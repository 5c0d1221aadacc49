"""Assets of every source type: `items -> documents -> embeddings`, streamed through one op page by page."""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import checks, partitions, stream
from workstation_pipelines.defs.resources import WorkspaceResource
from workstation_pipelines.defs.stream import STAGES, SyncConfig
from workstation_pipelines.model import SourceType

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

FRESH_FOR = timedelta(hours=26)
"""For the type as a whole: a source's own staleness is the check `synced_lately`."""

_DESCRIPTIONS = {
    "items": (
        "What the source holds: one row of `sync_items` an item, with its outcome. Page by page it is listed, fetched,"
        " cut, embedded and committed at once, so a run that is killed loses nothing committed."
    ),
    "documents": (
        "Text and metadata of the items, one row of `documents` each. Materialised without `items`, nothing is fetched:"
        " what the database says is stale is cut and embedded anew."
    ),
    "embeddings": (
        "Chunks with their vectors under the current index config. A text that was embedded before is not embedded again."
    ),
}
_KINDS = {"items": {"postgres"}, "documents": {"postgres"}, "embeddings": {"postgres", "pgvector"}}


def stage_key(source_type: SourceType, stage: str) -> dg.AssetKey:
    return dg.AssetKey([source_type.value, stage])


def op_name(source_type: SourceType) -> str:
    return f"stream_{source_type.value}"  # op and job names share one namespace


def sync_job_name(source_type: SourceType) -> str:
    return f"{source_type.value}_sync"


def sync_assets(source_type: SourceType) -> dg.AssetsDefinition:
    """Return the three assets of a type behind their one op; a partition is one data source."""

    @dg.multi_asset(
        name=op_name(source_type),
        specs=[_spec(source_type, stage) for stage in STAGES],
        check_specs=checks.check_specs(source_type),
        partitions_def=partitions.data_sources(source_type),
        can_subset=True,
        pool=f"provider_{source_type.value}",
    )
    def streamed(
        context: dg.AssetExecutionContext, config: SyncConfig, workspace: dg.ResourceParam[WorkspaceResource]
    ) -> Iterator[stream.Event]:
        with stream.as_outcomes(context, source_type.value):
            opened = workspace.open()
        yield from stream.events(context, opened, source_type, config)

    return streamed


def sync_job(source_type: SourceType) -> "UnresolvedAssetJobDefinition":
    """The job that schedules, sensors and the demo start: all three stages of one data source, with their checks."""
    return dg.define_asset_job(
        sync_job_name(source_type),
        selection=dg.AssetSelection.groups(source_type.value),
        description=f"Sync one {source_type.value} data source: its partition is the data source's id.",
    )


def checks_job(source_type: SourceType) -> "UnresolvedAssetJobDefinition":
    """The checks alone, over all data sources of the type; it has no partition and fetches nothing."""
    keys = [spec.key for spec in checks.check_specs(source_type)]
    return dg.define_asset_job(
        f"{source_type.value}_checks",
        selection=dg.AssetSelection.checks(*keys),
        description=f"Check every {source_type.value} data source, {checks.SOURCES_CHECKED} at most, without syncing.",
    )


def _spec(source_type: SourceType, stage: str) -> dg.AssetSpec:
    before = STAGES[: STAGES.index(stage)]
    return dg.AssetSpec(
        stage_key(source_type, stage),
        deps=[stage_key(source_type, before[-1])] if before else [],
        description=_DESCRIPTIONS[stage],
        group_name=source_type.value,
        owners=["team:ingest"],
        tags={"source_type": source_type.value, "stage": stage},
        kinds=_KINDS[stage],
        skippable=True,  # a cancelled sync may finish `items` and not `embeddings`
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=FRESH_FOR),
    )
