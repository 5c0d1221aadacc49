"""`workstation documents`: look at what is stored, group it, or put it away."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from workstation_pipelines.commands import tombstones
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import (
    AsJson,
    is_terminal,
    print_fields,
    print_json,
    print_line,
    print_table,
    safe,
    shown,
)
from workstation_pipelines.errors import InvalidRequestError

app = typer.Typer(help="Documents: list, show, tag, untag, assign; delete, restore and purge them.")
app.command()(tombstones.delete)
app.command()(tombstones.deleted)
app.command()(tombstones.restore)
app.command()(tombstones.purge)

Reference = Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, path, end of a path, title or URL.")]

_LISTED = (
    "id",
    "title",
    "external_id",
    "external_path",
    "external_url",
    "mime_type",
    "content_hash",
    "live_generation",
    "project_name",
    "tags",
    "sync_status",
    "data_source_name",
    "chunk_count",
    "size_bytes",
    "language",
    "source_modified_at",
    "created_at",
    "updated_at",
)
_RENAMED = {
    "live_generation": "generation",
    "project_name": "project",
    "sync_status": "status",
    "data_source_name": "source",
}
_COLUMNS = ("id", "title", "external_path", "mime_type", "generation", "status", "project", "tags")
_WIDE_COLUMNS = (*_COLUMNS, "external_id", "external_url", "content_hash")


@app.command("list")
def list_documents(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    project: Annotated[str | None, typer.Option(help="Only in this project.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Also external id, URL and content hash.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List documents by path."""
    from workstation_pipelines.db import library

    with open_session(context) as session:
        source_id = session.source(source).id if source is not None else None
        with session.transaction() as connection:
            rows = library.documents(
                connection,
                user_id=session.user_id,
                data_source_id=source_id,
                project_name=project,
                tag_name=tag,
                limit=limit,
                offset=offset,
            )
    listed = [_described(row) for row in rows]
    if as_json:
        print_json(listed)
        return
    columns = _WIDE_COLUMNS if wide else _COLUMNS
    print_table(
        [
            column.removeprefix("external_").replace("_", " ") if column != "external_id" else "external id"
            for column in columns
        ],
        [[document[column] for column in columns] for document in listed],
        empty="No documents here.",
    )
    if len(rows) == limit:
        print_line(f"There may be more: --offset {offset + limit} shows the next ones.")


@app.command()
def show(
    context: typer.Context,
    document: Reference,
    text: Annotated[bool, typer.Option("--text", help="Print the extracted text instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one document with its chunks."""
    from workstation_pipelines.db import library

    with open_session(context) as session, session.transaction() as connection:
        row = library.document(connection, user_id=session.user_id, reference=document)
        chunks = library.chunks_of(connection, user_id=session.user_id, document_id=row.id)
        body = library.text_of(connection, user_id=session.user_id, document_id=row.id) if text or as_json else ""
    if as_json:
        print_json({**_described(row), "text": body, "chunks": chunks})
    elif text:
        sys.stdout.write((safe(body) if is_terminal() else body) + "\n")
    else:
        print_fields({name.replace("_", " "): value for name, value in _described(row).items()})
        print_table(
            ["chunk", "characters", "tokens", "vector", "heading"],
            [
                (
                    chunk.ordinal,
                    f"{chunk.start_offset}-{chunk.end_offset}",
                    chunk.token_count,
                    chunk.has_vector,
                    chunk.heading_path,
                )
                for chunk in chunks
            ],
            empty="No chunks.",
        )


@app.command()
def tag(context: typer.Context, document: Reference, tags: list[str], as_json: AsJson = False) -> None:
    """Put tags on a document; new ones are made."""
    from workstation_pipelines.db import library

    with open_session(context) as session, session.transaction() as connection:
        row = library.document(connection, user_id=session.user_id, reference=document)
        for name in tags:
            tag_id = library.ensure_tag(connection, user_id=session.user_id, name=name, new_id=session.workspace.new_id)
            library.tag(connection, user_id=session.user_id, document_id=row.id, tag_id=tag_id)
        changed = library.document(connection, user_id=session.user_id, reference=str(row.id))
    _print_labels(changed, as_json=as_json)


@app.command()
def untag(context: typer.Context, document: Reference, tags: list[str], as_json: AsJson = False) -> None:
    """Take tags off a document."""
    from workstation_pipelines.db import library

    with open_session(context) as session, session.transaction() as connection:
        row = library.document(connection, user_id=session.user_id, reference=document)
        for name in tags:
            library.untag(connection, user_id=session.user_id, document_id=row.id, tag_name=name)
        changed = library.document(connection, user_id=session.user_id, reference=str(row.id))
    _print_labels(changed, as_json=as_json)


@app.command()
def assign(
    context: typer.Context,
    document: Reference,
    project: Annotated[str | None, typer.Argument(help="A new one is made.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Take it out of its project.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a document into a project."""
    from workstation_pipelines.db import library

    if (project is None) != none:
        raise InvalidRequestError("name a project, or give --none")
    with open_session(context) as session, session.transaction() as connection:
        row = library.document(connection, user_id=session.user_id, reference=document)
        project_id = None
        if project is not None:
            project_id = library.ensure_project(
                connection, user_id=session.user_id, name=project, new_id=session.workspace.new_id
            )
        library.assign(connection, user_id=session.user_id, document_id=row.id, project=project_id)
        changed = library.document(connection, user_id=session.user_id, reference=str(row.id))
    _print_labels(changed, as_json=as_json)


def _described(row: Any) -> dict[str, Any]:
    return {_RENAMED.get(name, name): getattr(row, name) for name in _LISTED}


def _print_labels(row: Any, *, as_json: bool) -> None:
    tags: Sequence[str] = row.tags
    if as_json:
        print_json({"id": row.id, "title": row.title, "project": row.project_name, "tags": tags})
    else:
        print_line(
            f"{shown(row.title)}: project {shown(row.project_name) or 'none'}; tags {shown(list(tags)) or 'none'}"
        )
