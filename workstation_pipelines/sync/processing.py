"""Bulk processing: many subjects, a few at a time, each with its own transaction and its own outcome.

A subject's document and its outcome are committed together, so an attempt that dies anywhere is followed by one that
goes on with what is pending and does nothing twice. What fails is a row; only what concerns all documents ends the job.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from workstation_pipelines.db import metering, processing, uploads
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.processing import Attempt, Outcome, Spent, Started, Subject
from workstation_pipelines.db.rulings import FILTERED
from workstation_pipelines.errors import (
    BudgetReachedError,
    CancelledError,
    FencedError,
    FilteredError,
    ItemGoneError,
    RetryableError,
    SkipItemError,
    UnreadableContentError,
    WorkstationError,
)
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import JobStatus, NewId, OutcomeStatus, ProcessingJobId, Usage, UserId
from workstation_pipelines.sources.web import WebFetcher
from workstation_pipelines.sync import rules
from workstation_pipelines.sync.budget import Allowance, SharedAllowance
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.intake import storable
from workstation_pipelines.sync.processed import ProcessedReapplier
from workstation_pipelines.sync.standalone import Labels, Prepared, StandaloneDocuments
from workstation_pipelines.sync.subjects import Read, SubjectReader
from workstation_pipelines.sync.vectorize import Vectorized, Vectorizer

AT_A_TIME = 5
MOST_AT_A_TIME = 32
RESUME = "resume the job"
MOST_ATTEMPTS = 3
"""A subject over which so many processes have died is not tried again."""

BEAT_S = 5.0
CANCEL_WAIT_S = 15.0
"""Documents that are under way when a cancel is seen may take so long; then the job ends without them."""


@dataclass(frozen=True, slots=True)
class ProcessingParts:
    """What bulk processing works with; everything that differs between production and tests."""

    database: Database
    fetcher: WebFetcher
    folder_roots: tuple[Path, ...] | None
    extractor: Extractor
    vectorizer: Vectorizer
    new_id: NewId
    faults: Faults = field(default_factory=Faults)
    after_commit: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Processed:
    """What a running job tells after each document."""

    job_id: ProcessingJobId
    subject: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ProcessingResult:
    """How an attempt ended: a status of a job that is over, or `paused` with the wait that was asked for."""

    job_id: ProcessingJobId
    status: JobStatus
    message: str = ""
    wait_s: float | None = None


def run_processing(
    parts: ProcessingParts, *, user_id: UserId, job_id: ProcessingJobId, dagster_run_id: str | None = None
) -> Generator[Processed, None, ProcessingResult]:
    """Work on a job until it is over; yields after each document, and returns how the attempt ended.

    Raises BusyError, NotFoundError and FencedError without a trace in the database; errors that concern all documents
    and bugs after the job has been recorded as failed. A cancel request and a service that is away are not errors.
    """
    with processing.held(parts.database, job_id=job_id):
        with parts.database.transaction_with_rls(user_id) as connection:
            started = processing.start(connection, user_id=user_id, job_id=job_id, dagster_run_id=dagster_run_id)
        parts.faults.reach("processing_started")
        run = _Run(parts, started)
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

    def __init__(self, parts: ProcessingParts, started: Started) -> None:
        self._parts = parts
        self._attempt: Attempt = started.attempt
        self._at_a_time = at_a_time_of(started.config)
        self._labels = Labels(started.project_id, [str(tag) for tag in started.config.get("tags", ())])
        user_id = started.attempt.user_id
        self._reader = SubjectReader(
            database=parts.database, user_id=user_id, fetcher=parts.fetcher, folder_roots=parts.folder_roots
        )
        self._documents = StandaloneDocuments(
            database=parts.database,
            user_id=user_id,
            extractor=parts.extractor,
            vectorizer=parts.vectorizer,
            new_id=parts.new_id,
        )
        self._under_way: dict[Future[Outcome], Subject] = {}
        self._suspect: Subject | None = None
        self._is_alone = False
        self._last = -1
        self._is_cancelled = False
        self._unfinished: set[int] = set()
        self._over: BudgetReachedError | None = None
        self._budgets = Allowance(
            parts.database,
            user_id=user_id,
            data_source_id=None,
            token_price=parts.vectorizer.token_price,
            again=RESUME,
        )
        self._allowance = SharedAllowance(self._budgets)

    def work(self) -> Iterator[Processed]:
        """Raises CancelledError, BudgetReachedError, and whatever concerns all documents."""
        self._apply_rules()
        threads = ThreadPoolExecutor(self._at_a_time, thread_name_prefix="process")
        beaten_s = time.monotonic()
        try:
            while True:
                self._fill(threads)
                if not self._under_way:
                    if self._over is not None:
                        raise self._over
                    return
                yield from self._finished(BEAT_S)
                if time.monotonic() - beaten_s >= BEAT_S:
                    beaten_s = time.monotonic()
                    self._beat()
                if self._is_cancelled:
                    end_s = time.monotonic() + CANCEL_WAIT_S
                    while self._under_way and time.monotonic() < end_s:
                        yield from self._finished(end_s - time.monotonic())
                    raise CancelledError("cancelled; what is committed stays")
        finally:
            # Whoever is still at work finds that the attempt is over, and stores nothing.
            threads.shutdown(wait=False, cancel_futures=True)

    def _apply_rules(self) -> None:
        """Bring what was processed before under the rules as they are now, which then hold for the whole attempt."""
        with self._transaction() as connection:
            found = rules.load_processed(connection, user_id=self._attempt.user_id)
        self._documents.rules = found
        reapplier = ProcessedReapplier(
            self._parts.database,
            self._parts.vectorizer,
            self._budgets,
            found,
            user_id=self._attempt.user_id,
            new_id=self._parts.new_id,
            job_id=self._attempt.job_id,
        )
        for _ in reapplier.run():
            self._beat()

    def finish(self) -> ProcessingResult:
        self._parts.faults.reach("processing_before_end")
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
                is_ours = processing.end(
                    connection, self._attempt, status=status, message=message, wait_s=wait_s, paused_by=paused_by
                )
                if is_ours and status is JobStatus.PAUSED:
                    processing.give_back(connection, self._attempt, ordinals=self._unfinished)
                if is_ours and status is not JobStatus.PAUSED:
                    uploads.remove_of_job(connection, user_id=self._attempt.user_id, job_id=self._attempt.job_id)
        except RetryableError:
            pass
        return ProcessingResult(self._attempt.job_id, status, message, wait_s)

    def _fill(self, threads: ThreadPoolExecutor) -> None:
        """Put subjects to work while there is room.

        One that was under way when an earlier process died works alone, so that only what kills is ever blamed for it.
        """
        if not self._under_way:
            self._is_alone = False
        while not self._is_alone and len(self._under_way) < self._at_a_time and not self._is_stopping:
            subject = self._suspect or self._take()
            if subject is None:
                return
            is_suspect = subject.attempts > 1
            self._suspect = subject if is_suspect and self._under_way else None
            if self._suspect is not None:
                return
            self._is_alone = is_suspect
            self._under_way[threads.submit(self._process, subject)] = subject

    @property
    def _is_stopping(self) -> bool:
        return self._is_cancelled or self._over is not None

    def _finished(self, timeout_s: float) -> Iterator[Processed]:
        done, _ = wait(self._under_way, timeout=timeout_s, return_when=FIRST_COMPLETED)
        for future in done:
            subject = self._under_way.pop(future)
            self._parts.after_commit()
            try:
                outcome = future.result()
            except BudgetReachedError as over:  # what is under way is still paid for
                self._over = over
                continue
            self._unfinished.discard(subject.ordinal)
            yield Processed(self._attempt.job_id, subject.subject, outcome)

    def _take(self) -> Subject | None:
        with self._transaction() as connection:
            taken = processing.take(connection, self._attempt, after=self._last, at_most=1)
        self._parts.faults.reach("subject_taken")
        if not taken:
            return None
        self._last = taken[0].ordinal
        self._unfinished.add(self._last)
        return taken[0]

    def _beat(self) -> None:
        with self._transaction() as connection:
            self._is_cancelled = processing.beat(connection, self._attempt) or self._is_cancelled

    def _process(self, subject: Subject) -> Outcome:
        """Do one subject, in a thread. Raises FencedError, BudgetReachedError, and what concerns all subjects."""
        begun_s = time.monotonic()
        read: Read | None = None
        try:
            if subject.attempts > MOST_ATTEMPTS:
                raise UnreadableContentError(
                    f"{MOST_ATTEMPTS} processes ended while they worked on it: leave it out", reason="process_died"
                )
            read = self._reader.read(subject.subject)
            self._parts.faults.reach("subject_read")
            texts, left_out = self._documents.extract(read)
            prepared = self._documents.prepare(read, texts)
        except Exception as problem:  # noqa: BLE001 - it becomes the subject's outcome
            return self._record_problem(subject, read, problem, begun_s)
        outcome = None
        while outcome is None:
            with self._allowance.taking(partial(self._documents.tokens, prepared)):
                vectorized = self._documents.vectorize(prepared)
                try:
                    outcome = self._store(subject, prepared, vectorized, left_out, begun_s)
                    if outcome is None:
                        prepared = self._documents.prepare(read, texts)
                except (FencedError, RetryableError):
                    raise
                except Exception as problem:  # noqa: BLE001 - it becomes the subject's outcome
                    return self._record_problem(subject, read, problem, begun_s)
        self._parts.faults.reach("subject_committed")
        return outcome

    def _store(
        self, subject: Subject, prepared: Prepared, vectorized: Vectorized, left_out: Sequence[str], begun_s: float
    ) -> Outcome | None:
        """Commit a document with its outcome and its bill; None when it is to be prepared again."""
        with self._transaction() as connection:
            if not self._documents.store(connection, prepared, vectorized, self._labels):
                return None
            usages = self._documents.usages(prepared, vectorized, job_id=self._attempt.job_id)
            metering.record(connection, user_id=self._attempt.user_id, usages=usages)
            shown = [self._documents.rules.shown_words(each) for each in (*left_out, *prepared.left_out)]
            outcome = _stored(subject, prepared, shown, time.monotonic() - begun_s)
            self._record(connection, outcome, prepared.read, _spent(vectorized, usages))
        return outcome

    def _record_problem(self, subject: Subject, read: Read | None, problem: Exception, begun_s: float) -> Outcome:
        is_left_out = isinstance(problem, SkipItemError) and problem.stored_as == "skipped"
        is_skipped = is_left_out and not isinstance(problem, ItemGoneError)
        status = OutcomeStatus.SKIPPED if is_skipped else OutcomeStatus.FAILED
        reason, message = _told(problem)
        message = self._documents.rules.shown_words(message)
        kept = FILTERED if isinstance(problem, FilteredError) else ""
        with self._transaction() as connection:
            # What it was before has no text any more, so it must not be found by its old one.
            dropped = self._documents.drop(connection, read, reason=kept) if is_skipped and read is not None else None
            duration_s = time.monotonic() - begun_s
            outcome = Outcome(subject.ordinal, status, reason, storable(message), dropped, duration_s)
            self._record(connection, outcome, None if isinstance(problem, RetryableError) else read, Spent())
        return outcome

    def _record(self, connection: Connection, outcome: Outcome, read: Read | None, spent: Spent) -> None:
        self._parts.faults.reach("subject_stored")
        if read is not None and read.upload_id is not None:
            uploads.remove(connection, user_id=self._attempt.user_id, upload_ids=[read.upload_id])
        if processing.record(connection, self._attempt, [outcome], spent):
            self._is_cancelled = True
        self._parts.faults.reach("subject_before_commit")

    def _transaction(self) -> AbstractContextManager[Connection]:
        return self._parts.database.transaction_with_rls(self._attempt.user_id)


def paused_by(error: RetryableError | BudgetReachedError) -> str:
    """Return what a job that this pauses waits for."""
    return "budget" if isinstance(error, BudgetReachedError) else "service"


def at_a_time_of(config: Mapping[str, Any]) -> int:
    """Return how many documents a job wants processed at once, within what is allowed."""
    wanted = config.get("at_a_time", AT_A_TIME)
    return min(max(wanted, 1), MOST_AT_A_TIME) if isinstance(wanted, int) else AT_A_TIME


def drive(processed: Generator[Any, None, ProcessingResult]) -> ProcessingResult:
    """Run a job to the end of its attempt without watching it."""
    while True:
        try:
            next(processed)
        except StopIteration as end:
            result: ProcessingResult = end.value
            return result


def _stored(subject: Subject, prepared: Prepared, left_out: Sequence[str], duration_s: float) -> Outcome:
    message = storable(f"{len(left_out)} inside left out: {'; '.join(left_out)}") if left_out else ""
    if prepared.is_unchanged:
        status, reason = OutcomeStatus.SKIPPED, "unchanged"
    else:
        status, reason = OutcomeStatus.DONE, "created" if prepared.is_new else "updated"
    return Outcome(subject.ordinal, status, reason, message, prepared.document_id, duration_s)


def _spent(vectorized: Vectorized, usages: Sequence[Usage]) -> Spent:
    cost = sum((usage.cost for usage in usages), Decimal(0))
    return Spent(vectorized.embedded, vectorized.reused, vectorized.tokens, cost)


def _told(problem: Exception) -> tuple[str, str]:
    if isinstance(problem, SkipItemError):
        return problem.reason, problem.message
    if isinstance(problem, RetryableError):
        return "unavailable", problem.message
    if isinstance(problem, WorkstationError):
        return "refused", problem.message
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    # Without its text, which may quote the document.
    return (
        "bug",
        f"{type(problem).__name__} in {Path(frame.filename).name}:{frame.lineno}: this is a bug, please report it",
    )
