"""`workstation why`: why is this here, or why not? Follows one path, URL or id through every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, assert_never

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, shown
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.model import OutcomeStatus, SyncStatus
from workstation_pipelines.sources.contract import Coverage, Covering

if TYPE_CHECKING:
    from workstation_pipelines.db.data_sources import DataSource

_SKIPPED = {
    "removed_by_user": "its document was deleted here with `workstation documents delete`",
    "too_large": "it is above the size limit of its source (`max_file_bytes`)",
    "empty": "it holds nothing",
    "no_text": "it holds no text, such as a scan or an image",
    "unsupported_type": "no reader knows its kind of file",
}


@dataclass(frozen=True, slots=True)
class Covered:
    """What one source says about something that it never listed."""

    data_source_name: str
    external_path: str
    is_listed: bool
    reason: str


def why(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="REF", help="A path, the end of a path, a URL or an id.")],
    as_json: AsJson = False,
) -> None:
    """Say why a file is here or is not. Shows its item, document, job and Dagster run, or the rule that leaves it out."""
    with open_session(context) as session:
        wanted = _meant(reference)
        covered = _covered(session, wanted)
        rows = _rows(session, wanted, covered)
        processed = _processed(session, wanted)
        outside = None if rows or covered or processed else _outside(session, wanted[-1])
    items = [{"explanation": _explanation(row), **row._mapping} for row in rows]
    if as_json:
        unlisted = [] if rows else covered
        told = {"reference": reference, "items": items, "unlisted": unlisted, "explanation": outside}
        print_json({**told, "processed": processed})
        return
    for item in items:
        _print_item(item)
    for told in processed:
        print_line(f"{shown(told['subject'])}: {told['explanation']} (job {told['processing_job_id']})")
    if not items and not processed:
        for each in covered:
            print_line(f"{each.external_path} of {each.data_source_name}: {_told(each)}")
    if outside:
        print_line(f"{shown(reference)}: {outside}")


def _meant(reference: str) -> Sequence[str]:
    """Return what to look for: as typed, and the absolute path if there is such a file here."""
    path = Path(reference).expanduser()
    if "://" in reference or not (path.is_absolute() or path.exists() or path.is_symlink()):
        return [reference]
    return list(dict.fromkeys([reference, str(path.absolute())]))


def _covered(session: Session, wanted: Sequence[str]) -> list[Covered]:
    from workstation_pipelines.db import data_sources

    with session.transaction() as connection:
        sources = data_sources.all_of(connection, user_id=session.user_id)
    found = []
    for source in sources:
        for reference in wanted:
            coverage = _coverage(session, source, reference)
            if coverage is not None:
                found.append(Covered(source.name, coverage.external_path, coverage.is_listed, coverage.reason))
                break
    return found


def _coverage(session: Session, source: DataSource, reference: str) -> Coverage | None:
    try:
        opened = session.workspace.open_source(source)
    except WorkstationError as error:
        return Coverage(reference, False, f"the source cannot be opened: {error.message}")
    try:
        return opened.coverage(reference) if isinstance(opened, Covering) else None
    finally:
        opened.close()


def _rows(session: Session, wanted: Sequence[str], covered: Sequence[Covered]) -> list[Any]:
    from workstation_pipelines.db import sync_items

    found: dict[tuple[str, str], Any] = {}
    with session.transaction() as connection:
        for reference in wanted:
            for row in sync_items.find(connection, user_id=session.user_id, reference=reference):
                found.setdefault((row.data_source_name, row.external_id), row)
        for each in covered:
            for row in sync_items.find(connection, user_id=session.user_id, reference=each.external_path):
                if (row.data_source_name, row.external_path) == (each.data_source_name, each.external_path):
                    found.setdefault((row.data_source_name, row.external_id), row)
    return list(found.values())


def _processed(session: Session, wanted: Sequence[str]) -> list[dict[str, Any]]:
    from workstation_pipelines.db import processing

    with session.transaction() as connection:
        rows = processing.newest_outcomes(connection, user_id=session.user_id, references=wanted)
    return [{"explanation": _outcome(row), **row._mapping} for row in rows]


def _outcome(row: Any) -> str:
    if row.status == OutcomeStatus.PENDING:
        return "it waits to be processed"
    if row.status == OutcomeStatus.FAILED:
        return f"failed: {row.message}"
    if row.document_id is None:
        return f"left out: {_SKIPPED.get(row.reason, row.reason)}"
    if row.deleted_at is not None:
        return "its document was deleted; processing it again stores it anew"
    return f"here, by itself: generation {row.live_generation} with {row.chunk_count} chunks, searchable"


def _outside(session: Session, reference: str) -> str:
    roots = session.workspace.settings.folder_roots()
    path = Path(reference).expanduser()
    if roots is not None and path.is_absolute() and not any(path.resolve().is_relative_to(root) for root in roots):
        return (
            "no source of yours covers it, and none could: it is outside the folders that this server may read"
            " (WORKSTATION_FOLDER_ROOTS)"
        )
    return "no source of yours has it or covers it: `workstation source list` shows what is connected"


def _told(covered: Covered) -> str:
    if not covered.is_listed:
        return f"never taken, because {covered.reason}"
    if covered.reason == "it is listed":
        return f"not seen yet; the next sync takes it: workstation sync {covered.data_source_name}"
    return f"not seen yet, and {covered.reason}"


def _explanation(row: Any) -> str:
    status = SyncStatus(row.sync_status)
    match status:
        case SyncStatus.SYNCED:
            if row.deleted_at is not None:
                return "its document was deleted; the next sync that finds it at the source stores it anew"
            return f"here: generation {row.live_generation} with {row.chunk_count} chunks, searchable"
        case SyncStatus.SKIPPED:
            if row.reason == "filtered":
                return f"left out: your rule {row.reason_detail!r} leaves it out (`workstation transform show` has it)"
            return f"left out: {_SKIPPED.get(row.reason, row.reason)}"
        case SyncStatus.FAILED:
            if row.message is None:
                return f"failed: {row.reason}"
            again = f"next try from {shown(row.next_try_at)}" if row.next_try_at else "tried again when it changes"
            return f"failed at {row.stage} after {row.attempts} tries, {again}: {row.message}"
        case SyncStatus.DELETED:
            return f"gone: the source did not have it any more at {shown(row.updated_at)}"
        case _:
            assert_never(status)


def _print_item(item: Mapping[str, Any]) -> None:
    print_line(f"{item['external_path']} of {item['data_source_name']}: {item['explanation']}")
    print_fields(
        {
            "  status": item["sync_status"],
            "  reason": item["reason"],
            "  rule": item["reason_detail"],
            "  document": item["local_document_id"],
            "  item": item["external_id"],
            "  inside item": item["parent_external_id"],
            "  type": item["mime_type"],
            "  bytes": item["size_bytes"] if item["size_bytes"] >= 0 else None,
            "  hash": item["external_hash"],
            "  url": item["external_url"],
            "  first seen": item["created_at"],
            "  last change": item["updated_at"],
            "  sync job": item["last_sync_job_id"],
            "  Dagster run": item["dagster_run_id"],
        }
    )
