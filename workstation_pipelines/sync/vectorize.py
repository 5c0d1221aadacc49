"""Texts to chunks with vectors. A chunk text is embedded once under an index config, however often and wherever it occurs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from uuid import UUID

from workstation_pipelines.db.documents import ChunkWrite
from workstation_pipelines.db.wire import TsvectorPacker, halfvecs
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index.contract import Embedder, Splitter
from workstation_pipelines.model import Chunk, Heading, IndexConfig, IndexConfigId, Usage
from workstation_pipelines.text.lexemes import lexer_for

Lookup = Callable[[Iterable[bytes]], Mapping[bytes, bytes]]
"""Text hashes -> those embedded before, with their halfvec values."""

Embed = Callable[[Mapping[bytes, str]], dict[bytes, bytes]]
"""Texts by hash -> their halfvec values by hash."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A chunk before it has a vector."""

    chunk: Chunk
    text_hash: bytes
    tsvector: bytes


@dataclass(frozen=True, slots=True)
class Vectorized:
    """The vectors of a batch by text hash, and what they cost."""

    vectors: Mapping[bytes, bytes]
    fresh: Mapping[bytes, bytes]
    embedded: int
    reused: int
    tokens: int

    def chunks(self, cuts: Sequence[Cut]) -> list[ChunkWrite]:
        return [ChunkWrite(cut.chunk, cut.text_hash, cut.tsvector, self.vectors[cut.text_hash]) for cut in cuts]

    def tokens_by_document(self, cuts: Iterable[tuple[UUID, Sequence[Cut]]]) -> dict[UUID, int]:
        """Return what each document's new texts took; one that occurs in several counts for the first of them."""
        unclaimed = set(self.fresh)
        tokens: dict[UUID, int] = {}
        for document_id, each in cuts:
            for cut in each:
                if cut.text_hash in unclaimed:
                    unclaimed.remove(cut.text_hash)
                    tokens[document_id] = tokens.get(document_id, 0) + cut.chunk.token_count
        return tokens


class Vectorizer:
    """Cuts and embeds under one index config, the default one; holds no database connection.

    `token_price` is USD for a token embedded, None when it is not known. `of` leads to the configs that somebody chose for
    some documents instead.
    """

    def __init__(
        self,
        splitter: Splitter,
        embedder: Embedder,
        config: IndexConfig,
        token_price: Decimal | None = Decimal(0),
        *,
        others: Callable[[IndexConfigId], Vectorizer] | None = None,
    ) -> None:
        self.config = config
        self.token_price = token_price
        self._others = others
        self._splitter = splitter
        self._embedder = embedder
        self._packer = TsvectorPacker()

    def of(self, index_config_id: UUID | None) -> Vectorizer:
        """Return the vectorizer of another config, or this one for None. Raises InvalidRequestError if it cannot be opened."""
        if index_config_id is None or index_config_id == self.config.id:
            return self
        if self._others is None:
            raise InvalidRequestError(f"index config {index_config_id} is not that of the settings: open the workspace")
        return self._others(IndexConfigId(index_config_id))

    def cut(self, text: str, headings: Sequence[Heading], language: str | None) -> list[Cut]:
        counted, pack = lexer_for(language).counted, self._packer.pack
        return [
            Cut(chunk, text_hash(chunk.text), pack(counted(chunk.text, chunk.heading_path)))
            for chunk in self._splitter.split(text, headings)
        ]

    def vectorize(self, cuts: Iterable[Cut], embedded_before: Lookup, embed: Embed | None = None) -> Vectorized:
        """Return a vector for every cut, asking the embedder only for texts that `embedded_before` does not know.

        `embed` is how it is asked, if not by embed().
        """
        wanted: dict[bytes, Chunk] = {}
        total = 0
        for cut in cuts:
            total += 1
            wanted.setdefault(cut.text_hash, cut.chunk)
        known = embedded_before(wanted)
        new = {key: chunk for key, chunk in wanted.items() if key not in known}
        fresh = (embed or self.embed)({key: chunk.text for key, chunk in new.items()})
        tokens = sum(chunk.token_count for chunk in new.values())
        return Vectorized({**known, **fresh}, fresh, len(fresh), total - len(fresh), tokens)

    def usages(
        self, tokens_by_document: Mapping[UUID, int], *, data_source_id: UUID | None, job_id: UUID | None
    ) -> list[Usage]:
        """Return what embedding is to be billed."""
        return [
            Usage(
                step="embed",
                provider=self.config.embedder,
                model=self.config.model,
                quantity=tokens,
                unit_price=self.token_price,
                data_source_id=data_source_id,
                document_id=document_id,
                job_id=job_id,
            )
            for document_id, tokens in tokens_by_document.items()
        ]

    def embed(self, texts: Mapping[bytes, str]) -> dict[bytes, bytes]:
        """Return hash -> halfvec value for texts by hash."""
        if not texts:
            return {}
        return dict(zip(texts, halfvecs(self._embedder.embed(list(texts.values()))), strict=True))


def text_hash(text: str) -> bytes:
    """Return 16 bytes that stand for a chunk's text."""
    return blake2b(text.encode(), digest_size=16).digest()


def content_hash(text: str) -> str:
    """Return the hash that decides whether a document's text has changed."""
    return "b2:" + blake2b(text.encode(), digest_size=16).hexdigest()
