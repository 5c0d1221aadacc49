"""Questions kept with a project, and which documents ought to answer them: what an index build is compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import UserId


@dataclass(frozen=True, slots=True)
class SavedQuestion:
    """`expected_document_ids` are those that are live; with none expected, answers are compared with each other."""

    id: UUID
    project_id: UUID
    project: str
    question: str
    expected_document_ids: Sequence[UUID]


def add(
    connection: Connection,
    *,
    user_id: UserId,
    question_id: UUID,
    project_id: UUID,
    question: str,
    expected_document_ids: Sequence[UUID] = (),
) -> UUID:
    """Keep a question; one that is there gets these expectations instead. Returns its id."""
    found: UUID = connection.execute(
        text(
            """
            INSERT INTO app.saved_questions (id, user_id, project_id, question, expected_document_ids)
            VALUES (:id, :user_id, :project_id, :question, CAST(:expected AS uuid[]))
            ON CONFLICT ON CONSTRAINT saved_questions_question_key
               DO UPDATE SET expected_document_ids = excluded.expected_document_ids
            RETURNING id"""
        ),
        {
            "id": question_id,
            "user_id": user_id,
            "project_id": project_id,
            "question": question,
            "expected": list(expected_document_ids),
        },
    ).scalar_one()
    return found


def of_project(connection: Connection, *, user_id: UserId, project_id: UUID | None) -> list[SavedQuestion]:
    """Return the questions of a project, or of all, oldest first."""
    rows = connection.execute(
        text(
            """
            SELECT q.id, q.project_id, p.name, q.question, ARRAY(
                   SELECT d.id FROM app.documents d
                    WHERE d.user_id = q.user_id AND d.id = ANY(q.expected_document_ids) AND d.deleted_at IS NULL) AS expected
              FROM app.saved_questions q JOIN app.projects p ON p.user_id = q.user_id AND p.id = q.project_id
             WHERE q.user_id = :user_id AND (CAST(:project_id AS uuid) IS NULL OR q.project_id = :project_id)
             ORDER BY p.name, q.created_at, q.id"""
        ),
        {"user_id": user_id, "project_id": project_id},
    )
    return [SavedQuestion(*row) for row in rows]


def remove(connection: Connection, *, user_id: UserId, question_id: UUID) -> None:
    """Raises NotFoundError."""
    removed = connection.execute(
        text("DELETE FROM app.saved_questions WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": question_id},
    )
    if not removed.rowcount:
        raise NotFoundError(f"no saved question {question_id}: `workstation question list` shows yours")
