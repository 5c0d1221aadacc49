"""The definitions of the code location `sync`: those of every source type, and the sensors that serve all types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import alerts, assets, housekeeping, index_sweep, processing, triggers
from workstation_pipelines.defs.resources import RESOURCE_KEY
from workstation_pipelines.model import SourceType
from workstation_pipelines.sources import SOURCES

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


def sync_definitions(workspace: dg.ResourceDefinition) -> dg.Definitions:
    """Merge the definitions of all source types; a new source in SOURCES needs no line here."""
    common = dg.Definitions(
        resources={RESOURCE_KEY: workspace},
        executor=dg.in_process_executor,  # one op a run: a process for each step would cost seconds and gain nothing
    )
    syncs = {source_type: assets.sync_job(source_type) for source_type in SOURCES}
    requests = triggers.requests_sensor(list(syncs.values()))
    sensors = [requests, triggers.reaper_sensor(), alerts.alerts_sensor(), index_sweep.index_sweep_sensor()]
    across_types = dg.Definitions(sensors=sensors)
    bulk = processing.processing_definitions(workspace)
    of_types = [_of_type(source_type, sync) for source_type, sync in syncs.items()]
    return dg.Definitions.merge(common, across_types, bulk, housekeeping.definitions(), *of_types)


def _of_type(source_type: SourceType, sync: UnresolvedAssetJobDefinition) -> dg.Definitions:
    return dg.Definitions(
        assets=[assets.sync_assets(source_type)],
        jobs=[sync, assets.checks_job(source_type)],
        sensors=[triggers.delta_sensor(source_type, sync)],
        schedules=[triggers.sync_schedule(source_type, sync)],
    )
