"""`workstation workflow run|watch|cancel|retry`: executions begin, are looked at, and end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.durations import minutes_of
from workstation_pipelines.commands.interruption import interruptible
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line
from workstation_pipelines.commands.workflow_history import parsed_execution, standing_of, whole_of
from workstation_pipelines.commands.workflow_input import InputFile, Inputs, given_input
from workstation_pipelines.commands.workflow_watch import Standing, as_values, exit_code, follow, summary
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Execution, ExecutionId, ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from workstation_pipelines.defs.workflow_now import Dagster

STOPPED_AT_ONCE = 20
"""So many runs are stopped on the spot, the others by the sensor that looks every few seconds."""

AnExecution = Annotated[str, typer.Argument(metavar="EXECUTION", help="The execution's id.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until it is over or waits for somebody; exit code by outcome.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Show it as it goes; with --json a line of JSON a change.")]
Here = Annotated[
    bool, typer.Option("--here", help="Run it in this process, without `workstation dev`, and wait for its end.")
]


def run(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The workflow's slug or id.")],
    inputs: Inputs = None,
    input_file: InputFile = None,
    version: Annotated[int | None, typer.Option(min=1, help="This version; without it, the newest.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be done, and what it may take.")] = False,
    wait: Wait = False,
    watch: Watch = False,
    here: Here = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again gives the same execution.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher ones go first.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a workflow. Dagster takes it within seconds, or as soon as `workstation dev` runs."""
    from workstation_pipelines.commands.workflow_plan import print_outline
    from workstation_pipelines.db import workflows
    from workstation_pipelines.workflows import control

    with open_session(context) as session:
        with session.transaction() as connection:
            found = session.workflow(connection, slug)
            stored = workflows.version(connection, **session.owner, workflow_id=found.id, version=version)
        given = given_input(stored.definition, inputs, input_file)
        if plan:
            print_outline(session, found, stored, given, as_json=as_json)
            return
        execution = control.start(
            session.workspace,
            **session.owner,
            workflow=str(found.id),
            version=stored.version,
            input=given,
            priority=priority,
            idempotency_key=idempotency_key,
        )
        _begin(session, execution, here=here, wait=wait, watch=watch, as_json=as_json)


def watch(context: typer.Context, execution: AnExecution, here: Here = False, as_json: AsJson = False) -> None:
    """Show an execution as it goes.

    Until it is over, or waits for somebody; it goes on whether anybody watches or not. With --json a line of JSON a change.
    Exit code 4 when it waits for an approval, 5 when for something else.
    """
    from workstation_pipelines.defs import workflow_now

    execution_id = parsed_execution(execution)
    with open_session(context) as session, workflow_now.opened(session.workspace) as dagster:
        if here:
            _run_here(session, dagster, execution_id)
        _follow(session, dagster, execution_id, is_watched=True, as_json=as_json)


def cancel(
    context: typer.Context,
    execution: Annotated[str | None, typer.Argument(metavar="[EXECUTION]", help="The execution's id.")] = None,
    workflow: Annotated[
        str | None, typer.Option(metavar="SLUG", help="All that are not over of this workflow.")
    ] = None,
    status: Annotated[
        ExecutionStatus | None, typer.Option(help="All in this state: pending, running, waiting.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="SPAN", help="All that began so long ago, such as 2d.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stop one execution, or all that fit.

    At once if nothing works on it, within seconds if it runs. What is done stays, and `workflow retry` builds on it.
    """
    from datetime import timedelta

    from workstation_pipelines.workflows import control

    is_bulk = workflow is not None or status is not None or older_than is not None
    if (execution is not None) == is_bulk:
        raise InvalidRequestError("give EXECUTION, or some of --workflow, --status and --older-than")
    if status is not None and status.is_over:
        raise InvalidRequestError(f"what is {status} is over: give --status pending, running or waiting")
    with open_session(context) as session:
        if execution is not None:
            ids = [parsed_execution(execution)]
            control.cancel(session.workspace, **session.owner, execution_id=ids[0])
        else:
            with session.transaction() as connection:
                workflow_id = session.workflow(connection, workflow).id if workflow is not None else None
            ids = control.cancel_where(
                session.workspace,
                **session.owner,
                workflow_id=workflow_id,
                status=status,
                older_than=timedelta(minutes=minutes_of(older_than)) if older_than is not None else None,
            )
        now = _stopped(session, ids)
    if as_json:
        told = [{"id": each.id, "status": each.status, "cancel_requested": each.cancel_requested} for each in now]
        print_json(told[0] if execution is not None else told)
        return
    over = sum(ExecutionStatus(each.status).is_over for each in now)
    print_line(f"{over:,} cancelled, {len(now) - over:,} stop within seconds; what is done stays.")


def _stopped(session: Session, ids: Sequence[ExecutionId]) -> Sequence[Row[Any]]:
    """Return how cancelled executions stand. What is only queued ends now, whether a Dagster runs or not."""
    from workstation_pipelines.db import executions
    from workstation_pipelines.defs import workflow_now

    def standing() -> Sequence[Row[Any]]:
        with session.transaction() as connection:
            return executions.standing(connection, **session.owner, execution_ids=ids)

    now = standing()
    still_open = [ExecutionId(each.id) for each in now if not ExecutionStatus(each.status).is_over]
    if not still_open:
        return now
    with workflow_now.opened(session.workspace) as dagster:
        for execution_id in still_open[:STOPPED_AT_ONCE]:
            dagster.refresh(execution_id)
    return standing()


def retry(
    context: typer.Context,
    execution: AnExecution,
    begin: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="start|failed|NODE", help="What to do again; several nodes may be named."),
    ] = None,
    newest: Annotated[bool, typer.Option("--newest", help="By the newest version, not the one it was run by.")] = False,
    wait: Wait = False,
    watch: Watch = False,
    here: Here = False,
    as_json: AsJson = False,
) -> None:
    """Run again what failed, with all that depends on it. What is done and unchanged is taken over, not paid again."""
    from workstation_pipelines.workflows import control

    chosen = begin or ["failed"]
    if len(chosen) > 1 and not {"start", "failed"}.isdisjoint(chosen):
        raise InvalidRequestError("give --from start, --from failed, or nodes")
    with open_session(context) as session:
        execution_again = control.retry(
            session.workspace,
            **session.owner,
            execution_id=parsed_execution(execution),
            from_=chosen[0] if chosen[0] in ("start", "failed") else chosen,
            newest=newest,
        )
        _begin(session, execution_again, here=here, wait=wait, watch=watch, as_json=as_json)


def _begin(session: Session, execution: Execution, *, here: bool, wait: bool, watch: bool, as_json: bool) -> None:
    """Hand an execution to Dagster, and end the program as the options want it."""
    from workstation_pipelines.defs import workflow_now

    with workflow_now.opened(session.workspace) as dagster:
        if here:
            _run_here(session, dagster, execution.id)
            _follow(session, dagster, execution.id, is_watched=watch, as_json=as_json)
        dagster.start(execution.id)
        if wait or watch:
            _follow(session, dagster, execution.id, is_watched=watch, as_json=as_json)
        is_served = dagster.is_served()
    with session.transaction() as connection:
        standing = (whole_of if as_json else standing_of)(session, connection, execution.id)
    if as_json:
        print_json(as_values(standing))
        return
    begins = "begins within seconds" if is_served else "waits for `workstation dev`, or another Dagster, to start it"
    now = standing.execution
    print_line(f"{now.slug} {begins}." if now.status is ExecutionStatus.PENDING else f"{now.slug} is {now.status}.")
    print_line(f"  workstation workflow watch {execution.id}")


def _run_here(session: Session, dagster: Dagster, execution_id: ExecutionId) -> None:
    """Go on with an execution in this process. Raises NotFoundError for one that is not the session's."""
    with session.transaction() as connection:
        standing_of(session, connection, execution_id)
    with interruptible():
        dagster.run_here(execution_id)


def _follow(session: Session, dagster: Dagster, execution_id: ExecutionId, *, is_watched: bool, as_json: bool) -> None:
    def read() -> Standing:
        with session.transaction() as connection:
            return standing_of(session, connection, execution_id)

    with interruptible():
        standing = follow(
            read, refresh=lambda: dagster.refresh(execution_id), is_shown=is_watched, as_lines=is_watched and as_json
        )
    if as_json and not is_watched:
        with session.transaction() as connection:
            print_json(as_values(whole_of(session, connection, execution_id)))
    elif not as_json:
        for line in summary(standing):
            print_line(line)
        if standing.execution.status is ExecutionStatus.PENDING:
            print_line("it waits for `workstation dev`, or another Dagster, to start it")
    raise typer.Exit(exit_code(standing))
