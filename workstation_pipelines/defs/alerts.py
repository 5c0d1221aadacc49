"""The sensor that looks after freshness and webhooks. It starts no run: what it finds are rows of ours."""

# No postponed annotations here: Dagster reads those of a decorated function and takes strings for no type it knows.

from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs.resources import WorkspaceResource

if TYPE_CHECKING:
    from workstation_pipelines.sync.alerts import Alerts

ALERTS_EVERY_S = 60


def alerts_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="alerts_sensor",
        minimum_interval_seconds=ALERTS_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Writes an event for every data source that misses its freshness objective, resolves those that keep it"
            " again, and tells webhooks of what is new. Each tick says how many; it starts no run."
        ),
    )
    def sensor(workspace: dg.ResourceParam[WorkspaceResource]) -> dg.SkipReason:
        from workstation_pipelines.sync.alerts import look_after

        return dg.SkipReason(said(look_after(workspace.open())))

    return sensor


def said(alerts: "Alerts") -> str:
    told = alerts.deliveries
    return (
        f"objectives: {alerts.missed} missed, {alerts.kept} kept again;"
        f" webhooks: {told.delivered} told, {told.failed} to be tried again, {told.given_up} given up"
    )
