"""Embeds by hashing words: no model, no meaning beyond shared words, microseconds a text. For tests and benchmarks."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from workstation_pipelines.errors import InvalidRequestError

NAME = "hashing"
MODEL = "word-hashing-1"
DIMENSIONS = 384

_MOST_WORDS_KEPT = 200_000
# 64 rows stay in the processor's cache; with 1,024 the arithmetic takes twice as long.
_BATCH_TEXTS = 64
_SPACES_FOR_PUNCTUATION = str.maketrans({char: " " for char in map(chr, range(128)) if not char.isalnum()})
# Ideographs stand alone: a Chinese sentence has no spaces to tell its words by.
_WORD = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3400-\u4dbf\u4e00-\u9fff]+")
# By sign and shortness (two bits of a code): words of up to three letters are mostly "the" and "of".
_WEIGHTS = np.array([1.0, -1.0, 0.3, -0.3])


class HashingEmbedder:
    """Deterministic everywhere: the same text gives the same vector on any machine. May be shared by threads."""

    def __init__(self, *, dimensions: int = DIMENSIONS) -> None:
        if not 8 <= dimensions <= 65_536:
            raise InvalidRequestError(
                f"dimensions is {dimensions}: set it between 8 and 65536 for the hashing embedder"
            )
        self.name = NAME
        self.model = MODEL
        self.dimensions = dimensions
        self._codes = _Codes(dimensions)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return texts x dimensions, unit length, in the order of `texts`; texts without words share one vector."""
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), _BATCH_TEXTS):
            batch = texts[start : start + _BATCH_TEXTS]
            vectors[start : start + len(batch)] = self._embed_batch(batch)
        return vectors

    def _embed_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if len(self._codes) > _MOST_WORDS_KEPT:
            self._codes = _Codes(self.dimensions)
        words = [_words(text) for text in texts]
        counts = np.fromiter(map(len, words), np.int64, len(words))
        codes = np.fromiter(map(self._codes.__getitem__, chain.from_iterable(words)), np.int64, int(counts.sum()))
        cells = np.repeat(np.arange(len(texts)) * self.dimensions, counts) + (codes >> 2)
        sums = np.bincount(cells, _WEIGHTS[codes & 3], len(texts) * self.dimensions).astype(np.float32)
        # The root keeps a word that occurs twenty times from drowning the others.
        vectors = np.copysign(np.sqrt(np.abs(sums)), sums).reshape(len(texts), self.dimensions)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        vectors[lengths == 0, 0] = lengths[lengths == 0] = 1
        unit: NDArray[np.float32] = vectors / lengths[:, None]
        return unit


class _Codes(dict[str, int]):
    """Column and weight of each word met so far, as one number: column * 4 + index into the weights."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self._dimensions = dimensions

    def __missing__(self, word: str) -> int:
        # Any fixed hash would do; this one is in the standard library and not salted by process.
        digest = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        code = (digest >> 1) % self._dimensions * 4 + (digest & 1) + 2 * (len(word) <= 3 and word.isascii())
        self[word] = code
        return code


def _words(text: str) -> list[str]:
    folded = text.lower()
    if folded.isascii():
        return folded.translate(_SPACES_FOR_PUNCTUATION).split()
    return _WORD.findall(folded)
