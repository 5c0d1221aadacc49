"""Processing jobs: a list of subjects, each with exactly one outcome. One attempt at a time works on a job.

An attempt holds a lock that dies with its process and a number that only grows: whoever was taken over records nothing
any more. Outcomes and the job's counts move together, in the transaction that stored what they tell of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import BusyError, FencedError, InvalidRequestError, NotFoundError
from workstation_pipelines.model import (
    DocumentId,
    JobStatus,
    OutcomeStatus,
    ProcessingJobId,
    ProcessingKind,
    UserId,
)

HANDOVER_WAIT_MS = 500
MOST_SUBJECTS = 100_000
MOST_LOST_ATTEMPTS = 3
"""So many attempts in a row may vanish without an outcome; one more and the job has failed."""

OPEN = (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The right to record outcomes of a job, until a later attempt begins."""

    user_id: UserId
    job_id: ProcessingJobId
    number: int


@dataclass(frozen=True, slots=True)
class Started:
    """A job as its attempt finds it. `config` is what the job was enqueued with."""

    attempt: Attempt
    kind: ProcessingKind
    config: Mapping[str, Any]
    project_id: UUID | None


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject whose outcome is pending. `attempts` counts this one: above 1, an earlier attempt ended over it."""

    ordinal: int
    subject: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a subject. `reason` is a short stable code, `message` tells its owner what to do."""

    ordinal: int
    status: OutcomeStatus
    reason: str = ""
    message: str = ""
    document_id: DocumentId | None = None
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What outcomes cost: chunks by whether they had to be embedded, tokens, and money in US dollars."""

    chunks_embedded: int = 0
    chunks_reused: int = 0
    embedding_tokens: int = 0
    cost: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job of any user that should be started, or whose attempt has fallen silent."""

    job_id: ProcessingJobId
    user_id: UserId
    attempt: int
    kind: ProcessingKind | None = None


_ENQUEUE = text(
    """
    INSERT INTO app.processing_jobs (id, user_id, kind, config, project_id, idempotency_key, documents_total)
    VALUES (:id, :user_id, :kind, :config, :project_id, :key, :total)
    ON CONFLICT ON CONSTRAINT processing_jobs_idempotency_key DO NOTHING
    RETURNING id"""
).bindparams(bindparam("config", type_=JSONB))

_START = text(
    """
    UPDATE app.processing_jobs
       SET attempt = attempt + 1, lost_attempts = lost_attempts + (status = 'running')::int, status = 'running',
           dagster_run_id = :dagster_run_id, started_at = coalesce(started_at, now()), heartbeat_at = now(),
           completed_at = NULL, not_before = NULL, paused_by = NULL, error_message = ''
     WHERE user_id = :user_id AND id = :id AND status IN ('pending', 'paused', 'running')
    RETURNING attempt, kind, config, project_id"""
)

_RECORD_OUTCOMES = text(
    """
    UPDATE app.processing_outcomes o
       SET status = s.status, reason = s.reason, message = s.message, document_id = s.document_id,
           duration_s = s.duration_s
      FROM unnest(CAST(:ordinals AS int[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]),
                  CAST(:messages AS text[]), CAST(:document_ids AS uuid[]), CAST(:durations_s AS float8[]))
           AS s (ordinal, status, reason, message, document_id, duration_s)
     WHERE o.user_id = :user_id AND o.processing_job_id = :id AND o.ordinal = s.ordinal AND o.status = 'pending'
    RETURNING o.status"""
)

_COUNT = text(
    """
    UPDATE app.processing_jobs
       SET documents_done = documents_done + :done, documents_skipped = documents_skipped + :skipped,
           documents_failed = documents_failed + :failed, chunks_embedded = chunks_embedded + :chunks_embedded,
           chunks_reused = chunks_reused + :chunks_reused, embedding_tokens = embedding_tokens + :embedding_tokens,
           cost = cost + :cost, lost_attempts = 0, heartbeat_at = now()
     WHERE user_id = :user_id AND id = :id AND attempt = :attempt AND status = 'running'
    RETURNING cancel_requested"""
)

_END = text(
    """
    UPDATE app.processing_jobs
       SET status = :status, error_message = :message, heartbeat_at = now(), paused_by = :paused_by,
           completed_at = CASE WHEN :status IN ('pending', 'paused') THEN NULL ELSE now() END,
           not_before = CASE WHEN CAST(:wait_s AS double precision) IS NULL THEN NULL
                             ELSE now() + make_interval(secs => :wait_s) END
     WHERE user_id = :user_id AND id = :id AND attempt = :attempt AND status = 'running'"""
)


def enqueue(
    connection: Connection,
    *,
    user_id: UserId,
    job_id: ProcessingJobId,
    kind: ProcessingKind,
    subjects: Iterable[str],
    config: Mapping[str, Any],
    project_id: UUID | None = None,
    idempotency_key: str | None = None,
) -> ProcessingJobId:
    """Write a pending job with its subjects in order; return its id, or that of the job that has this key already.

    `config` is shown to whoever may see the job: no secrets. Raises InvalidRequestError for no subjects or too many.
    """
    named = list(subjects)
    if not 0 < len(named) <= MOST_SUBJECTS:
        raise InvalidRequestError(f"a job has 1 to {MOST_SUBJECTS:,} documents, and this one {len(named):,}")
    values = {
        "id": job_id,
        "user_id": user_id,
        "kind": kind.value,
        "config": dict(config),
        "project_id": project_id,
        "key": idempotency_key,
        "total": len(named),
    }
    if connection.execute(_ENQUEUE, values).scalar_one_or_none() is None:
        found = connection.execute(
            text("SELECT id FROM app.processing_jobs WHERE user_id = :user_id AND idempotency_key = :key"),
            {"user_id": user_id, "key": idempotency_key},
        ).scalar_one()
        return ProcessingJobId(found)
    connection.execute(
        text(
            """
            INSERT INTO app.processing_outcomes (user_id, processing_job_id, ordinal, subject)
            SELECT :user_id, :id, s.ordinal - 1, s.subject
              FROM unnest(CAST(:subjects AS text[])) WITH ORDINALITY AS s (subject, ordinal)"""
        ),
        {"user_id": user_id, "id": job_id, "subjects": named},
    )
    return job_id


@contextmanager
def held(database: Database, *, job_id: ProcessingJobId) -> Iterator[None]:
    """Keep other processes from working on this job; the server lets go when this one dies. Raises BusyError."""
    key = f"processing job {job_id}"
    with database.direct_connection() as connection:
        try:
            connection.execute(f"SET lock_timeout = '{HANDOVER_WAIT_MS}ms'".encode())
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
        except psycopg.errors.LockNotAvailable:
            raise BusyError(f"processing job {job_id} is being worked on by another process: wait for it") from None
        try:
            yield
        finally:
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def start(
    connection: Connection, *, user_id: UserId, job_id: ProcessingJobId, dagster_run_id: str | None = None
) -> Started:
    """Begin the next attempt at a job that is not over. Call while it is held().

    Raises NotFoundError when it is over or is nobody's.
    """
    row = connection.execute(_START, {"user_id": user_id, "id": job_id, "dagster_run_id": dagster_run_id}).one_or_none()
    if row is None:
        raise NotFoundError(f"processing job {job_id} is over, or not yours: enqueue a new one")
    attempt = Attempt(user_id, job_id, row.attempt)
    return Started(attempt, ProcessingKind(row.kind), row.config, row.project_id)


def take(connection: Connection, attempt: Attempt, *, after: int, at_most: int) -> list[Subject]:
    """Return the next subjects behind ordinal `after` (-1: from the first) whose outcome is pending, in order.

    Their attempts are counted: commit before the work begins, so that a subject that kills its process is known by that.
    """
    rows = connection.execute(
        text(
            """
            UPDATE app.processing_outcomes SET attempts = attempts + 1
             WHERE user_id = :user_id AND processing_job_id = :id AND ordinal IN (
                   SELECT p.ordinal FROM app.processing_outcomes p
                    WHERE p.user_id = :user_id AND p.processing_job_id = :id AND p.status = 'pending'
                      AND p.ordinal > :after ORDER BY p.ordinal LIMIT :at_most)
            RETURNING ordinal, subject, attempts"""
        ),
        {"user_id": attempt.user_id, "id": attempt.job_id, "after": after, "at_most": at_most},
    )
    return sorted((Subject(*row) for row in rows), key=lambda subject: subject.ordinal)


def record(connection: Connection, attempt: Attempt, outcomes: Sequence[Outcome], spent: Spent | None = None) -> bool:
    """Store outcomes with their counts and cost, in the caller's transaction; return whether a cancel was requested.

    An outcome that is known already stays as it is. Raises FencedError when the attempt is over, and then nothing of
    the transaction may be committed.
    """
    parameters = {"user_id": attempt.user_id, "id": attempt.job_id}
    columns = {
        "ordinals": [each.ordinal for each in outcomes],
        "statuses": [each.status.value for each in outcomes],
        "reasons": [each.reason for each in outcomes],
        "messages": [each.message[:2000] for each in outcomes],
        "document_ids": [each.document_id for each in outcomes],
        "durations_s": [each.duration_s for each in outcomes],
    }
    recorded = [row.status for row in connection.execute(_RECORD_OUTCOMES, {**parameters, **columns})]
    spent = spent or Spent()
    cancel = connection.execute(
        _COUNT,
        {
            **parameters,
            "attempt": attempt.number,
            **{status: recorded.count(status) for status in ("done", "skipped", "failed")},
            "chunks_embedded": spent.chunks_embedded,
            "chunks_reused": spent.chunks_reused,
            "embedding_tokens": spent.embedding_tokens,
            "cost": spent.cost,
        },
    ).scalar_one_or_none()
    return _still_ours(attempt, cancel)


def beat(connection: Connection, attempt: Attempt) -> bool:
    """Say that the attempt is alive; return whether a cancel was requested. Raises FencedError when it is over."""
    cancel = connection.execute(
        text(
            """
            UPDATE app.processing_jobs SET heartbeat_at = now()
             WHERE user_id = :user_id AND id = :id AND attempt = :attempt AND status = 'running'
            RETURNING cancel_requested"""
        ),
        {"user_id": attempt.user_id, "id": attempt.job_id, "attempt": attempt.number},
    ).scalar_one_or_none()
    return _still_ours(attempt, cancel)


def complete(connection: Connection, attempt: Attempt) -> JobStatus:
    """End a job whose subjects all have outcomes; return the status that these give it. Raises FencedError."""
    failed = connection.execute(
        text("SELECT documents_failed FROM app.processing_jobs WHERE user_id = :user_id AND id = :id"),
        {"user_id": attempt.user_id, "id": attempt.job_id},
    ).scalar_one()
    status = JobStatus.COMPLETED_WITH_ERRORS if failed else JobStatus.COMPLETED
    message = f"{failed} documents failed: `workstation process show {attempt.job_id}` names them" if failed else ""
    if not end(connection, attempt, status=status, message=message):
        raise _fenced(attempt)
    return status


def end(
    connection: Connection,
    attempt: Attempt,
    *,
    status: JobStatus,
    message: str = "",
    wait_s: float | None = None,
    paused_by: str | None = None,
) -> bool:
    """End the attempt; return whether it was still the job's. `paused` with `wait_s` is started again after that time.

    `paused_by` is what a paused one waits for, `service` or `budget`. Without `wait_s` a budget holds it until release().
    """
    ended = connection.execute(
        _END,
        {
            "user_id": attempt.user_id,
            "id": attempt.job_id,
            "attempt": attempt.number,
            "status": status.value,
            "message": message[:2000],
            "wait_s": wait_s,
            "paused_by": paused_by,
        },
    )
    return ended.rowcount == 1


def give_back(connection: Connection, attempt: Attempt, *, ordinals: Iterable[int]) -> None:
    """Take back that subjects were tried: nothing that they did ended the attempt."""
    connection.execute(
        text(
            """
            UPDATE app.processing_outcomes SET attempts = greatest(attempts - 1, 0)
             WHERE user_id = :user_id AND processing_job_id = :id AND ordinal = ANY(:ordinals) AND status = 'pending'"""
        ),
        {"user_id": attempt.user_id, "id": attempt.job_id, "ordinals": list(ordinals)},
    )


def clean_messages(connection: Connection, *, user_id: UserId, clean: Callable[[str], str]) -> None:
    """Bring the messages of all outcomes under `clean`: they may name what was found inside a document."""
    rows = connection.execute(
        text(
            """
            SELECT processing_job_id, ordinal, message FROM app.processing_outcomes
             WHERE user_id = :user_id AND message <> ''"""
        ),
        {"user_id": user_id},
    ).all()
    for row in rows:
        cleaned = clean(row.message)
        if cleaned != row.message:
            connection.execute(
                text(
                    """
                    UPDATE app.processing_outcomes SET message = :message
                     WHERE user_id = :user_id AND processing_job_id = :id AND ordinal = :ordinal"""
                ),
                {"user_id": user_id, "id": row.processing_job_id, "ordinal": row.ordinal, "message": cleaned},
            )


def release(connection: Connection, *, user_id: UserId, job_id: UUID) -> None:
    """Let a paused job be started now, whatever it waits for. Idempotent."""
    connection.execute(
        text(
            """
            UPDATE app.processing_jobs SET status = 'pending', not_before = NULL, paused_by = NULL
             WHERE user_id = :user_id AND id = :id AND status = 'paused'"""
        ),
        {"user_id": user_id, "id": job_id},
    )


def request_cancel(connection: Connection, *, user_id: UserId, job_id: UUID) -> JobStatus:
    """Ask a running job to stop between two documents and end one that waits; return its status now. Idempotent.

    Raises NotFoundError.
    """
    status = connection.execute(
        text(
            """
            UPDATE app.processing_jobs
               SET cancel_requested = cancel_requested OR status IN ('pending', 'paused', 'running'),
                   completed_at = CASE WHEN status IN ('pending', 'paused') THEN now() ELSE completed_at END,
                   error_message = CASE WHEN status IN ('pending', 'paused') THEN 'cancelled before it went on'
                                        ELSE error_message END,
                   status = CASE WHEN status IN ('pending', 'paused') THEN 'cancelled' ELSE status END
             WHERE user_id = :user_id AND id = :id
            RETURNING status"""
        ),
        {"user_id": user_id, "id": job_id},
    ).scalar_one_or_none()
    if status is None:
        raise _not_found(job_id)
    return JobStatus(status)


def give_up(connection: Connection, *, user_id: UserId, job_id: UUID, attempt: int) -> JobStatus | None:
    """End an attempt that fell silent: the job is pending again, or has failed when that happened too often.

    Returns its status now, None when the attempt is not the newest or not running any more.
    """
    status = connection.execute(
        text(
            """
            UPDATE app.processing_jobs
               SET lost_attempts = lost_attempts + 1, heartbeat_at = NULL,
                   status = CASE WHEN cancel_requested THEN 'cancelled'
                                 WHEN lost_attempts < :most THEN 'pending' ELSE 'failed' END,
                   completed_at = CASE WHEN cancel_requested OR lost_attempts >= :most THEN now() END,
                   error_message = CASE WHEN cancel_requested OR lost_attempts < :most THEN
                       'the process working on it ended without a word'
                       ELSE 'the processes working on it ended without a word, time and again: look at their logs' END
             WHERE user_id = :user_id AND id = :id AND attempt = :attempt AND status = 'running'
            RETURNING status"""
        ),
        {"user_id": user_id, "id": job_id, "attempt": attempt, "most": MOST_LOST_ATTEMPTS},
    ).scalar_one_or_none()
    return JobStatus(status) if status is not None else None


def recent(
    connection: Connection, *, user_id: UserId, kind: ProcessingKind | None = None, limit: int = 20, offset: int = 0
) -> Sequence[Row[Any]]:
    """Return rows of processing_job_summary, newest first."""
    return connection.execute(
        text(
            """
            SELECT * FROM app.processing_job_summary
             WHERE user_id = :user_id AND (CAST(:kind AS text) IS NULL OR kind = :kind)
             ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset"""
        ),
        {"user_id": user_id, "kind": kind.value if kind is not None else None, "limit": limit, "offset": offset},
    ).all()


def get(connection: Connection, *, user_id: UserId, job_id: UUID) -> Row[Any]:
    """Return one row of processing_job_summary. Raises NotFoundError."""
    row = connection.execute(
        text("SELECT * FROM app.processing_job_summary WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": job_id},
    ).one_or_none()
    if row is None:
        raise _not_found(job_id)
    return row


def outcomes(
    connection: Connection,
    *,
    user_id: UserId,
    job_id: UUID,
    status: OutcomeStatus | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> Sequence[Row[Any]]:
    """Return a job's subjects with their outcomes, in order."""
    return connection.execute(
        text(
            """
            SELECT ordinal, subject, status, reason, message, document_id, attempts, duration_s
              FROM app.processing_outcomes
             WHERE user_id = :user_id AND processing_job_id = :id AND (CAST(:status AS text) IS NULL OR status = :status)
             ORDER BY ordinal LIMIT :limit OFFSET :offset"""
        ),
        {
            "user_id": user_id,
            "id": job_id,
            "status": status.value if status is not None else None,
            "limit": limit,
            "offset": offset,
        },
    ).all()


def newest_outcomes(connection: Connection, *, user_id: UserId, references: Sequence[str]) -> Sequence[Row[Any]]:
    """Return what became last of each subject of bulk processing that is named, or whose document's id is."""
    return connection.execute(
        text(
            """
            SELECT DISTINCT ON (o.subject) o.subject, o.status, o.reason, o.message, o.document_id, o.processing_job_id,
                   j.dagster_run_id, o.updated_at, d.live_generation, d.chunk_count, d.deleted_at
              FROM app.processing_outcomes o
              JOIN app.processing_jobs j ON j.user_id = o.user_id AND j.id = o.processing_job_id
              LEFT JOIN app.documents d ON d.user_id = o.user_id AND d.id = o.document_id
             WHERE o.user_id = :user_id AND j.kind = :kind
               AND (o.subject = ANY(:references) OR o.document_id::text = ANY(:references))
             ORDER BY o.subject, j.created_at DESC, j.id DESC"""
        ),
        {"user_id": user_id, "kind": ProcessingKind.BULK_DOCUMENT_PROCESSING.value, "references": list(references)},
    ).all()


def owner_of(database: Database, job_id: UUID) -> UserId | None:
    """Return whose job this is: all that a Dagster run knows at its start is the id."""
    with database.across_users() as connection:
        owner = connection.execute(text("SELECT app.processing_job_owner(:id)"), {"id": job_id}).scalar()
    return UserId(owner) if owner else None


def to_start(database: Database, *, at_most: int) -> list[Waiting]:
    """Return all users' jobs that are pending, or paused until now, the oldest first."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT processing_job_id, user_id, kind, attempt FROM app.processing_jobs_to_start(:at_most)"),
            {"at_most": at_most},
        ).all()
    return [
        Waiting(ProcessingJobId(row.processing_job_id), UserId(row.user_id), row.attempt, ProcessingKind(row.kind))
        for row in rows
    ]


def silent(database: Database, *, silent_s: float, at_most: int) -> list[Waiting]:
    """Return all users' running jobs whose attempt has said nothing for so long by the database's clock."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT processing_job_id, user_id, attempt FROM app.silent_processing_jobs(:silent_s, :at_most)"),
            {"silent_s": silent_s, "at_most": at_most},
        ).all()
    return [Waiting(ProcessingJobId(row.processing_job_id), UserId(row.user_id), row.attempt) for row in rows]


def _still_ours(attempt: Attempt, cancel: bool | None) -> bool:
    if cancel is None:
        raise _fenced(attempt)
    return cancel


def _fenced(attempt: Attempt) -> FencedError:
    return FencedError(
        f"processing job {attempt.job_id} is over or was taken over by a later attempt than {attempt.number}"
    )


def _not_found(job_id: UUID) -> NotFoundError:
    return NotFoundError(f"no processing job {job_id}: `workstation process list` shows yours")
