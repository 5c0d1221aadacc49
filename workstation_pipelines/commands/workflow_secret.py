"""`workstation workflow secret`: values that workflows use as ${secrets.NAME}, sealed and never shown again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    from workstation_pipelines.workflows.secrets import SecretVault

LONGEST_CHARACTERS = 100_000  # more than the vault takes

app = typer.Typer(help="Secrets of workflows: set, list, remove. Definitions name them as ${secrets.NAME}.")

Name = Annotated[str, typer.Argument(help="Letters, digits and _, such as apollo_key.")]


@app.command("set")
def set_secret(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Store a secret, or another value for it. The value is asked for, or read from stdin, and never an argument."""
    value = _asked(name)
    with open_session(context) as session:
        _vault(session).put(**session.owner, name=name, value=value, secret_id=session.workspace.new_id())
    if as_json:
        print_json({"name": name})
    else:
        print_line(f"Stored {name}; workflows use it as ${{secrets.{name}}}.")


@app.command("list")
def list_secrets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the names of your secrets."""
    from workstation_pipelines.db import workflow_secrets

    with open_session(context) as session, session.transaction() as connection:
        rows = workflow_secrets.names(connection, **session.owner)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["secret", "set"],
        [(row.name, row.updated_at) for row in rows],
        empty="No secrets yet: `workstation workflow secret set NAME`.",
    )


@app.command()
def remove(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Remove a secret. A workflow that uses it fails until it is set again."""
    from workstation_pipelines.db import workflow_secrets

    with open_session(context) as session, session.transaction() as connection:
        workflow_secrets.remove(connection, **session.owner, name=name)
    if as_json:
        print_json({"removed": name})
    else:
        print_line(f"Removed {name}.")


def _asked(name: str) -> str:
    if sys.stdin.isatty():
        value: str = typer.prompt(f"Value of {name}", hide_input=True, err=True)
    else:
        value = sys.stdin.read(LONGEST_CHARACTERS).removesuffix("\n")
    return value


def _vault(session: Session) -> SecretVault:
    from workstation_pipelines.workflows.secrets import SecretVault

    return SecretVault(session.workspace.database, session.workspace.settings)
