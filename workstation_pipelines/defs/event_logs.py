"""The event log of a workflow's run as Dagster stores it: what is folded, and what the execution's timeline shows of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import dagster as dg

from workstation_pipelines.db.timeline import TimelineEvent
from workstation_pipelines.workflows.mirror import EventKind, StepEvent
from workstation_pipelines.workflows.settling import RunLog

if TYPE_CHECKING:
    from dagster._core.event_api import EventLogRecord
    from dagster._core.events import DagsterEvent

_SHOWN = {
    dg.DagsterEventType.RUN_ENQUEUED: ("run.enqueued", "queued"),
    dg.DagsterEventType.RUN_DEQUEUED: ("run.dequeued", "taken from the queue"),
    dg.DagsterEventType.RUN_STARTING: ("run.starting", "its process is being started"),
    dg.DagsterEventType.RUN_START: ("run.started", "its process is at work"),
    dg.DagsterEventType.RUN_SUCCESS: ("run.succeeded", "ended"),
    dg.DagsterEventType.RUN_FAILURE: ("run.failed", "failed"),
    dg.DagsterEventType.RUN_CANCELING: ("run.canceling", "told to stop"),
    dg.DagsterEventType.RUN_CANCELED: ("run.canceled", "stopped"),
}
"""What the timeline calls an event of a run, and says of it; never Dagster's own text, which may quote anything."""

_OF_RUNS = {*_SHOWN, dg.DagsterEventType.ENGINE_EVENT}
_OF_STEPS = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_RESTARTED,
    dg.DagsterEventType.STEP_OUTPUT,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
    dg.DagsterEventType.STEP_SKIPPED,
}
# As Dagster's code server words it when a run's process is gone.
_CRASH = re.compile(r"(?:was terminated by (signal \d+ \(\w+\))|unexpectedly exited with (code -?\d+))")
_OVERDUE = "exceeding maximum runtime"
_ERROR_CLASS = re.compile(r"(\w+Error)\b")


def read(instance: dg.DagsterInstance, run_id: UUID | None, *, with_steps: bool) -> RunLog:
    """Read the log of a run from its beginning, without `with_steps` only the few events of the run itself.

    Where there is no run, the log is empty.
    From the beginning, because events of several processes may become visible in another order than that of their ids.
    """
    if run_id is None:
        return RunLog((), (), 0)
    wanted = _OF_RUNS | _OF_STEPS if with_steps else _OF_RUNS
    records = instance.get_records_for_run(str(run_id), of_type=wanted).records
    steps, timeline, last = [], [], 0
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        last = max(last, record.storage_id)
        step_event, shown = _step_event(record, event), _timeline_event(record, event, run_id)
        steps += [step_event] if step_event is not None else []
        timeline += [shown] if shown is not None else []
    return RunLog(steps, timeline, last)


def _step_event(record: EventLogRecord, event: DagsterEvent) -> StepEvent | None:
    at = _moment(record)
    if event.event_type is dg.DagsterEventType.RUN_CANCELING:
        kind = EventKind.OVERDUE if _OVERDUE in (event.message or "") else EventKind.CANCELING
        return StepEvent(record.storage_id, kind, "", "", at)
    if event.event_type not in _OF_STEPS or event.step_key is None:
        return None
    kind = EventKind(event.event_type.value)
    output = event.step_output_data.output_name if kind is EventKind.OUTPUT else ""
    error_class = _error_class(event) if kind is EventKind.FAILED else ""
    return StepEvent(record.storage_id, kind, event.step_key, output, at, error_class)


def _error_class(event: DagsterEvent) -> str:
    """The class of the error that our own code named, else that of Dagster's."""
    failure = event.step_failure_data
    if failure.user_failure_data is not None:
        named = _ERROR_CLASS.match(failure.user_failure_data.description or "")
        if named is not None:
            return named[1]
    return (failure.error.cls_name if failure.error else None) or ""


def _timeline_event(record: EventLogRecord, event: DagsterEvent, run_id: UUID) -> TimelineEvent | None:
    if event.event_type is dg.DagsterEventType.ENGINE_EVENT:
        crash = _CRASH.search(event.message or "")
        if crash is None:
            return None
        kind, message = "run.crashed", f"its process is gone: {crash[1] or crash[2]}"
    elif event.event_type in _SHOWN:
        kind, message = _SHOWN[event.event_type]
    else:
        return None
    return TimelineEvent(
        kind=kind,
        occurred_at=_moment(record),
        message=message,
        dagster_run_id=run_id,
        storage_id=record.storage_id,
    )


def _moment(record: EventLogRecord) -> datetime:
    return datetime.fromtimestamp(record.event_log_entry.timestamp, tz=UTC)
