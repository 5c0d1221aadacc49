"""`workstation workflow approve`: the answer that an execution waits for."""

from __future__ import annotations

from typing import Annotated

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line
from workstation_pipelines.commands.workflow_history import parsed_execution
from workstation_pipelines.errors import InvalidRequestError


def approve(
    context: typer.Context,
    execution: Annotated[str | None, typer.Argument(metavar="[EXECUTION]", help="The execution's id.")] = None,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="The node that waits.")] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Say no.")] = False,
    comment: Annotated[str, typer.Option(help="A word to go with it; the workflow may use it.")] = "",
    token: Annotated[
        str | None, typer.Option(help="Decide by a token that --new-token made, instead of by ids.")
    ] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Decide nothing: print a token, this once, by which somebody else may.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say yes, or no, to what an execution waits for. Decided once, it goes on as soon as Dagster runs."""
    from workstation_pipelines.workflows import control

    if (token is None) == (execution is None or node is None) or (new_token and token is not None):
        raise InvalidRequestError(
            "give EXECUTION and NODE, or --token; `workstation workflow history` shows what waits"
        )
    with open_session(context) as session:
        if token is not None:
            step = control.decide_by_token(
                session.workspace, token=token, approved=not reject, comment=comment, by=session.user_id
            )
        else:
            execution_id = parsed_execution(execution or "")
            if new_token:
                made = control.new_token(
                    session.workspace, **session.owner, execution_id=execution_id, node_id=node or ""
                )
                _print_token(made, as_json=as_json)
                return
            step = control.decide(
                session.workspace,
                **session.owner,
                execution_id=execution_id,
                node_id=node or "",
                approved=not reject,
                comment=comment,
            )
    if as_json:
        print_json(step)
        return
    print_line(f"{'Rejected' if reject else 'Approved'} {step.node_id}; the execution goes on as soon as Dagster runs.")
    print_line(f"  workstation workflow watch {step.execution_id}")


def _print_token(token: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"token": token})
        return
    print_line("The token, which is not shown again; earlier ones are void:")
    print_line(token)
