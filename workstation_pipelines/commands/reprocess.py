"""`workstation reprocess`: cut and embed documents under other settings, from what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table
from workstation_pipelines.errors import InvalidRequestError

if TYPE_CHECKING:
    from workstation_pipelines.db.index_settings import Selection
    from workstation_pipelines.model import IndexConfig, ProcessingJobId
    from workstation_pipelines.sync.processing import ProcessingResult

app = typer.Typer(help="Documents under other settings: run, status.")

Source = Annotated[str | None, typer.Option(help="All documents of this source, and what it will get.")]
Project = Annotated[str | None, typer.Option(help="All documents of this project, and what it will get.")]
ChunkTokens = Annotated[int | None, typer.Option(min=16, max=8192, help="The most tokens in a chunk.")]
OverlapTokens = Annotated[int | None, typer.Option(min=0, help="Tokens that a chunk repeats of the one before it.")]
EmbedderName = Annotated[str | None, typer.Option("--embedder", help="minilm, openai or hashing.")]
Model = Annotated[str | None, typer.Option(help="The model of an `openai` embedder.")]
Dimensions = Annotated[int | None, typer.Option(min=1, max=4000, help="Length of its vectors.")]


@app.command("run")
def run(
    context: typer.Context,
    document: Annotated[
        list[str] | None, typer.Option(help="This document: id, path, title or URL; repeat for more.")
    ] = None,
    source: Source = None,
    project: Project = None,
    tag: Annotated[str | None, typer.Option(help="All documents with this tag.")] = None,
    chunk_tokens: ChunkTokens = None,
    overlap_tokens: OverlapTokens = None,
    embedder: EmbedderName = None,
    model: Model = None,
    dimensions: Dimensions = None,
    as_configured: Annotated[
        bool, typer.Option("--as-configured", help="Take an earlier choice back: what wider scopes say holds again.")
    ] = False,
    extraction: Annotated[
        bool, typer.Option("--extraction", help="Let the next full sync fetch and extract them again instead.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what it would do and cost.")] = False,
    background: Annotated[bool, typer.Option("--background", help="Leave it to Dagster's sensor.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a selection of documents to other settings.

    Searches go on meanwhile; nothing is fetched.
    """
    from workstation_pipelines.sync import reprocess

    with open_session(context) as session:
        selection = _selection(session, document, source, project, tag)
        if extraction:
            _print_extraction(session, selection, plan=plan, as_json=as_json)
            return
        wanted = (
            None if as_configured else chosen_config(session, chunk_tokens, overlap_tokens, embedder, model, dimensions)
        )
        if plan:
            _print_plan(session, selection, wanted, as_json=as_json)
            return
        job_id = reprocess.choose(
            session.workspace.database,
            session.workspace.vectorizer(session.user_id),
            user_id=session.user_id,
            selection=selection,
            index_config_id=wanted.id if wanted else None,
            new_id=session.workspace.new_id,
        )
        if background:
            _print_background(job_id, as_json=as_json)
            return
        result, counts = _worked(session, job_id)
    _print_result(result, counts, as_json=as_json)
    raise typer.Exit(ExitCode.OK if result.status == "completed" else ExitCode.FAILED)


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Say which documents are still on old settings.

    On others than those chosen for them.
    """
    from workstation_pipelines.db import index_settings

    with open_session(context) as session:
        default = session.workspace.index_config(session.user_id)
        with session.transaction() as connection:
            found = index_settings.standings(connection, user_id=session.user_id, default=default.id)
            ids = {each.wanted_index_config_id for each in found}
            ids |= {each.index_config_id for each in found if each.index_config_id}
            configs = {
                each: index_settings.config(connection, user_id=session.user_id, index_config_id=each) for each in ids
            }
    rows = [
        (
            each.documents,
            described(configs[each.index_config_id]) if each.index_config_id else "none",
            described(configs[each.wanted_index_config_id]),
            each.wanted_by,
        )
        for each in found
    ]
    columns = ["documents", "are on", "wanted", "chosen by"]
    if as_json:
        print_json([dict(zip(("documents", "config", "wanted", "wanted_by"), row, strict=True)) for row in rows])
    else:
        print_table(columns, rows, empty="Every document is on the settings chosen for it.")


def described(config: IndexConfig) -> str:
    overlap = f" overlapping by {config.overlap_tokens}" if config.overlap_tokens else ""
    return f"{config.embedder}/{config.model} in {config.chunk_tokens} tokens{overlap}"


def chosen_config(
    session: Session,
    chunk_tokens: int | None,
    overlap_tokens: int | None,
    embedder: str | None,
    model: str | None,
    dimensions: int | None,
) -> IndexConfig:
    """Return the config of these choices; what is not given is as configured. Raises InvalidRequestError."""
    given = (chunk_tokens, overlap_tokens, embedder, model, dimensions)
    if all(each is None for each in given):
        raise InvalidRequestError("say what is to change: --chunk-tokens, --overlap-tokens, --embedder or --model")
    return session.workspace.chosen_config(
        session.user_id,
        chunk_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
        embedder=embedder,
        model=model,
        dimensions=dimensions,
    )


def _selection(
    session: Session, document: list[str] | None, source: str | None, project: str | None, tag: str | None
) -> Selection:
    from workstation_pipelines.db import library
    from workstation_pipelines.db.index_settings import Selection

    if sum(each is not None for each in (document or None, source, project, tag)) != 1:
        raise InvalidRequestError("select documents by exactly one of --document, --source, --project and --tag")
    user_id = session.user_id
    with session.transaction() as connection:
        if document:
            rows = [library.document(connection, user_id=user_id, reference=each) for each in document]
            return Selection(document_ids=[row.id for row in rows])
        if project is not None:
            return Selection(project_id=library.project_id(connection, user_id=user_id, name=project))
        if tag is not None:
            return Selection(tag_id=library.tag_id(connection, user_id=user_id, name=tag))
    return Selection(data_source_id=session.source(source or "").id)


def _worked(session: Session, job_id: ProcessingJobId) -> tuple[ProcessingResult, dict[str, int]]:
    counts = dict.fromkeys(("done", "skipped", "embedded", "reused", "tokens"), 0)
    working = session.workspace.reprocess(user_id=session.user_id, job_id=job_id)
    while True:
        try:
            step = next(working)
        except StopIteration as end:
            return end.value, counts
        for name in counts:
            counts[name] += getattr(step, name)


def _print_plan(session: Session, selection: Selection, wanted: IndexConfig | None, *, as_json: bool) -> None:
    from workstation_pipelines.sync import reprocess_plan

    planned = reprocess_plan.plan(
        session.workspace.database,
        session.workspace.vectorizer(session.user_id),
        user_id=session.user_id,
        selection=selection,
        index_config_id=wanted.id if wanted else None,
    )
    if as_json:
        print_json(planned)
        return
    price = "of unknown price" if planned.cost_usd is None else f"{planned.cost_usd:.4f} USD"
    print_line(
        f"{planned.documents:,} documents, of which {planned.unchanged:,} need nothing: {planned.chunks:,} chunks,"
        f" {planned.reused:,} of them embedded before, {planned.tokens:,} tokens to embed, {price}; nothing is fetched"
    )


def _print_extraction(session: Session, selection: Selection, *, plan: bool, as_json: bool) -> None:
    from workstation_pipelines.db import index_settings
    from workstation_pipelines.sync import reprocess

    database, user_id = session.workspace.database, session.user_id
    if plan:
        with session.transaction() as connection:
            count = len(index_settings.selected(connection, user_id=user_id, selection=selection))
    else:
        count = reprocess.fetch_again(database, user_id=user_id, selection=selection)
    if as_json:
        print_json({"items_to_fetch_again": count})
    else:
        print_line(
            f"{count:,} items: their bytes are not kept, so the next full sync fetches and extracts them again"
            " (`workstation sync SOURCE --job-type full_sync`); until then the stored texts stay in use"
        )


def _print_background(job_id: ProcessingJobId, *, as_json: bool) -> None:
    if as_json:
        print_json({"job_id": job_id, "status": "pending"})
    else:
        print_line(
            f"Job {job_id} waits for Dagster's sensor: `workstation dev` runs it, `reprocess status` tells the rest"
        )


def _print_result(result: ProcessingResult, counts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"job_id": result.job_id, "status": result.status, "message": result.message, **counts})
        return
    print_line(
        f"{result.status}: {counts['done']:,} documents reprocessed, {counts['skipped']:,} needed nothing;"
        f" {counts['embedded']:,} chunks embedded ({counts['tokens']:,} tokens), {counts['reused']:,} reused"
    )
    if result.message:
        print_line(result.message)
