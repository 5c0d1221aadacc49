"""`workstation index`: where vectors are searched, and an index outside the database."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, Yes, print_fields, print_json, print_line
from workstation_pipelines.commands.questions import confirm
from workstation_pipelines.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workstation_pipelines.db.index_namespaces import IndexNamespace
    from workstation_pipelines.sync.index_repair import IndexReport
    from workstation_pipelines.sync.outbox import ExternalIndex

app = typer.Typer(help="Where vectors are searched: in the database, or at Pinecone.", no_args_is_help=True)


class Target(StrEnum):
    PGVECTOR = "pgvector"
    PINECONE = "pinecone"


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show where vectors are searched.

    And how far an index outside the database is behind.
    """
    from workstation_pipelines.db import index_namespaces, index_outbox

    with open_session(context) as session:
        searched = session.workspace.settings.index.value
        with session.transaction() as connection:
            namespaces = index_namespaces.all_of(connection, user_id=session.user_id)
            found = [(each, index_outbox.backlog(connection, each)) for each in namespaces]
    if as_json:
        print_json({"searched": searched, "namespaces": [{**_shown(each), "backlog": of} for each, of in found]})
        return
    print_line(f"vectors are searched in {searched}")
    for namespace, backlog in found:
        print_line()
        print_fields(
            {
                **_shown(namespace),
                "documents waiting": backlog.waiting,
                "of those failing": backlog.failing,
                "sent, not visible": backlog.unseen,
                "oldest since": backlog.oldest_at,
                "last error": backlog.last_error,
            }
        )


@app.command()
def copy(
    context: typer.Context,
    to: Annotated[Target, typer.Option("--to", help="Where the vectors are to be searched from now on.")],
    as_json: AsJson = False,
) -> None:
    """Bring an index up to date before it is searched. Goes on where it stopped; syncs may run meanwhile.

    Vectors are kept in the database in any case, so nothing is embedded again, and going back to pgvector copies nothing.
    """
    from workstation_pipelines.sync.outbox import Drained, drain, open_namespace

    with open_session(context) as session:
        if to is Target.PGVECTOR:
            _say_what_to_set(to, Drained(), as_json=as_json)
            return
        index = _external_index(session)
        dimensions = session.workspace.index_config(session.user_id).dimensions
        namespace = open_namespace(index, user_id=session.user_id, dimensions=dimensions)
        _hurry(session, namespace)
        total = Drained()
        for done in drain(index, namespace):
            total = total.plus(done)
            if not as_json:
                print_line(f"{total.documents:,} documents, {total.vectors_written:,} vectors copied")
    _say_what_to_set(to, total, as_json=as_json)
    raise typer.Exit(ExitCode.UNAVAILABLE if total.error else ExitCode.OK)


@app.command()
def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Compare vectors outside the database with the passages.

    Exit 1 if they do not fit.
    """
    from workstation_pipelines.sync.agreement import check_outside

    with open_session(context) as session:
        _external_index(session)
        reports = check_outside(session.workspace, user_id=session.user_id)
    if as_json:
        print_json({"is_clean": all(report.is_clean for report in reports), "indexes": reports})
    else:
        print_reports(reports)
        if not reports:
            print_line("there is no index outside the database")
    raise typer.Exit(ExitCode.OK if all(report.is_clean for report in reports) else ExitCode.FAILED)


@app.command()
def create(context: typer.Context, as_json: AsJson = False) -> None:
    """Make the index at Pinecone if it is not there.

    The first sync does the same.
    """
    from workstation_pipelines.index.pinecone_store import index_name

    with open_session(context) as session:
        index = _external_index(session)
        dimensions = session.workspace.index_config(session.user_id).dimensions
        name = index_name(index.prefix, dimensions)
        host = index.client.ensure_index(name, dimensions=dimensions)
    if as_json:
        print_json({"index": name, "dimensions": dimensions, "host": host})
    else:
        print_line(f"{name}, {dimensions:,} dimensions, is served at {host}")


@app.command()
def drop(context: typer.Context, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete your vectors from the index outside the database. Those in the database stay."""
    from workstation_pipelines.settings import IndexStore
    from workstation_pipelines.sync.outbox import drop as drop_namespace

    with open_session(context) as session:
        if session.workspace.settings.index is IndexStore.PINECONE:
            raise InvalidRequestError(
                "WORKSTATION_INDEX is pinecone, so the next sync would copy everything again: set it to pgvector first"
            )
        index = _external_index(session)
        namespaces = _namespaces(session)
        confirm(f"delete the vectors of {session.user_id} from {len(namespaces)} indexes at Pinecone?", yes=yes)
        for namespace in namespaces:
            drop_namespace(index, namespace)
    if as_json:
        print_json({"dropped": [namespace.index_name for namespace in namespaces]})
    else:
        print_line(f"{len(namespaces)} namespaces dropped; the vectors in the database stay")


def print_reports(reports: Sequence[IndexReport]) -> None:
    for report in reports:
        print_line(
            f"{'clean' if report.is_clean else 'NOT CLEAN'}: {report.index_name} at Pinecone holds {report.found:,} vectors of"
            f" {report.expected:,}: {report.missing:,} missing, {report.extra:,} too many, {len(report.wrong):,} of"
            f" {report.checked:,} with wrong metadata, {report.waiting:,} documents waiting to be sent"
        )


def _external_index(session: Session) -> ExternalIndex:
    index = session.workspace.external_index
    if index is None:
        raise InvalidRequestError("PINECONE_API_KEY is not set: there is no Pinecone to speak to")
    return index


def _namespaces(session: Session) -> list[IndexNamespace]:
    from workstation_pipelines.db import index_namespaces

    with session.transaction() as connection:
        return index_namespaces.all_of(connection, user_id=session.user_id)


def _hurry(session: Session, namespace: IndexNamespace) -> None:
    from workstation_pipelines.db import index_outbox

    with session.transaction() as connection:
        index_outbox.hurry(connection, namespace)


def _shown(namespace: IndexNamespace) -> dict[str, Any]:
    return {
        "index": namespace.index_name,
        "namespace": namespace.name,
        "dimensions": namespace.dimensions,
        "status": namespace.status.value,
        "host": namespace.host,
    }


def _say_what_to_set(to: Target, total: Any, *, as_json: bool) -> None:
    if as_json:
        print_json({"to": to.value, "copied": total})
        return
    if total.error:
        print_line(f"not everything is there yet: {total.error}; the same command goes on")
        return
    print_line(f"everything is in {to.value}: WORKSTATION_INDEX={to.value} lets it be searched")
