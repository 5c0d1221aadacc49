"""The shipped model, run for real. Nothing here compares exact values: int8 rounding differs between CPUs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from workstation_pipelines.index.minilm import embedder, tokens
from workstation_pipelines.index.minilm.embedder import MiniLmEmbedder

HERE = Path(__file__).parent
SENTENCES = (HERE / "sentences.txt").read_text(encoding="utf-8").splitlines()
REFERENCE_SHA256 = "827520eb2ad2489b6be654547a08623e3bd84aea4e1142a5c6fa81b036c53084"


@pytest.fixture(scope="module")
def minilm() -> MiniLmEmbedder:
    return MiniLmEmbedder(threads=1)


@pytest.fixture(scope="module")
def vectors(minilm: MiniLmEmbedder) -> NDArray[np.float32]:
    return minilm.embed(SENTENCES)


def test_the_shipped_model_is_as_near_to_the_published_one_as_promised(vectors: NDArray[np.float32]) -> None:
    path = HERE / "sentences_fp32.npy"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == REFERENCE_SHA256
    reference = np.load(path).astype(np.float32)

    cosines = (vectors * reference).sum(axis=1) / np.linalg.norm(reference, axis=1)

    assert len(SENTENCES) == len(reference) == 200
    assert cosines.mean() >= 0.99
    assert cosines.min() >= 0.94


def test_the_nearest_sentence_is_the_one_the_published_model_finds(vectors: NDArray[np.float32]) -> None:
    reference = np.load(HERE / "sentences_fp32.npy").astype(np.float32)

    agreement = np.mean(_nearest(vectors) == _nearest(reference))

    assert agreement >= 0.8


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    nearest: NDArray[np.intp] = similarity.argmax(axis=1)
    return nearest


def test_vectors_are_float32_of_unit_length(vectors: NDArray[np.float32]) -> None:
    assert vectors.shape == (200, 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_vectors_come_in_the_order_of_the_texts(minilm: MiniLmEmbedder) -> None:
    texts = ["server " * 200, "cat", "the weather in spring " * 30, "invoice"]

    together = minilm.embed(texts)
    alone = np.concatenate([minilm.embed([text]) for text in texts])

    assert (together @ alone.T).argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert (together * alone).sum(axis=1).min() > 0.95


def test_no_texts_give_no_vectors(minilm: MiniLmEmbedder) -> None:
    assert minilm.embed([]).shape == (0, 384)


def test_an_empty_text_still_gives_a_finite_unit_vector(minilm: MiniLmEmbedder) -> None:
    vectors = minilm.embed(["", " \n", "\x00"])

    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_what_lies_beyond_256_tokens_is_not_seen(minilm: MiniLmEmbedder) -> None:
    # 254 tokens of text beside the two special ones.
    seen = "apple " * 254

    plain, longer, other = minilm.embed([seen, seen + "volcano " * 50, "apple " * 200 + "volcano " * 54])

    assert float(plain @ longer) > 0.9999
    assert float(plain @ other) < 0.9


def test_names_of_special_tokens_in_a_text_are_plain_words() -> None:
    ids = tokens.open_tokenizer().encode("a [SEP] b [PAD]", add_special_tokens=False).ids

    assert not {0, 102} & set(ids)


def test_a_paraphrase_is_nearer_than_an_unrelated_sentence(minilm: MiniLmEmbedder) -> None:
    question, answer, other = minilm.embed(
        [
            "How can I get my money back?",
            "We refund the full price within thirty days.",
            "The glacier has retreated by a kilometre.",
        ]
    )

    assert question @ answer > question @ other + 0.2


def test_the_shipped_files_are_small_and_licensed() -> None:
    folder = embedder.MODEL_FILE.parent

    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= 25_000_000
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert "Changes" in (folder / "NOTICE").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "The server's configuration-file (see §4) isn't read twice: naïve façade, co-operate.",
        "def total(items): return sum(item.price * item.quantity for item in items)",
        "会议改到星期四上午十点。請求書を添付しました。회의가 연기되었습니다",
        "Встреча перенесена; ελληνικά; תְּנוּעָה; हिन्दी; ภาษาไทย; tiếng Việt",
        "👨‍👩‍👧 50% off 🎉🎉 €1,204.50 ± 2 °C → x² ≠ y",
        "page one ca\x0ct ca\x85t\x00\u200b\ufeffend\u2028line\u00a0hard",
        "a [SEP] b [CLS] [MASK] ##ing",
        "x" * 150 + " " + "https://example.com/" + "a1b2c3" * 30,
    ],
)
def test_counting_words_gives_what_counting_the_text_gives(text: str) -> None:
    from workstation_pipelines.text import words

    counter = tokens.TokenCounter()

    whole = len(tokens.open_tokenizer().encode(text, add_special_tokens=False).ids)

    assert words.count_whole(text, counter) == whole
    assert words.count_whole(text, counter) == whole  # the second time from memory


def test_a_counter_forgets_words_rather_than_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MOST_WORDS_KEPT", 10)
    counter = tokens.TokenCounter()

    for start in range(0, 100, 8):
        words = [f"word{number}" for number in range(start, start + 8)]
        assert counter(words) == tokens.TokenCounter()(words)

    assert len(counter._known) <= 10
