"""Deletion by absence: what a complete listing did not show is gone, unless it is so much that someone should look first.

What someone looked at and wants to keep is left alone as long as it stays away; what goes missing besides is judged by
itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from workstation_pipelines.db import absent_items, sync_items
from workstation_pipelines.db.data_sources import prove_lease
from workstation_pipelines.model import Progress, SyncStatus
from workstation_pipelines.sync.checkpoint import sweep_of
from workstation_pipelines.sync.delta import is_mass_delete
from workstation_pipelines.sync.job import Job
from workstation_pipelines.sync.page import PageWorker


def remove_absent(job: Job, worker: PageWorker, named: Iterable[str]) -> Iterator[Progress]:
    """Delete what the source named absent and what its listing did not show, or say in `job.awaiting` why not."""
    absent = _absent(job, named)
    # Whoever narrows the scope wants the rest gone; a listing without any item is never taken for that.
    is_wanted = job.request.confirm_deletes or (job.progress.get("is_rescoped") and job.counts.found > 0)
    if not is_wanted:
        absent = _without_kept(job, absent)
        if is_mass_delete(len(absent), job.live_before):
            _hold_back(job, absent)
            job.awaiting = (
                f"{len(absent)} of {job.live_before} items are gone from the source, so nothing was deleted here."
                f" Look at the source: if that is right, `workstation jobs confirm {job.id}` deletes them; if not,"
                f" `workstation jobs refuse {job.id}` keeps them"
            )
            return
    yield from worker.delete(absent)


def _without_kept(job: Job, absent: Sequence[str]) -> list[str]:
    with job.parts.database.transaction_with_rls(job.lease.user_id) as connection:
        prove_lease(connection, job.lease)
        if job.is_listing:  # a feed does not say who is back
            absent_items.forget_absence(connection, job.lease, still_absent=absent)
        kept = absent_items.kept_though_absent(connection, job.lease)
    return [external_id for external_id in absent if external_id not in kept]


def _hold_back(job: Job, absent: Sequence[str]) -> None:
    """Write down what is asked about."""
    with job.parts.database.transaction_with_rls(job.lease.user_id) as connection:
        prove_lease(connection, job.lease)
        absent_items.hold_back(connection, job.lease, job_id=job.id, external_ids=absent)


def _absent(job: Job, named: Iterable[str]) -> list[str]:
    sweep_id = sweep_of(job.progress)
    with job.parts.database.transaction_with_rls(job.lease.user_id) as connection:
        # Of what a source names, only what is there counts.
        absent = [
            external_id
            for external_id, stored in sync_items.known(connection, job.lease, external_ids=list(named)).items()
            if stored.sync_status is not SyncStatus.DELETED
        ]
        if sweep_id is not None and not job.progress.get("is_blind"):
            unseen = absent_items.unseen(connection, job.lease, sweep_id=sweep_id)
            absent = list(dict.fromkeys([*absent, *unseen]))
    return absent
