"""`workstation build` and `workstation question`: a second index of a project, compared with the live one by questions."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table, shown
from workstation_pipelines.commands.reprocess import (
    ChunkTokens,
    Dimensions,
    EmbedderName,
    Model,
    OverlapTokens,
    chosen_config,
)

builds_app = typer.Typer(help="A second index of a project: start, list, compare, switch, rollback, drop.")
questions_app = typer.Typer(help="Questions to compare indexes by: add, list, remove.")

BuildId = Annotated[UUID, typer.Argument(metavar="BUILD", help="Its id, as `build list` shows it.")]
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="Its name.")]


@builds_app.command()
def start(
    context: typer.Context,
    project: Project,
    chunk_tokens: ChunkTokens = None,
    overlap_tokens: OverlapTokens = None,
    embedder: EmbedderName = None,
    model: Model = None,
    dimensions: Dimensions = None,
    as_json: AsJson = False,
) -> None:
    """Build a project's index anew, beside the live one.

    Or go on with the build that was begun.
    """
    from workstation_pipelines.db import index_builds
    from workstation_pipelines.sync import builds
    from workstation_pipelines.sync.index import Reworked

    with open_session(context) as session:
        workspace, user_id = session.workspace, session.user_id
        wanted = chosen_config(session, chunk_tokens, overlap_tokens, embedder, model, dimensions)
        project_id = _project_id(session, project)
        with session.transaction() as connection:
            build = index_builds.begun(
                connection, user_id=user_id, project_id=project_id, index_config_id=wanted.id
            ) or index_builds.begin(
                connection,
                user_id=user_id,
                build_id=workspace.new_id(),
                project_id=project_id,
                index_config_id=wanted.id,
            )
        total = Reworked()
        for done in builds.grow(workspace.database, workspace.vectorizer(user_id), user_id=user_id, build_id=build.id):
            total = total.plus(done)
    if as_json:
        print_json({"build_id": build.id, "built": total})
        return
    print_line(
        f"Build {build.id} is ready: {total.documents:,} documents in {total.chunks:,} chunks,"
        f" {total.tokens:,} tokens embedded. `workstation build compare` and `build switch` are next."
    )


@builds_app.command("list")
def list_builds(context: typer.Context, as_json: AsJson = False) -> None:
    """List builds, newest first."""
    from workstation_pipelines.db import index_builds

    with open_session(context) as session, session.transaction() as connection:
        rows = index_builds.recent(connection, user_id=session.user_id)
    if as_json:
        print_json([dict(row._mapping) for row in rows])
        return
    print_table(
        ["id", "project", "status", "settings", "documents kept", "tokens", "switched"],
        [
            (
                row.id,
                row.project,
                row.status,
                f"{row.embedder}/{row.model} in {row.chunk_tokens} tokens",
                row.documents,
                row.embedding_tokens,
                row.switched_at,
            )
            for row in rows
        ],
        empty="No builds: `workstation build start PROJECT --chunk-tokens 128` begins one.",
    )


@builds_app.command()
def compare(context: typer.Context, build: BuildId, as_json: AsJson = False) -> None:
    """Ask saved questions on both indexes.

    On the live one and on the build; shows recall, overlap and cost.
    """
    from workstation_pipelines.sync import compare as comparing

    with open_session(context) as session:
        workspace = session.workspace
        found = comparing.compare(
            workspace.database,
            workspace.vectorizer(session.user_id),
            workspace.embedder,
            workspace.embedder_of,
            user_id=session.user_id,
            build_id=build,
        )
    if as_json:
        print_json(found)
        return
    print_table(
        ["question", "recall@10 live", "recall@10 build", "overlap"],
        [
            (each.question, _share(each.live_recall), _share(each.build_recall), _share(each.overlap))
            for each in found.answers
        ],
        empty="",
    )
    price = "of unknown price" if found.cost_usd is None else f"{found.cost_usd:.4f} USD"
    print_line(
        f"recall@10 {_share(found.live_recall)} live, {_share(found.build_recall)} build; overlap {_share(found.overlap)};"
        f" {found.embedding_tokens:,} tokens embedded, {price}; {found.live_bytes:,} bytes live, {found.build_bytes:,} build"
    )


@builds_app.command()
def switch(context: typer.Context, build: BuildId, as_json: AsJson = False) -> None:
    """Make a build live in one step.

    What changed since is built first. The way back is kept for seven days.
    """
    from workstation_pipelines.sync import builds

    with open_session(context) as session:
        workspace = session.workspace
        done = builds.switch(
            workspace.database,
            workspace.vectorizer(session.user_id),
            user_id=session.user_id,
            build_id=build,
            new_id=workspace.new_id,
        )
    if as_json:
        print_json(done)
    else:
        print_line(
            f"{done.flipped:,} documents switched at once, {done.reworked:,} brought along;"
            f" `workstation build rollback {build}` goes back"
        )


@builds_app.command()
def rollback(context: typer.Context, build: BuildId, as_json: AsJson = False) -> None:
    """Undo a switch. Documents that changed since keep their text; the build can be switched to again."""
    from workstation_pipelines.sync import builds

    with open_session(context) as session:
        workspace = session.workspace
        done = builds.roll_back(
            workspace.database,
            workspace.vectorizer(session.user_id),
            user_id=session.user_id,
            build_id=build,
            new_id=workspace.new_id,
        )
    if as_json:
        print_json(done)
    else:
        print_line(f"{done.flipped:,} documents are as before, {done.reworked:,} that changed since were cut as before")


@builds_app.command()
def drop(context: typer.Context, build: BuildId, as_json: AsJson = False) -> None:
    """Give a build up: its spare chunks go, what is live stays."""
    from workstation_pipelines.sync import builds

    with open_session(context) as session:
        count = builds.drop(session.workspace.database, user_id=session.user_id, build_id=build)
    if as_json:
        print_json({"documents_released": count})
    else:
        print_line(f"Dropped; the spare chunks of {count:,} documents are gone.")


@questions_app.command("add")
def add_question(
    context: typer.Context,
    project: Project,
    question: Annotated[str, typer.Argument(help="As somebody would ask it.")],
    expect: Annotated[
        list[str] | None, typer.Option(help="A document that answers it: id, path, title or URL; repeat for more.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep a question to compare indexes by."""
    from workstation_pipelines.db import library, saved_questions

    with open_session(context) as session:
        project_id = _project_id(session, project)
        with session.transaction() as connection:
            expected = [
                library.document(connection, user_id=session.user_id, reference=each).id for each in expect or ()
            ]
            question_id = saved_questions.add(
                connection,
                user_id=session.user_id,
                question_id=session.workspace.new_id(),
                project_id=project_id,
                question=question,
                expected_document_ids=expected,
            )
    if as_json:
        print_json({"id": question_id, "expected_document_ids": expected})
    else:
        print_line(f"Kept as {question_id}, with {len(expected):,} documents expected.")


@questions_app.command("list")
def list_questions(
    context: typer.Context,
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    as_json: AsJson = False,
) -> None:
    """List saved questions."""
    from workstation_pipelines.db import saved_questions

    with open_session(context) as session:
        project_id = _project_id(session, project) if project is not None else None
        with session.transaction() as connection:
            found = saved_questions.of_project(connection, user_id=session.user_id, project_id=project_id)
    if as_json:
        print_json(found)
    else:
        print_table(
            ["id", "project", "question", "documents expected"],
            [(each.id, each.project, shown(each.question), len(each.expected_document_ids)) for each in found],
            empty="No saved questions.",
        )


@questions_app.command("remove")
def remove_question(
    context: typer.Context,
    question: Annotated[UUID, typer.Argument(metavar="QUESTION", help="Its id.")],
    as_json: AsJson = False,
) -> None:
    """Forget a question."""
    from workstation_pipelines.db import saved_questions

    with open_session(context) as session, session.transaction() as connection:
        saved_questions.remove(connection, user_id=session.user_id, question_id=question)
    if as_json:
        print_json({"removed": question})
    else:
        print_line("Removed.")


def _project_id(session: Session, name: str) -> UUID:
    from workstation_pipelines.db import library

    with session.transaction() as connection:
        return library.project_id(connection, user_id=session.user_id, name=name)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
