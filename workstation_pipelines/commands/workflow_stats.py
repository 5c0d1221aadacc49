"""`workstation workflow stats`: how often workflows ended how, and what they cost."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, print_table


def stats(
    context: typer.Context,
    slug: Annotated[str | None, typer.Argument(metavar="[SLUG]", help="Of this workflow; without it, of all.")] = None,
    monthly: Annotated[bool, typer.Option("--monthly/--daily", help="How to split the bill.")] = True,
    since: Annotated[datetime | None, typer.Option(help="First day that counts, in UTC: 2026-11-01.")] = None,
    until: Annotated[datetime | None, typer.Option(help="First day that does not count any more.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show outcomes, durations and costs, by mode and by period."""
    from workstation_pipelines.db import execution_costs, workflows

    between = {"since": since and since.replace(tzinfo=UTC), "until": until and until.replace(tzinfo=UTC)}
    with open_session(context) as session, session.transaction() as connection:
        workflow_id = session.workflow(connection, slug).id if slug is not None else None
        figures = (
            workflows.summary(connection, **session.owner)
            if workflow_id is None
            else workflows.stats(connection, **session.owner, workflow_id=workflow_id)
        )
        period = execution_costs.Period.MONTH if monthly else execution_costs.Period.DAY
        modes = execution_costs.cost_by_mode(connection, **session.owner, workflow_id=workflow_id, **between)
        periods = execution_costs.billing_by_period(
            connection, **session.owner, by=period, workflow_id=workflow_id, **between
        )
    if as_json:
        print_json({"figures": figures, "by_mode": modes, "by_period": periods})
        return
    print_fields({name.replace("_", " "): value for name, value in asdict(figures).items()})
    print_line()
    for rows in ([asdict(each) for each in modes], [asdict(each) for each in periods]):
        columns = [name.replace("_", " ") for name in (rows[0] if rows else ())]
        print_table(columns, [tuple(row.values()) for row in rows], empty="Nothing was spent.")
