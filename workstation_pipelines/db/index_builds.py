"""Index builds: a project's documents in candidate chunks beside the live ones, to be switched to and gone back from.

A row of index_build_documents stands for chunks that fit the document's text. Whoever changes the text deletes it, so that
a switch or a way back never shows an old text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db import documents, index_settings, search_scope
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import IndexConfigId, NewId, UserId


class BuildStatus(StrEnum):
    """`ready` has a candidate of every document, `live` was switched to; what a dropped one kept is being removed."""

    BUILDING = "building"
    READY = "ready"
    LIVE = "live"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Build:
    """One index build. `previous_index_config_id` is what its project wanted before the switch, None if nobody had chosen."""

    id: UUID
    project_id: UUID
    index_config_id: IndexConfigId
    previous_index_config_id: IndexConfigId | None
    status: BuildStatus
    switched_at: datetime | None


_COLUMNS = "id, project_id, index_config_id, previous_index_config_id, status, switched_at"


def begin(
    connection: Connection, *, user_id: UserId, build_id: UUID, project_id: UUID, index_config_id: IndexConfigId
) -> Build:
    """Begin a build. Raises InvalidRequestError while the project has another one that is neither live nor dropped."""
    begun = connection.execute(
        text(
            f"""
            INSERT INTO app.index_builds (id, user_id, project_id, index_config_id)
            VALUES (:id, :user_id, :project_id, :config)
            ON CONFLICT (user_id, project_id) WHERE status IN ('building', 'ready') DO NOTHING
            RETURNING {_COLUMNS}"""  # noqa: S608 - constants
        ),
        {"id": build_id, "user_id": user_id, "project_id": project_id, "config": index_config_id},
    ).one_or_none()
    if begun is None:
        raise InvalidRequestError(
            "this project has a build already that is not live: switch to it or drop it (`workstation build list`)"
        )
    return _build(begun)


def begun(connection: Connection, *, user_id: UserId, project_id: UUID, index_config_id: IndexConfigId) -> Build | None:
    """Return the build of a project with this config that is still building or ready, if any."""
    row = connection.execute(
        text(
            f"""
            SELECT {_COLUMNS} FROM app.index_builds
             WHERE user_id = :user_id AND project_id = :project_id AND index_config_id = :config
               AND status IN ('building', 'ready')"""  # noqa: S608 - constants
        ),
        {"user_id": user_id, "project_id": project_id, "config": index_config_id},
    ).one_or_none()
    return None if row is None else _build(row)


def get(connection: Connection, *, user_id: UserId, build_id: UUID, for_update: bool = False) -> Build:
    """Return a build, locked until the transaction ends if asked. Raises NotFoundError."""
    lock = "FOR UPDATE" if for_update else ""
    row = connection.execute(
        text(f"SELECT {_COLUMNS} FROM app.index_builds WHERE user_id = :user_id AND id = :id {lock}"),  # noqa: S608
        {"user_id": user_id, "id": build_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"no index build {build_id}: `workstation build list` shows yours")
    return _build(row)


def recent(connection: Connection, *, user_id: UserId, limit: int = 50) -> Sequence[Row[Any]]:
    """Return builds, newest first, with their project, their config and how many documents they keep chunks of."""
    return connection.execute(
        text(
            """
            SELECT b.id, p.name AS project, b.status, c.embedder, c.model, c.chunk_tokens, c.overlap_tokens,
                   (SELECT count(*) FROM app.index_build_documents d WHERE d.user_id = b.user_id AND d.build_id = b.id)
                   AS documents, b.chunks_embedded, b.chunks_reused, b.embedding_tokens, b.results, b.switched_at,
                   b.created_at
              FROM app.index_builds b
              JOIN app.projects p ON p.user_id = b.user_id AND p.id = b.project_id
              JOIN app.index_configs c ON c.user_id = b.user_id AND c.id = b.index_config_id
             WHERE b.user_id = :user_id ORDER BY b.created_at DESC, b.id DESC LIMIT :limit"""
        ),
        {"user_id": user_id, "limit": limit},
    ).all()


def unbuilt(connection: Connection, build: Build, *, user_id: UserId, limit: int) -> dict[UUID, UUID | None]:
    """Return live documents of the project that lack a candidate and are on other settings, with their sources."""
    rows = connection.execute(
        text(
            """
            SELECT d.id, d.data_source_id FROM app.documents d
             WHERE d.user_id = :user_id AND d.project_id = :project AND d.deleted_at IS NULL
               AND d.index_config_id IS DISTINCT FROM :config AND NOT EXISTS (
                   SELECT FROM app.index_build_documents b
                    WHERE b.user_id = d.user_id AND b.document_id = d.id AND b.build_id = :build)
             ORDER BY d.id LIMIT :limit"""
        ),
        {
            "user_id": user_id,
            "project": build.project_id,
            "config": build.index_config_id,
            "build": build.id,
            "limit": limit,
        },
    )
    return {row.id: row.data_source_id for row in rows}


def add_documents(
    connection: Connection, build: Build, *, user_id: UserId, writes: Sequence[DocumentWrite], packer: TsvectorPacker
) -> list[UUID]:
    """Store candidates; return whose. Documents that changed since they were read, or were built meanwhile, are left out."""
    documents.lock(connection, user_id=user_id, document_ids=[write.id for write in writes])
    built = connection.execute(
        text(
            """
            SELECT document_id FROM app.index_build_documents
             WHERE user_id = :user_id AND build_id = :build AND document_id = ANY(:ids)"""
        ),
        {"user_id": user_id, "build": build.id, "ids": [write.id for write in writes]},
    )
    there = {row.document_id for row in built}
    stored = documents.add_candidates(
        connection, user_id=user_id, writes=[write for write in writes if write.id not in there], packer=packer
    )
    connection.execute(
        text(
            """
            INSERT INTO app.index_build_documents
                   (build_id, user_id, document_id, index_config_id, generation, chunk_count)
            SELECT :build, :user_id, s.id, :config, s.generation, s.chunk_count
              FROM unnest(CAST(:ids AS uuid[]), CAST(:generations AS int[]), CAST(:chunk_counts AS int[]))
                   AS s (id, generation, chunk_count)"""
        ),
        {
            "build": build.id,
            "user_id": user_id,
            "config": build.index_config_id,
            "ids": [write.id for write in stored],
            "generations": [write.generation for write in stored],
            "chunk_counts": [len(write.chunks or ()) for write in stored],
        },
    )
    return [write.id for write in stored]


def count(
    connection: Connection, build: Build, *, user_id: UserId, embedded: int, reused: int, embedding_tokens: int
) -> None:
    """Add to what the build has cost."""
    connection.execute(
        text(
            """
            UPDATE app.index_builds
               SET chunks_embedded = chunks_embedded + :embedded, chunks_reused = chunks_reused + :reused,
                   embedding_tokens = embedding_tokens + :tokens
             WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": build.id, "embedded": embedded, "reused": reused, "tokens": embedding_tokens},
    )


def embedding_tokens(connection: Connection, build: Build, *, user_id: UserId) -> int:
    """Return how many tokens were embedded for a build."""
    found: int = connection.execute(
        text("SELECT embedding_tokens FROM app.index_builds WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": build.id},
    ).scalar_one()
    return found


def set_status(connection: Connection, build: Build, *, user_id: UserId, status: BuildStatus) -> None:
    connection.execute(
        text("UPDATE app.index_builds SET status = :status WHERE user_id = :user_id AND id = :id"),
        {"user_id": user_id, "id": build.id, "status": status.value},
    )


_SAVE_RESULTS = text("UPDATE app.index_builds SET results = :results WHERE user_id = :user_id AND id = :id").bindparams(
    bindparam("results", type_=JSONB)
)


def save_results(connection: Connection, build: Build, *, user_id: UserId, results: Mapping[str, Any]) -> None:
    """Keep the outcome of a comparison: numbers and ids."""
    connection.execute(_SAVE_RESULTS, {"user_id": user_id, "id": build.id, "results": dict(results)})


def storage_bytes(connection: Connection, build: Build, *, user_id: UserId) -> tuple[int, int]:
    """Return the size of the chunks that the build's documents have live, and of its own."""
    row = connection.execute(
        text(
            """
            SELECT coalesce(sum(pg_column_size(c.*)) FILTER (WHERE c.generation <> b.generation), 0)::bigint AS live,
                   coalesce(sum(pg_column_size(c.*)) FILTER (WHERE c.generation = b.generation), 0)::bigint AS built
              FROM app.index_build_documents b
              JOIN app.documents d ON d.user_id = b.user_id AND d.id = b.document_id
              JOIN app.chunks c ON c.user_id = b.user_id AND c.document_id = b.document_id
                   AND c.generation IN (b.generation, coalesce(b.previous_generation, d.live_generation))
             WHERE b.user_id = :user_id AND b.build_id = :build"""
        ),
        {"user_id": user_id, "build": build.id},
    ).one()
    return row.live, row.built


def flip(connection: Connection, build: Build, *, user_id: UserId, default: IndexConfigId, new_id: NewId) -> int:
    """Make the build's candidates live and its config the project's; return of how many documents.

    One transaction: a search sees all of them before, or all of them after. The build is locked by the caller.
    """
    parameters = {"user_id": user_id, "build": build.id, "project": build.project_id}
    _lock_documents(connection, build, user_id=user_id)
    before = index_settings.of_project(connection, user_id=user_id, project_id=build.project_id)
    # Rows so new have no statistics: without this, ten thousand documents took 56 seconds instead of 3.
    connection.execute(text(search_scope.SCAN_SETTINGS))
    connection.execute(text(_REMEMBER), parameters)
    flipped = connection.execute(text(_FLIP), parameters).rowcount
    index_settings.want(
        connection,
        user_id=user_id,
        selection=Selection(project_id=build.project_id),
        index_config_id=build.index_config_id,
        default=default,
        new_id=new_id,
    )
    # Of an earlier switch there is no way back past this one.
    connection.execute(
        text(
            """
            UPDATE app.index_builds SET status = 'dropped'
             WHERE user_id = :user_id AND project_id = :project AND status = 'live' AND id <> :build"""
        ),
        parameters,
    )
    connection.execute(
        text(
            """
            UPDATE app.index_builds
               SET status = 'live', switched_at = now(), previous_index_config_id = :before
             WHERE user_id = :user_id AND id = :build"""
        ),
        {**parameters, "before": before},
    )
    return flipped


_REMEMBER = """
    UPDATE app.index_build_documents b
       SET previous_generation = d.live_generation, previous_chunk_count = d.chunk_count,
           previous_index_config_id = d.index_config_id,
           own_index_config_id = (
               SELECT n.index_config_id FROM app.index_settings n WHERE n.user_id = d.user_id AND n.document_id = d.id)
      FROM app.documents d
     WHERE b.user_id = :user_id AND b.build_id = :build AND d.user_id = :user_id AND d.id = b.document_id
       AND d.project_id = :project AND d.deleted_at IS NULL"""

# A document reprocessed since it was built goes to a lower generation: the higher one stays given out.
_FLIP = """
    UPDATE app.documents d
       SET allotted_generation = greatest(d.allotted_generation, d.live_generation),
           live_generation = b.generation, chunk_count = b.chunk_count, index_config_id = b.index_config_id
      FROM app.index_build_documents b
     WHERE d.user_id = :user_id AND b.user_id = :user_id AND b.build_id = :build AND b.document_id = d.id
       AND b.previous_generation IS NOT NULL"""


def flip_back(connection: Connection, build: Build, *, user_id: UserId, default: IndexConfigId, new_id: NewId) -> int:
    """Make live again what the switch replaced, and the settings what they were; return of how many documents.

    Documents that changed since keep their newer version. The build is ready again. The build is locked by the caller.
    Raises InvalidRequestError while the project has another build that is neither live nor dropped, and when nothing is
    left to go back to.
    """
    parameters = {"user_id": user_id, "build": build.id, "project": build.project_id, "config": build.index_config_id}
    is_other_open = connection.execute(
        text(
            """
            SELECT EXISTS (SELECT FROM app.index_builds
                            WHERE user_id = :user_id AND project_id = :project AND status IN ('building', 'ready'))"""
        ),
        parameters,
    ).scalar_one()
    if is_other_open:
        raise InvalidRequestError("this project has another build that is not live: drop it before you go back")
    _lock_documents(connection, build, user_id=user_id)
    connection.execute(text(search_scope.SCAN_SETTINGS))
    flipped = connection.execute(text(_FLIP_BACK), parameters).rowcount
    if not flipped:
        raise InvalidRequestError(
            "nothing that this build replaced is kept any more: `workstation reprocess run` brings other settings back"
        )
    index_settings.want(
        connection,
        user_id=user_id,
        selection=Selection(project_id=build.project_id),
        index_config_id=None,
        default=default,
        new_id=new_id,
    )
    if build.previous_index_config_id is not None:
        index_settings.set_project(
            connection,
            user_id=user_id,
            project_id=build.project_id,
            index_config_id=build.previous_index_config_id,
            new_id=new_id,
        )
    connection.execute(text(_PIN_AS_BEFORE), parameters)
    connection.execute(text(_FORGET), parameters)
    connection.execute(
        text(
            """
            UPDATE app.index_builds SET status = 'ready', switched_at = NULL, previous_index_config_id = NULL
             WHERE user_id = :user_id AND id = :build"""
        ),
        parameters,
    )
    return flipped


_FLIP_BACK = """
    UPDATE app.documents d
       SET allotted_generation = greatest(d.allotted_generation, d.live_generation),
           live_generation = b.previous_generation, chunk_count = b.previous_chunk_count,
           index_config_id = b.previous_index_config_id
      FROM app.index_build_documents b
     WHERE d.user_id = :user_id AND b.user_id = :user_id AND b.build_id = :build AND b.document_id = d.id
       AND b.previous_generation IS NOT NULL AND d.live_generation = b.generation AND d.deleted_at IS NULL"""

_PIN_AS_BEFORE = """
    INSERT INTO app.index_settings (id, user_id, document_id, index_config_id)
    SELECT gen_random_uuid(), b.user_id, b.document_id, b.own_index_config_id
      FROM app.index_build_documents b
     WHERE b.user_id = :user_id AND b.build_id = :build AND b.own_index_config_id IS NOT NULL
    ON CONFLICT ON CONSTRAINT index_settings_scope_key DO UPDATE SET index_config_id = excluded.index_config_id"""

_FORGET = """
    UPDATE app.index_build_documents
       SET previous_generation = NULL, previous_chunk_count = NULL, previous_index_config_id = NULL,
           own_index_config_id = NULL
     WHERE user_id = :user_id AND build_id = :build"""


def release(connection: Connection, build: Build, *, user_id: UserId, at_most: int) -> int:
    """Remove what a build keeps beside the live chunks, of at most so many documents; return of how many."""
    chosen = connection.execute(
        text(
            """
            SELECT document_id FROM app.index_build_documents
             WHERE user_id = :user_id AND build_id = :build ORDER BY document_id LIMIT :at_most"""
        ),
        {"user_id": user_id, "build": build.id, "at_most": at_most},
    )
    ids = [row.document_id for row in chosen]
    documents.lock(connection, user_id=user_id, document_ids=ids)
    connection.execute(text(_RELEASE), {"user_id": user_id, "build": build.id, "ids": ids})
    return len(ids)


_RELEASE = """
    WITH released AS (
        DELETE FROM app.index_build_documents b
         WHERE b.user_id = :user_id AND b.build_id = :build AND b.document_id = ANY(:ids)
        RETURNING b.document_id, b.generation, b.previous_generation)
    DELETE FROM app.chunks c USING released r, app.documents d
     WHERE c.user_id = :user_id AND d.user_id = :user_id AND c.document_id = r.document_id AND d.id = r.document_id
       AND c.generation IN (r.generation, r.previous_generation) AND c.generation <> d.live_generation
       AND NOT EXISTS (
           SELECT FROM app.index_build_documents o
            WHERE o.user_id = c.user_id AND o.document_id = c.document_id AND o.build_id <> :build
              AND c.generation IN (o.generation, o.previous_generation))"""


def to_purge(database: Database, *, switched_before: datetime, at_most: int) -> list[tuple[UserId, UUID]]:
    """Return builds of all users that keep what nobody may go back to any more: switched long ago, or dropped."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT user_id, build_id FROM app.builds_to_purge(:switched_before, :at_most)"),
            {"switched_before": switched_before, "at_most": at_most},
        ).all()
    return [(UserId(row.user_id), row.build_id) for row in rows]


def _lock_documents(connection: Connection, build: Build, *, user_id: UserId) -> None:
    connection.execute(
        text(
            """
            SELECT d.id FROM app.documents d
             WHERE d.user_id = :user_id AND d.id IN (
                   SELECT b.document_id FROM app.index_build_documents b
                    WHERE b.user_id = :user_id AND b.build_id = :build)
             ORDER BY d.id FOR NO KEY UPDATE OF d"""
        ),
        {"user_id": user_id, "build": build.id},
    )


def _build(row: Row[Any]) -> Build:
    return Build(**{**row._mapping, "status": BuildStatus(row.status)})
