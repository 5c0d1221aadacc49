"""`workstation dev` and `workstation env`: Dagster's web pages, and its environment for a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from workstation_pipelines.commands.invocation import settings_of
from workstation_pipelines.commands.output import AsJson, print_json, print_line
from workstation_pipelines.errors import InvalidRequestError

WORKSPACE_FILE = Path(__file__).resolve().parents[2] / "workspace.yaml"


def dev(context: typer.Context, as_json: AsJson = False) -> None:
    """Serve Dagster's web pages, until Ctrl-C. Its daemon runs along; WORKSTATION_WEB_PORT chooses the port."""
    from workstation_pipelines.defs import dev as dagster

    settings = settings_of(context)
    if not WORKSPACE_FILE.is_file():
        raise InvalidRequestError(f"{WORKSPACE_FILE} is missing: `workstation dev` runs from a checkout of the project")
    url = f"http://127.0.0.1:{settings.web_port}"
    if as_json:
        print_json({"url": url})
    else:
        print_line(f"Dagster starts at {url} ; Ctrl-C stops it.")
    raise typer.Exit(dagster.run_dev(settings, WORKSPACE_FILE))


def env(context: typer.Context, as_json: AsJson = False) -> None:
    """Print Dagster's variables for a shell. Use: eval "$(workstation env)". They may hold a password."""
    from workstation_pipelines.defs import dev as dagster

    settings = settings_of(context)
    variables = {"WORKSTATION_HOME": str(settings.home), **dagster.prepare(settings).environment}
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        print_line(f"export {name}={shlex.quote(value)}")
