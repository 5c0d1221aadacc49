"""An execution as it goes: a tree in place on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.output import is_terminal, print_json_line, print_line, shown
from workstation_pipelines.identity import utc_now
from workstation_pipelines.workflow_model import Execution, ExecutionStatus, Step, StepStatus, WaitKind

if TYPE_CHECKING:
    from rich.console import RenderableType

POLL_S = 0.5
LONGEST_MESSAGE = 200

_MARKS: Mapping[StepStatus, tuple[str, str]] = {
    StepStatus.PENDING: ("·", "dim"),
    StepStatus.RUNNING: ("▶", "cyan"),
    StepStatus.RETRYING: ("↻", "yellow"),
    StepStatus.WAITING: ("…", "yellow"),
    StepStatus.COMPLETED: ("✓", "green"),
    StepStatus.FAILED: ("✗", "red"),
    StepStatus.SKIPPED: ("-", "dim"),
    StepStatus.CANCELLED: ("✗", "dim"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """An execution with its steps in their order, all of one moment."""

    execution: Execution
    steps: Sequence[Step]

    @property
    def is_stuck(self) -> bool:
        """Whether nothing goes on before somebody has decided something."""
        waiting = [step for step in self.steps if step.status is StepStatus.WAITING]
        is_waiting = self.execution.status is ExecutionStatus.WAITING
        return is_waiting and all(
            step.wait and step.wait.kind is WaitKind.APPROVAL and step.wait.decision is None for step in waiting
        )


def follow(
    read: Callable[[], Standing], *, refresh: Callable[[], bool], is_shown: bool = True, as_lines: bool = False
) -> Standing:
    """Show an execution until it is over or waits for what does not come by itself; return how it stands then.

    `refresh` brings the rows up to date and says whether a Dagster runs: without one, nothing that waits will go on.
    """
    with _display(is_shown=is_shown, as_lines=as_lines) as show:
        while True:
            has_dagster = refresh()
            standing = read()
            show(standing)
            execution = standing.execution
            idle = execution.status in (ExecutionStatus.PENDING, ExecutionStatus.WAITING) and not has_dagster
            if execution.status.is_over or standing.is_stuck or idle:
                return standing
            time.sleep(POLL_S)


def exit_code(standing: Standing) -> ExitCode:
    """Map how an execution stands to what a shell sees: waiting for a person is a question, for all else, try later."""
    match standing.execution.status:
        case ExecutionStatus.COMPLETED:
            return ExitCode.OK
        case ExecutionStatus.FAILED | ExecutionStatus.CANCELLED:
            return ExitCode.FAILED
        case _:
            return ExitCode.NEEDS_CONFIRMATION if standing.is_stuck else ExitCode.UNAVAILABLE


def as_values(standing: Standing) -> dict[str, Any]:
    """Return what --json prints: the execution without its definition, and its steps."""
    execution = standing.execution
    fields = {name: getattr(execution, name) for name in execution.__slots__ if name not in ("definition", "user_id")}
    return {**fields, "steps": standing.steps}


def summary(standing: Standing) -> list[str]:
    """Return how an execution ended, or what it waits for, with the commands that go on."""
    execution = standing.execution
    lines = [_headline(execution)]
    for step in standing.steps:
        if step.status is StepStatus.FAILED:
            lines.append(f"  failed: {step.node_id} ({step.error_class}): {_short(step.error_message)}")
        elif step.status is StepStatus.WAITING and step.wait is not None:
            lines.append(f"  waits: {step.node_id}: {_awaited(step)}")
            if step.wait.kind is WaitKind.APPROVAL and step.wait.decision is None:
                lines.append(f"    workstation workflow approve {execution.id} {step.node_id}")
    if execution.status is ExecutionStatus.FAILED:
        if execution.error_message and not any(step.status is StepStatus.FAILED for step in standing.steps):
            lines.append(f"  {_short(execution.error_message)}")
        lines.append(f"  workstation workflow retry {execution.id} --from failed")
    return lines


@contextmanager
def _display(*, is_shown: bool, as_lines: bool) -> Iterator[Callable[[Standing], None]]:
    if as_lines:
        yield _Changes(lambda change: print_json_line(change))
    elif not is_shown:
        yield lambda standing: None
    elif is_terminal():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(emoji=False), auto_refresh=False, transient=False) as live:
            yield lambda standing: live.update(_tree(standing, utc_now()), refresh=True)
    else:
        yield _Changes(lambda change: print_line(_as_line(change)))


class _Changes:
    """Tells what is different from what was told before."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._tell = tell
        self._told: dict[str, tuple[Any, ...]] = {}

    def __call__(self, standing: Standing) -> None:
        """What has begun is told before its steps, what has ended after them."""
        execution = standing.execution
        is_new = self._is_new("", execution.status)
        if is_new and not execution.status.is_over:
            self._tell(_change_of_all(execution))
        for step in standing.steps:
            if self._is_new(step.node_id, step.status, step.attempts) and step.status is not StepStatus.PENDING:
                self._tell(_change(step))
        if is_new and execution.status.is_over:
            self._tell(_change_of_all(execution))

    def _is_new(self, key: str, *state: Any) -> bool:
        before, self._told[key] = self._told.get(key), state
        return before != state


def _change_of_all(execution: Execution) -> dict[str, Any]:
    return {
        "execution": execution.id,
        "status": execution.status,
        "progress_percentage": execution.progress_percentage,
        "seconds": _seconds(execution.started_at, execution.completed_at),
        "cost": execution.cost,
        "message": execution.error_message,
    }


def _change(step: Step) -> dict[str, Any]:
    return {
        "node": step.node_id,
        "type": step.node_type,
        "status": step.status,
        "attempts": step.attempts,
        "seconds": _seconds(step.started_at, step.completed_at),
        "cost": step.cost,
        "is_reused": step.is_reused,
        "message": step.error_message
        or step.skip_reason
        or (_awaited(step) if step.status is StepStatus.WAITING else ""),
    }


def _as_line(change: Mapping[str, Any]) -> str:
    what = change.get("node") or f"execution {change['execution']}"
    details = [f"attempt {change['attempts']}"] if change.get("attempts", 0) > 1 else []
    if change["seconds"] is not None:
        details.append(f"{change['seconds']:.1f} s")
    if change["cost"]:
        details.append(f"{change['cost']:.4f} USD")
    if change.get("is_reused"):
        details.append("from the execution before")
    if change["message"]:
        details.append(_short(change["message"]))
    return f"{what}: {change['status']}" + (f" ({', '.join(details)})" if details else "")


def _tree(standing: Standing, now: datetime) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    levels = _levels(standing.execution.definition)
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    for step in standing.steps:
        mark, style = _MARKS[step.status]
        name = Text("  " * levels.get(step.node_id, 0) + f"{mark} {shown(step.node_id)}", style=style)
        passed = _seconds(step.started_at, step.completed_at or now) if step.attempts else None
        tries = f"attempt {step.attempts}" if step.attempts > 1 else ""
        spent = f"{step.cost:.4f} USD" if step.cost else ""
        took = "" if passed is None else f"{passed:.1f} s"
        change = _change(step)
        said = "reused" if step.is_reused else f"{step.status} {_short(shown(change['message']))}".rstrip()
        table.add_row(
            name, Text(shown(step.node_type), style="dim"), Text(f"{took} {tries} {spent}".strip()), Text(said)
        )
    return Group(Text(_headline(standing.execution, now), style="bold"), table)


def _headline(execution: Execution, now: datetime | None = None) -> str:
    passed = _seconds(execution.started_at, execution.completed_at or now)
    took = "" if passed is None else f" after {passed:.1f} s"
    tokens = execution.input_tokens + execution.output_tokens
    spent = f", {tokens:,} tokens" if tokens else ""
    return (
        f"{execution.slug} v{execution.version}: {execution.status}{took}, {execution.steps_over} of"
        f" {execution.steps_total} steps ({execution.progress_percentage:.0f} %){spent}, {execution.cost:.4f} USD"
    )


def _levels(definition: Mapping[str, Any]) -> dict[str, int]:
    """Return how many edges lead to each node on the longest way."""
    levels = {node["id"]: 0 for node in definition.get("nodes", ())}
    edges = [(edge["source"], edge["target"]) for edge in definition.get("edges", ())]
    for _ in levels:
        before = dict(levels)
        for source, target in edges:
            levels[target] = max(levels[target], levels[source] + 1)
        if levels == before:
            break
    return levels


def _awaited(step: Step) -> str:
    wait = step.wait
    if wait is None:
        return ""
    until = f" until {wait.until:%Y-%m-%d %H:%M:%S} UTC" if wait.until is not None else ""
    what = {WaitKind.APPROVAL: "an approval", WaitKind.TIME: "its time", WaitKind.SYNC: f"sync job {wait.sync_job_id}"}
    return f"{what[wait.kind]}{until}{': ' + wait.message if wait.message else ''}"


def _seconds(begun: datetime | None, ended: datetime | None) -> float | None:
    return None if begun is None or ended is None else round(max((ended - begun).total_seconds(), 0.0), 3)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"
