"""The definitions of the code location `sync`: for every source type its assets, checks, jobs, sensor and schedule."""

from __future__ import annotations

import dagster as dg

from workstation_pipelines.defs import alerts, assets, housekeeping, processing, triggers
from workstation_pipelines.defs.resources import RESOURCE_KEY
from workstation_pipelines.model import SourceType
from workstation_pipelines.sources import SOURCES


def sync_definitions(workspace: dg.ResourceDefinition) -> dg.Definitions:
    """Merge the definitions of all source types; a new source in SOURCES needs no line here."""
    common = dg.Definitions(
        resources={RESOURCE_KEY: workspace},
        sensors=[alerts.alerts_sensor()],
        executor=dg.in_process_executor,  # one op a run: a process for each step would cost seconds and gain nothing
    )
    bulk = processing.processing_definitions(workspace)
    types = (_of_type(source_type) for source_type in SOURCES)
    return dg.Definitions.merge(common, bulk, housekeeping.definitions(), *types)


def _of_type(source_type: SourceType) -> dg.Definitions:
    sync = assets.sync_job(source_type)
    return dg.Definitions(
        assets=[assets.sync_assets(source_type)],
        jobs=[sync, assets.checks_job(source_type)],
        sensors=[triggers.delta_sensor(source_type, sync)],
        schedules=[triggers.sync_schedule(source_type, sync)],
    )
