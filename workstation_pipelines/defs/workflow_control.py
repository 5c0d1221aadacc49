"""Stops the Dagster runs of executions that somebody has cancelled: those in the queue at once, the others within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workstation_pipelines.db.workflow_runs import MirroredRun

UNHEEDED_S = 30.0
"""A run that was told to stop has stopped by then, or is said to have."""

UNDER_WAY = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


def stop_cancelled(
    instance: dg.DagsterInstance, found: Sequence[MirroredRun], known: Mapping[str, dg.DagsterRun]
) -> list[str]:
    """Stop the runs whose execution is to be cancelled, and return the ids of those that are over by it. Idempotent.

    A process that cannot be told by its code server hears of it from the database, with its next heartbeat.
    """
    stopped = []
    for run in found:
        dagster_run = known.get(str(run.run_id))
        if run.asked_to_stop_s is None or dagster_run is None or dagster_run.is_finished:
            continue
        if _stop(instance, dagster_run, run.asked_to_stop_s):
            stopped.append(dagster_run.run_id)
    return stopped


def _stop(instance: dg.DagsterInstance, run: dg.DagsterRun, asked_s: float) -> bool:
    if run.status not in UNDER_WAY:
        runs.cancel_unstarted(instance, run)
        return True
    if asked_s >= UNHEEDED_S:
        return runs.report_gone(instance, run.run_id, is_cancelled=True)
    if run.status is not dg.DagsterRunStatus.CANCELING:
        runs.interrupt(instance, run.run_id)
    return False
