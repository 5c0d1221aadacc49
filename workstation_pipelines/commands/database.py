"""`workstation db`: the application's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import settings_of
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line

if TYPE_CHECKING:
    from workstation_pipelines.settings import Settings

app = typer.Typer(help="Migrate the application's database, or say how it stands.")


@app.command()
def upgrade(context: typer.Context, as_json: AsJson = False) -> None:
    """Apply missing migrations. Uses DATABASE_ADMIN_URL if set, whose role must be able to create roles."""
    from workstation_pipelines.db import migrate
    from workstation_pipelines.db.engine import translated_errors

    url = _admin_url(settings_of(context))
    with translated_errors():
        before = migrate.current_revision(url)
        migrate.upgrade(url)
        after = migrate.current_revision(url)
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        print_line(f"The schema is at {after} already.")
    else:
        print_line(f"The schema went from {before or 'nothing'} to {after}.")


@app.command()
def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Check row-level security and the tables. Exit 1 if they are not as this program needs them."""
    from workstation_pipelines.db import embedded, migrate
    from workstation_pipelines.db.engine import Database, translated_errors
    from workstation_pipelines.errors import InvalidRequestError

    settings = settings_of(context)
    app_url = settings.database_url or embedded.ensure_running(settings.home).app_url
    database = Database(app_url)
    try:
        if database.schema_revision() is None:
            raise InvalidRequestError("the database has no schema yet: run `workstation db upgrade`")
        problems = [f"{problem}: {name}" for problem, name in database.verify_rls()]
    finally:
        database.close()
    with translated_errors():
        drift = migrate.drift(_admin_url(settings))
    if as_json:
        print_json({"row_level_security": problems, "drift": drift})
    else:
        for line in [*problems, *drift]:
            print_line(line)
        if not problems and not drift:
            print_line("Row-level security holds, and the tables are as they should be.")
    if problems or drift:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Say where the database is and its revision. Starts and changes nothing."""
    from workstation_pipelines.db import embedded, migrate
    from workstation_pipelines.db.engine import translated_errors

    settings = settings_of(context)
    found: dict[str, object] = {"database": "yours, by DATABASE_URL"}
    is_up = True
    if settings.uses_embedded_database:
        server = embedded.status(settings.home)
        is_up = server.state is embedded.ServerState.RUNNING
        found = {
            "database": "embedded",
            "server": server.state.value,
            "pid": server.pid,
            "data_folder": server.data_folder,
            "log_file": server.log_file,
        }
    with translated_errors():
        found["revision"] = migrate.current_revision(_admin_url(settings)) if is_up else None
    found["newest_revision"] = migrate.revisions()[-1]
    if as_json:
        print_json(found)
    else:
        print_fields({name.replace("_", " "): str(value) if value else None for name, value in found.items()})


@app.command()
def stop(context: typer.Context, as_json: AsJson = False) -> None:
    """Stop the embedded database. The next command starts it again."""
    from workstation_pipelines.db import embedded

    settings = settings_of(context)
    was_running = embedded.stop(settings.home)
    if as_json:
        print_json({"was_running": was_running})
    else:
        print_line("Stopped the embedded database." if was_running else "The embedded database was not running.")


def _admin_url(settings: Settings) -> str:
    from workstation_pipelines.db import embedded

    return settings.migration_url or embedded.ensure_running(settings.home).admin_url
