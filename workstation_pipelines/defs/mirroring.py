"""Brings the rows of workflow executions into agreement with the Dagster runs that work on them.

A function of a database and an instance, so that it runs in a sensor and just as well where no code location has to live.
It alone ends an execution or lets it wait: what is written while a run is at work are its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import event_logs, workflow_control
from workstation_pipelines.errors import SourceUnavailableError
from workstation_pipelines.workflow_model import ExecutionId

if TYPE_CHECKING:
    from workstation_pipelines.db.engine import Database
    from workstation_pipelines.db.workflow_runs import MirroredRun

RUNS_A_CALL = 300
"""Those at work first, then others by chance: so every run gets its turn, however many wait in the queue."""

LOST_AFTER_S = 120.0
"""So long a run may be unknown to Dagster; meanwhile whoever finds it so creates it again under the same id."""

UNCREATED_S = 10.0
"""So long the same may take in a command or sensor that lives."""

LOST = "LOST"
CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a call has done: runs that it looked at and closed, and executions it ended that no run worked on.

    `failures` are the executions whose rows it could not bring up to date, with the class of the error.
    """

    looked_at: int = 0
    closed: int = 0
    repaired: int = 0
    failures: Sequence[str] = ()

    def __str__(self) -> str:
        failed = f"; not mirrored: {', '.join(self.failures)}" if self.failures else ""
        repaired = f", {self.repaired} executions ended that no run worked on" if self.repaired else ""
        return f"{self.closed} of {self.looked_at} runs closed{repaired}{failed}"


def mirror(database: Database, instance: dg.DagsterInstance, *, only: ExecutionId | None = None) -> Mirrored:
    """Write down what has become of open runs, at most 300 a call, or of one execution's; stop those that are cancelled.

    Idempotent, and safe in several processes at once. Without open runs it costs one statement. Raises
    SourceUnavailableError.
    """
    from workstation_pipelines.db import workflow_runs

    found = workflow_runs.to_mirror(database, at_most=RUNS_A_CALL, execution_id=only)
    if not found:
        return Mirrored()
    filters = dg.RunsFilter(run_ids=[str(run.run_id) for run in found])
    known = {run.run_id: run for run in instance.get_runs(filters)}
    stopped = workflow_control.stop_cancelled(instance, found, known)
    statuses = {run_id: run.status.value for run_id, run in known.items()} | dict.fromkeys(stopped, CANCELED)
    done = {True: 0, False: 0}
    failures = []
    for run in found:
        try:
            done[run.is_open] += _look_at(database, instance, run, statuses.get(str(run.run_id)))
        except SourceUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - told, and tried again: one execution must not hold up all others
            failures.append(f"{run.execution_id} ({type(error).__name__})")
    return Mirrored(len(found), done[True], done[False], tuple(failures))


def _look_at(database: Database, instance: dg.DagsterInstance, run: MirroredRun, status: str | None) -> bool:
    """Return whether the run was closed, or the execution ended that had no open one."""
    from workstation_pipelines.db import workflow_runs
    from workstation_pipelines.workflows import settling
    from workstation_pipelines.workflows.mirror import OVER

    status = status or _status_of_unknown(run)
    if status in OVER:
        # Its status was read before: what it wrote last is in the log by now.
        return settling.close(database, run, status, event_logs.read(instance, run.run_id, with_steps=True))
    is_being_created = status == workflow_runs.UNSEEN and run.age_s < UNCREATED_S
    if run.is_open and status != run.dagster_status and not is_being_created:
        settling.follow(database, run, status, event_logs.read(instance, run.run_id, with_steps=False))
    return False


def _status_of_unknown(run: MirroredRun) -> str:
    from workstation_pipelines.db.workflow_runs import GONE, UNSEEN

    is_missed = run.dagster_status in (UNSEEN, GONE) and run.unchanged_s >= LOST_AFTER_S
    is_unwanted = run.asked_to_stop_s is not None and run.age_s >= UNCREATED_S
    if is_missed or is_unwanted or not run.is_open:
        return LOST
    return UNSEEN if run.dagster_status in ("", UNSEEN) else GONE
