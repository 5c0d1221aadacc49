"""Documents cut and embedded anew under other settings, from the texts that are stored. Nothing is fetched.

The settings are chosen first, for the documents and for what their source or project will get; then the documents follow,
a few in each transaction. Whoever searches meanwhile sees each document as it was or as it becomes, never both or neither.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import documents, index_settings, item_decisions, processing, vectors
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.db.processing import Attempt, Outcome, Spent, Subject
from workstation_pipelines.db.vectors import Reprocessable
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import (
    BudgetReachedError,
    CancelledError,
    FencedError,
    InvalidRequestError,
    RetryableError,
    WorkstationError,
)
from workstation_pipelines.model import (
    DocumentId,
    IndexConfigId,
    JobStatus,
    NewId,
    OutcomeStatus,
    ProcessingJobId,
    ProcessingKind,
    UserId,
)
from workstation_pipelines.sync.budget import Allowance
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.heartbeat import BEAT_EVERY_S, Heartbeat, of_processing
from workstation_pipelines.sync.intake import storable
from workstation_pipelines.sync.processing import RESUME, ProcessingResult, paused_by
from workstation_pipelines.sync.recut import Recut, meter, prepare
from workstation_pipelines.sync.stopping import StopSignal
from workstation_pipelines.sync.vectorize import Vectorizer

DOCUMENTS_A_BATCH = 20
CHARACTERS_A_BATCH = 400_000
"""What a local model embeds in less than half a minute: so much is done once more after a kill."""


@dataclass(frozen=True, slots=True)
class ReprocessingParts:
    """What reprocessing works with; everything that differs between production and tests."""

    database: Database
    vectorizer: Vectorizer
    faults: Faults
    beat_every_s: float = BEAT_EVERY_S


@dataclass(frozen=True, slots=True)
class Reprocessed:
    """What one transaction did: documents by outcome, and chunks by whether they had to be embedded."""

    done: int
    skipped: int
    embedded: int
    reused: int
    tokens: int


def choose(
    database: Database,
    vectorizer: Vectorizer,
    *,
    user_id: UserId,
    selection: Selection,
    index_config_id: IndexConfigId | None,
    new_id: NewId,
) -> ProcessingJobId:
    """Choose an index config for a selection and enqueue the job that brings its documents there; return the job's id.

    None takes an earlier choice back. One transaction: no sync sees the choice without the job. Raises
    InvalidRequestError when the selection has no documents.
    """
    with database.transaction_with_rls(user_id) as connection:
        index_settings.want(
            connection,
            user_id=user_id,
            selection=selection,
            index_config_id=index_config_id,
            default=vectorizer.config.id,
            new_id=new_id,
        )
        chosen = index_settings.selected(connection, user_id=user_id, selection=selection)
        if not chosen:
            raise InvalidRequestError("there are no documents in this selection: sync first, or choose another one")
        return processing.enqueue(
            connection,
            user_id=user_id,
            job_id=ProcessingJobId(new_id()),
            kind=ProcessingKind.DOCUMENT_REPROCESSING,
            subjects=map(str, chosen),
            config={"index_config_id": str(index_config_id) if index_config_id else None},
            project_id=selection.project_id,
        )


def fetch_again(database: Database, *, user_id: UserId, selection: Selection) -> int:
    """Let the next full sync fetch and extract a selection's documents again; return how many items that concerns.

    The bytes of a document are not kept, so new extraction needs its source. Until then the stored texts stay in use.
    """
    with database.transaction_with_rls(user_id) as connection:
        chosen = index_settings.selected(connection, user_id=user_id, selection=selection)
        documents.forget_hashes(connection, user_id=user_id, document_ids=chosen)
        return item_decisions.forget_hashes(connection, user_id=user_id, document_ids=chosen)


def run_reprocessing(
    parts: ReprocessingParts, *, user_id: UserId, job_id: ProcessingJobId, dagster_run_id: str | None = None
) -> Generator[Reprocessed, None, ProcessingResult]:
    """Work on a job until it is over; yields after every commit, and returns how the attempt ended.

    What is committed is never done again, so after a kill the next attempt goes on. Raises BusyError, NotFoundError and
    FencedError without a trace in the database, and bugs after the job has been recorded as failed. A cancel request, a
    budget and an embedder that is away are not errors.
    """
    with processing.held(parts.database, job_id=job_id):
        with parts.database.transaction_with_rls(user_id) as connection:
            started = processing.start(connection, user_id=user_id, job_id=job_id, dagster_run_id=dagster_run_id)
        run = _Run(parts, started.attempt)
        try:
            yield from run.work()
            return run.finish()
        except FencedError:
            raise
        except CancelledError as stop:
            return run.end(JobStatus.CANCELLED, stop.message)
        except (RetryableError, BudgetReachedError) as error:
            return run.end(JobStatus.PAUSED, error.message, wait_s=error.wait_s, paused_by=paused_by(error))
        except WorkstationError as error:
            run.end(JobStatus.FAILED, error.message)
            raise
        except Exception as bug:  # recorded, so that no job stays `running`, and raised again
            run.end(JobStatus.FAILED, f"{type(bug).__name__}: this is a bug, the log has the details")
            raise
        except BaseException:  # Ctrl-C, a closed generator, a scheduler's interrupt
            run.end(JobStatus.CANCELLED, "the process running it was told to stop; what is committed stays")
            raise


class _Run:
    """One attempt at a job."""

    def __init__(self, parts: ReprocessingParts, attempt: Attempt) -> None:
        self._parts = parts
        self._attempt = attempt
        self._packer = TsvectorPacker()
        self._stop = StopSignal()
        self._allowance = Allowance(
            parts.database,
            user_id=attempt.user_id,
            data_source_id=None,
            token_price=parts.vectorizer.token_price,
            again=RESUME,
        )

    def work(self) -> Iterator[Reprocessed]:
        """Raises CancelledError, BudgetReachedError, and whatever concerns all documents."""
        beat = of_processing(self._parts.database, self._attempt)
        with Heartbeat(beat, self._stop, every_s=self._parts.beat_every_s):
            yield from self._batches()

    def _batches(self) -> Iterator[Reprocessed]:
        last = -1
        while True:
            with self._transaction() as connection:
                subjects = processing.take(connection, self._attempt, after=last, at_most=DOCUMENTS_A_BATCH)
                found = vectors.reprocessable(
                    connection,
                    user_id=self._attempt.user_id,
                    default=self._parts.vectorizer.config.id,
                    document_ids=[UUID(subject.subject) for subject in subjects],
                )
            if not subjects:
                return
            last = subjects[-1].ordinal
            self._parts.faults.reach("rework_taken")
            for some in _windows(subjects, found):
                self._stop.raise_if_set()
                yield from self._rework(some, found)

    def finish(self) -> ProcessingResult:
        self._parts.faults.reach("rework_before_end")
        with self._transaction() as connection:
            status = processing.complete(connection, self._attempt)
        return ProcessingResult(self._attempt.job_id, status)

    def end(
        self, status: JobStatus, message: str, *, wait_s: float | None = None, paused_by: str | None = None
    ) -> ProcessingResult:
        """Close the attempt. If even that fails, its silence ends it."""
        message = storable(message)
        try:
            with self._transaction() as connection:
                processing.end(
                    connection, self._attempt, status=status, message=message, wait_s=wait_s, paused_by=paused_by
                )
        except RetryableError:
            pass
        return ProcessingResult(self._attempt.job_id, status, message, wait_s)

    def _rework(self, subjects: Sequence[Subject], found: Mapping[UUID, Reprocessable]) -> Iterator[Reprocessed]:
        by_config: dict[IndexConfigId | None, list[Subject]] = {}
        for subject in subjects:
            document = found.get(UUID(subject.subject))
            is_idle = document is None or document.is_current
            by_config.setdefault(None if is_idle or document is None else document.wanted, []).append(subject)
        for config_id, some in by_config.items():
            if config_id is None:
                yield self._pass_over(some, found)
            else:
                yield self._recut(config_id, some, found)

    def _pass_over(self, subjects: Sequence[Subject], found: Mapping[UUID, Reprocessable]) -> Reprocessed:
        outcomes = [
            _skipped(subject, "unchanged" if UUID(subject.subject) in found else "deleted") for subject in subjects
        ]
        with self._transaction() as connection:
            is_cancelled = processing.record(connection, self._attempt, outcomes)
        _stop_if(is_cancelled)
        return Reprocessed(0, len(subjects), 0, 0, 0)

    def _recut(
        self, config_id: IndexConfigId, subjects: Sequence[Subject], found: Mapping[UUID, Reprocessable]
    ) -> Reprocessed:
        begun_s = time.monotonic()
        recut, over = prepare(
            self._parts.database,
            self._parts.vectorizer.of(config_id),
            self._allowance,
            user_id=self._attempt.user_id,
            sources={UUID(each.subject): found[UUID(each.subject)].data_source_id for each in subjects},
            job_id=self._attempt.job_id,
            faults=self._parts.faults,
            stop=self._stop,
        )
        within = {write.id for write in recut.writes}
        left_out = [each for each in subjects if over is not None and UUID(each.subject) not in within]
        worked = [each for each in subjects if each not in left_out]
        with self._transaction() as connection:
            done = set(
                documents.rechunk(connection, user_id=self._attempt.user_id, writes=recut.writes, packer=self._packer)
            )
            self._parts.faults.reach("rework_chunks_written")
            meter(connection, user_id=self._attempt.user_id, usages=recut.usages, took_s=recut.took_s)
            duration_s = (time.monotonic() - begun_s) / max(len(worked), 1)
            # Whatever changed a document meanwhile has followed the same choice.
            outcomes = [
                _done(each, duration_s) if UUID(each.subject) in done else _skipped(each, "changed_meanwhile")
                for each in worked
            ]
            is_cancelled = processing.record(connection, self._attempt, outcomes, _spent(recut))
            self._parts.faults.reach("rework_before_commit")
        self._parts.faults.reach("rework_committed")
        _stop_if(is_cancelled)
        if over is not None:
            raise over
        return Reprocessed(len(done), len(worked) - len(done), recut.embedded, recut.reused, recut.tokens)

    def _transaction(self) -> AbstractContextManager[Connection]:
        return self._parts.database.transaction_with_rls(self._attempt.user_id)


def _windows(subjects: Sequence[Subject], found: Mapping[UUID, Reprocessable]) -> Iterator[list[Subject]]:
    """Cut a batch where its texts grow too long for one transaction."""
    window: list[Subject] = []
    characters = 0
    for subject in subjects:
        document = found.get(UUID(subject.subject))
        length = document.characters if document is not None and not document.is_current else 0
        if window and characters + length > CHARACTERS_A_BATCH:
            yield window
            window, characters = [], 0
        window.append(subject)
        characters += length
    yield window


def _done(subject: Subject, duration_s: float) -> Outcome:
    document_id = DocumentId(UUID(subject.subject))
    return Outcome(subject.ordinal, OutcomeStatus.DONE, "reprocessed", "", document_id, duration_s)


def _skipped(subject: Subject, reason: str) -> Outcome:
    document_id = None if reason == "deleted" else DocumentId(UUID(subject.subject))
    return Outcome(subject.ordinal, OutcomeStatus.SKIPPED, reason, "", document_id)


def _spent(recut: Recut) -> Spent:
    cost = sum((usage.cost for usage in recut.usages), Decimal(0))
    return Spent(recut.embedded, recut.reused, recut.tokens, cost)


def _stop_if(is_cancelled: bool) -> None:
    if is_cancelled:
        raise CancelledError(
            "cancelled; what is committed stays, and `workstation reprocess status` tells what is left"
        )
