"""Everything a program works with, put together from Settings: the one place where parts are chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from workstation_pipelines.db import data_sources, embedded, index_settings, vectors
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.pacing import PostgresPacer
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.identity import Uuid7, utc_now
from workstation_pipelines.index.contract import Embedder, Splitter
from workstation_pipelines.index.pinecone import PineconeClient
from workstation_pipelines.index.pinecone_store import PineconeVectorStore
from workstation_pipelines.index.prices import embedding_price
from workstation_pipelines.index.store import PostgresVectorStore, VectorStore
from workstation_pipelines.model import (
    IndexConfig,
    IndexConfigId,
    JobResult,
    JobType,
    ProcessingJobId,
    Progress,
    SourceType,
    UserId,
)
from workstation_pipelines.settings import IndexStore, Settings
from workstation_pipelines.sources import SourceContext, open_source
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sources.credentials import CredentialProvider
from workstation_pipelines.sync.credentials import NotConnected, Vault, needs_credentials
from workstation_pipelines.sync.draining import BackgroundDrain
from workstation_pipelines.sync.erasure import Certificate, erase
from workstation_pipelines.sync.estimate import SAMPLED_ITEMS
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.outbox import ExternalIndex
from workstation_pipelines.sync.plan import Plan, plan_sync
from workstation_pipelines.sync.run import SyncParts, SyncRequest, run_sync
from workstation_pipelines.sync.sampling import Sampler
from workstation_pipelines.sync.vectorize import Vectorizer

if TYPE_CHECKING:
    from workstation_pipelines.index.minilm.tokens import TokenCounter
    from workstation_pipelines.sources.web import WebFetcher
    from workstation_pipelines.sync.processing import Processed, ProcessingResult
    from workstation_pipelines.sync.reprocess import Reprocessed
    from workstation_pipelines.sync.saving import Saved, SavingTerms, TextToSave
    from workstation_pipelines.text.extract import SandboxedExtractor

Told = TypeVar("Told")
Outcome = TypeVar("Outcome")

SCHEMA_REVISION = "003_workflow_persistence"
"""The revision this code was written for; a test compares it with the newest migration."""


class Workspace:
    """The open system. Parts are made when first used: the embedder loads its model only for work that embeds."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.new_id = Uuid7()
        self._other_embedders: dict[tuple[str, str, int], Embedder] = {}

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Connect, and refuse to work on a database that is not migrated or not closed by row-level security.

        The embedded database is started and migrated as needed; one of your own only by `workstation db upgrade`.
        Raises InvalidRequestError, SourceUnavailableError.
        """
        urls = embedded.ensure_running(settings.home) if settings.uses_embedded_database else None
        database = Database(urls.app_url if urls else settings.database_url or "")
        try:
            if urls is not None and database.schema_revision() != SCHEMA_REVISION:
                from workstation_pipelines.db import migrate  # Alembic is needed once, not at every start

                migrate.upgrade(urls.admin_url)
            _refuse_unless_ready(database)
        except BaseException:  # nobody else holds the pool yet
            database.close()
            raise
        return cls(settings, database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if "extractor" in self.__dict__:
            self.extractor.close()
        if "fetcher" in self.__dict__:
            self.fetcher.close()
        if self.__dict__.get("external_index") is not None:
            self.__dict__["external_index"].client.close()
        self.database.close()

    @cached_property
    def extractor(self) -> SandboxedExtractor:
        from workstation_pipelines.text.extract import SandboxedExtractor

        return SandboxedExtractor()

    @cached_property
    def embedder(self) -> Embedder:
        settings = self.settings
        return self._open_embedder(settings.embedder.value, settings.embedding_model, settings.embedding_dimensions)

    def embedder_of(self, config: IndexConfig) -> Embedder:
        """Return the embedder that makes the vectors of an index config; one is opened for each model.

        Raises InvalidRequestError for a config whose embedder is not to be had any more.
        """
        wanted = (config.embedder, config.model, config.dimensions)
        default = self.embedder
        if wanted == (default.name, default.model, default.dimensions):
            return default
        if wanted not in self._other_embedders:
            self._other_embedders[wanted] = self._open_embedder(*wanted)
        return self._other_embedders[wanted]

    def _open_embedder(self, name: str, model: str | None, dimensions: int | None) -> Embedder:
        from workstation_pipelines.index.embed import open_embedder

        settings = self.settings
        return open_embedder(
            name,
            model=model,
            base_url=settings.embedding_url,
            api_key=settings.embedding_key.get_secret_value() if settings.embedding_key else None,
            dimensions=dimensions,
            threads=os.cpu_count() or 1,
        )

    @cached_property
    def fetcher(self) -> WebFetcher:
        from workstation_pipelines.sources.web import WebFetcher

        return WebFetcher(
            clock=utc_now, allows_http=self.settings.fetch_http, allows_loopback=self.settings.fetch_loopback
        )

    def index_config(self, user_id: UserId) -> IndexConfig:
        """Return the index config that the settings ask for, written on first use."""
        with self.database.transaction_with_rls(user_id) as connection:
            return vectors.index_config(
                connection,
                user_id=user_id,
                embedder=self.embedder.name,
                model=self.embedder.model,
                dimensions=self.embedder.dimensions,
                chunk_tokens=self.settings.chunk_tokens,
                overlap_tokens=self.settings.chunk_overlap_tokens,
                new_id=self.new_id,
            )

    def chosen_config(
        self,
        user_id: UserId,
        *,
        chunk_tokens: int | None = None,
        overlap_tokens: int | None = None,
        embedder: str | None = None,
        model: str | None = None,
        dimensions: int | None = None,
    ) -> IndexConfig:
        """Return the index config that differs from the settings' by what is given, written on first use.

        Raises InvalidRequestError for an embedder that cannot be opened, and for an overlap as long as a chunk.
        """
        chunk = chunk_tokens or self.settings.chunk_tokens
        overlap = self.settings.chunk_overlap_tokens if overlap_tokens is None else overlap_tokens
        if overlap >= chunk:
            raise InvalidRequestError(
                f"an overlap of {overlap} tokens leaves nothing of a chunk of {chunk}: shorten it"
            )
        is_default = embedder in (None, self.settings.embedder.value) and model is None and dimensions is None
        name = embedder or self.settings.embedder.value
        using = self.embedder if is_default else self._open_embedder(name, model, dimensions)
        with self.database.transaction_with_rls(user_id) as connection:
            return vectors.index_config(
                connection,
                user_id=user_id,
                embedder=using.name,
                model=using.model,
                dimensions=using.dimensions,
                chunk_tokens=chunk,
                overlap_tokens=overlap,
                new_id=self.new_id,
            )

    @cached_property
    def _token_counter(self) -> TokenCounter:
        from workstation_pipelines.index.minilm.tokens import TokenCounter

        return TokenCounter()

    @cached_property
    def splitter(self) -> Splitter:
        return self._splitter(self.settings.chunk_tokens, self.settings.chunk_overlap_tokens)

    def _splitter(self, chunk_tokens: int, overlap_tokens: int) -> Splitter:
        from workstation_pipelines.text.chunk import TokenSplitter

        return TokenSplitter(self._token_counter, max_tokens=chunk_tokens, overlap_tokens=overlap_tokens)

    @cached_property
    def external_index(self) -> ExternalIndex | None:
        """The index outside the database: kept in step for users who have a namespace there, whatever is searched."""
        settings = self.settings
        if settings.pinecone_api_key is None:
            return None
        client = PineconeClient(settings.pinecone_api_key.get_secret_value(), url=settings.pinecone_url)
        return ExternalIndex(self.database, client, settings.pinecone_index, self.new_id, Faults(settings.fault))

    @cached_property
    def vector_store(self) -> VectorStore:
        """Where the settings want vectors searched."""
        index = self.external_index
        if self.settings.index is IndexStore.PGVECTOR or index is None:
            return PostgresVectorStore(self.database)
        return PineconeVectorStore(self.database, index.client, prefix=index.prefix)

    def vectorizer(self, user_id: UserId) -> Vectorizer:
        """Return the vectorizer of what the settings ask for; it leads to those of other index configs of this user."""
        opened: dict[IndexConfigId, Vectorizer] = {}

        def other(index_config_id: IndexConfigId) -> Vectorizer:
            if index_config_id not in opened:
                with self.database.transaction_with_rls(user_id) as connection:
                    config = index_settings.config(connection, user_id=user_id, index_config_id=index_config_id)
                splitter = self._splitter(config.chunk_tokens, config.overlap_tokens)
                embedder = self.embedder_of(config)
                opened[index_config_id] = Vectorizer(splitter, embedder, config, self._price_of(embedder))
            return opened[index_config_id]

        return Vectorizer(self.splitter, self.embedder, self.index_config(user_id), self.token_price, others=other)

    @cached_property
    def token_price(self) -> Decimal | None:
        """USD for one token embedded as the settings choose; None when nobody knows."""
        return self._price_of(self.embedder)

    def _price_of(self, embedder: Embedder) -> Decimal | None:
        settings = self.settings
        return embedding_price(embedder.name, embedder.model, base_url=settings.embedding_url, prices=settings.prices)

    @cached_property
    def vault(self) -> Vault:
        return Vault(self.database, self.settings, utc_now)

    def open_source(self, data_source: DataSource) -> Source:
        """Raises InvalidRequestError for a config that cannot be used."""
        return self.open_with(data_source, self.vault.provider(data_source))

    def open_with(
        self,
        data_source: DataSource,
        credentials: CredentialProvider | None,
        *,
        config: Mapping[str, Any] | None = None,
    ) -> Source:
        """Open a source with other credentials or another config than its stored ones. Raises InvalidRequestError."""
        account = data_source.external_account or str(data_source.id)
        chosen = data_source.config if config is None else config
        return self._open(data_source.source_type, chosen, credentials, account)

    def open_config(self, source_type: SourceType, config: Mapping[str, Any]) -> Source:
        """Open a source that need not be stored yet. Raises InvalidRequestError for a config that cannot be used."""
        credentials = NotConnected() if needs_credentials(source_type) else None
        return self._open(source_type, config, credentials, "")

    def _open(
        self, source_type: SourceType, config: Mapping[str, Any], credentials: CredentialProvider | None, account: str
    ) -> Source:
        from workstation_pipelines.text.extract import detect_mime_type, has_text

        context = SourceContext(
            clock=utc_now,
            new_id=self.new_id,
            detect=detect_mime_type,
            has_text=has_text,
            pacer=PostgresPacer(self.database),
            folder_roots=self.settings.folder_roots(),
            credentials=credentials,
            account=account,
            urls=self.settings.source_urls(source_type),
            rates=self.settings.rates,
        )
        return open_source(source_type, config, context)

    def named_source(self, user_id: UserId, name: str) -> DataSource:
        """Raises NotFoundError."""
        with self.database.transaction_with_rls(user_id) as connection:
            return data_sources.named(connection, user_id=user_id, name=name)

    def sync(self, data_source: DataSource, request: SyncRequest) -> Generator[Progress, None, JobResult]:
        """Sync one data source; see run_sync. The command line and the Dagster assets both come through here."""
        if not data_source.is_active:
            raise InvalidRequestError(
                f"{data_source.name} is inactive: {data_source.status_message or 'it was switched off'}"
            )
        parts = SyncParts(
            database=self.database,
            source=self.open_source(data_source),
            extractor=self.extractor,
            vectorizer=self.vectorizer(data_source.user_id),
            new_id=self.new_id,
            faults=Faults(self.settings.fault),
        )
        return self._in_step(
            data_source.user_id,
            parts.vectorizer.config,
            lambda nudge: run_sync(replace(parts, after_commit=nudge), data_source, request),
        )

    def _in_step(
        self,
        user_id: UserId,
        config: IndexConfig,
        work: Callable[[Callable[[], None]], Generator[Told, None, Outcome]],
    ) -> Generator[Told, None, Outcome]:
        """Do work that may nudge after each commit, while an index outside the database is kept in step with it."""
        if self.external_index is None:
            return (yield from work(lambda: None))
        opens = self.settings.index is IndexStore.PINECONE
        with BackgroundDrain(self.external_index, user_id, dimensions=config.dimensions if opens else None) as drain:
            return (yield from work(drain.nudge))

    def process(
        self, *, user_id: UserId, job_id: ProcessingJobId, dagster_run_id: str | None = None
    ) -> Generator[Processed, None, ProcessingResult]:
        """Work on a bulk processing job; see run_processing."""
        from workstation_pipelines.sync.processing import ProcessingParts, run_processing

        parts = ProcessingParts(
            database=self.database,
            fetcher=self.fetcher,
            folder_roots=self.settings.folder_roots(),
            extractor=self.extractor,
            vectorizer=self.vectorizer(user_id),
            new_id=self.new_id,
            faults=Faults(self.settings.fault),
        )
        return self._in_step(
            user_id,
            parts.vectorizer.config,
            lambda nudge: run_processing(
                replace(parts, after_commit=nudge), user_id=user_id, job_id=job_id, dagster_run_id=dagster_run_id
            ),
        )

    def save_texts(self, texts: Sequence[TextToSave], terms: SavingTerms) -> Generator[Saved, None, None]:
        """Store texts as documents of their own; see save_texts()."""
        from workstation_pipelines.sync.saving import SavingParts, save_texts

        faults = Faults(self.settings.fault)
        parts = SavingParts(self.database, self.vectorizer(terms.user_id), self.new_id, utc_now, faults)
        return self._in_step(
            terms.user_id,
            parts.vectorizer.config,
            lambda nudge: save_texts(replace(parts, after_commit=nudge), texts, terms),
        )

    def reprocess(
        self, *, user_id: UserId, job_id: ProcessingJobId, dagster_run_id: str | None = None
    ) -> Generator[Reprocessed, None, ProcessingResult]:
        """Work on a reprocessing job; see run_reprocessing."""
        from workstation_pipelines.sync.reprocess import ReprocessingParts, run_reprocessing

        parts = ReprocessingParts(self.database, self.vectorizer(user_id), Faults(self.settings.fault))
        return run_reprocessing(parts, user_id=user_id, job_id=job_id, dagster_run_id=dagster_run_id)

    def erase(self, data_source: DataSource) -> Certificate:
        """Remove a source with all that came from it; see erase()."""
        faults = Faults(self.settings.fault)
        return erase(self.database, data_source, faults=faults, external=self.external_index)

    def plan(self, data_source: DataSource, *, job_type: JobType, is_sampled: bool = True) -> Plan:
        """Say what sync() would do and take; see plan_sync. Unless `is_sampled` nothing but listings is asked for."""
        from workstation_pipelines.text.extract import has_text

        source = self.open_source(data_source)
        sampler = Sampler(
            self.database,
            data_source.user_id,
            self.extractor,
            self.vectorizer(data_source.user_id),
            most_items=SAMPLED_ITEMS if is_sampled else 0,
        )
        try:
            return plan_sync(
                self.database,
                source,
                data_source,
                job_type=job_type,
                sampler=sampler,
                rates=self.settings.rates,
                has_text=has_text,
            )
        finally:
            source.close()


def _refuse_unless_ready(database: Database) -> None:
    revision = database.schema_revision()
    if revision != SCHEMA_REVISION:
        raise InvalidRequestError(
            f"the database is at schema revision {revision or 'none'} and this program needs {SCHEMA_REVISION}:"
            " run `workstation db upgrade`"
        )
    problems = database.verify_rls()
    if problems:
        found = "; ".join(f"{problem}: {name}" for problem, name in problems)
        raise InvalidRequestError(f"row-level security does not hold, so nothing is started: {found}")
