"""One user's documents with an index at Pinecone: what the index holds, what it should hold, and draining, killed or not."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg

from tests.conftest import DatabaseUrls
from tests.db import rows
from tests.fakes.pinecone import API_KEY, FakePinecone
from workstation_pipelines.db import documents, index_outbox, library, vectors, wire
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_namespaces import IndexNamespace
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.index.pinecone import PineconeClient
from workstation_pipelines.index.pinecone_store import PineconeVectorStore
from workstation_pipelines.model import DocumentId, IndexConfig, UserId
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.outbox import Drained, ExternalIndex, drain_all, open_namespace

ALICE = UserId("alice")
PREFIX = "test"
CHUNK_CHARACTERS = 10

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.sync.indexed", "pinecone"])


def external_index(database: Database, url: str, fault: str | None = None) -> ExternalIndex:
    return ExternalIndex(database, PineconeClient(API_KEY, url=url), PREFIX, Uuid7(), Faults(fault))


class Dead(BaseException):
    """Raised where a process would have died."""


class DeadAt(Faults):
    def __init__(self, point: str) -> None:
        super().__init__()
        self._point = point

    def reach(self, name: str) -> None:
        if name == self._point:
            raise Dead


class Indexed:
    """Documents by a name of the test's own, chunked by 10 characters."""

    def __init__(self, urls: DatabaseUrls, pinecone: FakePinecone, *, user_id: UserId = ALICE) -> None:
        self.urls = urls
        self.pinecone = pinecone
        self.user_id = user_id
        self.database = Database(urls.app_url, pool_size=2)
        self.index = external_index(self.database, pinecone.url)
        self.ids: dict[str, DocumentId] = {}
        with self.database.transaction_with_rls(user_id) as connection:
            self.config: IndexConfig = rows.config_of(connection, user_id)
            self.source = rows.add_source(connection, user_id)
        self._superuser = psycopg.connect(libpq_url(urls.admin_url), autocommit=True)

    def close(self) -> None:
        self._superuser.close()
        self.index.client.close()
        self.database.close()

    def store_of(self) -> PineconeVectorStore:
        return PineconeVectorStore(self.database, self.index.client, prefix=PREFIX)

    # What is done to the documents

    def put(self, name: str, text: str) -> None:
        """Store a new document, or the next text of one that is there or was."""
        self.put_all({name: text})

    def put_all(self, texts: Mapping[str, str]) -> None:
        known = set(self.ids)
        writes = [
            rows.document_write(
                text,
                config_id=self.config.id,
                document_id=self.ids.setdefault(name, DocumentId(uuid4())),
                is_new=name not in known,
                chunk_size=CHUNK_CHARACTERS,
            )
            for name, text in texts.items()
        ]
        with self.database.transaction_with_rls(self.user_id) as connection:
            rows.store(connection, self.user_id, writes, data_source_id=self.source.id)

    def delete(self, *names: str) -> None:
        with self.database.transaction_with_rls(self.user_id) as connection:
            documents.tombstone(connection, user_id=self.user_id, document_ids=[self.ids[name] for name in names])

    def purge(self, name: str) -> None:
        self.ask("DELETE FROM app.documents WHERE id = %s", self.ids.pop(name))

    def tag(self, name: str, tag: str) -> None:
        with self.database.transaction_with_rls(self.user_id) as connection:
            tag_id = library.ensure_tag(connection, user_id=self.user_id, name=tag, new_id=uuid4)
            library.tag(connection, user_id=self.user_id, document_id=self.ids[name], tag_id=tag_id)

    def untag(self, name: str, tag: str) -> None:
        with self.database.transaction_with_rls(self.user_id) as connection:
            library.untag(connection, user_id=self.user_id, document_id=self.ids[name], tag_name=tag)

    def assign(self, name: str, project: str) -> UUID:
        with self.database.transaction_with_rls(self.user_id) as connection:
            found = library.ensure_project(connection, user_id=self.user_id, name=project, new_id=uuid4)
            library.assign(connection, user_id=self.user_id, document_id=self.ids[name], project=found)
            return found

    def date(self, name: str, day: int) -> None:
        self.ask(
            "UPDATE app.documents SET source_modified_at = %s WHERE id = %s",
            datetime(2026, 5, day, tzinfo=UTC),
            self.ids[name],
        )

    def lose_vectors(self, name: str) -> None:
        self.ask("UPDATE app.chunks SET embedding = NULL WHERE document_id = %s", self.ids[name])

    def fill_vectors(self, name: str) -> None:
        with self.database.transaction_with_rls(self.user_id) as connection:
            missing = vectors.missing(connection, user_id=self.user_id, document_ids=[self.ids[name]])
            found = [(each[0], each[1], each[2], rows.vector_of(each[4])) for each in missing]
            vectors.fill(connection, user_id=self.user_id, vectors=found)

    def rechunk(self, name: str, text: str, *, chunk_size: int) -> None:
        with self.database.transaction_with_rls(self.user_id) as connection:
            live = documents.lock(connection, user_id=self.user_id, document_ids=[self.ids[name]])
            write = rows.document_write(
                text,
                config_id=self.config.id,
                document_id=self.ids[name],
                is_new=False,
                chunk_size=chunk_size,
                generation=live[self.ids[name]].live + 1,
            )
            documents.rechunk(connection, user_id=self.user_id, writes=[write], packer=wire.TsvectorPacker())

    # The index

    def open(self) -> IndexNamespace:
        return open_namespace(self.index, user_id=self.user_id, dimensions=self.config.dimensions)

    def drain(self) -> Drained:
        return drain_all(self.index, self.open())

    def drain_killed_at(self, point: str) -> bool:
        """Drain in a process of its own that dies at a point; return whether it got there."""
        process = _FORKS.Process(target=drain_once, args=(self.urls.app_url, self.pinecone.url, self.user_id, point))
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
        return process.exitcode != 0

    def drain_interrupted_at(self, point: str, *, is_told: bool = False) -> None:
        """Drain and stop dead at a point in this process, which is quicker: nothing after it is done."""
        index = replace(self.index, faults=DeadAt(point))
        try:
            drain_all(index, self.open())
        except Dead:
            if is_told:
                raise

    def is_tagged(self, name: str) -> bool:
        return bool(self.ask("SELECT FROM app.document_tags WHERE document_id = %s", self.ids[name]))

    def time_passes(self) -> None:
        """Let every wait and every lease of the outbox come to its end."""
        self.ask("UPDATE app.index_outbox SET next_try_at = now(), claimed_until = now() - interval '1 second'")

    # The invariant

    def expected(self) -> set[str]:
        """The ids of the live chunks, as the database alone has them."""
        found = self.ask(
            """
            SELECT c.document_id || '#' || c.generation || '#' || c.ordinal FROM app.chunks c
              JOIN app.documents d ON d.id = c.document_id AND d.live_generation = c.generation
             WHERE d.deleted_at IS NULL AND c.embedding IS NOT NULL AND c.user_id = %s""",
            self.user_id,
        )
        return {str(row[0]) for row in found}

    def is_in_step(self) -> bool:
        """Say whether the index holds exactly the live chunks, and nothing waits."""
        assert self.pinecone.violations == []
        return self.pinecone.ids() == self.expected() and self.waiting() == 0

    def waiting(self) -> int:
        with self.database.transaction_with_rls(self.user_id) as connection:
            return index_outbox.backlog(connection, self.open()).waiting

    def ask(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run SQL as a superuser and return all rows."""
        cursor = self._superuser.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def names_of(self, ids: Sequence[UUID]) -> list[str]:
        known = {document_id: name for name, document_id in self.ids.items()}
        return [known[DocumentId(each)] for each in ids]


def drain_once(app_url: str, pinecone_url: str, user_id: str, fault: str) -> None:
    database = Database(app_url, pool_size=2)
    index = external_index(database, pinecone_url, fault)
    drain_all(index, open_namespace(index, user_id=UserId(user_id), dimensions=rows.DIMENSIONS))
