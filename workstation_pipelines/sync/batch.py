"""What one transaction of a sync writes, and the writing of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import documents, metering, rulings, sync_containers, sync_failures, sync_items, sync_jobs
from workstation_pipelines.db.data_sources import Lease, prove_lease
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.filing import Filing, file
from workstation_pipelines.db.sync_items import ItemMove, ItemWrite
from workstation_pipelines.db.sync_jobs import Asked
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import (
    BudgetReachedError,
    CancelledError,
    PausedError,
    ReauthorizeError,
    RetryableError,
)
from workstation_pipelines.model import Container, Counts, ItemFailure, Measure, NewId, SyncJobId, Usage
from workstation_pipelines.sync.faults import Faults

EndedBy = RetryableError | ReauthorizeError | BudgetReachedError | CancelledError | PausedError
"""What may end a page in its middle."""

FreshVectors = Mapping[UUID, Mapping[bytes, bytes]]
"""By index config: text hash -> halfvec value."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction is to write. Built without touching the database, but for reading known embeddings.

    `described` are items with another path or title than the rules were applied to, and of `outdated_documents` the source
    has something newer than what is kept of them.
    `ended_by` tells that the source or a budget gave out half way, or that the run is to stop: the batch holds what was had
    until then.
    """

    item_writes: Sequence[ItemWrite] = ()
    document_writes: Sequence[DocumentWrite] = ()
    failures: Sequence[ItemFailure] = ()
    resolved: Sequence[str] = ()
    deleted: Sequence[str] = ()
    dropped_documents: Sequence[UUID] = ()
    outdated_documents: Sequence[UUID] = ()
    described: Sequence[str] = ()
    seen: Sequence[str] = ()
    moved: Sequence[ItemMove] = ()
    counts: Counts = field(default_factory=Counts)
    external_ids: frozenset[str] = frozenset()
    fresh_vectors: FreshVectors = field(default_factory=dict)
    ended_by: EndedBy | None = None
    containers: Sequence[Container] = ()
    usages: Sequence[Usage] = ()
    measures: Sequence[Measure] = ()


class BatchWriter:
    """Commits batches, one at a time, each in one transaction that first proves the lease."""

    def __init__(
        self,
        *,
        database: Database,
        lease: Lease,
        job_id: SyncJobId,
        project_id: UUID | None,
        new_id: NewId,
        faults: Faults,
    ) -> None:
        self._database = database
        self._lease = lease
        self._job_id = job_id
        self._project_id = project_id
        self._new_id = new_id
        self._faults = faults
        self._packer = TsvectorPacker()

    def write(self, batch: Batch, *, pages: int, progress: Mapping[str, Any]) -> Asked:
        """Commit a batch with its counts and the resume point behind it; return what was asked of the job meanwhile.

        Raises FencedError, and then nothing of the batch is stored.
        """
        lease, job_id = self._lease, self._job_id
        begun_s = time.perf_counter()
        sweep_id = UUID(progress["sweep_id"]) if progress.get("sweep_id") else None
        with self._database.transaction_with_rls(lease.user_id) as connection:
            prove_lease(connection, lease)
            self._faults.reach("page_lease_proven")
            documents.store(
                connection,
                user_id=lease.user_id,
                data_source_id=lease.data_source_id,
                project_id=self._project_id,
                writes=batch.document_writes,
                packer=self._packer,
            )
            self._file(connection, batch)
            self._faults.reach("page_documents_written")
            sync_items.write(connection, lease, job_id=job_id, sweep_id=sweep_id, writes=batch.item_writes)
            if sweep_id is not None and batch.seen:
                sync_items.mark_seen(connection, lease, sweep_id=sweep_id, external_ids=batch.seen)
            if batch.containers:
                sync_containers.write(connection, lease, sweep_id=sweep_id, containers=batch.containers)
            dropped = list(batch.dropped_documents)
            if batch.moved:
                sync_items.move(connection, lease, moved=batch.moved)
            if batch.deleted:
                dropped += sync_items.mark_deleted(connection, lease, job_id=job_id, external_ids=batch.deleted)
            documents.tombstone(connection, user_id=lease.user_id, document_ids=dropped)
            rulings.forget_originals(connection, user_id=lease.user_id, document_ids=batch.outdated_documents)
            if batch.described:
                rulings.mark_described(
                    connection,
                    user_id=lease.user_id,
                    data_source_id=lease.data_source_id,
                    external_ids=batch.described,
                )
            self._faults.reach("page_items_written")
            sync_failures.record(connection, lease, job_id=job_id, failures=batch.failures, new_id=self._new_id)
            sync_failures.resolve(connection, lease, external_ids=batch.resolved)
            self._meter(connection, batch, wrote_s=time.perf_counter() - begun_s)
            asked = sync_jobs.advance(
                connection,
                lease,
                job_id=job_id,
                counts=batch.counts,
                cost=sum((usage.cost for usage in batch.usages), Decimal(0)),
                pages=pages,
                progress=progress,
            )
            self._faults.reach("page_before_commit")
        self._faults.reach("page_committed")
        return asked

    def _file(self, connection: Connection, batch: Batch) -> None:
        filings = [
            Filing(write.id, write.ruling.project, write.ruling.tags)
            for write in batch.document_writes
            if write.ruling is not None
        ]
        file(
            connection,
            user_id=self._lease.user_id,
            default_project=self._project_id,
            filings=filings,
            new_id=self._new_id,
        )

    def _meter(self, connection: Connection, batch: Batch, *, wrote_s: float) -> None:
        user_id, data_source_id = self._lease.user_id, self._lease.data_source_id
        metering.record(connection, user_id=user_id, usages=batch.usages)
        measures = [*batch.measures, Measure("write", "duration_s", 1, wrote_s, wrote_s)]
        metering.observe(connection, user_id=user_id, data_source_id=data_source_id, measures=measures)
