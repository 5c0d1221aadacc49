"""`workstation workflow templates`: workflows to begin with, the system's, one's own and what others made public."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, Yes, print_fields, print_json, print_line, print_table
from workstation_pipelines.commands.questions import confirm
from workstation_pipelines.errors import InvalidRequestError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from workstation_pipelines.db.workflow_templates import Template

app = typer.Typer(help="Templates of workflows: list, show, use, publish, unpublish, remove.")

Slug = Annotated[str, typer.Argument(metavar="TEMPLATE", help="The template's slug.")]


@app.command("list")
def list_templates(
    context: typer.Context,
    category: Annotated[str | None, typer.Option(help="Only of this category.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; of several, with all.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Only your own.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List the templates that you can use."""
    from workstation_pipelines.db import workflow_templates

    with open_session(context) as session, session.transaction() as connection:
        rows = workflow_templates.listed(
            connection,
            **session.owner,
            category=category,
            tags=tag or (),
            is_own=True if own else None,
            limit=limit,
            offset=offset,
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["template", "name", "category", "tags", "nodes", "of", "used"],
        [
            (row.slug, row.name, row.category, row.tags, len(row.definition["nodes"]), _whose(row), row.usage_count)
            for row in rows
        ],
        empty="No such template: `workstation workflow templates publish SLUG` makes one of your workflow.",
    )


@app.command()
def show(context: typer.Context, slug: Slug, as_json: AsJson = False) -> None:
    """Show a template, what it takes and what it does."""
    with open_session(context) as session, session.transaction() as connection:
        row = _found(session, connection, slug)
    if as_json:
        print_json(row)
        return
    print_fields(
        {
            "template": f"{row.slug}: {row.name}",
            "description": row.description,
            "category": row.category,
            "tags": row.tags,
            "of": _whose(row),
            "used": row.usage_count,
        }
    )
    for name, field in row.definition.get("inputs", {}).items():
        needed = "required" if field.get("required") else "optional"
        print_line(f"input  {name} ({field.get('type', 'any')}, {needed}) {field.get('description', '')}".rstrip())
    for node in row.definition["nodes"]:
        print_line(f"node   {node['id']} ({node['type']}) {node.get('name', '')}".rstrip())


@app.command()
def use(
    context: typer.Context,
    template: Slug,
    slug: Annotated[str | None, typer.Option(help="The new workflow's slug; the template's without it.")] = None,
    name: Annotated[str | None, typer.Option(help="The new workflow's name; the template's without it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a workflow of a template. It is yours from then on, and changes as you like."""
    from workstation_pipelines.workflows import saving

    with open_session(context) as session, session.transaction() as connection:
        row = _found(session, connection, template)
        made = saving.use_template(
            connection,
            **session.owner,
            template=row,
            slug=slug or row.slug,
            labels=saving.Labels(name=name),
            new_id=session.workspace.new_id,
        )
    if as_json:
        print_json(made)
        return
    print_line(f"Saved {made.slug}, from the template {row.slug}.")
    print_line(f"  workstation workflow show {made.slug}")


@app.command()
def publish(
    context: typer.Context,
    workflow: Annotated[str, typer.Argument(metavar="SLUG", help="One of your workflows, or of your templates.")],
    private: Annotated[bool, typer.Option("--private", help="For yourself alone, not for every user.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a template of a workflow, for every user.

    Of its newest version; done again, the template becomes that of then.
    """
    from workstation_pipelines.workflows import saving

    with open_session(context) as session, session.transaction() as connection:
        row = saving.publish(
            connection, **session.owner, slug=workflow, is_public=not private, new_id=session.workspace.new_id
        )
    if as_json:
        print_json(row)
    else:
        print_line(f"{row.slug} is a template for {'every user' if row.is_public else 'yourself alone'}.")


@app.command()
def unpublish(context: typer.Context, slug: Slug, as_json: AsJson = False) -> None:
    """Keep one of your templates to yourself. Workflows that others made of it stay theirs."""
    from workstation_pipelines.db import workflow_templates

    with open_session(context) as session, session.transaction() as connection:
        own = _own(session, connection, slug)
        row = workflow_templates.set_public(connection, **session.owner, template_id=own.id, is_public=False)
    if as_json:
        print_json(row)
    else:
        print_line(f"{row.slug} is yours alone.")


@app.command()
def remove(context: typer.Context, slug: Slug, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove one of your templates. Workflows made of it stay."""
    from workstation_pipelines.db import workflow_templates

    with open_session(context) as session:
        with session.transaction() as connection:
            own = _own(session, connection, slug)
        confirm(f"Remove the template {own.slug}?", yes=yes)
        with session.transaction() as connection:
            workflow_templates.delete(connection, **session.owner, template_id=own.id)
    if as_json:
        print_json({"removed": own.id, "slug": own.slug})
    else:
        print_line(f"Removed the template {own.slug}.")


def _found(session: Session, connection: Connection, slug: str) -> Template:
    from workstation_pipelines.db import workflow_templates

    return workflow_templates.by_slug(connection, **session.owner, slug=slug)


def _own(session: Session, connection: Connection, slug: str) -> Template:
    """Raises NotFoundError, and InvalidRequestError for a template that is somebody else's."""
    found = _found(session, connection, slug)
    if not found.is_own:
        raise InvalidRequestError(f"the template {slug} is not yours: `workstation workflow templates list --own`")
    return found


def _whose(row: Template) -> str:
    if row.is_system:
        return "system"
    if row.is_own:
        return "yours, public" if row.is_public else "yours"
    return "public"
