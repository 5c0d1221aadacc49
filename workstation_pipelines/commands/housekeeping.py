"""`workstation housekeeping`: what the nightly job does to one's rows, now."""

from __future__ import annotations

from typing import Annotated

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_table


def housekeeping(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what has had its day. How long what is kept says WORKSTATION_RETENTION_DAYS; a job does this every night."""
    from workstation_pipelines.sync.housekeeping import sweep

    with open_session(context) as session:
        workspace = session.workspace
        days = workspace.settings.retention_days
        swept = list(sweep(workspace.database, days, user_id=session.user_id, is_dry=dry_run))
    if as_json:
        print_json({"is_dry_run": dry_run, "rows": {each.rule.replace(" ", "_"): each.rows for each in swept}})
    else:
        verb = "would go" if dry_run else "went"
        print_table(["what", verb], [(each.rule, each.rows) for each in swept], empty="")
