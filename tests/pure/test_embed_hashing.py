"""The hashing embedder, and the table that embedders are opened from."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index import hashing
from workstation_pipelines.index.embed import EMBEDDERS, open_embedder
from workstation_pipelines.index.hashing import HashingEmbedder


def cosine(first: str, second: str) -> float:
    vectors = HashingEmbedder().embed([first, second])
    return float(vectors[0] @ vectors[1])


def test_vectors_are_float32_of_unit_length_and_in_order() -> None:
    texts = [f"Text number {place} about topic{place % 7}" for place in range(200)]

    vectors = HashingEmbedder(dimensions=64).embed(texts)

    assert vectors.shape == (200, 64)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for place in (0, 63, 64, 199):
        assert np.array_equal(vectors[place], HashingEmbedder(dimensions=64).embed([texts[place]])[0])


def test_texts_that_share_more_words_are_nearer() -> None:
    query = "restart the database server after the upgrade"

    same = cosine(query, "After the upgrade, restart the database server!")
    some = cosine(query, "The database server was slow on Monday.")
    none = cosine(query, "A recipe for the best apple cake of the year.")

    assert same > 0.9
    assert same > some + 0.2 > none + 0.2
    assert some > none + 0.1


def test_sharing_only_the_and_of_does_not_make_texts_near() -> None:
    assert cosine("the price of the bread and the milk", "the roof of the house and the barn") < 0.35


def test_chinese_texts_are_compared_by_ideograph() -> None:
    assert cosine("会议改到星期四", "星期四的会议") > 0.5 > cosine("会议改到星期四", "请提交报销单")


@pytest.mark.parametrize("text", ["", "  \n", "...", "€ → ✓", "\ud800"])
def test_a_text_without_words_still_has_a_unit_vector(text: str) -> None:
    vector = HashingEmbedder().embed([text])[0]

    assert np.linalg.norm(vector) == pytest.approx(1)


def test_no_texts_give_no_vectors() -> None:
    assert HashingEmbedder().embed([]).shape == (0, 384)


def test_another_process_gives_the_same_vectors() -> None:
    code = (
        "from workstation_pipelines.index.hashing import HashingEmbedder as H;"
        "print(H().embed(['The same words, naïve ones too'])[0].tobytes().hex())"
    )
    # A hash seed of its own, as every process has.
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )

    assert bytes.fromhex(found.stdout) == HashingEmbedder().embed(["The same words, naïve ones too"])[0].tobytes()


def test_words_are_forgotten_rather_than_kept_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_MOST_WORDS_KEPT", 100)
    embedder = HashingEmbedder()

    for start in range(0, 2_000, 50):
        embedder.embed([" ".join(f"word{place}" for place in range(start, start + 50))])

    assert len(embedder._codes) <= 150


@pytest.mark.parametrize("name", ["", "MiniLM", "word2vec"])
def test_an_unknown_name_is_refused_with_the_list_of_names(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="choose one of minilm, openai, hashing"):
        open_embedder(name)


def test_every_embedder_opens_and_says_what_it_is() -> None:
    for name in EMBEDDERS:
        embedder = open_embedder(name)
        assert embedder.name == name
        assert embedder.model
        assert embedder.dimensions in (384, 1536)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("minilm", {"model": "e5-small"}),
        ("minilm", {"dimensions": 768}),
        ("hashing", {"model": "other"}),
        ("hashing", {"dimensions": 1}),
    ],
)
def test_settings_an_embedder_cannot_have_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        open_embedder(name, **options)  # type: ignore[arg-type]  # the table mixes types


def test_opening_one_embedder_does_not_load_what_only_another_needs() -> None:
    code = (
        "import sys; from workstation_pipelines.index.embed import open_embedder; open_embedder('hashing');"
        "sys.exit(bool({'onnxruntime', 'tokenizers', 'httpx'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
