"""Embeds with the model in this folder, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workstation_pipelines.index.minilm.tokens import open_tokenizer

MODEL_FILE = Path(__file__).with_name("model.onnx")

NAME = "minilm"
MODEL = "all-MiniLM-L6-v2-int8"
DIMENSIONS = 384
MAX_TOKENS = 256
"""Of a text with its two special tokens; what goes beyond is not seen by the model."""

# Small batches of texts of like length stay in the cache and pad little; larger ones were slower.
_BATCH_TOKENS = 2_048


class MiniLmEmbedder:
    """Loads the model once (about 0.1 s) and may then be shared by threads.

    `threads` is how many cores one call may use. The model rounds activations by batch, so the same text in another
    batch, or on a CPU with other instructions, gives a vector very near the first (cosine about 0.99), not its equal.
    """

    def __init__(self, *, threads: int) -> None:
        import onnxruntime

        self.name = NAME
        self.model = MODEL
        self.dimensions = DIMENSIONS
        self._tokenizer = open_tokenizer()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads give their core back at once: extraction and the database want it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(MODEL_FILE), options, providers=["CPUExecutionProvider"])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return texts x 384, unit length, in the order of `texts`; even an empty text has a vector."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        tokens = [encoding.ids for encoding in encodings]
        vectors = np.empty((len(tokens), DIMENSIONS), np.float32)
        for batch in _batches([len(ids) for ids in tokens]):
            ids, mask = _padded([tokens[place] for place in batch])
            vectors[batch] = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return vectors


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the places of texts of like length, such that each batch holds about 2,048 tokens with its padding."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _padded(tokens: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    longest = max(map(len, tokens))
    ids = np.zeros((len(tokens), longest), np.int64)
    mask = np.zeros((len(tokens), longest), np.int32)
    for row, text_ids in enumerate(tokens):
        ids[row, : len(text_ids)] = text_ids
        mask[row, : len(text_ids)] = 1
    return ids, mask
