"""The sensor that brings indexes outside the database up to date when a sync could not. It starts no run."""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

import time
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs.resources import WorkspaceResource

if TYPE_CHECKING:
    from workstation_pipelines.sync.outbox import Drained

SWEPT_EVERY_S = 60
SWEPT_FOR_S = 30.0
"""A tick has a minute before Dagster gives it up."""


def index_sweep_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="index_sweep_sensor",
        minimum_interval_seconds=SWEPT_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Sends what waits in the outboxes of indexes outside the database, of all users, what has waited longest"
            " first. Each tick says how much; it starts no run."
        ),
    )
    def sensor(workspace: dg.ResourceParam[WorkspaceResource]) -> dg.SkipReason:
        from workstation_pipelines.sync.outbox import sweep

        index = workspace.open().external_index
        if index is None:
            return dg.SkipReason("there is no index outside the database")
        return dg.SkipReason(said(sweep(index, stop_after_s=SWEPT_FOR_S, monotonic=time.monotonic)))

    return sensor


def said(done: "Drained") -> str:
    return (
        f"{done.documents} documents: {done.vectors_written} vectors written, {done.vectors_deleted} deleted;"
        f" {done.put_off} documents put off"
    )
