"""Brings sync jobs and Dagster runs back into agreement after a death: neither may say that it runs when the other is over.

A pure function of a database and an instance, so that it runs in a sensor, and also where no code location has to live.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import runs
from workstation_pipelines.model import Clock, JobStatus

if TYPE_CHECKING:
    from workstation_pipelines.db.engine import Database
    from workstation_pipelines.sync.reaper import ReapedJob

GRACE = timedelta(seconds=45)
"""From the start of a run's process until its op has opened the database, on a busy machine; and between two heartbeats."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was ended: jobs whose process is gone, and runs likewise."""

    jobs: Sequence[ReapedJob]
    run_ids: Sequence[str]

    def __str__(self) -> str:
        return f"{len(self.jobs)} sync jobs and {len(self.run_ids)} runs ended whose process is gone"


def reconcile(
    database: Database, instance: dg.DagsterInstance, *, clock: Clock, grace: timedelta = GRACE
) -> Reconciled:
    """End running jobs whose run is over, and started runs whose process is gone. Idempotent, safe in several processes.

    Raises SourceUnavailableError.
    """
    from workstation_pipelines.db import run_presence, sync_requests
    from workstation_pipelines.sync import reaper

    reaped = list(reaper.reap(database))
    running = sync_requests.running(database, beating_s=grace.total_seconds())
    for job in running:
        if runs.is_over(instance, job.dagster_run_id):
            ended = reaper.reap_if_dead(database, user_id=job.user_id, job_id=job.job_id)
            reaped += [ended] if ended else []
    beating = {job.dagster_run_id for job in running if job.is_beating}
    closed = list(_close(instance, reaped))
    for run in runs.started_before(instance, clock() - grace):
        # The lock alone would call a run dead whose server was restarted; its heartbeat goes on.
        if run.run_id in beating or run.run_id in closed or run_presence.is_present(database, run.run_id):
            continue
        # Between its last op and its end, or between two ops, a run holds no lock for a moment.
        if not runs.is_silent_since(instance, run.run_id, clock() - grace):
            continue
        if runs.report_gone(instance, run.run_id, is_cancelled=run.status is dg.DagsterRunStatus.CANCELING):
            closed.append(run.run_id)
        for job in running:
            if job.dagster_run_id == run.run_id:
                ended = reaper.reap_if_dead(database, user_id=job.user_id, job_id=job.job_id)
                reaped += [ended] if ended else []
    return Reconciled(reaped, closed)


def _close(instance: dg.DagsterInstance, reaped: Sequence[ReapedJob]) -> Iterator[str]:
    for job in reaped:
        run_id = job.dagster_run_id
        if run_id is not None and runs.report_gone(instance, run_id, is_cancelled=job.status is JobStatus.CANCELLED):
            yield run_id
