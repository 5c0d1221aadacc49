"""What the engine asks of a splitter, an extractor and an embedder: all three are injected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workstation_pipelines.model import Chunk, Content, Extracted, Heading


class Extractor(Protocol):
    """Bytes to clean text. Raises UnsupportedContentError, ItemTooLargeError or UnreadableContentError with a reason."""

    def extract(self, content: Content) -> Extracted: ...

    def is_inline(self, content: Content) -> bool:
        """Return whether extract() is quick and safe in the calling thread, as for plain text."""

    def close(self) -> None: ...


class Splitter(Protocol):
    """Text to chunks in order of offset; deterministic; an empty or blank text gives none."""

    def split(self, text: str, headings: Sequence[Heading]) -> list[Chunk]: ...


class Embedder(Protocol):
    """Texts to unit vectors.

    `name` and `model` identify what makes vectors comparable; both are stored in the index config.
    """

    name: str
    model: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return n x dimensions, unit length, float32, in the order of `texts`. Raises RetryableError, InvalidRequestError."""
