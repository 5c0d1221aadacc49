"""`workstation keys`: the keys that seal stored credentials."""

from __future__ import annotations

import sys

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line
from workstation_pipelines.identity import utc_now

_SHOWN = 5

app = typer.Typer(help="The keys that seal stored credentials: make one, change to it.")


@app.command()
def new(as_json: AsJson = False) -> None:
    """Print a fresh key. Put it in front of the others in WORKSTATION_TOKEN_KEYS, for every process."""
    from workstation_pipelines.sources.sealing import new_key
    from workstation_pipelines.sync.token_keys import key_id_of

    key = new_key(key_id_of(utc_now()))
    if as_json:
        print_json({"key": key})
    else:
        print_line(key)


@app.command()
def rotate(context: typer.Context, as_json: AsJson = False) -> None:
    """Put all stored credentials and secrets under the newest key.

    Those of all users. Syncs may run meanwhile; it may be stopped and repeated.

    Exit code 1 while some are left under other keys.
    """
    from workstation_pipelines.sync.connect import rotate_keys
    from workstation_pipelines.workflows import secrets

    with open_session(context) as session:
        rotation = rotate_keys(session.workspace.vault)
        secrets.rotate(secrets.SecretVault(session.workspace.database, session.workspace.settings, utc_now), rotation)
    if as_json:
        print_json(rotation)
    else:
        if rotation.rewrapped or rotation.left:
            print_line(f"{rotation.rewrapped:,} credentials were put under the key {rotation.key_id}.")
        else:
            print_line(f"All stored credentials are under the key {rotation.key_id}: there was nothing to do.")
        for key_id, records in rotation.left.items():
            print_line(f"{records:,} are still under the key {key_id}: keep that key.")
        if not rotation.left:
            print_line("None are left under other keys: those can be taken out.")
    if rotation.refused:
        ids = ", ".join(map(str, rotation.refused[:_SHOWN])) + (" ..." if len(rotation.refused) > _SHOWN else "")
        sys.stderr.write(
            f"workstation: {len(rotation.refused):,} credentials do not open with the keys at hand: add the key that they"
            f" are under to WORKSTATION_TOKEN_KEYS, or connect these sources again: {ids}\n"
        )
    if rotation.left:
        raise typer.Exit(ExitCode.FAILED)
