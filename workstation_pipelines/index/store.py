"""Where vectors are searched: the seam between hybrid search and a vector index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from workstation_pipelines.db import nearest
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.nearest import Neighbour
from workstation_pipelines.db.search import ChunkKey
from workstation_pipelines.db.search_scope import Filters
from workstation_pipelines.model import IndexConfig

Vector = NDArray[np.float32]
"""One vector, unit length."""


class VectorStore(Protocol):
    """Vectors of chunks. What it returns is looked up in the database afterwards, where dead generations and other
    people's rows fall out; so it may lag behind, but the scope must be applied before its limit."""

    def nearest(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, limit: int
    ) -> Sequence[Neighbour]:
        """Return the nearest chunks, nearest first. Raises RetryableError when the store cannot be reached."""

    def cosines(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, keys: Sequence[ChunkKey]
    ) -> Mapping[ChunkKey, float]:
        """Return the cosine similarity of given chunks, for those it has."""

    def within(self, connection: Connection) -> VectorStore:
        """Return the same store, which reads of the database what this connection's transaction sees."""


class SnapshotVectorStore:
    """The vectors beside the chunks, as one transaction sees them: what it finds is what that transaction looks up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def within(self, connection: Connection) -> VectorStore:
        return SnapshotVectorStore(connection)

    def nearest(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, limit: int
    ) -> Sequence[Neighbour]:
        return nearest.nearest(self._connection, filters, index_config=index_config, vector=vector, limit=limit)

    def cosines(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, keys: Sequence[ChunkKey]
    ) -> Mapping[ChunkKey, float]:
        return nearest.cosines(
            self._connection,
            user_id=filters.scope.user_id,
            index_config_id=index_config.id,
            vector=vector,
            keys=keys,
        )


class PostgresVectorStore:
    """The vectors beside the chunks, by pgvector."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def within(self, connection: Connection) -> VectorStore:
        return SnapshotVectorStore(connection)

    def nearest(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, limit: int
    ) -> Sequence[Neighbour]:
        with self._database.transaction_with_rls(filters.scope.user_id) as connection:
            return nearest.nearest(connection, filters, index_config=index_config, vector=vector, limit=limit)

    def cosines(
        self, filters: Filters, *, index_config: IndexConfig, vector: Vector, keys: Sequence[ChunkKey]
    ) -> Mapping[ChunkKey, float]:
        user_id = filters.scope.user_id
        with self._database.transaction_with_rls(user_id) as connection:
            return nearest.cosines(
                connection, user_id=user_id, index_config_id=index_config.id, vector=vector, keys=keys
            )
