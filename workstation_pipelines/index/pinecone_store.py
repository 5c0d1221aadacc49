"""Search in Pinecone: it names the nearest vectors, the database decides which of them count and how near they are.

Whatever Pinecone names is looked up in the database, under row-level security and with the whole scope, so that dead
generations, deleted documents and other people's fall out. What it may not show yet is searched in the database, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import index_namespaces, index_outbox, library, nearest
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_namespaces import IndexNamespace
from workstation_pipelines.db.index_outbox import IndexedDocument
from workstation_pipelines.db.nearest import Neighbour
from workstation_pipelines.db.search import ChunkKey
from workstation_pipelines.db.search_scope import Filters
from workstation_pipelines.errors import InvalidRequestError, SourceUnavailableError
from workstation_pipelines.index.pinecone import MOST_FILTER_VALUES, MOST_MATCHES, Metadata, PineconeClient
from workstation_pipelines.index.store import Vector
from workstation_pipelines.model import IndexConfig, UserId

MOST_SEARCHED_EXACTLY = 1000
"""Documents that Pinecone may not show yet. When there are more, the database alone is as quick."""

SPARE_MATCHES = 100
"""Asked for beyond the limit in the first request, since some matches may not count."""

MORE_MATCHES = 2000


def index_name(prefix: str, dimensions: int) -> str:
    """Return the name of the index for vectors of so many dimensions: an index holds one length only."""
    return f"{prefix}-{dimensions}"


def vector_id(document_id: UUID, generation: int, ordinal: int) -> str:
    return f"{document_id}#{generation}#{ordinal}"


def parsed_id(record_id: str) -> ChunkKey | None:
    """Return what a vector's id says; None for one that is not ours."""
    try:
        document_id, generation, ordinal = record_id.split("#")
        return UUID(document_id), int(generation), int(ordinal)
    except ValueError:
        return None


def metadata(document: IndexedDocument) -> Metadata:
    """Return what a document's vectors can be filtered by: ids and times, and no word of anyone's text."""
    values: dict[str, str | float | list[str] | None] = {
        "document_id": str(document.id),
        "generation": document.generation,
        "index_config_id": str(document.index_config_id),
        "data_source_id": str(document.data_source_id) if document.data_source_id else None,
        "source_type": document.source_type,
        "project_id": str(document.project_id) if document.project_id else None,
        "tags": [str(tag_id) for tag_id in document.tag_ids] or None,
        "mime_type": document.mime_type,
        "source_modified_at": document.source_modified_at.timestamp() if document.source_modified_at else None,
    }
    return {name: value for name, value in values.items() if value is not None}


class PineconeVectorStore:
    """Vectors at Pinecone, one namespace a user. A user who has none there yet is searched in the database."""

    def __init__(
        self, database: Database, client: PineconeClient, *, prefix: str, connection: Connection | None = None
    ) -> None:
        self._database = database
        self._client = client
        self._prefix = prefix
        self._connection = connection

    def within(self, connection: Connection) -> PineconeVectorStore:
        return PineconeVectorStore(self._database, self._client, prefix=self._prefix, connection=connection)

    def nearest(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, limit: int
    ) -> Sequence[Neighbour]:
        with self._reading(filters.scope.user_id) as connection:
            asked = self._asked(connection, filters, index_config)
            found = None if asked is None else self._matches(connection, asked, filters, index_config, vector, limit)
            if asked is None or found is None:
                return nearest.nearest(connection, filters, index_config=index_config, vector=vector, limit=limit)
            matches, outdated = found
            unseen = list({*asked.not_visible, *outdated})
            if unseen:
                among = replace(filters, document_ids=unseen)
                exact = nearest.nearest(connection, among, index_config=index_config, vector=vector, limit=limit)
                matches = list({neighbour.key: neighbour for neighbour in (*matches, *exact)}.values())
        return sorted(matches, key=lambda neighbour: (-neighbour.cosine, neighbour.key))[:limit]

    def cosines(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, keys: Sequence[ChunkKey]
    ) -> Mapping[ChunkKey, float]:
        user_id = filters.scope.user_id
        with self._reading(user_id) as connection:
            return nearest.cosines(
                connection, user_id=user_id, index_config_id=index_config.id, vector=vector, keys=keys
            )

    @contextmanager
    def _reading(self, user_id: UserId) -> Iterator[Connection]:
        if self._connection is not None:
            yield self._connection
            return
        with self._database.transaction_with_rls(user_id) as connection:
            yield connection

    def _asked(self, connection: Connection, filters: Filters, index_config: IndexConfig) -> _Asked | None:
        """Return what to ask Pinecone; None when the database is to be searched instead.

        What it may not show is looked up first: what becomes visible in between is then found twice, never not at all.
        """
        scope = filters.scope
        name = index_name(self._prefix, index_config.dimensions)
        namespace = index_namespaces.find(connection, user_id=scope.user_id, index_name=name)
        if namespace is None or filters.build_id is not None or filters.document_ids is not None:
            return None
        not_visible = index_outbox.not_visible(connection, namespace, at_most=MOST_SEARCHED_EXACTLY + 1)
        tag_ids = None
        if scope.tag_names is not None:
            tag_ids = library.tag_ids(connection, user_id=scope.user_id, names=scope.tag_names)
        conditions = _conditions(filters, index_config, tag_ids)
        if len(not_visible) > MOST_SEARCHED_EXACTLY or conditions is None:
            return None
        return _Asked(namespace, conditions, not_visible)

    def _matches(
        self,
        connection: Connection,
        asked: _Asked,
        filters: Filters,
        index_config: IndexConfig,
        vector: Vector,
        limit: int,
    ) -> tuple[list[Neighbour], set[UUID]] | None:
        """Return the nearest that count, and documents of which other vectors were found than the database shows.

        None when too few among as many as can be asked for count.
        """
        for wanted in (limit + SPARE_MATCHES, MORE_MATCHES, MOST_MATCHES):
            try:
                ids = self._client.search(
                    asked.namespace.host, asked.namespace.name, vector=vector, filters=asked.conditions, limit=wanted
                ).ids
            except InvalidRequestError as error:  # a key that was withdrawn is no reason not to answer
                raise SourceUnavailableError(error.message) from error
            keys = [key for key in map(parsed_id, ids) if key is not None]
            found = nearest.measured(connection, filters, index_config=index_config, vector=vector, keys=keys)
            if len(found) >= limit or len(ids) < wanted:
                return found, {key[0] for key in keys} - {neighbour.key[0] for neighbour in found}
        return None


@dataclass(frozen=True, slots=True)
class _Asked:
    namespace: IndexNamespace
    conditions: Mapping[str, Any]
    not_visible: Sequence[UUID]


def _conditions(
    filters: Filters, index_config: IndexConfig, tag_ids: Sequence[UUID] | None
) -> Mapping[str, Any] | None:
    """Return the scope as Pinecone's filter; None when it has more values than that may have.

    A restriction that only the database can decide, such as a phrase, is left to it.
    """
    scope = filters.scope
    lists: dict[str, Sequence[str] | None] = {
        "project_id": _texts(scope.project_ids),
        "data_source_id": _texts(scope.data_source_ids),
        "source_type": scope.source_types and [source_type.value for source_type in scope.source_types],
        "mime_type": scope.mime_types,
        "tags": _texts(tag_ids),
    }
    chosen = {name: list(values) for name, values in lists.items() if values is not None}
    if any(not 1 <= len(values) <= MOST_FILTER_VALUES for values in chosen.values()):
        return None
    modified: dict[str, float] = {}
    if scope.modified_from is not None:
        modified["$gte"] = scope.modified_from.timestamp()
    if scope.modified_before is not None:
        modified["$lt"] = scope.modified_before.timestamp()
    return {
        "index_config_id": {"$eq": str(index_config.id)},
        **{name: {"$in": values} for name, values in chosen.items()},
        **({"source_modified_at": modified} if modified else {}),
    }


def _texts(ids: Sequence[UUID] | None) -> list[str] | None:
    return None if ids is None else [str(each) for each in ids]
