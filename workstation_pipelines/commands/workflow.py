"""`workstation workflow`: saved workflows with their versions, and the way to what is run of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands import (
    workflow_approval,
    workflow_history,
    workflow_run,
    workflow_schedule,
    workflow_secret,
    workflow_stats,
    workflow_templates,
    workflow_transfer,
)
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, Yes, print_fields, print_json, print_line, print_table
from workstation_pipelines.commands.questions import confirm

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(help="Workflows: save, run, watch, and see what came of them; templates, schedules and secrets.")

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The workflow's slug or id.")]
Version = Annotated[int | None, typer.Option(min=1, help="This version; without it, the newest.")]

app.command("save")(workflow_transfer.save)


@app.command("list")
def list_workflows(
    context: typer.Context,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Only those that can be run, or not.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Only of this category.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; of several, with all.")] = None,
    order: Annotated[
        str, typer.Option(metavar="COLUMN", help="created_at, updated_at, name or total_executions.")
    ] = "created_at",
    ascending: Annotated[bool, typer.Option("--ascending", help="The oldest, the least or A first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List workflows, newest first."""
    from workstation_pipelines.db import workflows

    with open_session(context) as session, session.transaction() as connection:
        rows = workflows.listed(
            connection,
            **session.owner,
            is_active=active,
            category=category,
            tags=tag or (),
            order_by=order,
            descending=not ascending,
            limit=limit,
            offset=offset,
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["slug", "name", "category", "tags", "version", "active", "runs", "failed", "cost", "last run"],
        [
            (
                row.slug,
                row.name,
                row.category,
                row.tags,
                row.latest_version,
                row.is_active,
                row.total_executions,
                row.failed_executions,
                f"{row.total_cost:.4f} USD",
                row.last_executed_at,
            )
            for row in rows
        ],
        empty="No such workflow: `workstation workflow templates list` shows some to begin with.",
    )


@app.command()
def show(
    context: typer.Context,
    slug: Slug,
    version: Version = None,
    definition: Annotated[
        bool, typer.Option("--definition", help="Print the definition as it is stored, alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a workflow, its versions and its nodes."""
    from workstation_pipelines.db import workflows

    with open_session(context) as session, session.transaction() as connection:
        row = session.workflow(connection, slug)
        stored = workflows.version(connection, **session.owner, workflow_id=row.id, version=version)
        versions = workflows.versions(connection, **session.owner, workflow_id=row.id)
    if definition:
        print_json(stored.definition)
        return
    history = [{"version": each.version, "created_at": each.created_at} for each in versions]
    if as_json:
        print_json({"workflow": row, "version": stored, "versions": history})
        return
    print_fields(
        {
            "workflow": f"{row.slug}: {row.name}",
            "description": row.description,
            "category": row.category,
            "tags": row.tags,
            "active": row.is_active,
            "version": f"{stored.version} of {row.latest_version}, saved {stored.created_at:%Y-%m-%d %H:%M} UTC",
            "runs": f"{row.total_executions:,}: {row.completed_executions:,} completed, {row.failed_executions:,} failed",
            "id": row.id,
        }
    )
    _print_parts(stored.definition)


@app.command()
def activate(context: typer.Context, slug: Slug, as_json: AsJson = False) -> None:
    """Let a workflow be run again."""
    _set_active(context, slug, is_active=True, as_json=as_json)


@app.command()
def deactivate(context: typer.Context, slug: Slug, as_json: AsJson = False) -> None:
    """Let a workflow not be run any more. What runs goes on."""
    _set_active(context, slug, is_active=False, as_json=as_json)


@app.command()
def delete(context: typer.Context, slug: Slug, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a workflow.

    With its versions, schedules and everything that was run of it.
    """
    from workstation_pipelines.db import workflows

    with open_session(context) as session:
        with session.transaction() as connection:
            row = session.workflow(connection, slug)
        confirm(f"Delete the workflow {row.slug} with its {row.total_executions:,} runs?", yes=yes)
        with session.transaction() as connection:
            workflows.delete(connection, **session.owner, workflow_id=row.id)
    if as_json:
        print_json({"deleted": row.id, "slug": row.slug})
    else:
        print_line(f"Deleted {row.slug}.")


app.command("run")(workflow_run.run)
app.command("watch")(workflow_run.watch)
app.command("cancel")(workflow_run.cancel)
app.command("retry")(workflow_run.retry)
app.command("approve")(workflow_approval.approve)
app.command("history")(workflow_history.history)
app.command("stats")(workflow_stats.stats)
app.command("clone")(workflow_transfer.clone)
app.command("export")(workflow_transfer.export)
app.command("import")(workflow_transfer.import_file)
app.add_typer(workflow_templates.app, name="templates")
app.add_typer(workflow_schedule.app, name="schedule")
app.add_typer(workflow_secret.app, name="secret")


def _set_active(context: typer.Context, slug: str, *, is_active: bool, as_json: bool) -> None:
    from workstation_pipelines.db import workflows

    with open_session(context) as session, session.transaction() as connection:
        found = session.workflow(connection, slug)
        row = workflows.set_active(connection, **session.owner, workflow_id=found.id, is_active=is_active)
    if as_json:
        print_json(row)
    else:
        print_line(f"{row.slug} can be run." if is_active else f"{row.slug} cannot be run until it is activated.")


def _print_parts(definition: Mapping[str, Any]) -> None:
    """Print inputs and nodes; each node with the conditions under which it is reached."""
    inputs = definition.get("inputs") or {}
    for name, field in inputs.items():
        needed = (
            "required" if field.get("required") else f"default {json.dumps(field.get('default'), ensure_ascii=False)}"
        )
        print_line(f"input  {name} ({field.get('type', 'any')}, {needed}) {field.get('description', '')}".rstrip())
    edges = definition.get("edges", ())
    print_table(
        ["node", "type", "name", "after"],
        [
            (
                node["id"],
                node["type"],
                node.get("name", ""),
                [
                    edge["source"] + (f" if {edge['condition']}" if edge.get("condition") else "")
                    for edge in edges
                    if edge["target"] == node["id"]
                ],
            )
            for node in definition.get("nodes", ())
        ],
        empty="It has no nodes.",
    )
