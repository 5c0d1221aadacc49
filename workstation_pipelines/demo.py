"""`python -m workstation_pipelines.demo [FOLDER]`: the whole way of some documents, shown and checked step by step.

It works on a copy of examples/documents, or reads a folder of your own and changes nothing in it. Syncs are Dagster
runs in the usual WORKSTATION_HOME, so that `make dev` shows them afterwards. Any expectation that does not hold ends it
with exit code 1. It can be run again at any time: it replaces its own source and leaves all others alone.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workstation_pipelines.commands.invocation import Session
from workstation_pipelines.commands.marks import Marker
from workstation_pipelines.commands.output import print_line, print_table, shown
from workstation_pipelines.commands.planned import print_plan
from workstation_pipelines.commands.search import print_hit
from workstation_pipelines.errors import InvalidRequestError, NotFoundError, WorkstationError
from workstation_pipelines.model import BillBy, DataSourceId, JobType, Scope, SourceType, UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.workflow_model import ExecutionStatus, TenantId

if TYPE_CHECKING:
    from uuid import UUID

    from workstation_pipelines.defs.runs import RunOutcome
    from workstation_pipelines.index.search import Hit
    from workstation_pipelines.sync.plan import Plan

SAMPLES = Path(__file__).resolve().parents[1] / "examples" / "documents"
WORKFLOW = SAMPLES.parent / "workflows" / "reading-list.json"
NAME = "demo"
NAME_OF_YOUR_FOLDER = "demo-folder"

EDITED = "engineering/nv-2200-service-manual.md"
ADDED_TEXT = (
    "\n## Winter storage\n\nTake the battery pack out of the buoy before the first frost and keep it at 15 degrees.\n"
)
DELETED = "support/return-form.rtf"
RENAMED, RENAMED_TO = "handbook/travel-policy.html", "handbook/business-travel.html"

QUESTIONS = (
    ("What is the total of INV-2026-0417?", "finance/INV-2026-0417.pdf"),
    ("How long can someone still move in icy water?", "handbook/safety-training.pptx"),
    ("Where do I keep the battery pack in winter?", EDITED),
)


class DemoFailedError(WorkstationError):
    """Raised when something that the demo promises does not hold."""


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> int:
    """Run the demo and return its exit code."""
    folder = _folder(sys.argv[1:] if arguments is None else arguments)
    begun_s = time.monotonic()
    try:
        _run(settings or Settings.load(), folder)
    except WorkstationError as error:
        sys.stderr.write(f"demo: {error.message}\n")
        return 1
    print_line(f"Everything held, in {time.monotonic() - begun_s:.0f} s.")
    return 0


def _folder(arguments: Sequence[str]) -> Path | None:
    chosen: list[Path | None] = []

    def command(
        folder: Annotated[Path | None, typer.Argument(help="Your own folder; it is only read.")] = None,
        folder_option: Annotated[Path | None, typer.Option("--folder", help="The same.")] = None,
    ) -> None:
        """Show the way of some documents from a folder to a search hit."""
        chosen.append(folder or folder_option)

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app(list(arguments), standalone_mode=False)
    except typer.TyperException as error:
        sys.stderr.write(f"demo: {error.format_message()}\n")
        raise SystemExit(2) from None
    if not chosen:
        raise SystemExit(0)  # help was asked for
    return chosen[0]


def _run(settings: Settings, folder: Path | None) -> None:
    from workstation_pipelines.sync.workspace import Workspace

    with Workspace.open(settings) as workspace:
        session = Session(workspace, UserId(settings.user), TenantId(settings.user))
        if folder is None:
            _show_samples(session)
        else:
            _show_folder(session, folder)
        _show_next(settings, own_folder=folder is not None)


def _show_samples(session: Session) -> None:
    work = session.workspace.settings.home / "demo" / "documents"
    _remove(session, NAME)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(SAMPLES, work)
    source_id = _add(session, NAME, work)
    _heading(f"1. The plan: what a sync of {work} would take")
    plan = _plan(session)
    _heading("2. First sync")
    first = _sync(session, source_id)
    _expect(first.items["created"] == first.items["found"] > 0, "every item of the first sync becomes a document")
    _expect(first.items["failed"] == 0, "no sample fails")
    _expect(plan.adds == first.items["fetched"], "the plan counts every file that is then fetched")
    _heading("3. Again, nothing has changed")
    second = _sync(session, source_id)
    _expect(second.items["fetched"] == 0, "a second sync fetches nothing")
    _expect(second.embeddings["chunks_embedded"] == 0, "a second sync embeds nothing")
    _heading("4. One document edited, one deleted, one renamed")
    _change_and_sync(session, source_id, work)
    _heading("5. Three questions, and where the answers come from")
    for question, expected in QUESTIONS:
        hit = _ask(session, question, source_id)
        _expect(hit is not None and hit.external_path == expected, f"{question!r} is answered by {expected}")
    _heading("6. What it cost, and how everything stands")
    _show_costs(session, source_id)
    _heading(f"7. A workflow over them: {WORKFLOW.name}")
    _run_workflow(session)


def _show_folder(session: Session, folder: Path) -> None:
    if not folder.is_dir():
        raise InvalidRequestError(f"{folder} is not a folder: name one, or leave it out to see the samples")
    _remove(session, NAME_OF_YOUR_FOLDER)
    source_id = _add(session, NAME_OF_YOUR_FOLDER, folder.absolute())
    _heading(f"1. First sync: {folder} (only read: the demo's edits are left out)")
    _sync(session, source_id, may_fail=True)
    _heading("2. Again")
    again = _sync(session, source_id, may_fail=True)
    if not again.items["updated"] + again.items["created"] + again.items["failed"]:
        _expect(again.items["fetched"] == 0, "a second sync fetches nothing when nothing has changed")
        _expect(again.embeddings["chunks_embedded"] == 0, "a second sync embeds nothing when nothing has changed")
    _heading("3. Searches for titles of yours, and where the answers come from")
    for title in _some_titles(session, source_id):
        _ask(session, title, source_id)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a run counted, by stage."""

    items: dict[str, int]
    documents: dict[str, int]
    embeddings: dict[str, int]


def _sync(session: Session, source_id: DataSourceId, *, may_fail: bool = False) -> Counted:
    """Sync by a Dagster run and show what it did. `may_fail`: items of a folder that is not ours may be unreadable."""
    from workstation_pipelines.defs import dev

    begun_s = time.monotonic()
    outcome = dev.materialize_once(session.workspace.settings, source_id)
    if not outcome.is_success:
        raise DemoFailedError(
            f"Dagster run {outcome.run_id} ended as {outcome.status}: `workstation jobs list --source` names the job;"
            " if `workstation dev` is running, it may have been syncing the demo's source at the same time"
        )
    _print_outcome(outcome, time.monotonic() - begun_s)
    failed_checks = ", ".join(outcome.failed_checks)
    if failed_checks and may_fail:
        print_line(f"   worth a look: {failed_checks}; `.venv/bin/workstation jobs show JOB` names what failed")
    else:
        _expect(not failed_checks, f"all checks pass, but {failed_checks} did not")
    stages = [cast("dict[str, int]", dict(outcome.metadata[stage])) for stage in ("items", "documents", "embeddings")]
    return Counted(*stages)


def _print_outcome(outcome: RunOutcome, duration_s: float) -> None:
    items, documents, embeddings = (outcome.metadata[stage] for stage in ("items", "documents", "embeddings"))
    print_line(
        f"   items       {_told(items, 'found', 'created', 'updated', 'unchanged', 'skipped', 'deleted', 'failed')}"
    )
    print_line(f"   documents   {_told(documents, 'fetched')} ({items['bytes_fetched'] / 1e6:.1f} MB read)")
    print_line(f"   embeddings  {_told(embeddings, 'chunks_embedded', 'chunks_reused', 'embedding_tokens')}")
    print_line(f"   {duration_s:.1f} s, Dagster run {outcome.run_id}, sync job {items['sync_job']}")


def _told(counts: Any, *names: str) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {counts[name]:,}" for name in names)


def _change_and_sync(session: Session, source_id: DataSourceId, work: Path) -> None:
    before = {path: _document(session, path) for path in (EDITED, DELETED, RENAMED)}
    with (work / EDITED).open("a", encoding="utf-8") as file:
        file.write(ADDED_TEXT)
    (work / DELETED).unlink()
    (work / RENAMED).rename(work / RENAMED_TO)
    counted = _sync(session, source_id)
    edited, renamed = _document(session, EDITED), _document(session, RENAMED_TO)
    embedded, reused = counted.embeddings["chunks_embedded"], counted.embeddings["chunks_reused"]
    print_line(
        f"   edited   {EDITED}: generation {before[EDITED].live_generation} -> {edited.live_generation},"
        f" of its chunks {embedded} embedded and {reused} reused"
    )
    print_line(f"   deleted  {DELETED}: gone from the index")
    print_line(f"   renamed  {RENAMED_TO}: still document {renamed.id}, not fetched again")
    _expect(edited.id == before[EDITED].id, "an edit keeps the document's id")
    _expect(edited.live_generation == before[EDITED].live_generation + 1, "an edit makes one new generation")
    _expect(embedded >= 1 and reused >= 1, "only what an edit changed is embedded")
    _expect(_is_gone(session, DELETED), f"{DELETED} is gone")
    _expect(renamed.id == before[RENAMED].id, "a rename keeps the document's id")
    _expect(counted.items["fetched"] == 1, "only the edited file is fetched")
    _expect(counted.items["deleted"] == 1, "one item is deleted")


def _ask(session: Session, question: str, source_id: DataSourceId) -> Hit | None:
    from workstation_pipelines.index import search

    workspace = session.workspace
    result = search.search(
        workspace.database,
        workspace.embedder,
        workspace.index_config(session.user_id),
        question,
        Scope(user_id=session.user_id, data_source_ids=[source_id]),
        limit=1,
        embedder_of=workspace.embedder_of,
    )
    print_line(f"   ? {shown(question)}")
    if result.nothing_relevant:
        print_line("     nothing relevant found")
        return None
    hit = result.hits[0]
    print_hit(hit, Marker(question), label="   = ", characters=220)
    lineage = hit.lineage
    print_line(f"     chunk {hit.id}")
    print_line(f"       <- document {hit.document_id} <- item {shown(lineage.external_id)}")
    print_line(f"       <- sync job {lineage.sync_job_id} <- Dagster run {lineage.dagster_run_id}")
    _expect(lineage.dagster_run_id is not None, "a hit leads back to its Dagster run")
    return hit


def _plan(session: Session) -> Plan:
    plan = session.workspace.plan(session.source(NAME), job_type=JobType.MANUAL)
    print_plan(replace(plan, examples={}), as_json=False, label="   ")
    return plan


def _show_costs(session: Session, source_id: DataSourceId) -> None:
    from workstation_pipelines.commands.bill import BILL_COLUMNS, bill_line
    from workstation_pipelines.commands.status import print_status
    from workstation_pipelines.db import metering, sync_jobs

    with session.transaction() as connection:
        rows = metering.bill(connection, user_id=session.user_id, by=BillBy.SOURCE)
        jobs = sync_jobs.recent(connection, user_id=session.user_id, data_source_id=source_id)
    ours = [row for row in rows if row.id == source_id]
    print_table(BILL_COLUMNS, [bill_line(row) for row in ours], empty="")
    billed, spent = sum(row.quantity for row in ours), sum(job.embedding_tokens for job in jobs)
    _expect(billed == spent, f"the bill counts {billed} tokens, as the jobs do ({spent})")
    print_line()
    print_status(session)


def _run_workflow(session: Session) -> None:
    """Save an example and run it as a Dagster job in this process."""
    from workstation_pipelines.commands.workflow_history import standing_of
    from workstation_pipelines.commands.workflow_watch import Standing, follow, summary
    from workstation_pipelines.defs import workflow_now
    from workstation_pipelines.workflows import control, saving

    envelope = saving.read_envelope(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    slug = envelope.slug or WORKFLOW.stem
    with session.transaction() as connection:
        saving.save(
            connection,
            **session.owner,
            slug=slug,
            document=envelope.definition,
            labels=envelope.labels,
            new_id=session.workspace.new_id,
        )
    execution = control.start(session.workspace, **session.owner, workflow=slug, input={"question": QUESTIONS[0][0]})

    def read() -> Standing:
        with session.transaction() as connection:
            return standing_of(session, connection, execution.id)

    with workflow_now.opened(session.workspace) as dagster:
        dagster.run_here(execution.id)
        # A `make dev` that runs meanwhile may have been first.
        standing = follow(read, refresh=lambda: dagster.refresh(execution.id), is_shown=False)
    for line in summary(standing):
        print_line(f"   {line}")
    done = standing.execution
    _expect(done.status is ExecutionStatus.COMPLETED, f"the workflow completes, but it is {done.status}")
    print_line(f"   {done.output['passages']} passages found and kept as document {done.output['documents'][0]}")
    print_line(f"   execution {done.id} <- Dagster run {done.dagster_run_id}")


def _show_next(settings: Settings, *, own_folder: bool) -> None:
    print_line()
    print_line(f"Next: `make dev` shows these runs at http://127.0.0.1:{settings.web_port}")
    if not own_folder:
        print_line("      `make demo FOLDER=~/Documents` does the same with your own documents and changes none")
    print_line("      `.venv/bin/workstation search WORDS` and `.venv/bin/workstation why PATH` ask further")


def _add(session: Session, name: str, folder: Path) -> DataSourceId:
    from workstation_pipelines.db import data_sources

    config = {"path": str(folder)}
    opened = session.workspace.open_config(SourceType.LOCAL_FOLDER, config)
    try:
        account = opened.check()
    finally:
        opened.close()
    with session.transaction() as connection:
        return data_sources.add(
            connection,
            user_id=session.user_id,
            data_source_id=DataSourceId(session.workspace.new_id()),
            name=name,
            source_type=SourceType.LOCAL_FOLDER,
            config=config,
            external_account=account.external_account,
        ).id


def _remove(session: Session, name: str) -> None:
    """Take away what an earlier demo left."""
    from workstation_pipelines.defs import dev

    try:
        source = session.source(name)
    except NotFoundError:
        return
    session.workspace.erase(source)
    dev.forget(session.workspace.settings, source.source_type, source.id)


def _document(session: Session, path: str) -> Any:
    from workstation_pipelines.db import library

    source = session.source(NAME)
    with session.transaction() as connection:
        rows = library.documents(connection, user_id=session.user_id, data_source_id=source.id, limit=1000)
    found = [row for row in rows if row.external_path == path]
    if len(found) != 1:
        raise NotFoundError(f"{len(found)} documents have the path {path}, not one")
    return found[0]


def _is_gone(session: Session, path: str) -> bool:
    try:
        _document(session, path)
    except NotFoundError:
        return True
    return False


def _some_titles(session: Session, source_id: UUID) -> list[str]:
    from workstation_pipelines.db import library

    with session.transaction() as connection:
        rows = library.documents(connection, user_id=session.user_id, data_source_id=source_id, limit=1000)
    titles = list(dict.fromkeys(row.title for row in rows if row.title.strip()))
    return [titles[at] for at in sorted({0, len(titles) // 2, len(titles) - 1})] if titles else []


def _heading(text: str) -> None:
    print_line()
    print_line(text)


def _expect(holds: bool, promise: str) -> None:
    if not holds:
        raise DemoFailedError(f"this should hold and does not: {promise}")


if __name__ == "__main__":
    sys.exit(main())
