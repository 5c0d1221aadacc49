"""`workstation check` and `optimise`: does the index hold what the documents say, and is it quick to search?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.index import print_reports
from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, shown

if TYPE_CHECKING:
    from workstation_pipelines.sync.index import Report, Reworked

NAMED = 20


def check(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; nothing is fetched for it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the index against the documents. Exit 1 if they do not fit, or still do not after a repair."""
    from workstation_pipelines.sync.agreement import agree

    with open_session(context) as session:
        source_id = session.source(source).id if source is not None else None
        done = agree(session.workspace, user_id=session.user_id, data_source_id=source_id, is_repairing=repair)
    if as_json:
        mended = {"strays_removed": done.strays_removed, "reworked": done.reworked} if repair else None
        outside = {"found": done.outside_found, "now": done.outside_now}
        print_json(
            {"is_clean": done.is_clean, "found": done.found, "repair": mended, "now": done.now, "outside": outside}
        )
    else:
        _print_report(done.found)
        if repair:
            _print_repair(done.strays_removed, done.reworked, done.now)
        print_reports(done.outside_found)
        if done.outside_now is not done.outside_found:
            print_reports(done.outside_now)
    raise typer.Exit(ExitCode.OK if done.is_clean else ExitCode.FAILED)


def optimise(context: typer.Context, as_json: AsJson = False) -> None:
    """Make the search of many passages quick. Moves what was loaded since into the approximate index, if that pays."""
    from workstation_pipelines.sync import index

    with open_session(context) as session:
        moved = sum(index.promote(session.workspace.database, user_id=session.user_id))
    if as_json:
        print_json({"chunks_promoted": moved})
    else:
        print_line(f"{moved:,} chunks promoted" if moved else "nothing to promote: exact search is as quick for you")


def _print_report(report: Report) -> None:
    print_line(
        f"{'clean' if report.is_clean else 'NOT CLEAN'}: {report.documents:,} documents,"
        f" {report.chunks:,} chunks of {report.chunks_expected:,}, {report.vectors:,} vectors,"
        f" {report.strays:,} stray chunks, {report.hashes_checked:,} texts compared with their hash"
    )
    problems: list[tuple[str, Any]] = [(f"{each.problem}: {each.title}", each.id) for each in report.stale]
    problems += [
        (f"text does not fit its hash: {title}; --repair lets the next full sync fetch it again", document_id)
        for document_id, title in report.wrong_hash
    ]
    for problem, document_id in problems[:NAMED]:
        print_line(f"  {shown(problem)} ({document_id})")
    if len(problems) > NAMED:
        print_line(f"  and {len(problems) - NAMED:,} more: --json names them")


def _print_repair(strays: int, reworked: Reworked, after: Report) -> None:
    if not strays and not reworked.documents:
        print_line("repair: nothing to do" if after.is_clean else "repair: nothing of this can be mended from here")
        if after.wrong_hash:
            print_line(
                "  `workstation sync SOURCE --job-type full_sync` fetches the texts that do not fit their hash again"
            )
        return
    print_line(
        f"repair: {strays:,} stray chunks removed, {reworked.documents:,} documents mended with {reworked.chunks:,} chunks"
        f" ({reworked.embedded:,} embedded, {reworked.reused:,} reused), nothing fetched"
    )
    print_line("now clean" if after.is_clean else "still not clean:")
    if not after.is_clean:
        _print_report(after)
