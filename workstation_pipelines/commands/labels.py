"""`workstation projects` and `workstation tags`: what groups documents. Assigning and tagging are in `documents`."""

from __future__ import annotations

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_table

projects_app = typer.Typer(help="Projects: a document is in one or none.")
tags_app = typer.Typer(help="Tags: a document has any number.")


@projects_app.callback()
def _projects() -> None:
    """Keeps `list` a command of its own: Typer would make a single one the group."""


@tags_app.callback()
def _tags() -> None:
    """See above."""


@projects_app.command("list")
def list_projects(context: typer.Context, as_json: AsJson = False) -> None:
    """List projects with the number and size of their documents."""
    from workstation_pipelines.db import library

    with open_session(context) as session, session.transaction() as connection:
        rows = library.projects(connection, user_id=session.user_id)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["project", "documents", "bytes", "last change"],
        [(row.name, row.document_count, row.size_bytes, row.last_change_at) for row in rows],
        empty="No projects yet: `workstation documents assign DOCUMENT PROJECT` makes one.",
    )


@tags_app.command("list")
def list_tags(context: typer.Context, as_json: AsJson = False) -> None:
    """List tags with the number of their documents."""
    from workstation_pipelines.db import library

    with open_session(context) as session, session.transaction() as connection:
        rows = library.tags(connection, user_id=session.user_id)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["tag", "documents"],
        [(row.name, row.document_count) for row in rows],
        empty="No tags yet: `workstation documents tag DOCUMENT TAG` makes one.",
    )
