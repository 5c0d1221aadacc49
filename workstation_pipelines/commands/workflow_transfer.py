"""`workstation workflow save|clone|export|import`: workflows into the database, within it, and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line
from workstation_pipelines.commands.workflow_input import read_json
from workstation_pipelines.errors import InvalidRequestError

if TYPE_CHECKING:
    from workstation_pipelines.workflows.saving import Envelope, Labels, Saved

_File = Annotated[str, typer.Argument(metavar="FILE", help="A JSON file, or - for stdin.")]
_NewSlug = Annotated[str | None, typer.Option(help="What commands call it from now on: a-z, 0-9 and hyphens.")]
_Name = Annotated[str | None, typer.Option(help="What people call it.")]


def save(
    context: typer.Context,
    file: _File,
    slug: _NewSlug = None,
    name: _Name = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    category: Annotated[str | None, typer.Option(help="What kind of workflow it is.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be given several times.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a definition and save it. A slug that is there gets a new version, unless nothing has changed.

    Without --slug it is the file's, or made from the file's name.
    """
    from workstation_pipelines.workflows.saving import Labels, read_envelope, slug_of

    envelope = read_envelope(read_json(file))
    wanted = slug or envelope.slug or slug_of(Path(file).stem)
    given = Labels(name, description, category, tag or None)
    _save(context, envelope, wanted, given, as_json=as_json)


def import_file(context: typer.Context, file: _File, slug: _NewSlug = None, as_json: AsJson = False) -> None:
    """Save what `workflow export` printed.

    Slug, name, description, category, tags and definition.
    """
    from workstation_pipelines.workflows.saving import Labels, read_envelope

    envelope = read_envelope(read_json(file))
    wanted = slug or envelope.slug
    if wanted is None:
        raise InvalidRequestError(f"{file} names no slug: add --slug, or save a bare definition by `workflow save`")
    _save(context, envelope, wanted, Labels(), as_json=as_json)


def export(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="The workflow's slug or id.")],
    version: Annotated[int | None, typer.Option(min=1, help="This version; without it, the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print a workflow as one JSON object, for `workflow import`."""
    from workstation_pipelines.db import workflows
    from workstation_pipelines.workflows.saving import envelope_of

    with open_session(context) as session, session.transaction() as connection:
        row = session.workflow(connection, slug)
        stored = workflows.version(connection, **session.owner, workflow_id=row.id, version=version)
    print_json(envelope_of(row, stored.definition))  # with --json or without


def clone(
    context: typer.Context,
    original: Annotated[str, typer.Argument(metavar="SLUG", help="The workflow to copy, by slug or id.")],
    slug: Annotated[str, typer.Option(help="The copy's slug.")],
    name: Annotated[str | None, typer.Option(help="The copy's name; the original's without it.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Copy this version; without it, the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a workflow. What was run of it, and its schedules, stay with the original."""
    from workstation_pipelines.db import workflows
    from workstation_pipelines.workflow_model import WorkflowId, WorkflowVersionId

    with open_session(context) as session, session.transaction() as connection:
        row = session.workflow(connection, original)
        copy = workflows.clone(
            connection,
            **session.owner,
            workflow_id=row.id,
            new_id=WorkflowId(session.workspace.new_id()),
            new_version_id=WorkflowVersionId(session.workspace.new_id()),
            slug=slug,
            name=name or row.name,
            version=version,
        )
    if as_json:
        print_json(copy)
    else:
        print_line(f"Copied {row.slug} to {copy.slug}.")


def _save(context: typer.Context, envelope: Envelope, slug: str, given: Labels, *, as_json: bool) -> None:
    from workstation_pipelines.workflows import saving
    from workstation_pipelines.workflows.problems import InvalidDefinitionError

    stored = envelope.labels
    labels = saving.Labels(
        name=given.name or stored.name,
        description=stored.description if given.description is None else given.description,
        category=stored.category if given.category is None else given.category,
        tags=stored.tags if given.tags is None else given.tags,
    )
    with open_session(context) as session, session.transaction() as connection:
        try:
            saved = saving.save(
                connection,
                **session.owner,
                slug=slug,
                document=envelope.definition,
                labels=labels,
                new_id=session.workspace.new_id,
            )
        except InvalidDefinitionError as invalid:
            if as_json:
                raise
            for problem in invalid.problems:
                print_line(str(problem))
            raise InvalidRequestError(f"{slug} was not saved: the lines above say where it is wrong") from None
    _print_saved(saved, as_json=as_json)


def _print_saved(saved: Saved, *, as_json: bool) -> None:
    if as_json:
        print_json(saved)
        return
    slug = saved.workflow.slug
    if not saved.is_new_version:
        print_line(f"{slug} is unchanged: version {saved.version}.")
        return
    print_line(f"Saved {slug}, version {saved.version}.")
    print_line(f"  workstation workflow run {slug} --plan")
