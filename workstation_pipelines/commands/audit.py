"""`workstation audit`: what was done, and the proof that nobody changed the record of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, print_table

if TYPE_CHECKING:
    from workstation_pipelines.db.audit import Logged

app = typer.Typer(help="The audit log: list, show, verify, export.")


@app.command("list")
def list_entries(
    context: typer.Context,
    action: Annotated[str | None, typer.Option(help="A noun such as `source`, or noun.verb.")] = None,
    subject: Annotated[str | None, typer.Option(help="A noun and an id, such as `source:0192...`.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List entries, the newest first."""
    from workstation_pipelines.db import audit

    with open_session(context) as session, session.transaction() as connection:
        entries = audit.entries(
            connection, user_id=session.user_id, action=action, subject=subject, newest_first=True, limit=limit
        )
    if as_json:
        print_json([_as_values(entry) for entry in entries])
        return
    print_table(
        ["number", "when", "action", "subject", "detail"],
        [(entry.seq, entry.at, entry.action, entry.subject, _briefly(entry)) for entry in entries],
        empty="Nothing was logged yet.",
    )


@app.command()
def show(context: typer.Context, number: int, as_json: AsJson = False) -> None:
    """Show one entry in full.

    Such as the certificate of an erasure.
    """
    from workstation_pipelines.db import audit

    with open_session(context) as session, session.transaction() as connection:
        entry = audit.entry(connection, user_id=session.user_id, seq=number)
    if as_json:
        print_json(_as_values(entry))
        return
    print_fields({"number": entry.seq, "when": entry.at, "action": entry.action, "subject": entry.subject})
    for name, value in entry.detail.items():
        if isinstance(value, dict):
            print_table([name, ""], sorted(value.items()), empty="")
        else:
            print_fields({name.replace("_", " "): value})
    print_fields({"hash": entry.hash.hex()})


@app.command()
def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Compute the chain of hashes anew. Exit code 1, and where, if anything was changed or is missing."""
    from workstation_pipelines.db import audit

    with open_session(context) as session, session.transaction() as connection:
        breaks = audit.breaks(connection)
        head = audit.head(connection)
    if as_json:
        print_json({"entries": head.seq, "hash": head.hash.hex(), "breaks": breaks})
    else:
        for each in breaks:
            print_line(f"{each.seq}: {each.problem}")
        if not breaks:
            print_line(
                f"{head.seq:,} entries, none changed or missing. The newest hash is {head.hash.hex() or 'none'}."
            )
    if breaks:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def export(context: typer.Context, as_json: AsJson = False) -> None:
    """Print every entry, a JSON object a line.

    The oldest comes first. Kept elsewhere, the last hash proves what came before. With --json all are one array.
    """
    import json

    from workstation_pipelines.db import audit

    with open_session(context) as session, session.transaction() as connection:
        if as_json:
            print_json([_as_values(entry) for entry in audit.every_entry(connection, user_id=session.user_id)])
            return
        for entry in audit.every_entry(connection, user_id=session.user_id):
            values = {**_as_values(entry), "at": entry.at.isoformat()}
            sys.stdout.write(json.dumps(values, ensure_ascii=False, sort_keys=True) + "\n")


def _as_values(entry: Logged) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": entry.at,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
        "hash": entry.hash.hex(),
    }


def _briefly(entry: Logged) -> str:
    parts = []
    for name, value in entry.detail.items():
        if isinstance(value, list):
            parts.append(f"{name}: {', '.join(map(str, value))}")
        elif not isinstance(value, dict):
            parts.append(f"{name}: {value}")
    return "; ".join(parts)
