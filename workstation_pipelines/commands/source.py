"""`workstation source`: what is connected."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, Yes, print_fields, print_json, print_line, print_table
from workstation_pipelines.commands.questions import confirm
from workstation_pipelines.commands.source_configure import configure, decoded_config, look
from workstation_pipelines.commands.source_connect import connect, exit_if_missing, print_account
from workstation_pipelines.commands.source_objective import objective
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import DataSourceId, SourceType
from workstation_pipelines.sources import SOURCES

if TYPE_CHECKING:
    from workstation_pipelines.db.data_sources import DataSource
    from workstation_pipelines.sources.contract import Account

app = typer.Typer(help="Data sources: add, connect, configure, list, show, check, schedule, remove.")


class Frequency(StrEnum):
    MANUAL = "manual"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"


@app.command()
def add(
    context: typer.Context,
    source_type: Annotated[str, typer.Argument(metavar="TYPE", help=f"One of: {', '.join(sorted(SOURCES))}.")],
    name: Annotated[str, typer.Argument(help="What to call it from now on.")],
    path: Annotated[Path | None, typer.Option(help="The folder, for local_folder.")] = None,
    config: Annotated[str | None, typer.Option(help="The source's settings: a JSON object, or @FILE.")] = None,
    project: Annotated[str | None, typer.Option(help="Put new documents into this project.")] = None,
    every: Annotated[Frequency, typer.Option(help="Sync also by the clock, while Dagster runs.")] = Frequency.MANUAL,
    as_json: AsJson = False,
) -> None:
    """Add a source. A folder is looked at first; an account is connected next. Nothing is synced yet."""
    kind = _known_type(source_type)
    settings = _config(kind, path, config)
    with open_session(context) as session:
        opened = session.workspace.open_config(kind, settings)
        account = look(opened) if kind is SourceType.LOCAL_FOLDER else None
        opened.close()
        added = _insert(session, kind, name, settings, project, every, account)
        is_registered = _register(session, added)
    if as_json:
        print_json({**_described(added), "account": account, "is_registered_with_dagster": is_registered})
        return
    print_line(f"Added {added.name}: {account.label}" if account else f"Added {added.name}")
    if not is_registered:
        print_line("Dagster could not be told just now; its sensor finds the source by itself later.")
    print_line(f"Next: workstation {'sync' if account else 'source connect'} {added.name}")


app.command()(connect)
app.command()(configure)
app.command()(objective)


@app.command("list")
def list_sources(context: typer.Context, as_json: AsJson = False) -> None:
    """List your sources."""
    from workstation_pipelines.db import data_sources

    with open_session(context) as session, session.transaction() as connection:
        rows = data_sources.summaries(connection, user_id=session.user_id)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["source", "type", "status", "every", "items", "open failures", "last sync", "ended"],
        [
            (
                row.name,
                row.source_type,
                "connect again" if row.needs_reauth else row.connection_status,
                row.sync_frequency,
                row.live_items,
                row.open_failures,
                row.last_sync_at,
                row.last_sync_status,
            )
            for row in rows
        ],
        empty="No sources yet: `workstation source add local_folder NAME --path FOLDER` adds one.",
    )


@app.command()
def show(context: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Show one source with its settings."""
    with open_session(context) as session:
        source = session.source(name)
    if as_json:
        print_json(_described(source))
        return
    fields = _described(source)
    print_fields({**fields, "config": json.dumps(fields["config"], ensure_ascii=False)})


@app.command("check")
def check_source(context: typer.Context, name: str, as_json: AsJson = False) -> None:
    """Reach a source: account, permissions, one listing call.

    Nothing is fetched or stored. Exit code 1 when permissions are missing.
    """
    with open_session(context) as session:
        source = session.source(name)
        account = look(session.workspace.open_source(source))
    if as_json:
        print_json(account)
    else:
        print_account(source.name, account)
    exit_if_missing(account)


@app.command()
def schedule(
    context: typer.Context,
    name: str,
    every: Frequency,
    timezone: Annotated[str, typer.Option(help="An IANA name; daily and weekly keep its time of day.")] = "UTC",
    as_json: AsJson = False,
) -> None:
    """Say how often a source is synced. The first sync is due at once, if Dagster runs."""
    from workstation_pipelines.db import schedules
    from workstation_pipelines.sync.schedule import known_zone

    zone = known_zone(timezone).key
    with open_session(context) as session:
        source = session.source(name)
        with session.transaction() as connection:
            schedules.set_frequency(
                connection,
                user_id=session.user_id,
                data_source_id=source.id,
                sync_frequency=every.value,
                timezone=zone,
            )
            rows = schedules.of_user(connection, user_id=session.user_id, data_source_id=source.id)
    if as_json:
        print_json({"name": source.name, "sync_frequency": every, "schedules": rows})
    elif every is Frequency.MANUAL:
        print_line(
            f"{source.name} is not synced by the clock; while `workstation dev` runs, changes are noticed anyway."
        )
    else:
        print_line(f"{source.name} is synced {every} from now on, while `workstation dev` runs.")


@app.command()
def remove(context: typer.Context, name: str, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a source and erase here all that came from it. What lies at the source is not touched.

    What was erased is counted before and after, and certified in the audit log; exit code 1 if anything is left.
    """
    from workstation_pipelines.db import data_sources

    with open_session(context) as session:
        source = session.source(name)
        with session.transaction() as connection:
            rows = data_sources.summaries(connection, user_id=session.user_id)
        documents = next(row.live_items for row in rows if row.id == source.id)
        confirm(f"Remove {source.name} with its {documents:,} documents and its history?", yes=yes)
        certificate = session.workspace.erase(source)
        _forget(session, source)
    if as_json:
        print_json({"removed": source.id, "name": source.name, "documents": documents, "certificate": certificate})
    else:
        print_line(
            f"Removed {source.name}: {sum(certificate.before.values()):,} rows of {documents:,} documents, none of them"
            f" left. `workstation audit show {certificate.number}` is the certificate. What lies at the source is untouched."
            if certificate.is_complete
            else f"Removed {source.name}, but not all: `workstation audit show {certificate.number}` says what is left."
        )
    if not certificate.is_complete:
        raise typer.Exit(ExitCode.FAILED)


def _known_type(text: str) -> SourceType:
    if text not in SOURCES:
        raise InvalidRequestError(f"no source type {text!r} here: choose one of {', '.join(sorted(SOURCES))}")
    return SourceType(text)


def _config(kind: SourceType, path: Path | None, config: str | None) -> dict[str, Any]:
    if kind is not SourceType.LOCAL_FOLDER:
        if path is not None:
            raise InvalidRequestError(
                f"--path is for local_folder: {kind} takes --config JSON, or nothing for everything"
            )
        config = "{}" if config is None else config
    elif (path is None) == (config is None):
        raise InvalidRequestError("give either --path FOLDER or --config JSON")
    if path is not None:
        return {"path": str(path.expanduser().absolute())}
    return decoded_config(config or "")


def _insert(
    session: Session,
    source_type: SourceType,
    name: str,
    config: Mapping[str, Any],
    project: str | None,
    every: Frequency,
    account: Account | None,
) -> DataSource:
    from workstation_pipelines.db import data_sources, library

    new_id = session.workspace.new_id
    if not 0 < len(name) <= 200 or name != name.strip():
        raise InvalidRequestError("a source's name has 1 to 200 characters and no blanks at its ends")
    with session.transaction() as connection:
        project_id = None
        if project is not None:
            project_id = library.ensure_project(connection, user_id=session.user_id, name=project, new_id=new_id)
        added = data_sources.add(
            connection,
            user_id=session.user_id,
            data_source_id=DataSourceId(new_id()),
            name=name,
            source_type=source_type,
            config=config,
            external_account=account.external_account if account else None,
            sync_frequency=every.value,
            project_id=project_id,
        )
        if account is None:
            data_sources.set_status(
                connection,
                user_id=session.user_id,
                data_source_id=added.id,
                connection_status="disconnected",
                message="not connected to an account yet",
            )
        return data_sources.get(connection, user_id=session.user_id, data_source_id=added.id)


def _register(session: Session, source: DataSource) -> bool:
    from workstation_pipelines.defs import dev

    with _no_warnings():
        return dev.register(session.workspace.settings, source.source_type, source.id)


def _forget(session: Session, source: DataSource) -> None:
    from workstation_pipelines.defs import dev

    with _no_warnings():
        dev.forget(session.workspace.settings, source.source_type, source.id)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep Dagster's lines about each attempt to connect off stderr: what came of them is said once."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _described(source: DataSource) -> dict[str, Any]:
    names = (
        "id name source_type connection_status status_message config external_account project_id sync_frequency"
        " is_active needs_reauth total_items_synced last_sync_at last_sync_status created_at"
    )
    return {name: getattr(source, name) for name in names.split()}
