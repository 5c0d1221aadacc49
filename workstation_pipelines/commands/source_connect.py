"""`workstation source connect`: give a source its account, by a consent in the browser or with credentials at hand."""

from __future__ import annotations

import getpass
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line
from workstation_pipelines.errors import InvalidRequestError

if TYPE_CHECKING:
    from workstation_pipelines.db.data_sources import DataSource
    from workstation_pipelines.sources.contract import Account
    from workstation_pipelines.sync.credentials import Credentials

_MOST_TOKEN_CHARACTERS = 16_384


class Mode(StrEnum):
    PROXY = "proxy"
    TOKEN = "token"  # noqa: S105 - a mode


def connect(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The source, as `workstation source add` named it.")],
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address instead of opening it.")] = False,
    port: Annotated[int, typer.Option(help="Where the answer comes back; 0 is any free port.", min=0, max=65535)] = 0,
    redirect_url: Annotated[
        str | None, typer.Option(help="The address registered at the vendor, where it leads to --port by other ways.")
    ] = None,
    timeout: Annotated[int, typer.Option(help="Seconds to wait for the consent.", min=1)] = 300,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read a lasting token, as of an internal integration, from stdin.")
    ] = False,
    composio: Annotated[str | None, typer.Option(help="Use this connected account at Composio.")] = None,
    composio_mode: Annotated[Mode, typer.Option(help="Call through Composio, or fetch its token.")] = Mode.PROXY,
    confirm_account: Annotated[
        bool, typer.Option("--confirm-account", help="Accept another account than before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Connect a source to its account, or connect it again. What it has synced stays.

    Exit code 1 when permissions are missing.
    """
    from workstation_pipelines.sync import connect as connecting
    from workstation_pipelines.sync.credentials import grant_of

    if token_stdin and composio:
        raise InvalidRequestError("give either --token-stdin or --composio, not both")
    with open_session(context) as session:
        source = session.source(name)
        grant_of(source.source_type)  # a folder is refused before anyone is asked for anything
        if composio:
            credentials = _at_composio(composio, composio_mode)
        elif token_stdin:
            credentials = _from_stdin()
        else:
            credentials = _by_consent(session, source, no_browser, port, redirect_url, timeout)
        account = connecting.connect(session.workspace, source, credentials, confirm_account=confirm_account)
    if as_json:
        print_json({"source": source.name, "account": account})
    else:
        print_line(f"Connected {source.name}: {account.label}")
        print_account(source.name, account)
        print_line(f"Next: workstation sync {source.name}")
    exit_if_missing(account)


def print_account(name: str, account: Account) -> None:
    """Print who a source is connected as, what it may read and what one listing call showed."""
    print_fields(
        {
            "source": name,
            "account": account.label,
            "account id": account.external_account,
            "granted": " ".join(account.scopes),
            "missing": " ".join(account.missing_scopes),
            "sample": account.sample,
            **account.details,
        }
    )


def exit_if_missing(account: Account) -> None:
    """Without its permissions a source would sync a part and call it everything."""
    if account.missing_scopes:
        sys.stderr.write("workstation: permissions are missing: connect again and leave every box ticked\n")
        raise typer.Exit(ExitCode.FAILED)


def _by_consent(
    session: Session, source: DataSource, no_browser: bool, port: int, redirect_url: str | None, timeout_s: int
) -> Credentials:
    from workstation_pipelines.commands.loopback import listening
    from workstation_pipelines.sync.credentials import grant_of

    grant = grant_of(source.source_type)
    endpoint = session.workspace.vault.endpoint(source.source_type)
    with listening(port) as landing:
        consent = endpoint.ask_consent(redirect_url or f"http://{grant.redirect_host}:{landing.port}/")
        _show(consent.url, no_browser=no_browser)
        code = landing.code(consent.state, timeout_s=timeout_s)
    return endpoint.exchange(code, consent)


def _show(url: str, *, no_browser: bool) -> None:
    import webbrowser

    # On stderr, so that stdout holds the result alone.
    if no_browser or not webbrowser.open(url):
        sys.stderr.write(f"Open this address in a browser on this machine and give consent:\n{url}\n")
    else:
        sys.stderr.write("Give consent in the browser window that has just opened.\n")
    sys.stderr.flush()


def _from_stdin() -> Credentials:
    from workstation_pipelines.sources.credentials import StaticToken

    if sys.stdin.isatty():
        token = getpass.getpass("Token (not shown): ").strip()
    else:
        token = sys.stdin.readline(_MOST_TOKEN_CHARACTERS + 2).strip()
    if not token or len(token) > _MOST_TOKEN_CHARACTERS or not token.isascii() or any(c.isspace() for c in token):
        raise InvalidRequestError("stdin holds no token: one line of letters, digits and signs is expected")
    if not token.isprintable():
        raise InvalidRequestError("the token on stdin holds control characters: copy it again")
    return StaticToken(token)


def _at_composio(connected_account_id: str, mode: Mode) -> Credentials:
    from workstation_pipelines.sources.composio import ComposioAccount, ComposioMode

    return ComposioAccount(connected_account_id, ComposioMode(mode.value))
