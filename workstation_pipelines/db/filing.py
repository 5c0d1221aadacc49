"""Projects and tags that rules give to documents. What a document's owner chose stays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.db import library
from workstation_pipelines.db.staging import stage
from workstation_pipelines.model import DocumentId, NewId, UserId


@dataclass(frozen=True, slots=True)
class Filing:
    """Where the rules want a document: None and empty where they say nothing."""

    document_id: DocumentId
    project: str | None
    tags: Sequence[str]


def file(
    connection: Connection, *, user_id: UserId, default_project: UUID | None, filings: Sequence[Filing], new_id: NewId
) -> None:
    """Bring projects and tags to what the rules say now: what only a rule had given is taken back.

    Without a rule that says so, a document that a rule had put into a project goes to its source's. Idempotent; the
    caller has locked the documents.
    """
    if not filings:
        return
    projects = {
        name: library.ensure_project(connection, user_id=user_id, name=name, new_id=new_id)
        for name in sorted({filing.project for filing in filings if filing.project})
    }
    tags = {
        name: library.ensure_tag(connection, user_id=user_id, name=name, new_id=new_id)
        for name in sorted({tag for filing in filings for tag in filing.tags})
    }
    rows = (
        (
            filing.document_id,
            projects[filing.project] if filing.project else None,
            json.dumps([str(tags[name]) for name in filing.tags]),
        )
        for filing in filings
    )
    stage(connection, "stage_filings", {"id": "uuid", "project_id": "uuid", "tags": "jsonb"}, rows)
    parameters = {"user_id": user_id, "default": default_project}
    for statement in (_ASSIGN, _UNTAG, _TAG):
        connection.execute(statement, parameters)


# A project of which nobody knows who chose it, from before this was noted, counts as the owner's.
_ASSIGN = text(
    """
    UPDATE app.documents d
       SET project_id = CASE WHEN s.project_id IS NOT NULL THEN s.project_id
                             WHEN d.project_assigned_by = 'rule' THEN CAST(:default AS uuid) ELSE d.project_id END,
           project_assigned_by = CASE WHEN s.project_id IS NOT NULL THEN 'rule' ELSE 'source' END
      FROM stage_filings s
     WHERE d.user_id = :user_id AND d.id = s.id AND d.project_assigned_by IS DISTINCT FROM 'user'
       AND (d.project_assigned_by IS NOT NULL OR d.project_id IS NULL)
       AND (s.project_id IS NOT NULL AND (d.project_id IS DISTINCT FROM s.project_id OR d.project_assigned_by <> 'rule')
            OR s.project_id IS NULL AND d.project_assigned_by = 'rule')"""
)

_UNTAG = text(
    """
    DELETE FROM app.document_tags dt USING stage_filings s
     WHERE dt.user_id = :user_id AND dt.document_id = s.id AND dt.assigned_by = 'rule'
       AND NOT s.tags @> to_jsonb(dt.tag_id::text)"""
)

_TAG = text(
    """
    INSERT INTO app.document_tags (user_id, document_id, tag_id, assigned_by)
    SELECT :user_id, s.id, CAST(t.id AS uuid), 'rule'
      FROM stage_filings s, jsonb_array_elements_text(s.tags) AS t (id)
    ON CONFLICT DO NOTHING"""
)
