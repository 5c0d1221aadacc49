"""Pinecone, by the documents interface of its own SDK: the only module that knows the SDK, its limits and its errors.

Checked against pinecone 10.2.0 (API 2026-07) on 2026-11-22. Writes are applied in the order of their log positions (LSN)
some time after they are acknowledged; a search tells up to which position it saw. Listings and fetches tell nothing of
the kind. A request holds at most 1,000 documents or ids and 2 MB, a page of a listing 100 ids, a filter's list 10,000
values, a document's metadata 40 KB, an id 512 ASCII characters. The SDK would repeat a request by itself and wait as long
as the server says in the calling thread; here it does neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workstation_pipelines.errors import InvalidRequestError, RateLimitedError, SourceUnavailableError

if TYPE_CHECKING:
    from pinecone import Pinecone
    from pinecone._internal.http_client import HTTPClient
    from pinecone.client.documents import Documents

VECTOR_FIELD = "embedding"
DEFAULT_URL = "https://api.pinecone.io"

MOST_DOCUMENTS = 1000
MOST_BYTES = 2_000_000
MOST_METADATA_BYTES = 40_000
MOST_FILTER_VALUES = 10_000
MOST_MATCHES = 10_000
LIST_PAGE = 100

WRITE_TIMEOUT_S = 30.0
SEARCH_TIMEOUT_S = 8.0
"""A search has a second way to its answer, which should not come much later than the first would have."""

CREATION_TIMEOUT_S = 300
NUMBER_BYTES = 10  # of one number of a vector as JSON: six decimals, sign, zero, point, comma
UNAVAILABLE_WAIT_S = 5.0
OF_CONTENT = (400, 413, 422)
"""Statuses that refuse what a request holds, so that its halves may fare better."""

Metadata = Mapping[str, str | float | list[str]]


@dataclass(frozen=True, slots=True)
class Record:
    """One vector as the index holds it. Without `vector`, its metadata only."""

    id: str
    metadata: Metadata
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to: `failed` are ids that the index refused and why; the log position it is visible from."""

    failed: Mapping[str, str]
    lsn: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """Ids, nearest first, and the log position up to which the search saw, when it says."""

    ids: Sequence[str]
    lsn: int | None


class PineconeClient:
    """One account at Pinecone; safe to share between threads. Nothing connects, or loads the SDK, before first use."""

    def __init__(self, api_key: str, *, url: str = DEFAULT_URL) -> None:
        self._api_key = api_key
        self._url = url
        self._lock = Lock()
        self._control: Pinecone | None = None
        self._documents: dict[str, Documents] = {}
        self._connections: list[HTTPClient] = []

    def close(self) -> None:
        """Close what is open. Idempotent; the next use opens it again."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            for connection in self._connections:
                connection.close()
            self._control = None
            self._connections.clear()
            self._documents.clear()

    def ensure_index(self, name: str, *, dimensions: int, wait_s: int = CREATION_TIMEOUT_S) -> str:
        """Return the host of an index for vectors of so many dimensions, made when it is not there.

        Raises:
            InvalidRequestError: there is one of that name for other vectors, or the key or the name is not accepted.
            RetryableError: Pinecone cannot be reached, or the index is not ready after `wait_s`.
        """
        from pinecone.errors import ConflictError, NotFoundError

        with _translated(f"index {name}"):
            control = self._open_control()
            try:
                model = control.indexes.describe(name)
            except NotFoundError:
                schema = {"type": "dense_vector", "dimension": dimensions, "metric": "cosine"}
                try:
                    model = control.indexes.create(name=name, schema={"fields": {VECTOR_FIELD: schema}}, timeout=wait_s)
                except ConflictError:  # somebody else made it at the same moment
                    model = control.indexes.describe(name)
            found = model.schema.fields.get(VECTOR_FIELD)
        if getattr(found, "dimension", None) != dimensions or getattr(found, "metric", None) != "cosine":
            raise InvalidRequestError(
                f"the Pinecone index {name} is not one for cosine similarity of {dimensions} dimensions in the field"
                f" {VECTOR_FIELD}: choose another name with WORKSTATION_PINECONE_INDEX, or delete that index"
            )
        if not model.status.ready or not model.host:
            raise SourceUnavailableError(
                f"the Pinecone index {name} is not ready yet: try again in a minute", wait_s=60
            )
        return str(model.host)

    def upsert(self, host: str, namespace: str, records: Sequence[Record]) -> Written:
        """Write records, overwriting those of the same id, in as many requests as they need.

        A request that is refused for its content or size is tried again in halves, down to the records that are at
        fault. Raises RetryableError, and then some may have been written.
        """
        failed: dict[str, str] = {}
        lsn: int | None = None
        for batch in _batches(records):
            lsn = _later(lsn, self._upsert_batch(host, namespace, batch, failed))
        return Written(failed, lsn)

    def _upsert_batch(self, host: str, namespace: str, batch: Sequence[Record], failed: dict[str, str]) -> int | None:
        from pinecone.errors import ApiError, PineconeTypeError, PineconeValueError

        documents = [_document(record) for record in batch]
        try:
            with _translated(f"{len(batch)} vectors", lets_through_refusals=True):
                answer = self._open(host).upsert(namespace=namespace, documents=documents, timeout=WRITE_TIMEOUT_S)
        except (ApiError, PineconeValueError, PineconeTypeError) as error:
            if getattr(error, "status_code", 400) not in OF_CONTENT:
                raise InvalidRequestError(
                    f"Pinecone refuses to write vectors ({_refusal(error)}): `workstation index status` looks at the index"
                ) from error
            if len(batch) == 1:
                failed[batch[0].id] = _refusal(error)
                return None
            middle = len(batch) // 2
            first = self._upsert_batch(host, namespace, batch[:middle], failed)
            return _later(first, self._upsert_batch(host, namespace, batch[middle:], failed))
        if answer.upserted_count < len(batch):
            # It does not say which: all are sent again, which changes nothing for those that it has.
            failed |= {record.id: f"only {answer.upserted_count} of {len(batch)} were taken" for record in batch}
        return answer.response_info.lsn_committed if answer.response_info else None

    def delete(self, host: str, namespace: str, ids: Sequence[str]) -> int | None:
        """Delete records; those that are not there are no error. Returns the log position. Raises RetryableError."""
        from pinecone.errors import NotFoundError

        lsn: int | None = None
        for at in range(0, len(ids), MOST_DOCUMENTS):
            some = ids[at : at + MOST_DOCUMENTS]
            try:
                with _translated(f"{len(some)} vectors", lets_through_refusals=True):
                    answer = self._open(host).delete(namespace=namespace, ids=some, timeout=WRITE_TIMEOUT_S)
            except NotFoundError:  # the namespace comes into being with its first record
                continue
            lsn = _later(lsn, answer.response_info.lsn_committed if answer.response_info else None)
        return lsn

    def delete_namespace(self, host: str, namespace: str) -> None:
        """Delete all records of a namespace. Idempotent. Raises RetryableError."""
        from pinecone.errors import NotFoundError

        try:
            with _translated("a namespace", lets_through_refusals=True):
                self._open(host).delete(namespace=namespace, delete_all=True, timeout=WRITE_TIMEOUT_S)
        except NotFoundError:
            return

    def search(
        self, host: str, namespace: str, *, vector: NDArray[np.float32], filters: Mapping[str, Any], limit: int
    ) -> Found:
        """Return the ids of the nearest records that meet the filters. Raises RetryableError."""
        from pinecone.errors import NotFoundError

        score_by = [{"type": "dense_vector", "fields": [VECTOR_FIELD], "values": _numbers(vector)}]
        try:
            with _translated("a search", lets_through_refusals=True):
                answer = self._open(host).search(
                    namespace=namespace, score_by=score_by, top_k=limit, filter=filters, timeout=SEARCH_TIMEOUT_S
                )
        except NotFoundError:
            return Found([], None)
        lsn = answer.response_info.lsn_reconciled if answer.response_info else None
        return Found([match.id for match in answer.matches], lsn)

    def list_ids(self, host: str, namespace: str, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the ids of all records, sorted, page by page. What was written lately may be missing.

        Raises RetryableError, also half way.
        """
        from pinecone.errors import NotFoundError

        try:
            with _translated("a listing", lets_through_refusals=True):
                for entry in self._open(host).list(
                    namespace=namespace, prefix=prefix, limit=LIST_PAGE, timeout=WRITE_TIMEOUT_S
                ):
                    yield entry.id
        except NotFoundError:
            return

    def fetch_metadata(self, host: str, namespace: str, ids: Sequence[str]) -> dict[str, Metadata]:
        """Return the metadata of those records that are there. Raises RetryableError."""
        from pinecone.errors import NotFoundError

        found: dict[str, Metadata] = {}
        try:
            for at in range(0, len(ids), LIST_PAGE):
                with _translated("records", lets_through_refusals=True):
                    answer = self._open(host).fetch(
                        namespace=namespace,
                        ids=ids[at : at + LIST_PAGE],
                        include_fields=list(METADATA_FIELDS),
                        timeout=WRITE_TIMEOUT_S,
                    )
                for record_id, document in answer.documents.items():
                    fields = document.to_dict()
                    found[record_id] = {name: fields[name] for name in METADATA_FIELDS if name in fields}
        except NotFoundError:
            return {}
        return found

    def _open_control(self) -> Pinecone:
        from pinecone import Pinecone, RetryConfig

        with self._lock:
            if self._control is None:
                retries = RetryConfig(max_retries=0)
                self._control = Pinecone(self._api_key, host=self._url, retry_config=retries, timeout=WRITE_TIMEOUT_S)
            return self._control

    def _open(self, host: str) -> Documents:
        """Return the documents of an index as Pinecone.index(...).documents would, but for its retries.

        The SDK has no way to hand its retry configuration to the client of an index.
        """
        from pinecone import PineconeConfig, RetryConfig
        from pinecone._internal.constants import DATA_PLANE_API_VERSION
        from pinecone._internal.http_client import HTTPClient
        from pinecone.client.documents import Documents

        with self._lock:
            documents = self._documents.get(host)
            if documents is None:
                retries = RetryConfig(max_retries=0)
                config = PineconeConfig(api_key=self._api_key, host=host, retry_config=retries, timeout=WRITE_TIMEOUT_S)
                connection = HTTPClient(config, DATA_PLANE_API_VERSION)
                self._connections.append(connection)
                documents = Documents(http=connection, host=config.host)
                self._documents[host] = documents
            return documents


METADATA_FIELDS = (
    "document_id",
    "generation",
    "index_config_id",
    "data_source_id",
    "source_type",
    "project_id",
    "tags",
    "mime_type",
    "source_modified_at",
)


def _batches(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut records into requests within the limits on number and bytes."""
    begin, size_bytes = 0, 0
    for at, record in enumerate(records):
        dimensions = 0 if record.vector is None else len(record.vector)
        record_bytes = NUMBER_BYTES * dimensions + _metadata_bytes(record) + 700
        if at > begin and (at - begin >= MOST_DOCUMENTS or size_bytes + record_bytes > MOST_BYTES):
            yield records[begin:at]
            begin, size_bytes = at, 0
        size_bytes += record_bytes
    if begin < len(records):
        yield records[begin:]


def _metadata_bytes(record: Record) -> int:
    """Bound the bytes that metadata takes as JSON."""
    total = 0
    for name, value in record.metadata.items():
        values = value if isinstance(value, list) else [str(value)]
        total += len(name) + 8 + sum(6 * len(each) + 3 for each in values)
    return total


def _document(record: Record) -> dict[str, Any]:
    vector = {} if record.vector is None else {VECTOR_FIELD: _numbers(record.vector)}
    return {"_id": record.id, **vector, **record.metadata}


def _numbers(vector: NDArray[np.float32]) -> list[float]:
    # Finer than halfvec, in which they are stored, and a third of the bytes.
    return [float(number) for number in np.round(vector.astype(np.float64), 6)]


def _later(first: int | None, second: int | None) -> int | None:
    return max((lsn for lsn in (first, second) if lsn is not None), default=None)


@contextmanager
def _translated(what: str, *, lets_through_refusals: bool = False) -> Iterator[None]:
    """Turn the SDK's errors into ours.

    With `lets_through_refusals` what says that the request itself is wrong, or what it asks for not there, passes as it is.
    """
    from pinecone.errors import (
        ApiError,
        ForbiddenError,
        PaymentRequiredError,
        PineconeConnectionError,
        PineconeError,
        PineconeTimeoutError,
        RateLimitError,
        ResponseParsingError,
        UnauthorizedError,
    )

    try:
        yield
    except RateLimitError as error:
        wait_s = _retry_after(error.headers)
        raise RateLimitedError(
            f"Pinecone wants fewer requests: it is asked for {what} again in {wait_s:.0f} s", wait_s=wait_s
        ) from error
    except (UnauthorizedError, ForbiddenError, PaymentRequiredError) as error:
        raise InvalidRequestError(
            f"Pinecone refuses access to {what} ({error.status_code}): look at PINECONE_API_KEY and the project it is of"
        ) from error
    except (PineconeConnectionError, PineconeTimeoutError, ResponseParsingError) as error:
        raise SourceUnavailableError(
            f"Pinecone gives no usable answer for {what} ({type(error).__name__}): it is asked again later",
            wait_s=UNAVAILABLE_WAIT_S,
        ) from error
    except ApiError as error:
        if error.status_code >= 500 or error.status_code in (408, 425):
            raise SourceUnavailableError(
                f"Pinecone cannot answer for {what} just now ({error.status_code}): it is asked again later",
                wait_s=max(UNAVAILABLE_WAIT_S, _retry_after(error.headers)),
            ) from error
        if lets_through_refusals:
            raise
        raise InvalidRequestError(f"Pinecone refuses {what}: {_refusal(error)}") from error
    except PineconeError as error:
        if lets_through_refusals:
            raise
        raise InvalidRequestError(f"Pinecone refuses {what}: {_refusal(error)}") from error


def _refusal(error: Exception) -> str:
    """Say why, in one line: the server's message quotes ids and names of fields, which are ours."""
    return re.sub(r"\s+", " ", str(error))[:300]


def _retry_after(headers: Mapping[str, str] | None) -> float:
    """Return the seconds that a Retry-After asks for, as a number or a date; a second when there is none."""
    value = next((text for name, text in (headers or {}).items() if name.lower() == "retry-after"), "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return 1.0
