"""Rows of scheduled_syncs as runs: what is due is asked for, and moves on once its run exists."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.defs import partitions, runs
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Clock, SourceType, UserId

if TYPE_CHECKING:
    from workstation_pipelines.db.schedules import DueSync
    from workstation_pipelines.sync.workspace import Workspace

ROWS_PER_TICK = 1000
"""A tick creates five to ten runs a second, after its evaluation; ticks of one schedule never overlap."""

LONGEST_WRITING_S = 25.0
"""Dagster gives an evaluation 60 seconds; rows that are not written by then are written by the next tick."""


@dataclass(frozen=True, slots=True)
class _Move:
    """What becomes of a row: the time to be due next, or what is wrong with its schedule."""

    row: DueSync
    next_at: datetime | None
    error: str = ""


def start_due(
    workspace: Workspace,
    instance: dg.DagsterInstance,
    source_type: SourceType,
    *,
    clock: Clock,
    monotonic: Callable[[], float] = time.monotonic,
) -> tuple[list[dg.RunRequest], int]:
    """Confirm the due rows whose runs exist and return requests for the others, with the number confirmed.

    Rows without a time get one and start nothing; rows that cannot be computed are deactivated, with the reason.
    """
    from workstation_pipelines.db import schedules

    rows = schedules.due(workspace.database, source_type, at_most=ROWS_PER_TICK)
    found = runs.existing_runs(instance, [run_key(row) for row in rows if row.next_run_at])
    for run in found.values():
        # Ticks of one schedule do not overlap: whoever created this run and did not submit it is dead.
        runs.submit_if_forgotten(instance, run)
    moves: list[_Move] = []
    wanted: list[DueSync] = []
    confirmed = 0
    for row in rows:
        move = _move_of(row, clock)
        is_found = row.next_run_at is not None and run_key(row) in found
        confirmed += is_found
        if is_found or row.next_run_at is None or move.next_at is None:
            moves.append(move)
        else:
            wanted.append(row)
    _write(workspace, moves, until_s=monotonic() + LONGEST_WRITING_S, monotonic=monotonic)
    partitions.ensure_partitions(instance, source_type, [row.data_source_id for row in wanted])
    return [_request(row) for row in wanted], confirmed


def run_key(row: DueSync) -> str:
    """Name the run that answers this row's due time; the same in every tick until the row moves on."""
    due_s = int(row.next_run_at.timestamp()) if row.next_run_at else 0
    return f"{row.id}:{due_s}"


def _request(row: DueSync) -> dg.RunRequest:
    data_source_id = str(row.data_source_id)
    tags = runs.tags_of(
        user_id=row.user_id, data_source_id=data_source_id, scheduled_sync_id=str(row.id), trigger="schedule"
    )
    # As a tag, not as `partition_key`: Dagster would look each key up by itself, and time out over a thousand of them.
    return dg.RunRequest(run_key=run_key(row), tags={**tags, runs.PARTITION_TAG: data_source_id})


def _move_of(row: DueSync, clock: Clock) -> _Move:
    from workstation_pipelines.sync.schedule import next_run_at

    try:
        return _Move(
            row, next_run_at(row.schedule_type, row.schedule_config, row.timezone, clock(), anchor=row.next_run_at)
        )
    except InvalidRequestError as error:
        # Written past our checks; left due it would start a run every minute for ever.
        return _Move(row, None, error.message)


def _write(workspace: Workspace, moves: list[_Move], *, until_s: float, monotonic: Callable[[], float]) -> None:
    from workstation_pipelines.db import schedules

    by_user: dict[UserId, list[_Move]] = defaultdict(list)
    for move in moves:
        by_user[move.row.user_id].append(move)
    for user_id, of_user in by_user.items():
        if monotonic() > until_s:
            return
        with workspace.database.transaction_with_rls(user_id) as connection:
            for move in of_user:
                row, next_at = move.row, move.next_at
                if next_at is None:
                    schedules.deactivate(connection, user_id=user_id, schedule_id=row.id, error=move.error)
                elif row.next_run_at is None:
                    schedules.give_time(connection, user_id=user_id, schedule_id=row.id, next_at=next_at)
                else:
                    due_at = row.next_run_at
                    schedules.advance(connection, user_id=user_id, schedule_id=row.id, due_at=due_at, next_at=next_at)
