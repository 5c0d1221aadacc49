"""`workstation mirror`: executions of workflows brought into agreement with their Dagster runs, now."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.interruption import interruptible
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table
from workstation_pipelines.errors import InvalidRequestError

EVERY_S = 2.0


def mirror(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Go on every two seconds, until Ctrl-C.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: list what does not agree in your newest executions.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write down what Dagster's runs have done to executions.

    `workstation dev` does it all the time; this is for when that is away.
    """
    from workstation_pipelines.defs import dev, disagreements, mirroring, reaping
    from workstation_pipelines.identity import utc_now

    if watch and check:
        raise InvalidRequestError("--watch and --check exclude each other: a check changes nothing")
    with open_session(context) as session, dev.open_instance(session.workspace.settings) as instance:
        database = session.workspace.database
        if check:
            found = disagreements.disagreements(database, instance, **session.owner)
            if as_json:
                print_json({"disagreements": found})
            else:
                print_table(
                    ["execution", "problem"],
                    [(each.execution_id, each.problem) for each in found],
                    empty="Executions and Dagster's runs agree.",
                )
            if found:
                raise typer.Exit(ExitCode.FAILED)
            return
        with interruptible():
            while True:
                # A killed process leaves nobody to end its run.
                reaping.reconcile(database, instance, clock=utc_now)
                done = mirroring.mirror(database, instance)
                if not watch or done.closed or done.repaired or done.failures:
                    print_json(done) if as_json else print_line(str(done))
                if not watch:
                    break
                time.sleep(EVERY_S)
    if done.failures:
        raise typer.Exit(ExitCode.FAILED)
