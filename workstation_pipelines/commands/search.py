"""`workstation search`: passages by words and meaning, with where each comes from."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.marks import EXCERPT_CHARACTERS, Marker, excerpt
from workstation_pipelines.commands.output import AsJson, print_json, print_line, safe, shown
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Scope, SourceType

if TYPE_CHECKING:
    from workstation_pipelines.index.search import Hit, SearchResult


class Mode(StrEnum):
    """The same as index/search.py has; repeated so that help need not load the search."""

    HYBRID = "hybrid"
    TEXT = "text"
    VECTOR = "vector"


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help='Words; "a phrase" must occur as it is, -word must not.')],
    project: Annotated[list[str] | None, typer.Option(help="Only in this project; repeat for more.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag; repeat for more.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only from this source; repeat for more.")] = None,
    source_type: Annotated[list[SourceType] | None, typer.Option(help="Only from sources of this type.")] = None,
    mime_type: Annotated[list[str] | None, typer.Option(help="Only of this type, such as application/pdf.")] = None,
    modified_from: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="Modified at or after: 2026-05-01, UTC.")
    ] = None,
    modified_before: Annotated[
        str | None, typer.Option("--before", metavar="DATE", help="Modified before: 2026-06-01, UTC.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 10,
    mode: Annotated[Mode, typer.Option(help="By words and meaning, or by one of the two.")] = Mode.HYBRID,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why a passage was found and how it came here.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Search your documents, best first."""
    from workstation_pipelines.index import search as index

    moments = _moment(modified_from, "--from"), _moment(modified_before, "--before")
    with open_session(context) as session:
        workspace = session.workspace
        scope = Scope(
            user_id=session.user_id,
            project_ids=_project_ids(session, project),
            tag_names=tag or None,
            source_types=source_type or None,
            data_source_ids=[session.source(name).id for name in source] if source else None,
            mime_types=mime_type or None,
            modified_from=moments[0],
            modified_before=moments[1],
        )
        result = index.search(
            workspace.database,
            workspace.embedder,
            workspace.index_config(session.user_id),
            query,
            scope,
            limit=limit,
            mode=mode.value,
            store=workspace.vector_store,
            embedder_of=workspace.embedder_of,
        )
    if as_json:
        print_json(_as_values(result, Marker(query)))
    else:
        _print_result(result, Marker(query), explain=explain)


def _project_ids(session: Session, names: list[str] | None) -> list[UUID] | None:
    from workstation_pipelines.db import library

    if not names:
        return None
    with session.transaction() as connection:
        return [library.project_id(connection, user_id=session.user_id, name=name) for name in names]


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequestError(f"{option} {text!r} is no date: write 2026-05-01 or 2026-05-01T09:30+02:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _as_values(result: SearchResult, marker: Marker) -> dict[str, Any]:
    return {
        "mode": result.mode,
        "notice": result.notice,
        "nothing_relevant": result.nothing_relevant,
        "hits": [{**_fields(hit), "marks": marker.marks(hit.text)} for hit in result.hits],
    }


def _fields(hit: Hit) -> dict[str, Any]:
    return {name: getattr(hit, name) for name in type(hit).__slots__}


def _print_result(result: SearchResult, marker: Marker, *, explain: bool) -> None:
    if result.notice:
        print_line(f"({result.notice})")
    if result.nothing_relevant:
        print_line("Nothing relevant found.")
    for number, hit in enumerate(result.hits, 1):
        print_hit(hit, marker, label=f"{number}. ")
        if explain:
            print_reasons(hit)
        print_line()


def print_hit(hit: Hit, marker: Marker, *, label: str, characters: int = EXCERPT_CHARACTERS) -> None:
    """Print where a passage stands, then the part of it that holds most of the query's words."""
    from rich.text import Text

    where = hit.external_path or hit.external_url or str(hit.document_id)
    head = Text(label)
    indent = " " * len(label)
    head.append(shown(hit.title), style="bold")
    head.append(f"  {shown(where)}  {hit.score:.2f}", style="dim")
    print_line(head)
    if hit.heading_path:
        print_line(Text(f"{indent}{shown(hit.heading_path)}", style="italic"))
    print_line(excerpt(safe(hit.text), marker, indent=indent, characters=characters))


def print_reasons(hit: Hit) -> None:
    """Print the two signals of a passage and its way here: chunk, document, item, sync job, Dagster run."""
    signals = [f"words {hit.bm25:.2f}" if hit.bm25 is not None else "words: no match"]
    signals.append(f"meaning {hit.cosine:.2f}" if hit.cosine is not None else "meaning: not asked")
    print_line(f"   why: {', '.join(signals)}; characters {hit.start_offset:,} to {hit.end_offset:,}")
    lineage = hit.lineage
    run = lineage.dagster_run_id or "none, it was synced from the shell"
    synced = f" at {shown(lineage.synced_at)}" if lineage.synced_at else ""
    print_line(f"   chunk {hit.id}")
    print_line(
        f"     <- document {hit.document_id} <- item {shown(lineage.external_id)} of {shown(hit.data_source_name)}"
    )
    print_line(f"     <- sync job {lineage.sync_job_id}{synced} <- Dagster run {run}")
