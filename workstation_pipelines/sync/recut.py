"""Stored texts cut and embedded anew: what is to be written, before anybody writes it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import documents, metering, vectors
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.vectors import StoredText
from workstation_pipelines.errors import BudgetReachedError
from workstation_pipelines.model import Measure, Usage, UserId
from workstation_pipelines.sync.budget import Allowance, Wanted
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.stopping import StopSignal
from workstation_pipelines.sync.vectorize import Vectorizer

EMBEDDED_AT_ONCE = 64
"""Between so many texts a run that is to stop can."""

Sources = Mapping[UUID, UUID | None]
"""Documents to rework -> the data source each is from."""


@dataclass(frozen=True, slots=True)
class Recut:
    """Documents in new chunks with vectors, each as the generation after the one it was read in, and what that cost."""

    writes: Sequence[DocumentWrite]
    texts: Sequence[StoredText]
    chunks: int
    embedded: int
    reused: int
    tokens: int
    usages: Sequence[Usage]
    took_s: float


def prepare(
    database: Database,
    vectorizer: Vectorizer,
    allowance: Allowance,
    *,
    user_id: UserId,
    sources: Sources,
    job_id: UUID | None = None,
    faults: Faults | None = None,
    stop: StopSignal | None = None,
) -> tuple[Recut, BudgetReachedError | None]:
    """Cut and embed documents from their stored texts, as many as the budgets allow; the error says why not all.

    Writes nothing. Texts embedded before under this config are not embedded again. Raises what `stop` is told meanwhile.
    """
    reach = (faults or Faults()).reach
    with database.transaction_with_rls(user_id) as connection:
        texts = vectors.stored_texts(connection, user_id=user_id, document_ids=list(sources))
    cuts = {}
    for stored in texts:
        if stop is not None:
            stop.raise_if_set()
        cuts[stored.id] = vectorizer.cut(stored.text, stored.headings, stored.language)
    reach("rework_cut")
    with database.transaction_with_rls(user_id) as connection:
        known = vectors.embedded_before(
            connection,
            user_id=user_id,
            index_config_id=vectorizer.config.id,
            text_hashes={cut.text_hash for each in cuts.values() for cut in each},
        )
    tokens: dict[UUID, dict[bytes, int]] = {
        stored.id: {cut.text_hash: cut.chunk.token_count for cut in cuts[stored.id]} for stored in texts
    }
    affordable, over = affordable_of(allowance, tokens, known, sources)
    texts = [stored for stored in texts if stored.id in affordable]
    cuts = {stored.id: cuts[stored.id] for stored in texts}
    begun_s = time.perf_counter()
    done = vectorizer.vectorize(
        (cut for each in cuts.values() for cut in each),
        lambda _hashes: known,
        partial(_embed, vectorizer, stop or StopSignal()),
    )
    took_s = time.perf_counter() - begun_s
    reach("rework_embedded")
    recut = Recut(
        writes=[next_generation(stored, vectorizer, done.chunks(cuts[stored.id])) for stored in texts],
        texts=texts,
        chunks=sum(len(each) for each in cuts.values()),
        embedded=done.embedded,
        reused=done.reused,
        tokens=done.tokens,
        usages=usages_of(vectorizer, done.tokens_by_document(cuts.items()), sources, job_id=job_id),
        took_s=took_s,
    )
    return recut, over


def _embed(vectorizer: Vectorizer, stop: StopSignal, texts: Mapping[bytes, str]) -> dict[bytes, bytes]:
    pairs = list(texts.items())
    fresh: dict[bytes, bytes] = {}
    for at in range(0, len(pairs), EMBEDDED_AT_ONCE):
        stop.raise_if_set()
        fresh.update(vectorizer.embed(dict(pairs[at : at + EMBEDDED_AT_ONCE])))
    return fresh


def affordable_of(
    allowance: Allowance,
    tokens: Mapping[UUID, Mapping[bytes, int]],
    known: Mapping[bytes, bytes],
    sources: Sources,
) -> tuple[Collection[UUID], BudgetReachedError | None]:
    """Return the documents that the budgets allow of `tokens` (document -> text hash -> tokens), and why not all."""
    limits = allowance.limits()
    if not limits:
        return tokens.keys(), None
    wanted, seen = [], set(known)
    for document_id, each in tokens.items():
        wanted.append(Wanted(sum(each[key] for key in each.keys() - seen), sources[document_id]))
        seen |= each.keys()
    number, over = allowance.take(limits, wanted)
    return set(list(tokens)[:number]), over


def usages_of(
    vectorizer: Vectorizer, spent: Mapping[UUID, int], sources: Sources, *, job_id: UUID | None
) -> list[Usage]:
    """Return what is to be billed for tokens by document, each to its source."""
    by_source: dict[UUID | None, dict[UUID, int]] = {}
    for document_id, tokens in spent.items():
        by_source.setdefault(sources[document_id], {})[document_id] = tokens
    return [
        usage
        for data_source_id, each in by_source.items()
        for usage in vectorizer.usages(each, data_source_id=data_source_id, job_id=job_id)
    ]


def meter(connection: Connection, *, user_id: UserId, usages: Sequence[Usage], took_s: float) -> None:
    """Bill what was embedded, in the transaction that stores it; also for a document that has moved on meanwhile."""
    metering.record(connection, user_id=user_id, usages=usages)
    if usages:
        measures = [Measure("embed", "duration_s", 1, took_s, took_s)]
        metering.observe(connection, user_id=user_id, data_source_id=None, measures=measures)


def next_generation(
    stored: StoredText, vectorizer: Vectorizer, chunks: Sequence[documents.ChunkWrite]
) -> DocumentWrite:
    """Return the write that gives a document the same text in these chunks, as the generation after its own."""
    return DocumentWrite(
        id=stored.id,
        is_new=False,
        title=stored.title,
        title_lexemes={},
        mime_type="",
        external_url=None,
        size_bytes=0,
        source_created_at=None,
        source_modified_at=None,
        generation=stored.generation + 1,
        index_config_id=vectorizer.config.id,
        chunks=chunks,
    )
