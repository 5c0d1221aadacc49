"""A small, exact splitter, embedder and extractor, so that a test can compute what the database must hold."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from workstation_pipelines.errors import UnreadableContentError, UnsupportedContentError
from workstation_pipelines.model import Attachment, Chunk, Content, Extracted, Heading

CHUNK_CHARACTERS = 40
DIMENSIONS = 8


class FixedSplitter:
    """Cuts every so many characters."""

    def __init__(self, characters: int = CHUNK_CHARACTERS) -> None:
        self.characters = characters

    def split(self, text: str, headings: Sequence[Heading]) -> list[Chunk]:
        return [
            Chunk(ordinal, text[at : at + self.characters], at, min(at + self.characters, len(text)), "", 8)
            for ordinal, at in enumerate(range(0, len(text), self.characters))
        ]


class DigestEmbedder:
    """A unit vector from the digest of the text; counts what it is asked for."""

    name = "digest"
    model = "test"
    dimensions = DIMENSIONS

    def __init__(self, model: str = "test") -> None:
        self.model = model
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        return np.stack([vector_of(text) for text in texts])


def vector_of(text: str) -> NDArray[np.float32]:
    raw = np.frombuffer(blake2b(text.encode(), digest_size=DIMENSIONS).digest(), np.uint8)
    vector = raw.astype(np.float32) - 127.5
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class PlainExtractor:
    """Text as it is. `POISON` cannot be read, an empty file has nothing, lines `attach NAME: TEXT` are attachments."""

    def is_inline(self, content: Content) -> bool:
        return not content.name.endswith(".slow")

    def extract(self, content: Content) -> Extracted:
        text = content.body.decode()
        if not text:
            raise UnsupportedContentError("it is empty: nothing to index", reason="empty")
        if text.startswith("POISON"):
            raise UnreadableContentError("it is damaged: repair it at the source", reason="corrupt")
        attached = [
            line.removeprefix("attach ").partition(": ") for line in text.splitlines() if line.startswith("attach ")
        ]
        children = [Attachment(name, name, "text/plain", body.encode()) for name, _, body in attached]
        return Extracted(text, children=children)

    def close(self) -> None:
        pass
