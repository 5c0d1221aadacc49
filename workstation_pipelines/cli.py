"""`workstation`: the command line. Commands live in commands/; here is how they are called and how errors end.

Exit codes: 0 done; 1 a job failed or left items out, or a check is not clean; 2 wrong input; 3 another run holds the
source; 4 a confirmation is needed; 5 a source, a service or the database cannot be reached; 130 interrupted.
An error is one line on stderr; with --json the object {"error": {...}} is the one value on stdout besides.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workstation_pipelines.commands import (
    audit,
    bill,
    budget,
    build,
    check,
    dagster_pages,
    database,
    documents,
    events,
    housekeeping,
    index,
    jobs,
    keys,
    labels,
    mirror,
    process,
    reprocess,
    schedule,
    search,
    source,
    status,
    sync,
    transform,
    webhooks,
    why,
    workflow,
)
from workstation_pipelines.commands.exits import ExitCode, of_error
from workstation_pipelines.commands.invocation import Invocation, invocation_of
from workstation_pipelines.commands.output import print_json, safe
from workstation_pipelines.errors import InvalidRequestError, WorkstationError

if TYPE_CHECKING:
    from workstation_pipelines.settings import Settings

PROGRAM = "workstation"

app = typer.Typer(
    help="Sync sources, search what is in them, and see where everything came from.\n\n"
    "Exit codes: 0 done; 1 failed, items left out, or a check is not clean; 2 wrong input; 3 busy; 4 a confirmation is"
    " needed; 5 unavailable; 130 interrupted.",
    add_completion=False,
    rich_markup_mode=None,  # help without rich starts twice as fast
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def workstation(
    context: typer.Context,
    user: Annotated[
        str | None, typer.Option("--user", help="Act as this user; the default is WORKSTATION_USER, or `dev`.")
    ] = None,
) -> None:
    if user is not None:
        context.obj = replace(invocation_of(context), user=user)
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


app.command("status")(status.status)
app.command("sync")(sync.sync)
app.command("bill")(bill.bill)
app.command("metrics")(bill.metrics)
app.add_typer(budget.app, name="budget")
app.command("search")(search.search)
app.command("why")(why.why)
app.command("check")(check.check)
app.command("optimise")(check.optimise)
app.add_typer(index.app, name="index")
app.add_typer(source.app, name="source")
app.add_typer(documents.app, name="documents")
app.add_typer(labels.projects_app, name="projects")
app.add_typer(labels.tags_app, name="tags")
app.add_typer(process.app, name="process")
app.add_typer(transform.app, name="transform")
app.add_typer(jobs.app, name="jobs")
app.add_typer(events.app, name="events")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(schedule.app, name="schedule")
app.add_typer(workflow.app, name="workflow")
app.add_typer(audit.app, name="audit")
app.add_typer(database.app, name="db")
app.add_typer(reprocess.app, name="reprocess")
app.add_typer(build.builds_app, name="build")
app.add_typer(build.questions_app, name="question")
app.add_typer(keys.app, name="keys")
app.command("housekeeping")(housekeeping.housekeeping)
app.command("mirror")(mirror.mirror)
app.command("dev")(dagster_pages.dev)
app.command("env")(dagster_pages.env)


def load_settings() -> Settings:
    from workstation_pipelines.settings import Settings

    return Settings.load()


def main(arguments: Sequence[str] | None = None, load: Callable[[], Settings] = load_settings) -> int:
    """Run one command and return its exit code; no exception leaves but SystemExit of the interpreter itself."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    command = typer.main.get_command(app)
    try:
        code = command.main(given, prog_name=PROGRAM, standalone_mode=False, obj=Invocation(load))
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.OK
    except (BrokenPipeError, SystemExit):  # Typer turns the one into the other, and does so for nothing else
        # Whoever read our output has seen enough, as `head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except typer.TyperException as error:
        hint = f"`{' '.join([PROGRAM, *_command_words(given), '--help'])}` shows the usage"
        return _fail(f"{error.format_message().rstrip('.')}: {hint}", "UsageError", ExitCode.WRONG_INPUT, as_json)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", "Interrupted", ExitCode.INTERRUPTED, as_json)
    except WorkstationError as error:
        return _fail(error.message, type(error).__name__, of_error(error), as_json, getattr(error, "problems", ()))
    except Exception as bug:  # noqa: BLE001 - the program's rim: the trace goes to the log, a person gets one line
        return _fail(_recorded(bug, load), type(bug).__name__, ExitCode.FAILED, as_json)


def _fail(message: str, kind: str, code: ExitCode, as_json: bool, problems: Sequence[object] = ()) -> int:
    if as_json:
        all_of_them = {"problems": problems} if problems else {}
        print_json({"error": {"kind": kind, "message": message, "exit_code": code, **all_of_them}})
        sys.stdout.flush()
    sys.stderr.write(f"{PROGRAM}: {safe(' '.join(message.split()))}\n")
    return code


def _command_words(given: Sequence[str]) -> list[str]:
    """Return the leading words that name commands, to point to the nearest help."""
    words: list[str] = []
    group: object = typer.main.get_command(app)
    for word in given:
        group = getattr(group, "commands", {}).get(word)
        if group is None:
            break
        words.append(word)
    return words


def _recorded(bug: Exception, load: Callable[[], Settings]) -> str:
    """Write the trace of a bug to the log and return the line that says so."""
    trace = "".join(traceback.format_exception(bug))
    try:
        settings = load()
        if settings.debug:
            sys.stderr.write(trace)
        log = settings.home / "logs" / "workstation.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        _append(log, f"{datetime.now(UTC).isoformat()} pid {os.getpid()}\n{trace}\n")
    except (OSError, InvalidRequestError):
        return f"{type(bug).__name__}: this is a bug, and its log cannot be written"
    return f"{type(bug).__name__}: this is a bug; {log} has the details, WORKSTATION_DEBUG=1 shows them here"


def _append(log: Path, text: str) -> None:
    with open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
