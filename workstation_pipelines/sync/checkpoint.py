"""Where a sync begins: what `progress_data` holds, and which of it a later run may go on from. Pure decisions, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.model import Cursor, Delta, JobType
from workstation_pipelines.sources.contract import Source


def resume_point(
    previous: Mapping[str, Any], *, data_source: DataSource, source: Source, job_type: JobType, is_listing_due: bool
) -> dict[str, Any]:
    """Return where to begin: an unfinished listing or feed goes on, else the stored feed position, else nowhere yet."""
    is_full = job_type is JobType.FULL_SYNC
    is_begun = previous.get("v") == 1 and previous.get("cursor") is not None
    is_ours = is_begun and previous.get("scope") == source.scope
    if is_ours and (previous.get("mode") == "listing" or not is_full):
        # That a cursor expired once is no reason for this job to give up when the listing's own does.
        return {key: value for key, value in previous.items() if key not in ("escalated", "expired")}
    if source.delta is Delta.NONE or data_source.cursor is None or is_full:
        return {}
    if is_rescoped(data_source, source) or is_listing_due:
        return {}
    return {"v": 1, "mode": "feed", "cursor": dict(data_source.cursor), "scope": source.scope}


def listing_from_start(
    pending_cursor: Cursor | None, *, data_source: DataSource, source: Source, sweep_id: UUID, **more: Any
) -> dict[str, Any]:
    """Return the resume point of a listing that begins now; `pending_cursor` was taken before it."""
    return {
        "v": 1,
        "mode": "listing",
        "cursor": None,
        "pending_cursor": dict(pending_cursor) if pending_cursor is not None else None,
        "sweep_id": None if source.proves_absence else str(sweep_id),
        "scope": source.scope,
        "is_rescoped": is_rescoped(data_source, source),
        **more,
    }


def is_rescoped(data_source: DataSource, source: Source) -> bool:
    """Return whether the settings choose something else than what was synced last."""
    return data_source.synced_scope not in (None, source.scope)


def sweep_of(progress: Mapping[str, Any]) -> UUID | None:
    """Return the id of the full listing under way, if there is one and it proves absence by what it does not show."""
    sweep_id = progress.get("sweep_id")
    return UUID(sweep_id) if sweep_id is not None else None


def cursor_to_promote(progress: Mapping[str, Any]) -> Cursor | None:
    """Return the feed position of a job that has ended well.

    A listing promotes the position taken before it began; a vendor whose listing ends in a feed cursor took none.
    """
    return progress.get("pending_cursor") or progress.get("cursor")
