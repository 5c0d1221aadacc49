"""`workstation source configure`: change what a source takes, and say what the next sync makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line
from workstation_pipelines.errors import InvalidRequestError, ReauthorizeError
from workstation_pipelines.model import SourceType

if TYPE_CHECKING:
    from workstation_pipelines.db.data_sources import DataSource
    from workstation_pipelines.sources.contract import Account, Source


def configure(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The source, as `workstation source add` named it.")],
    config: Annotated[str, typer.Option(help="All of its settings from now on: a JSON object, or @FILE.")],
    as_json: AsJson = False,
) -> None:
    """Replace a source's settings. They are tried first; what is stored changes with the next sync.

    A source that is not connected just now is looked at when it is connected.
    """
    from workstation_pipelines.db import data_sources

    settings = decoded_config(config)
    with open_session(context) as session:
        source = session.source(name)
        opened = session.workspace.open_with(source, session.workspace.vault.provider(source), config=settings)
        lists_everything = source.synced_scope not in (None, opened.scope)
        account = _looked(opened)
        if account is not None:
            _refuse_elsewhere(source, account)
        with session.transaction() as connection:
            data_sources.set_config(connection, user_id=session.user_id, data_source_id=source.id, config=settings)
    if as_json:
        print_json(
            {
                "source": source.name,
                "config": settings,
                "account": account,
                "is_synced": source.synced_scope is not None,
                "lists_everything": lists_everything,
            }
        )
    else:
        _say(source, account, lists_everything=lists_everything)


def decoded_config(given: str) -> dict[str, Any]:
    """Read `--config`: a JSON object, or @FILE that holds one. Raises InvalidRequestError."""
    text = given
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"--config {given} cannot be read: {error}") from error
    try:
        decoded = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"--config is not JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise InvalidRequestError('--config must be a JSON object such as {"path": "/home/me/notes"}')
    return decoded


def look(opened: Source) -> Account:
    """Reach a source and close it. Raises ReauthorizeError, RetryableError, InvalidRequestError."""
    try:
        return opened.check()
    finally:
        opened.close()


def _looked(opened: Source) -> Account | None:
    # Connecting looks at the settings too: who could not mend them without an account would have no way out.
    try:
        return look(opened)
    except ReauthorizeError:
        return None


def _refuse_elsewhere(source: DataSource, account: Account) -> None:
    if source.external_account not in (None, account.external_account):
        raise InvalidRequestError(
            f"{source.name} is {source.external_account}, and these settings are for {account.external_account}:"
            f" nothing was changed. Add that one by itself: `workstation source add {source.source_type} NAME`"
        )


def _say(source: DataSource, account: Account | None, *, lists_everything: bool) -> None:
    if account is None:
        print_line(f"Configured {source.name}, which is not connected: only the form of the settings could be checked.")
    else:
        print_line(f"Configured {source.name}: {account.label}" + (f", {account.sample}" if account.sample else ""))
    if source.synced_scope is None:
        print_line("Nothing has been synced so far: the first sync takes what these settings choose.")
    elif lists_everything:
        print_line("The next sync lists everything: what is no longer chosen is deleted here, without asking again,")
        print_line(f"and what is chosen from now on is fetched. See it first: workstation sync {source.name} --plan")
    else:
        print_line("They choose what the former ones chose: the next sync goes on as before.")
    is_ready = account is not None or source.source_type is SourceType.LOCAL_FOLDER
    print_line(f"Next: workstation {'sync' if is_ready else 'source connect'} {source.name}")
