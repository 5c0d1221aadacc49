"""Embeds through any endpoint that speaks OpenAI's embeddings protocol (checked November 2026).

`POST <base_url>/embeddings` with `{"model", "input": [...], "encoding_format"}` answers `{"data": [{"index", "embedding"}]}`
in any order, each embedding a list of floats or little-endian float32 in base64; servers that do not know
`encoding_format` send floats. OpenAI takes up to 2,048 texts and 300,000 tokens a request and 8,191 tokens a text; only
its text-embedding-3 models accept `dimensions`. A 429 with code `insufficient_quota` is not a matter of waiting.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from workstation_pipelines.errors import InvalidRequestError, RateLimitedError, SourceUnavailableError
from workstation_pipelines.model import Clock

NAME = "openai"
MODEL = "text-embedding-3-small"
BASE_URL = "https://api.openai.com/v1"

_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_SHORTENABLE = ("text-embedding-3-small", "text-embedding-3-large")
_CODE = re.compile(r"[A-Za-z][\w.-]{0,63}")
_DEFAULT_WAIT_S = 5.0


class OpenAiEmbedder:
    """One connection pool to one endpoint; may be shared by threads. The key is in no message, repr or log of ours.

    A request holds at most `batch_texts` texts and about `batch_tokens` tokens, estimated as one per three bytes.
    It neither retries nor sleeps: that is the caller's, who also sees to it that a text fits the model's window.
    """

    def __init__(
        self,
        *,
        base_url: str = BASE_URL,
        model: str = MODEL,
        api_key: str | None = None,
        dimensions: int | None = None,
        batch_texts: int = 256,
        batch_tokens: int = 100_000,
        encoding_format: str = "base64",
        timeout_s: float = 60.0,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._endpoint = _endpoint(base_url)
        self.name = NAME
        self.model = model
        self.dimensions = _dimensions(model, dimensions)
        self._body: dict[str, Any] = {"model": model, "encoding_format": encoding_format}
        if model in _SHORTENABLE and self.dimensions != _DIMENSIONS[model]:
            self._body["dimensions"] = self.dimensions
        self._batch_texts = batch_texts
        self._batch_tokens = batch_tokens
        self._clock = clock
        self._client = httpx.Client(headers=_headers(api_key), timeout=httpx.Timeout(timeout_s, connect=10.0))

    def close(self) -> None:
        self._client.close()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return texts x dimensions, unit length, in the order of `texts`; blank texts are sent as a single dot.

        Raises:
            RateLimitedError: on 429, with the wait that the endpoint asks for.
            SourceUnavailableError: on 5xx, when it cannot be reached, and when its answer is cut off or not understood.
            InvalidRequestError: when the key, the quota, the model, the URL or the dimensions are wrong, and says which.
        """
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start, stop in self._batches(texts):
            # The protocol refuses empty strings.
            batch = [text if text.strip() else "." for text in texts[start:stop]]
            vectors[start:stop] = self._vectors(self._post(batch), stop - start)
        return vectors

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        start = tokens = 0
        for place, text in enumerate(texts):
            cost = len(text.encode("utf-8", "replace")) // 3 + 1
            if place > start and (place - start == self._batch_texts or tokens + cost > self._batch_tokens):
                yield start, place
                start, tokens = place, 0
            tokens += cost
        if start < len(texts):
            yield start, len(texts)

    def _post(self, batch: Sequence[str]) -> Any:
        try:
            response = self._client.post(self._endpoint, json={**self._body, "input": batch})
        except httpx.RequestError as error:
            raise SourceUnavailableError(
                f"embeddings endpoint {self._place}: {type(error).__name__}; check WORKSTATION_EMBEDDING_URL, or wait",
                wait_s=_DEFAULT_WAIT_S,
            ) from error
        if response.status_code != httpx.codes.OK:
            raise self._refusal(response)
        try:
            return response.json()
        except ValueError as error:
            raise self._misunderstood("the answer is not JSON") from error

    def _refusal(self, response: httpx.Response) -> Exception:
        status, code = response.status_code, _error_code(response)
        what = f"embeddings endpoint {self._place} answered {status}{f' ({code})' if code else ''} for {self.model}"
        if code == "insufficient_quota":
            return InvalidRequestError(f"{what}: the account's quota is used up; raise it or set another key")
        if status == 429:
            return RateLimitedError(f"{what}: too many requests", wait_s=self._wait_s(response))
        if status >= 500 or status in (408, 409, 425):
            return SourceUnavailableError(f"{what}: try again later", wait_s=self._wait_s(response))
        if status in (401, 403):
            return InvalidRequestError(f"{what}: set WORKSTATION_EMBEDDING_KEY to a key that may use this model")
        if status in (404, 405) or 300 <= status < 400:
            return InvalidRequestError(
                f"{what}: check WORKSTATION_EMBEDDING_URL (it ends before /embeddings) and WORKSTATION_EMBEDDING_MODEL"
            )
        return InvalidRequestError(f"{what}: it does not accept this model, these dimensions or texts of this length")

    def _wait_s(self, response: httpx.Response) -> float:
        """Read Retry-After, in seconds or as an HTTP date."""
        text = response.headers.get("retry-after", "").strip()
        try:
            wait_s = float(text)
        except ValueError:
            try:
                moment = parsedate_to_datetime(text)
            except ValueError:
                return _DEFAULT_WAIT_S
            wait_s = (moment.replace(tzinfo=moment.tzinfo or UTC) - self._clock()).total_seconds()
        return max(wait_s, 0.0) if math.isfinite(wait_s) else _DEFAULT_WAIT_S

    def _vectors(self, answer: Any, count: int) -> NDArray[np.float32]:
        try:
            entries = {int(entry["index"]): entry["embedding"] for entry in answer["data"]}
            rows = [_decoded(entries[place]) for place in range(count)]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise self._misunderstood(
                f"it lacks embeddings for some of {count} texts, or they are no numbers"
            ) from error
        if len(entries) != count or len(answer["data"]) != count:
            raise self._misunderstood(f"it holds {len(answer['data'])} embeddings for {count} texts")
        for row in rows:
            if row.shape != (self.dimensions,):
                raise InvalidRequestError(
                    f"model {self.model} at {self._place} gives {row.size} dimensions, not {self.dimensions}: "
                    f"set WORKSTATION_EMBEDDING_DIMENSIONS={row.size}"
                )
        vectors = np.stack(rows)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise self._misunderstood("an embedding is zero or not finite")
        unit: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
        return unit

    def _misunderstood(self, why: str) -> SourceUnavailableError:
        return SourceUnavailableError(
            f"embeddings endpoint {self._place} answered for {self.model}, but {why}: check that it speaks this protocol",
            wait_s=_DEFAULT_WAIT_S,
        )

    @property
    def _place(self) -> str:
        # Without query and user part, where people put keys.
        return f"{self._endpoint.host}{self._endpoint.path}"


def _endpoint(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InvalidRequestError("WORKSTATION_EMBEDDING_URL is not a URL: set one like https://host/v1") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidRequestError("WORKSTATION_EMBEDDING_URL is not an http(s) URL: set one like https://host/v1")
    return url.copy_with(path=url.path.rstrip("/") + "/embeddings")


def _headers(api_key: str | None) -> dict[str, str]:
    key = (api_key or "").strip()
    # The HTTP library's own complaint would quote the key.
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidRequestError("WORKSTATION_EMBEDDING_KEY holds characters that no key has: set it again")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _dimensions(model: str, dimensions: int | None) -> int:
    native = _DIMENSIONS.get(model)
    if dimensions is None and native is None:
        raise InvalidRequestError(
            f"how many dimensions {model} gives is not known: set WORKSTATION_EMBEDDING_DIMENSIONS to their number"
        )
    if dimensions is not None and dimensions < 1:
        raise InvalidRequestError(f"WORKSTATION_EMBEDDING_DIMENSIONS is {dimensions}: set 1 or more")
    return dimensions or native or 0


def _error_code(response: httpx.Response) -> str:
    """Return the error's code or type if it is a mere name; the message itself may quote texts or keys."""
    try:
        error = response.json()["error"]
        found = error.get("code") or error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return found if isinstance(found, str) and _CODE.fullmatch(found) else ""


def _decoded(embedding: Any) -> NDArray[np.float64]:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float64)
    if not isinstance(embedding, list):
        raise TypeError("an embedding is a list or a string")
    return np.asarray(embedding, np.float64)
