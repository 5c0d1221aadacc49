"""The client of Pinecone through its own SDK: indexes, limits, refusals, and what becomes of the vendor's errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.fakes.pinecone import API_KEY, FakePinecone
from tests.fakes.server import Answer
from workstation_pipelines.errors import InvalidRequestError, RateLimitedError, SourceUnavailableError, WorkstationError
from workstation_pipelines.index.pinecone import MOST_BYTES, PineconeClient, Record

DIMENSIONS = 1536
NAMESPACE = "namespace"


@pytest.fixture
def pinecone() -> Iterator[FakePinecone]:
    with FakePinecone() as fake:
        yield fake
        assert fake.violations == []


@pytest.fixture
def client(pinecone: FakePinecone) -> Iterator[PineconeClient]:
    client = PineconeClient(API_KEY, url=pinecone.url)
    yield client
    client.close()


def records(count: int, *, dimensions: int = DIMENSIONS, begin: str = "v") -> list[Record]:
    vectors = np.random.default_rng(1).normal(size=(count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [Record(f"{begin}{number}", {"mime_type": "text/plain"}, vector) for number, vector in enumerate(vectors)]


def test_an_index_is_made_once_and_only_for_vectors_of_its_length(
    pinecone: FakePinecone, client: PineconeClient
) -> None:
    assert client.ensure_index("ours", dimensions=DIMENSIONS) == pinecone.url
    assert client.ensure_index("ours", dimensions=DIMENSIONS) == pinecone.url
    assert [request.method for request in pinecone.requests].count("POST") == 1
    with pytest.raises(InvalidRequestError, match="WORKSTATION_PINECONE_INDEX"):
        client.ensure_index("ours", dimensions=384)
    with pytest.raises(InvalidRequestError, match="invalid characters"):
        client.ensure_index("no name", dimensions=384)


def test_requests_keep_within_the_limits_on_bytes_and_numbers(pinecone: FakePinecone, client: PineconeClient) -> None:
    host = client.ensure_index("ours", dimensions=DIMENSIONS)
    assert client.upsert(host, NAMESPACE, records(300)).failed == {}
    sizes = [len(request.body) for request in pinecone.requests if request.path.endswith("/upsert")]
    assert max(sizes) <= MOST_BYTES
    assert 2 <= len(sizes) <= 4
    assert len(list(client.list_ids(host, NAMESPACE))) == 300
    assert len(list(client.list_ids(host, NAMESPACE, prefix="v29"))) == 11
    client.delete(host, NAMESPACE, [f"v{number}" for number in range(1_500)])
    assert list(client.list_ids(host, NAMESPACE)) == []


def test_a_request_too_large_or_refused_is_halved_until_what_is_at_fault_is_alone(
    pinecone: FakePinecone, client: PineconeClient
) -> None:
    host = client.ensure_index("ours", dimensions=4)
    pinecone.refuses = lambda record_id: record_id in ("v3", "v11")
    pinecone.fail("upsert", answer=Answer.of({"message": "too large"}, 413))
    written = client.upsert(host, NAMESPACE, records(16, dimensions=4))
    assert set(written.failed) == {"v3", "v11"}
    assert "cannot be taken" in written.failed["v3"]
    assert written.lsn is not None
    assert len(pinecone.ids()) == 14
    wrong = client.upsert(host, NAMESPACE, records(1, dimensions=5, begin="w"))
    assert "needs 4 values" in wrong.failed["w0"]
    much = [Record("m", {"mime_type": "x" * 50_000}, records(1, dimensions=4)[0].vector)]
    assert "metadata size exceeds" in client.upsert(host, NAMESPACE, much).failed["m"]


@pytest.mark.parametrize(
    ("answer", "error", "wait_s"),
    [
        (Answer.of({"message": "slow"}, 429, {"Retry-After": "17"}), RateLimitedError, 17.0),
        (Answer.of({"message": "slow"}, 429), RateLimitedError, 1.0),
        (Answer.of({"message": "down"}, 503, {"Retry-After": "40"}), SourceUnavailableError, 40.0),
        (Answer.of({"message": "down"}, 500), SourceUnavailableError, 5.0),
        (Answer(200, b"<html>sign in</html>", {"Content-Type": "text/html"}), SourceUnavailableError, 5.0),
        (None, SourceUnavailableError, 5.0),
        (Answer.of({"message": "no such key"}, 401), InvalidRequestError, None),
        (Answer.of({"message": "pay"}, 402), InvalidRequestError, None),
    ],
)
def test_errors_say_what_to_do_and_nothing_is_tried_twice(
    pinecone: FakePinecone,
    client: PineconeClient,
    answer: Answer | None,
    error: type[WorkstationError],
    wait_s: float | None,
) -> None:
    host = client.ensure_index("ours", dimensions=4)
    for part in ("upsert", "delete", "search", "list", "fetch"):
        pinecone.fail(f"/{part}", answer=answer, drop=answer is None)
        before = pinecone.calls("/documents/")
        with pytest.raises(error) as caught:
            _call(client, host, part)
        assert pinecone.calls("/documents/") == before + 1
        assert API_KEY not in str(caught.value)
        assert getattr(caught.value, "wait_s", None) == wait_s


def test_a_namespace_that_is_not_there_is_empty(client: PineconeClient) -> None:
    host = client.ensure_index("ours", dimensions=4)
    assert client.search(host, NAMESPACE, vector=np.ones(4, np.float32), filters={}, limit=3).ids == []
    assert list(client.list_ids(host, NAMESPACE)) == []
    assert client.fetch_metadata(host, NAMESPACE, ["v1"]) == {}
    client.delete(host, NAMESPACE, ["v1"])
    client.delete_namespace(host, NAMESPACE)


def _call(client: PineconeClient, host: str, part: str) -> None:
    if part == "upsert":
        client.upsert(host, NAMESPACE, records(2, dimensions=4))
    elif part == "delete":
        client.delete(host, NAMESPACE, ["v1"])
    elif part == "search":
        client.search(host, NAMESPACE, vector=np.ones(4, np.float32), filters={}, limit=3)
    elif part == "list":
        list(client.list_ids(host, NAMESPACE))
    else:
        client.fetch_metadata(host, NAMESPACE, ["v1"])
