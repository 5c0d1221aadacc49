"""A user's library: documents to look at, and the projects and tags that group them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import NewId, UserId


def documents(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID | None = None,
    project_name: str | None = None,
    tag_name: str | None = None,
    with_deleted: bool = False,
    limit: int = 50,
    offset: int = 0,
) -> Sequence[Row[Any]]:
    """Return rows of documents_with_metadata, by path, title and id."""
    return connection.execute(
        text(
            """
            SELECT * FROM app.documents_with_metadata
             WHERE user_id = :user_id AND (:with_deleted OR deleted_at IS NULL)
               AND (CAST(:source AS uuid) IS NULL OR data_source_id = :source)
               AND (CAST(:project AS text) IS NULL OR project_name = :project)
               AND (CAST(:tag AS text) IS NULL OR :tag = ANY(tags))
             ORDER BY external_path NULLS LAST, title, id LIMIT :limit OFFSET :offset"""
        ),
        {
            "user_id": user_id,
            "with_deleted": with_deleted,
            "source": data_source_id,
            "project": project_name,
            "tag": tag_name,
            "limit": limit,
            "offset": offset,
        },
    ).all()


def document(connection: Connection, *, user_id: UserId, reference: str) -> Row[Any]:
    """Return the one live document with this id, path, title or URL, or whose path ends in it. Raises NotFoundError."""
    rows = connection.execute(
        text(
            """
            SELECT * FROM app.documents_with_metadata
             WHERE user_id = :user_id AND deleted_at IS NULL
               AND (id::text = :ref OR external_id = :ref OR external_path = :ref OR title = :ref OR external_url = :ref
                    OR right(external_path, length(:ref) + 1) = '/' || :ref)
             ORDER BY (id::text = :ref) DESC, (external_path = :ref) DESC, external_path LIMIT 2"""
        ),
        {"user_id": user_id, "ref": reference},
    ).all()
    if not rows:
        raise NotFoundError(
            f"no document {reference!r}: `workstation documents list` shows yours, `why` explains files"
        )
    exact = [row for row in rows if reference in (str(row.id), row.external_path, row.external_id)]
    if len(rows) > 1 and len(exact) != 1:
        raise NotFoundError(f"{reference!r} fits several documents: name one by its id or its full path")
    return (exact or rows)[0]


def text_of(connection: Connection, *, user_id: UserId, document_id: UUID) -> str:
    """Return a document's whole text, deleted or not."""
    found: str = connection.execute(
        text("SELECT text FROM app.documents WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": document_id},
    ).scalar_one()
    return found


def chunks_of(connection: Connection, *, user_id: UserId, document_id: UUID) -> Sequence[Row[Any]]:
    """Return a document's live chunks in order."""
    return connection.execute(
        text(
            """
            SELECT c.ordinal, c.start_offset, c.end_offset, c.token_count, c.heading_path, c.text,
                   c.embedding IS NOT NULL AS has_vector
              FROM app.chunks c JOIN app.documents d ON d.user_id = c.user_id AND d.id = c.document_id
             WHERE c.user_id = :user_id AND c.document_id = :id AND c.generation = d.live_generation
             ORDER BY c.ordinal"""
        ),
        {"user_id": user_id, "id": document_id},
    ).all()


def project_id(connection: Connection, *, user_id: UserId, name: str) -> UUID:
    """Raises NotFoundError."""
    found: UUID | None = connection.execute(
        text("SELECT id FROM app.projects WHERE user_id = :user_id AND name = :name"),
        {"user_id": user_id, "name": name},
    ).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"no project named {name!r}")
    return found


def tag_id(connection: Connection, *, user_id: UserId, name: str) -> UUID:
    """Raises NotFoundError."""
    found: UUID | None = connection.execute(
        text("SELECT id FROM app.tags WHERE user_id = :user_id AND name = :name"),
        {"user_id": user_id, "name": name},
    ).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"no tag named {name!r}")
    return found


def ensure_project(connection: Connection, *, user_id: UserId, name: str, new_id: NewId) -> UUID:
    """Return the project of this name, created if it is new."""
    return _ensure(connection, "projects", user_id=user_id, name=name, new_id=new_id, longest=200)


def ensure_tag(connection: Connection, *, user_id: UserId, name: str, new_id: NewId) -> UUID:
    """Return the tag of this name, created if it is new."""
    return _ensure(connection, "tags", user_id=user_id, name=name, new_id=new_id, longest=100)


def assign(connection: Connection, *, user_id: UserId, document_id: UUID, project: UUID | None) -> None:
    """Put a document into a project, or into none, as its owner wishes: rules leave it there."""
    connection.execute(
        text(
            """
            UPDATE app.documents SET project_id = :project, project_assigned_by = 'user'
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": document_id, "project": project},
    )


def tag(connection: Connection, *, user_id: UserId, document_id: UUID, tag_id: UUID) -> None:
    """Put a tag on a document as its owner wishes; one that a rule had put there is the owner's from now on. Idempotent."""
    connection.execute(
        text(
            """
            INSERT INTO app.document_tags (user_id, document_id, tag_id) VALUES (:user_id, :document, :tag)
            ON CONFLICT ON CONSTRAINT document_tags_pkey DO UPDATE SET assigned_by = 'user'"""
        ),
        {"user_id": user_id, "document": document_id, "tag": tag_id},
    )


def untag(connection: Connection, *, user_id: UserId, document_id: UUID, tag_name: str) -> None:
    """Idempotent."""
    connection.execute(
        text(
            """
            DELETE FROM app.document_tags dt USING app.tags t
             WHERE dt.user_id = :user_id AND dt.document_id = :document AND t.user_id = :user_id AND t.id = dt.tag_id
               AND t.name = :name"""
        ),
        {"user_id": user_id, "document": document_id, "name": tag_name},
    )


def projects(connection: Connection, *, user_id: UserId) -> Sequence[Row[Any]]:
    return connection.execute(
        text("SELECT * FROM app.project_summary WHERE user_id = :user_id ORDER BY name"), {"user_id": user_id}
    ).all()


def tags(connection: Connection, *, user_id: UserId) -> Sequence[Row[Any]]:
    return connection.execute(
        text("SELECT id, name, document_count FROM app.tags WHERE user_id = :user_id ORDER BY name"),
        {"user_id": user_id},
    ).all()


def tag_ids(connection: Connection, *, user_id: UserId, names: Sequence[str]) -> list[UUID]:
    """Return the ids of those names that are tags, in no order."""
    found = connection.execute(
        text("SELECT id FROM app.tags WHERE user_id = :user_id AND name = ANY(CAST(:names AS text[]))"),
        {"user_id": user_id, "names": list(names)},
    )
    return list(found.scalars())


def _ensure(connection: Connection, table: str, *, user_id: UserId, name: str, new_id: NewId, longest: int) -> UUID:
    name = name.strip()
    if not 0 < len(name) <= longest:
        raise InvalidRequestError(f"a name has 1 to {longest} characters")
    connection.execute(
        text(
            f"INSERT INTO app.{table} (id, user_id, name) VALUES (:id, :user_id, :name)"  # noqa: S608 - our constants
            f" ON CONFLICT ON CONSTRAINT {table}_name_key DO NOTHING"
        ),
        {"id": new_id(), "user_id": user_id, "name": name},
    )
    found: UUID = connection.execute(
        text(f"SELECT id FROM app.{table} WHERE user_id = :user_id AND name = :name"),  # noqa: S608 - our constants
        {"user_id": user_id, "name": name},
    ).scalar_one()
    return found
