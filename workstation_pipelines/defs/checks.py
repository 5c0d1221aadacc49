"""Asset checks: does what a sync left behind hold together? Evaluated for the synced source, or alone for all of a type.

Results carry counts and ids, never a title, a path or a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import dagster as dg

from workstation_pipelines.model import JobStatus, SourceType, UserId

if TYPE_CHECKING:
    from workstation_pipelines.db.health import SourceState
    from workstation_pipelines.sync.index import Report
    from workstation_pipelines.sync.workspace import Workspace

SOURCES_CHECKED = 100
"""The most sources that a run of the checks alone looks at, those synced longest ago first."""

IDS_NAMED = 20


@dataclass(frozen=True, slots=True)
class Health:
    """One source: its state, and how its index agrees with its documents. `outside` are problems of one at Pinecone."""

    state: SourceState
    index: Report
    outside: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Check:
    """`problems` returns how many of what are wrong with one source, by name; all zero means that it passes.

    `remedy` is what to do then. `evidence` says more of the sources that fail, under names of its own.
    """

    stage: str
    severity: dg.AssetCheckSeverity
    description: str
    problems: Callable[[Health], dict[str, int]]
    remedy: str
    evidence: Callable[[Sequence[Health]], dict[str, dg.RawMetadataValue]] = lambda _failing: {}


def _unfinished(health: Health) -> dict[str, int]:
    status = health.state.last_job_status
    return {status.value if status else "never_synced": int(status is not JobStatus.COMPLETED)}


def _open_failures(health: Health) -> dict[str, int]:
    return {"open_failures": health.state.open_failures}


def _late(health: Health) -> dict[str, int]:
    return {"late": int(health.state.is_late)}


def _since_when(failing: Sequence[Health]) -> dict[str, dg.RawMetadataValue]:
    """A table of the sources that are late, the one that is so for the longest first."""
    states = sorted((health.state for health in failing), key=lambda state: (state.due_at is None, state.due_at))
    records = [
        dg.TableRecord(
            {
                "data_source": str(state.data_source_id),
                "late_since": _written(state.due_at),
                "last_sync": _written(state.last_sync_at) or "never",
                "objective_minutes": state.objective_minutes or 0,
            }
        )
        for state in states[:IDS_NAMED]
    ]
    return {"late_data_sources": dg.MetadataValue.table(records)} if records else {}


def _written(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment is not None else ""


def _texts(health: Health) -> dict[str, int]:
    return {"missing_texts": health.state.missing_texts, "wrong_hashes": len(health.index.wrong_hash)}


def _index(health: Health) -> dict[str, int]:
    index = health.index
    return {
        "stale_documents": len(index.stale),
        "chunks_missing": max(index.chunks_expected - index.chunks, 0),
        "vectors_missing": max(index.chunks - index.vectors, 0),
        "chunks_no_document_shows": index.strays + max(index.chunks - index.chunks_expected, 0),
    }


def _outside(health: Health) -> dict[str, int]:
    return dict(health.outside)


WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
CHECKS = {
    "last_sync_completed": Check(
        "items",
        WARN,
        "The newest sync ended completed, with no item failed.",
        _unfinished,
        "`workstation jobs list` and `jobs show` say why",
    ),
    "no_open_failures": Check(
        "items",
        WARN,
        "No item is waiting in the failure ledger.",
        _open_failures,
        "`workstation jobs show` names each; they are tried again by themselves, or now with `sync --retry-failed`",
    ),
    "synced_lately": Check(
        "items",
        WARN,
        "The last sync is no older than the source's freshness objective, its own or that of its frequency.",
        _late,
        "`workstation status` says what holds it up",
        _since_when,
    ),
    "no_missing_text": Check(
        "documents",
        ERROR,
        "Every document has text, and a sample of texts matches its stored hash.",
        _texts,
        "`workstation check --repair`, then `sync --job-type full_sync`, fetches these anew",
    ),
    "rows_chunks_vectors_agree": Check(
        "embeddings",
        ERROR,
        "Every live document has its chunks, every chunk its vector, and none is left over.",
        _index,
        "the job agreement_check, or `workstation check --repair`, mends it without fetching anything",
    ),
    "index_outside_agrees": Check(
        "embeddings",
        WARN,
        "An index outside the database, where there is one, holds just the vectors of some documents that were picked.",
        _outside,
        "the job agreement_check, or `workstation check --repair`, mends it without embedding anything",
    ),
}


def check_specs(source_type: SourceType) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=[source_type.value, check.stage], description=check.description)
        for name, check in CHECKS.items()
    ]


def examine(workspace: Workspace, user_id: UserId, data_source_id: UUID) -> Health | None:
    """Look at one source; None when it was removed."""
    from workstation_pipelines.db.health import of_source
    from workstation_pipelines.sync.index import check
    from workstation_pipelines.sync.index_repair import check_some

    with workspace.database.transaction_with_rls(user_id) as connection:
        state = of_source(connection, user_id=user_id, data_source_id=data_source_id, counts_texts=True)
    if state is None:
        return None
    vectorizer = workspace.vectorizer(user_id)
    outside: Mapping[str, int] = {}
    if workspace.external_index is not None:
        outside = check_some(workspace.external_index, user_id=user_id, data_source_id=data_source_id)
    report = check(workspace.database, vectorizer, user_id=user_id, data_source_id=data_source_id)
    return Health(state, report, outside)


def examine_all(workspace: Workspace, source_type: SourceType) -> list[Health]:
    """Look at the sources of one type, all users', at most SOURCES_CHECKED."""
    from workstation_pipelines.db import data_sources

    found = data_sources.to_probe(workspace.database, source_type, at_most=SOURCES_CHECKED)
    seen = (examine(workspace, user_id, data_source_id) for user_id, data_source_id in found)
    return [health for health in seen if health is not None]


def results(wanted: Iterable[dg.AssetCheckKey], healths: Sequence[Health]) -> Iterator[dg.AssetCheckResult]:
    """Yield one result for each wanted check over the given sources."""
    for key in wanted:
        yield _result(key, CHECKS[key.name], healths)


def _result(key: dg.AssetCheckKey, check: Check, healths: Sequence[Health]) -> dg.AssetCheckResult:
    totals: dict[str, int] = {}
    failing: list[Health] = []
    for health in healths:
        problems = {name: count for name, count in check.problems(health).items() if count}
        if problems:
            failing.append(health)
        for name, count in problems.items():
            totals[name] = totals.get(name, 0) + count
    metadata: dict[str, dg.RawMetadataValue] = {"data_sources": len(healths), **totals}
    if failing:
        metadata["failing_data_sources"] = [str(health.state.data_source_id) for health in failing[:IDS_NAMED]]
        metadata.update(check.evidence(failing))
    if key.name == "rows_chunks_vectors_agree":
        for name in ("documents", "chunks", "vectors"):
            metadata[name] = sum(getattr(health.index, name) for health in healths)
    return dg.AssetCheckResult(
        passed=not failing,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=check.severity,
        metadata=metadata,
        description=_told(check, totals) if totals else None,
    )


def _told(check: Check, totals: Mapping[str, int]) -> str:
    counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in totals.items())
    return f"{counted}: {check.remedy}"
