"""Named places where a crash test may kill the process, compiled in and off unless WORKSTATION_FAULT names one."""

from __future__ import annotations

import os
import signal
from collections import Counter

from workstation_pipelines.errors import InvalidRequestError

POINTS = (
    "lease_taken",
    "job_started",
    "page_listed",
    "item_fetched",
    "page_prepared",
    "page_lease_proven",
    "page_documents_written",
    "page_items_written",
    "page_before_commit",
    "page_committed",
    "deletes_before_commit",
    "deletes_committed",
    "end_before_commit",
    "end_committed",
)

ERASURE_POINTS = ("erasure_begun", "erasure_step", "erasure_before_commit")

PROCESSING_POINTS = (
    "processing_started",
    "subject_taken",
    "subject_read",
    "subject_stored",
    "subject_before_commit",
    "subject_committed",
    "processing_before_end",
)
"""The same in bulk processing, where several documents pass at a time."""

SAVING_POINTS = ("text_before_commit", "text_committed")
"""The same where texts are saved as documents."""

REWORK_POINTS = (
    "rework_taken",
    "rework_cut",
    "rework_embedded",
    "rework_chunks_written",
    "rework_before_commit",
    "rework_committed",
    "rework_before_end",
)
"""The same in reprocessing and in building an index beside the live one."""

OUTBOX_POINTS = ("outbox_claimed", "outbox_part_written", "outbox_written", "outbox_deleted", "outbox_confirmed")

SWITCH_POINTS = ("switch_before_commit", "switch_committed")
"""Before and after the one transaction that makes an index build live, or undoes that."""

WORKFLOW_POINTS = (
    "workflow_begin",
    "workflow_begun",
    "workflow_block",
    "workflow_complete",
    "workflow_completed",
)
"""Around an attempt at a node: before and after its begin is committed, with its result at hand, around its end likewise."""


class Faults:
    """Kills this process with SIGKILL when point `name` is passed for the nth time; `stop` pauses it with SIGSTOP instead."""

    def __init__(self, setting: str | None = None) -> None:
        """`setting` is `name`, `name:nth` or `name:nth:stop`. Raises InvalidRequestError for anything else."""
        name, _, rest = (setting or "").partition(":")
        nth, _, action = rest.partition(":")
        known = (
            *POINTS,
            *ERASURE_POINTS,
            *PROCESSING_POINTS,
            *SAVING_POINTS,
            *REWORK_POINTS,
            *OUTBOX_POINTS,
            *SWITCH_POINTS,
            *WORKFLOW_POINTS,
        )
        if name and (name not in known or not (nth or "1").isdigit() or action not in ("", "stop")):
            raise InvalidRequestError(
                f"unknown fault {setting!r}: WORKSTATION_FAULT is name[:nth], one of {', '.join(known)}"
            )
        self._name = name
        self._nth = int(nth or 1)
        self._signal = signal.SIGSTOP if action else signal.SIGKILL
        self._passed: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        if name == self._name:
            self._passed[name] += 1
            if self._passed[name] == self._nth:
                os.kill(os.getpid(), self._signal)
