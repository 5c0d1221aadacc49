"""Brings sync jobs and Dagster runs back into agreement after a death: neither may say that it runs when the other is over.

Of the runs of workflows those are ended here whose process is gone; what that means for their executions says the mirror.

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

LONGEST_START = timedelta(seconds=30)
"""What the start of a run's process takes longer than GRACE on a machine that has too much to do."""

SILENT = timedelta(seconds=90)
"""So long after its last heartbeat the run of a workflow is over even if its process is there: it sleeps, or hangs."""

AT_WORK_AT_MOST = 1000


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
    """End running jobs whose run is over, and runs whose process is gone. Idempotent, safe in several processes.

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
    beating |= _workflows_at_work(database, instance, closed, grace)
    started = runs.started_before(instance, clock() - grace)
    for run in [*started, *runs.starting_before(instance, clock() - grace - LONGEST_START)]:
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


def _workflows_at_work(
    database: Database, instance: dg.DagsterInstance, closed: list[str], grace: timedelta
) -> set[str]:
    """Return the runs of workflows that beat; those that have not for long are ended and `closed`, whoever holds their lock."""
    from workstation_pipelines.db import workflow_runs

    beating = set()
    for run in workflow_runs.to_mirror(database, at_most=AT_WORK_AT_MOST):
        if run.silent_s is None or not run.is_open:
            continue
        run_id = str(run.run_id)
        if run.silent_s < grace.total_seconds():
            beating.add(run_id)
        elif run.silent_s >= SILENT.total_seconds():
            is_cancelled = run.asked_to_stop_s is not None
            closed += [run_id] if runs.report_gone(instance, run_id, is_cancelled=is_cancelled) else []
    return beating


def _close(instance: dg.DagsterInstance, reaped: Sequence[ReapedJob]) -> Iterator[str]:
    for job in reaped:
        run_id = job.dagster_run_id
        if run_id is not None and runs.report_gone(instance, run_id, is_cancelled=job.status is JobStatus.CANCELLED):
            yield run_id
