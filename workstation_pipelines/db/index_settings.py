"""Which index config a document ought to have: its own, its source's, its project's, everything's, or else the default.

The default is a setting of the program and no row: statements take it as `:config`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from workstation_pipelines.model import DocumentId, IndexConfig, IndexConfigId, NewId, UserId

JOINS = """
    LEFT JOIN app.index_settings own ON own.user_id = d.user_id AND own.document_id = d.id
    LEFT JOIN app.index_settings of_source ON of_source.user_id = d.user_id
         AND of_source.data_source_id = d.data_source_id
    LEFT JOIN app.index_settings of_project ON of_project.user_id = d.user_id AND of_project.project_id = d.project_id
    LEFT JOIN app.index_settings everything ON everything.user_id = d.user_id
         AND num_nonnulls(everything.document_id, everything.data_source_id, everything.project_id) = 0"""
"""Joins to documents `d` what WANTED reads."""

WANTED = """coalesce(own.index_config_id, of_source.index_config_id, of_project.index_config_id,
                     everything.index_config_id)"""
"""The id of the config that somebody wants for a document; NULL where nobody chose."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents: of a source, a project or with a tag, these documents, or (nothing named) all live ones."""

    document_ids: Sequence[UUID] | None = None
    data_source_id: UUID | None = None
    project_id: UUID | None = None
    tag_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How many documents have one index config and are wanted under another; `wanted_by` names the scope that says so."""

    index_config_id: IndexConfigId | None
    wanted_index_config_id: IndexConfigId
    wanted_by: str
    documents: int


_CHOSEN = """
    d.user_id = :user_id AND d.deleted_at IS NULL
    AND (CAST(:document_ids AS uuid[]) IS NULL OR d.id = ANY(CAST(:document_ids AS uuid[])))
    AND (CAST(:data_source_id AS uuid) IS NULL OR d.data_source_id = :data_source_id)
    AND (CAST(:project_id AS uuid) IS NULL OR d.project_id = :project_id)
    AND (CAST(:tag_id AS uuid) IS NULL OR d.id IN (
         SELECT t.document_id FROM app.document_tags t WHERE t.user_id = :user_id AND t.tag_id = :tag_id))"""


def config(connection: Connection, *, user_id: UserId, index_config_id: UUID) -> IndexConfig:
    """Return one of the user's index configs."""
    row = connection.execute(
        text(
            """
            SELECT id, embedder, model, dimensions, chunk_tokens, overlap_tokens FROM app.index_configs
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": index_config_id},
    ).one()
    return IndexConfig(*row)


def of_new_documents(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> IndexConfigId | None:
    """Return the config wanted for documents that a source is about to add; None is the default."""
    found = connection.execute(
        text(
            """
            SELECT n.index_config_id FROM app.index_settings n
              JOIN app.data_sources s ON s.user_id = n.user_id AND s.id = :source
             WHERE n.user_id = :user_id AND n.document_id IS NULL
               AND (n.data_source_id = s.id OR n.project_id = s.project_id
                    OR n.data_source_id IS NULL AND n.project_id IS NULL)
             ORDER BY n.data_source_id IS NULL, n.project_id IS NULL LIMIT 1"""
        ),
        {"user_id": user_id, "source": data_source_id},
    ).scalar_one_or_none()
    return None if found is None else IndexConfigId(found)


def of_documents(
    connection: Connection, *, user_id: UserId, document_ids: Sequence[UUID]
) -> dict[UUID, IndexConfigId | None]:
    """Return the config wanted for each of these documents; None is the default."""
    rows = connection.execute(
        text(
            f"""
            SELECT d.id, {WANTED} AS wanted FROM app.documents d {JOINS}
             WHERE d.user_id = :user_id AND d.id = ANY(:ids)"""  # noqa: S608 - constants
        ),
        {"user_id": user_id, "ids": list(document_ids)},
    )
    return {row.id: row.wanted for row in rows}


def of_project(connection: Connection, *, user_id: UserId, project_id: UUID) -> IndexConfigId | None:
    """Return the config that was chosen for a project itself; None if none was."""
    found = connection.execute(
        text("SELECT index_config_id FROM app.index_settings WHERE user_id = :user_id AND project_id = :project_id"),
        {"user_id": user_id, "project_id": project_id},
    ).scalar_one_or_none()
    return None if found is None else IndexConfigId(found)


def want(
    connection: Connection,
    *,
    user_id: UserId,
    selection: Selection,
    index_config_id: IndexConfigId | None,
    default: IndexConfigId,
    new_id: NewId,
) -> None:
    """Choose a config for the documents of a selection, and for those that its source or project will get. Idempotent.

    Of more than one scope the narrowest counts; documents for which that would still be another config get it as their
    own, and so do those chosen by tag or one by one. None takes the choice back: what wider scopes say holds again.
    """
    scope = {"data_source_id": selection.data_source_id, "project_id": selection.project_id}
    is_scope = selection.document_ids is None and selection.tag_id is None
    parameters = _parameters(user_id, selection) | {"config": index_config_id, "default": default}
    if index_config_id is None:
        if is_scope:
            connection.execute(
                text(
                    """
                    DELETE FROM app.index_settings WHERE user_id = :user_id AND document_id IS NULL
                       AND data_source_id IS NOT DISTINCT FROM CAST(:data_source_id AS uuid)
                       AND project_id IS NOT DISTINCT FROM CAST(:project_id AS uuid)"""
                ),
                {"user_id": user_id, **scope},
            )
        connection.execute(text(_UNPIN), parameters)
        return
    if is_scope:
        connection.execute(text(_SET), {"id": new_id(), "user_id": user_id, "config": index_config_id, **scope})
    connection.execute(text(_PIN), parameters)


def set_project(
    connection: Connection, *, user_id: UserId, project_id: UUID, index_config_id: IndexConfigId, new_id: NewId
) -> None:
    """Choose a config for a project and nothing narrower."""
    scope = {"data_source_id": None, "project_id": project_id}
    connection.execute(text(_SET), {"id": new_id(), "user_id": user_id, "config": index_config_id, **scope})


_SET = """
    INSERT INTO app.index_settings (id, user_id, data_source_id, project_id, index_config_id)
    VALUES (:id, :user_id, :data_source_id, :project_id, :config)
    ON CONFLICT ON CONSTRAINT index_settings_scope_key DO UPDATE SET index_config_id = excluded.index_config_id"""

_UNPIN = f"""
    DELETE FROM app.index_settings n USING app.documents d
     WHERE n.user_id = :user_id AND n.document_id = d.id AND {_CHOSEN}"""  # noqa: S608 - constants

# Within one statement a random id serves as well as a time-ordered one.
_PIN = f"""
    INSERT INTO app.index_settings (id, user_id, document_id, index_config_id)
    SELECT gen_random_uuid(), d.user_id, d.id, :config FROM app.documents d {JOINS}
     WHERE {_CHOSEN} AND coalesce({WANTED}, :default) <> :config
    ON CONFLICT ON CONSTRAINT index_settings_scope_key DO UPDATE SET index_config_id = excluded.index_config_id"""  # noqa: S608


def selected(connection: Connection, *, user_id: UserId, selection: Selection) -> list[DocumentId]:
    """Return the ids of the live documents of a selection, in order."""
    rows = connection.execute(
        text(f"SELECT d.id FROM app.documents d WHERE {_CHOSEN} ORDER BY d.id"),  # noqa: S608 - constants
        _parameters(user_id, selection),
    )
    return [DocumentId(row.id) for row in rows]


def standings(connection: Connection, *, user_id: UserId, default: IndexConfigId) -> list[Standing]:
    """Count the live documents that are still on other settings than those wanted for them, by both."""
    rows = connection.execute(
        text(
            """
            SELECT index_config_id, coalesce(wanted_index_config_id, :config) AS wanted, wanted_by, count(*) AS documents
              FROM app.document_index_settings
             WHERE user_id = :user_id AND index_config_id IS DISTINCT FROM coalesce(wanted_index_config_id, :config)
             GROUP BY 1, 2, 3 ORDER BY documents DESC, 1, 2"""
        ),
        {"user_id": user_id, "config": default},
    )
    return [Standing(*row) for row in rows]


def _parameters(user_id: UserId, selection: Selection) -> dict[str, Any]:
    ids = selection.document_ids
    return {
        "user_id": user_id,
        "document_ids": None if ids is None else list(ids),
        "data_source_id": selection.data_source_id,
        "project_id": selection.project_id,
        "tag_id": selection.tag_id,
    }
