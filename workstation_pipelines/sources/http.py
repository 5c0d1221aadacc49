"""One way to every vendor: credentials, pacing, waiting, errors and caps, for requests that can only read.

A connector names each kind of request it makes as a Call; nothing else leaves this process. Short waits are waited for
here, long ones are raised. Nothing is concluded from an answer that is not what a Call promises: a login page with
status 200 is SourceUnavailableError, never an empty listing. Messages name the provider, the call and the status, never
a URL's query, a header or a body.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from threading import Lock
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import httpx

from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    SkipItemError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.credentials import CredentialProvider
from workstation_pipelines.sources.pacing import Pacer

MOST_ATTEMPTS = 3
MOST_WAIT_S = 5.0
"""A longer wait is raised, so that the job can pause instead of holding a worker."""

MOST_JSON_BYTES = 64 * 1024 * 1024
_ATTEMPT_WAITS_S = (0.3, 1.0)
_T = TypeVar("_T")
_TIMEOUT = httpx.Timeout(60.0, connect=5.0, pool=60.0)


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of request. `path` is a template such as `/drive/v3/files/{file_id}`, below the base URL named `base`.

    `per_s` and `burst` pace all processes together, by provider, account and `pace` (the call's name when None); `cost`
    is what one request takes out of that bucket.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    per_s: float
    burst: float = 10
    cost: float = 1
    base: str = "api"
    pace: str | None = None
    is_authorized: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, as far as it tells of success or failure. `fields` is the JSON object, empty when there is none."""

    call: Call
    status: int
    headers: httpx.Headers
    fields: Mapping[str, Any]
    is_json: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A whole body, with its headers."""

    body: bytes
    headers: httpx.Headers = field(repr=False)


Params = Mapping[str, str | int | bool | None] | list[tuple[str, str | int | bool | None]] | None
"""Query parameters; those of None are left out, a list repeats a name."""

Classify = Callable[[Reply], WorkstationError | None]
"""A vendor's reading of an answer: the error that it stands for, or None to go by the status alone."""


class VendorApi:
    """The requests of one data source. Thread-safe. `provider_calls` counts requests, retries included."""

    def __init__(
        self,
        *,
        provider: str,
        account: str,
        urls: Mapping[str, str],
        calls: tuple[Call, ...],
        credentials: CredentialProvider,
        pacer: Pacer,
        clock: Clock,
        classify: Classify,
        headers: Mapping[str, str] | None = None,
        rates: Mapping[str, float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log URLs with their queries
        self._provider = provider
        self._account = account
        self._urls = {name: url.rstrip("/") for name, url in urls.items()}
        self._credentials = credentials
        self._pacer = pacer
        self._clock = clock
        self._classify = classify
        self._rates = rates or {}
        self._sleep = sleep
        self._lock = Lock()
        self.provider_calls = 0
        guarded = ReadOnly(credentials.transport(transport or httpx.HTTPTransport(retries=0)), calls)
        self._client = httpx.Client(
            transport=guarded, headers=headers, timeout=_TIMEOUT, follow_redirects=False, trust_env=False
        )

    def json(
        self,
        call: Call,
        *,
        path: Mapping[str, str] | None = None,
        params: Params = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object of a reply. Parameters of None are left out."""
        return self._json(call, self._url(call, path), params=params, body=body, headers=headers)

    def json_at(self, call: Call, url: str, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Follow a link that the vendor gave, verbatim. It must lie below the call's base URL, for it gets our token."""
        if not url.startswith(self._urls[call.base] + "/"):
            raise UnexpectedReplyError(
                f"{self._provider} {call.name}: it names a link to another host, which is not followed", wait_s=60
            )
        return self._json(call, url, headers=headers, is_given=True)

    def download(
        self,
        call: Call,
        *,
        limit_bytes: int,
        path: Mapping[str, str] | None = None,
        params: Params = None,
        headers: Mapping[str, str] | None = None,
    ) -> Download:
        """Return a body of at most `limit_bytes`. Redirects are followed without our token. Raises ItemTooLargeError."""
        return self._retried(
            call,
            lambda: self._download(call, self._url(call, path), limit_bytes, params=params, headers=headers),
        )

    def download_at(
        self, call: Call, url: str, *, limit_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Download:
        """Return the body at a link that the vendor gave; our token goes along only below the call's base URL."""
        return self._retried(call, lambda: self._download(call, url, limit_bytes, headers=headers, is_given=True))

    def close(self) -> None:
        self._client.close()

    def _json(self, call: Call, url: str, **request: Any) -> dict[str, Any]:
        def once() -> dict[str, Any]:
            with self._sent(call, url, **request) as response:
                body = self._body(call, response, MOST_JSON_BYTES, is_item=False)
                reply = self._reply(call, response, body)
                self._raise_for(reply)
                if not reply.is_json:
                    raise UnexpectedReplyError(
                        f"{self._provider} {call.name}: the answer is not a JSON object but"
                        f" {response.headers.get('content-type', 'of no type')!r}; is something between us and the vendor?",
                        wait_s=60,
                    )
                return dict(reply.fields)

        return self._retried(call, once)

    def _download(self, call: Call, url: str, limit_bytes: int, **request: Any) -> Download:
        for _ in range(5):
            with self._sent(call, url, **request) as response:
                if response.is_redirect:
                    url = urljoin(str(response.request.url), response.headers.get("location", ""))
                    request = {"is_given": True, "is_bare": True}
                    continue
                if response.status_code >= 300:
                    body = self._body(call, response, MOST_JSON_BYTES, is_item=False)
                    self._raise_for(self._reply(call, response, body))
                return Download(self._body(call, response, limit_bytes, is_item=True), response.headers)
        raise UnexpectedReplyError(f"{self._provider} {call.name}: it redirects without end", wait_s=60)

    @contextmanager
    def _sent(
        self,
        call: Call,
        url: str,
        *,
        params: Params = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        is_given: bool = False,
        is_bare: bool = False,
    ) -> Iterator[httpx.Response]:
        """Send once, with pacing and credentials; a refused token is replaced once.

        `is_given` marks a link that the vendor gave; a bare request goes without our token wherever it goes.
        """
        self._wait_for_turn(call)
        is_ours = any(url.startswith(base + "/") for base in self._urls.values())
        self._refuse_unsafe(call, url, is_ours=is_ours)
        token = self._credentials.access_token() if call.is_authorized and is_ours and not is_bare else None
        if isinstance(params, Mapping):
            params = list(params.items())
        query: list[tuple[str, str | int | float | bool | None]] | None = None
        if params:
            query = [(name, value) for name, value in params if value is not None]
        for attempt in range(2):
            own = dict(headers or {})
            if token:
                own["Authorization"] = f"Bearer {token}"
            with self._lock:
                self.provider_calls += 1
            try:
                request = self._client.build_request(
                    "GET" if is_given else call.method,
                    url,
                    params=query,
                    json=body,
                    headers=own,
                    extensions={"call": call, "is_given": is_given},
                )
                response = self._client.send(request, stream=True)
            except httpx.HTTPError as error:
                raise SourceUnavailableError(
                    f"{self._provider} {call.name}: no answer ({type(error).__name__}): try again later", wait_s=1
                ) from None
            try:
                if response.status_code == 401 and token and attempt == 0:
                    token = self._credentials.access_token(rejected=token)
                    continue
                yield response
                return
            finally:
                response.close()

    def _refuse_unsafe(self, call: Call, url: str, *, is_ours: bool) -> None:
        # A vendor's own links leave the base URL, but never for plain http or a port nobody expects.
        if is_ours:
            return
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.port not in (None, 443) or not parts.hostname:
            raise UnexpectedReplyError(f"{self._provider} {call.name}: it names a link that is not https", wait_s=60)

    def _wait_for_turn(self, call: Call) -> None:
        per_s = self._rates.get(f"{self._provider}.{call.pace or call.name}", call.per_s)
        wait_s = self._pacer.take(self._bucket(call), per_s=per_s, burst=call.burst, cost=call.cost)
        if wait_s > MOST_WAIT_S:
            raise RateLimitedError(
                f"{self._provider} {call.name}: the calls of this account are spent for {wait_s:.0f} s", wait_s=wait_s
            )
        if wait_s > 0:
            self._sleep(wait_s)

    def _bucket(self, call: Call) -> str:
        return f"{self._provider}:{self._account}:{call.pace or call.name}"

    def _retried(self, call: Call, attempt: Callable[[], _T]) -> _T:
        """Try a few times while the wait is short; everyone else on this bucket waits as long as the vendor asked."""
        for number in range(1, MOST_ATTEMPTS + 1):
            try:
                return attempt()
            except RetryableError as error:
                if isinstance(error, RateLimitedError):
                    self._pacer.penalise(self._bucket(call), wait_s=error.wait_s)
                if number == MOST_ATTEMPTS or error.wait_s > MOST_WAIT_S or isinstance(error, UnexpectedReplyError):
                    raise
                self._sleep(max(error.wait_s, _ATTEMPT_WAITS_S[number - 1]) * random.uniform(1, 1.25))  # noqa: S311
        raise AssertionError("the last attempt returns or raises")

    def _reply(self, call: Call, response: httpx.Response, body: bytes) -> Reply:
        try:
            fields = json.loads(body) if body else None
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            return Reply(call, response.status_code, response.headers, {}, is_json=False)
        return Reply(call, response.status_code, response.headers, fields, is_json=True)

    def _raise_for(self, reply: Reply) -> None:
        error = self._classify(reply)
        if error is None and reply.status >= 300:
            error = error_of_status(self._provider, reply, self._clock)
        if error is not None:
            raise error

    def _body(self, call: Call, response: httpx.Response, limit_bytes: int, *, is_item: bool) -> bytes:
        body = bytearray()
        try:
            for block in response.iter_bytes():
                body += block
                if len(body) > limit_bytes:
                    raise _too_large(self._provider, call, limit_bytes, is_item=is_item)
        except httpx.HTTPError as error:
            raise SourceUnavailableError(
                f"{self._provider} {call.name}: the answer broke off ({type(error).__name__}): try again later",
                wait_s=1,
            ) from None
        return bytes(body)

    def _url(self, call: Call, path: Mapping[str, str] | None) -> str:
        steps = {name: quote(value, safe="") for name, value in (path or {}).items()}
        return self._urls[call.base] + call.path.format(**steps)


class PageTokens:
    """Notices a listing that goes round in circles: one per listing, each token stepped once.

    Only digests are kept, since a long listing has many long tokens.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: set[bytes] = set()

    def step(self, token: str) -> str:
        """Return `token`. Raises UnexpectedReplyError when it came before: following it would never end."""
        digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            raise UnexpectedReplyError(f"{self._what}: its pages repeat, so the listing is not followed", wait_s=60)
        self._seen.add(digest)
        return token


class ReadOnly(httpx.BaseTransport):
    """Lets through only requests that one of `calls` describes, and GETs of links that the vendor gave."""

    def __init__(self, inner: httpx.BaseTransport, calls: tuple[Call, ...]) -> None:
        self._inner = inner
        self._patterns = {call: re.compile(_as_pattern(call.path)) for call in calls}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        call = request.extensions.get("call")
        if not isinstance(call, Call) or call not in self._patterns or not self._is_read(request, call):
            raise InvalidRequestError("refused a request that no connector has declared as one that only reads")
        return self._inner.handle_request(request)

    def _is_read(self, request: httpx.Request, call: Call) -> bool:
        if request.extensions.get("is_given"):
            return request.method == "GET"
        path = request.url.raw_path.partition(b"?")[0].decode("ascii")
        return request.method == call.method and self._patterns[call].search(path) is not None

    def close(self) -> None:
        self._inner.close()


def retry_after_s(headers: Mapping[str, str], clock: Clock, *, default_s: float) -> float:
    """Read a Retry-After header, in seconds or as a date (RFC 9110, 10.2.3); `default_s` when there is none."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max((parsedate_to_datetime(value) - clock()).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return default_s


def error_of_status(provider: str, reply: Reply, clock: Clock) -> WorkstationError:
    """What a status means where the vendor's own words say nothing more."""
    what = f"{provider} {reply.call.name}: status {reply.status}"
    if reply.status == 401:
        return ReauthorizeError(f"{what}: the account has to be connected again")
    if reply.status == 403:
        return SkipItemError(f"{what}: access to it is denied", reason="forbidden")
    if reply.status in (404, 410):
        return ItemGoneError(f"{what}: it is not there", reason="gone")
    if reply.status == 429:
        wait_s = retry_after_s(reply.headers, clock, default_s=10.0)
        return RateLimitedError(f"{what}: it asks to wait {wait_s:.0f} s", wait_s=wait_s)
    if reply.status in (408, 425) or reply.status >= 500:
        wait_s = retry_after_s(reply.headers, clock, default_s=1.0)
        return SourceUnavailableError(f"{what}: try again later", wait_s=wait_s)
    return UnexpectedReplyError(f"{what}: this connector sent something that the vendor refuses", wait_s=60)


def _as_pattern(template: str) -> str:
    """Only what a template leaves open may differ, and never more than one step of the path."""
    return (
        "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", template))
        + r"\Z"
    )


def _too_large(provider: str, call: Call, limit_bytes: int, *, is_item: bool) -> WorkstationError:
    if is_item:
        return ItemTooLargeError(
            f"{provider}: it has more than `max_file_bytes` = {limit_bytes} bytes: raise that, or leave it out",
            reason="too_large",
        )
    return UnexpectedReplyError(f"{provider} {call.name}: the answer has more than {limit_bytes} bytes", wait_s=60)
