"""One job while it runs: what it works with, what was asked of it, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workstation_pipelines.db.data_sources import DataSource, Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import Counts, JobType, Limit, NewId, SyncJobId
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.heartbeat import BEAT_EVERY_S
from workstation_pipelines.sync.measure import Measures
from workstation_pipelines.sync.rules import NO_RULES, SourceRules
from workstation_pipelines.sync.stopping import StopSignal
from workstation_pipelines.sync.vectorize import Vectorizer


@dataclass(frozen=True, slots=True)
class SyncParts:
    """What a sync works with; everything that differs between production, tests and benchmarks."""

    database: Database
    source: Source
    extractor: Extractor
    vectorizer: Vectorizer
    new_id: NewId
    faults: Faults = field(default_factory=Faults)
    beat_every_s: float = BEAT_EVERY_S
    after_commit: Callable[[], None] = lambda: None
    """Called after each committed batch, in the thread that waits for nothing else: it must return at once."""


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """One wish to sync. `job_id` names a waiting job, whose row says what is wanted; without one a new job is written.

    `limits` are budgets for this sync alone, beside those that are stored.
    """

    job_type: JobType = JobType.MANUAL
    job_id: SyncJobId | None = None
    dagster_run_id: str | None = None
    confirm_deletes: bool = False
    idempotency_key: str | None = None
    limits: Sequence[Limit] = ()


@dataclass(slots=True)
class Job:
    """A job between its lease and its end; only the thread that runs the page loop changes it.

    `counts` are what is committed. `progress` lies behind the page in work and `committed_progress` behind the last batch
    handed over to be committed: what is stored of them lets another run go on. `is_complete` tells that a listing has
    shown everything, `live_before` how many items there were when the job began, and `awaiting` why someone has to look.
    `measures` are what the next batch is to write besides its own, `rules` those of the source when the job began.
    Whatever finds that the job should end tells `stop`.
    """

    id: SyncJobId
    data_source: DataSource
    lease: Lease
    request: SyncRequest
    parts: SyncParts
    counts: Counts = field(default_factory=Counts)
    pages: int = 0
    progress: Mapping[str, Any] = field(default_factory=dict)
    committed_progress: Mapping[str, Any] = field(default_factory=dict)
    calls_counted: int = 0
    is_complete: bool = False
    awaiting: str = ""
    live_before: int = 0
    measures: Measures = field(default_factory=Measures)
    stop: StopSignal = field(default_factory=StopSignal)
    rules: SourceRules = NO_RULES

    @property
    def is_listing(self) -> bool:
        return self.progress.get("mode") == "listing"

    def note(self, **progress: Any) -> None:
        """Remember something with the batches to come."""
        self.progress = {**self.progress, **progress}

    def uncounted_calls(self) -> int:
        """Return how many calls went to the vendor that no batch has counted."""
        return self.parts.source.provider_calls - self.calls_counted
