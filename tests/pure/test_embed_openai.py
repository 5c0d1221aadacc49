"""The embedder for OpenAI-compatible endpoints, against a loopback server that speaks their protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest

from tests.pure.embeddings_server import KEY, EmbeddingsServer, encoded, refusal, serving, success
from workstation_pipelines.errors import (
    InvalidRequestError,
    RateLimitedError,
    RetryableError,
    SourceUnavailableError,
    WorkstationError,
)
from workstation_pipelines.index.openai import OpenAiEmbedder

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[EmbeddingsServer]:
    with serving(dimensions=8) as state:
        yield state


@contextmanager
def embedder(server: EmbeddingsServer, **options: Any) -> Iterator[OpenAiEmbedder]:
    defaults = {"base_url": server.url, "model": "local-model", "api_key": KEY, "dimensions": 8, "clock": lambda: NOW}
    with closing(OpenAiEmbedder(**{**defaults, **options})) as opened:
        yield opened


@pytest.mark.parametrize("encoding_format", ["base64", "float"])
def test_vectors_are_unit_length_and_in_the_order_of_the_texts(server: EmbeddingsServer, encoding_format: str) -> None:
    texts = ["one", "two", "three", "one"]
    expected = np.stack([server.vector(text) / np.linalg.norm(server.vector(text)) for text in texts])

    with embedder(server, encoding_format=encoding_format) as opened:
        vectors = opened.embed(texts)

    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected, atol=1e-6)


def test_floats_are_understood_although_base64_was_asked_for(server: EmbeddingsServer) -> None:
    server.answer = lambda body: success({"data": [{"index": 0, "embedding": encoded(server.vector("one"), {})}]})

    with embedder(server) as opened:
        assert opened.embed(["one"]).shape == (1, 8)


def test_no_texts_make_no_request(server: EmbeddingsServer) -> None:
    with embedder(server) as opened:
        assert opened.embed([]).shape == (0, 8)

    assert server.requests == []


def test_blank_texts_are_sent_as_something_the_endpoint_accepts(server: EmbeddingsServer) -> None:
    with embedder(server) as opened:
        assert opened.embed(["", "word", " \n"]).shape == (3, 8)


def test_requests_hold_no_more_texts_than_allowed(server: EmbeddingsServer) -> None:
    with embedder(server, batch_texts=3) as opened:
        vectors = opened.embed([str(place) for place in range(8)])

    assert [len(request["input"]) for request in server.requests] == [3, 3, 2]
    assert np.allclose(vectors[7], server.vector("7") / np.linalg.norm(server.vector("7")), atol=1e-6)


def test_requests_hold_no_more_tokens_than_allowed(server: EmbeddingsServer) -> None:
    with embedder(server, batch_tokens=100) as opened:
        opened.embed(["x" * 120, "y" * 120, "z" * 900, "short"])

    assert [len(request["input"]) for request in server.requests] == [2, 1, 1]


@pytest.mark.parametrize(
    ("model", "dimensions", "sent"),
    [("text-embedding-3-small", 8, 8), ("text-embedding-3-small", 1536, None), ("local-model", 8, None)],
)
def test_dimensions_are_sent_only_to_models_that_can_shorten(
    server: EmbeddingsServer, model: str, dimensions: int, sent: int | None
) -> None:
    server.dimensions = 1536 if dimensions == 1536 else 8

    with embedder(server, model=model, dimensions=dimensions) as opened:
        opened.embed(["one"])

    assert server.requests[0].get("dimensions") == sent


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [("7", 7), ("0.5", 0.5), (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90), ("soon", 5), ("nan", 5)],
)
def test_overload_raises_a_retryable_error_with_the_wait_asked_for(
    server: EmbeddingsServer, status: int, retry_after: str, wait_s: float
) -> None:
    server.answer = lambda body: refusal(status, "overloaded", Retry_After=retry_after)

    with embedder(server) as opened, pytest.raises(RetryableError) as caught:
        opened.embed(["one"])

    assert type(caught.value) is (RateLimitedError if status == 429 else SourceUnavailableError)
    assert caught.value.wait_s == wait_s


def test_a_used_up_quota_is_not_retried(server: EmbeddingsServer) -> None:
    server.answer = lambda body: refusal(429, "insufficient_quota")

    with embedder(server) as opened, pytest.raises(InvalidRequestError, match="quota"):
        opened.embed(["one"])


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "WORKSTATION_EMBEDDING_KEY"),
        (403, "WORKSTATION_EMBEDDING_KEY"),
        (404, "WORKSTATION_EMBEDDING_URL"),
        (307, "WORKSTATION_EMBEDDING_URL"),
        (400, "texts of this length"),
        (422, "this model"),
    ],
)
def test_a_refusal_says_what_to_set_and_quotes_nothing(server: EmbeddingsServer, status: int, advice: str) -> None:
    server.answer = lambda body: refusal(status, "some_code")

    with embedder(server) as opened, pytest.raises(InvalidRequestError, match=advice) as caught:
        opened.embed(["a private sentence"])

    assert "some_code" in str(caught.value)
    assert KEY not in repr(caught.value)
    assert "private" not in repr(caught.value)


def test_a_wrong_key_is_refused_without_being_shown(server: EmbeddingsServer) -> None:
    with embedder(server, api_key="sk-wrong") as opened, pytest.raises(InvalidRequestError) as caught:
        opened.embed(["one"])

    assert "sk-wrong" not in f"{caught.value!r} {opened!r} {vars(opened)!r}"


def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(server: EmbeddingsServer) -> None:
    with pytest.raises(InvalidRequestError, match="set it again") as caught, embedder(server, api_key="sk-schlüssel"):
        pass

    assert "schl" not in str(caught.value)


def _entries(*vectors: list[float]) -> list[dict[str, Any]]:
    return [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]


@pytest.mark.parametrize(
    "data",
    [
        _entries([1.0] * 8),
        _entries([1.0] * 8, [1.0] * 8, [1.0] * 8),
        [{"index": 0, "embedding": [1.0] * 8}, {"index": 0, "embedding": [1.0] * 8}],
        [*_entries([1.0] * 8, [1.0] * 8), *_entries([1.0] * 8)],
        _entries([1.0] * 8, [0.0] * 8),
        _entries([1.0] * 8, [float("nan")] * 8),
        [{"index": 0, "embedding": "!"}, {"index": 1, "embedding": "!"}],
        [{"index": 0, "embedding": None}, {"index": 1, "embedding": None}],
        [1, 2],
        None,
    ],
)
def test_an_answer_that_does_not_fit_the_texts_is_not_taken(server: EmbeddingsServer, data: object) -> None:
    server.answer = lambda body: success({"data": data})

    with embedder(server) as opened, pytest.raises(SourceUnavailableError, match="for local-model, but"):
        opened.embed(["one", "two"])


def test_another_number_of_dimensions_names_the_right_one(server: EmbeddingsServer) -> None:
    with embedder(server, dimensions=16) as opened, pytest.raises(InvalidRequestError, match="DIMENSIONS=8"):
        opened.embed(["one"])


@pytest.mark.parametrize("body", [b"", b"<html>", json.dumps([]).encode()])
def test_an_answer_in_another_language_is_a_retryable_error(server: EmbeddingsServer, body: bytes) -> None:
    server.answer = lambda request: (200, {}, body)

    with embedder(server) as opened, pytest.raises(SourceUnavailableError):
        opened.embed(["one"])


def test_an_unreachable_endpoint_is_a_retryable_error(server: EmbeddingsServer) -> None:
    with serving(8) as gone:
        url = gone.url

    with embedder(server, base_url=url) as opened, pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1"):
        opened.embed(["one"])


def test_a_key_inside_the_url_is_not_shown(server: EmbeddingsServer) -> None:
    url = server.url.replace("//", "//user:secret-word@") + "/nowhere?key=secret-word"

    with embedder(server, base_url=url) as opened, pytest.raises(WorkstationError) as caught:
        opened.embed(["one"])

    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"base_url": "localhost:8080"}, {"base_url": "file:///etc"}, {"dimensions": None}, {"dimensions": 0}],
)
def test_settings_that_cannot_work_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="set"):
        OpenAiEmbedder(**{"base_url": "https://example.com/v1", "model": "local-model", "dimensions": 8, **options})


def test_known_models_need_no_dimensions() -> None:
    make: Callable[..., OpenAiEmbedder] = OpenAiEmbedder

    with closing(make(model="text-embedding-3-large")) as opened:
        assert opened.dimensions == 3072
