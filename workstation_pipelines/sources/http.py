"""One way to every vendor: credentials, pacing, waiting, errors and caps, for requests that can only read.

A connector names each kind of request it makes as a Call; nothing else leaves this process. Short waits are waited for
here, long ones are raised. Nothing is concluded from an answer that is not what a Call promises: a login page with
status 200 is SourceUnavailableError, never an empty listing. Messages name the provider, the call and the status, never
a URL's query, a header or a body; nor does anything that an error was raised from.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from workstation_pipelines.errors import (
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.model import Clock
from workstation_pipelines.sources.credentials import CredentialProvider
from workstation_pipelines.sources.http_body import (
    MOST_ERROR_BYTES,
    MOST_JSON_BYTES,
    BrokenBodyError,
    TooLongError,
    drain,
    json_object,
    read_body,
)
from workstation_pipelines.sources.http_call import Call, Classify, Download, Params, Reply
from workstation_pipelines.sources.http_errors import (
    bounded_wait_s,
    error_of_status,
    not_from_the_vendor,
    retry_after_s,
    too_large,
)
from workstation_pipelines.sources.http_guard import Bases, ReadOnly, UnsafeLinkError
from workstation_pipelines.sources.http_network import Network, NetworkTransport
from workstation_pipelines.sources.http_paging import PageTokens
from workstation_pipelines.sources.http_request import Ask, build_request, is_token, query_of
from workstation_pipelines.sources.pacing import Pacer

__all__ = [
    "Call",
    "Classify",
    "Download",
    "PageTokens",
    "Params",
    "ReadOnly",
    "Reply",
    "VendorApi",
    "bounded_wait_s",
    "error_of_status",
    "retry_after_s",
]

MOST_ATTEMPTS = 3
MOST_WAIT_S = 5.0
"""A longer wait is raised, so that the job can pause instead of holding a worker."""

MOST_REQUEST_S = 120.0
"""From the first byte sent to the last one read, redirects included; a download has its size's time besides."""

LEAST_BYTES_PER_S = 128 * 1024
MOST_REDIRECTS = 4

_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip",
    "User-Agent": f"workstation-pipelines (httpx {httpx.__version__})",
}
_ATTEMPT_WAITS_S = (0.3, 1.0)
_TIMEOUT = httpx.Timeout(60.0, connect=5.0, pool=60.0)
_CONTENT_TYPE = re.compile(r"[\w.+-]{1,40}/[\w.+-]{1,80}", re.ASCII)
_T = TypeVar("_T")


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
        sleep: Callable[[float], None] | None = None,
        transport: httpx.BaseTransport | None = None,
        request_s: float = MOST_REQUEST_S,
    ) -> None:
        """Contacts nobody. Raises InvalidRequestError for base URLs that are neither https nor on this machine."""
        logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log URLs with their queries
        self._provider = provider
        self._account = account
        self._bases = Bases(provider, urls)
        self._credentials = credentials
        self._pacer = pacer
        self._clock = clock
        self._classify = classify
        self._rates = rates or {}
        self._sleep = sleep or time.sleep
        self._request_s = request_s
        self._lock = Lock()
        self._is_closed = False
        self.provider_calls = 0
        network = Network(self._bases.hosts, is_local=self._bases.are_local)
        self._network = None if transport else network
        way_out = transport or NetworkTransport(network)
        # No httpx.Client: its cookies, redirects and hooks are not wanted, and cost as much as the transport.
        self._transport = ReadOnly(credentials.transport(way_out), calls, bases=urls)
        self._headers = {**_HEADERS, **(headers or {})}

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
        return self._json(Ask(call, self._url(call, path, params), body, headers))

    def json_at(self, call: Call, url: str, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Follow a link that the vendor gave, verbatim. It must lie below the call's base URL, for it gets our token."""
        ask = self._given(call, url, headers)
        if not self._bases.is_below(ask.url, call.base):
            raise self._unsafe(call, "a link to another host")
        return self._json(ask)

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
        return self._download(Ask(call, self._url(call, path, params), None, headers), limit_bytes)

    def download_at(
        self, call: Call, url: str, *, limit_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Download:
        """Return the body at a link that the vendor gave; our token goes along only below the call's base URLs."""
        return self._download(self._given(call, url, headers), limit_bytes)

    def close(self) -> None:
        """Release connections. A call that is waiting in another thread gives up after its wait."""
        self._is_closed = True
        self._transport.close()

    def _json(self, ask: Ask) -> dict[str, Any]:
        def once(token: str | None) -> dict[str, Any]:
            until = time.monotonic() + self._request_s
            with self._until(until), self._sent(ask, token) as response:
                if response.status_code >= 300:
                    raise self._error(self._reply(ask.call, response, until), is_json_due=True)
                body = self._read(ask.call, response, MOST_JSON_BYTES, until, is_item=False)
            fields = json_object(body)
            reply = Reply(ask.call, response.status_code, response.headers, fields or {}, is_json=fields is not None)
            error = self._bounded(self._classify(reply), reply)
            if error is not None:
                raise error
            if fields is None:
                shape = _CONTENT_TYPE.match(response.headers.get("content-type", ""))
                raise UnexpectedReplyError(
                    f"{self._provider} {ask.call.name}: the answer is not a JSON object but"
                    f" {shape[0] if shape else 'of no type'}; is something between us and the vendor? Look at the"
                    f" network, and at {self._provider.upper()}_API_URL if it is set",
                    wait_s=60,
                )
            return fields

        return self._retried(ask, once)

    def _download(self, ask: Ask, limit_bytes: int) -> Download:
        def once(token: str | None) -> Download:
            until = time.monotonic() + self._request_s + limit_bytes / LEAST_BYTES_PER_S
            hop = ask
            with self._until(until):
                for _ in range(MOST_REDIRECTS + 1):
                    with self._sent(hop, token, accept="identity") as response:
                        if not response.has_redirect_location:
                            return self._downloaded(hop.call, response, limit_bytes, until)
                        location = response.headers["location"]
                        drain(response, until=until)
                    # Without our token and headers, wherever it leads.
                    hop, token = replace(self._given(ask.call, _joined(hop.url, location)), is_bare=True), None
            raise UnexpectedReplyError(f"{self._provider} {ask.call.name}: it redirects without end", wait_s=60)

        return self._retried(ask, once)

    def _downloaded(self, call: Call, response: httpx.Response, limit_bytes: int, until: float) -> Download:
        if response.status_code >= 300:
            raise self._error(self._reply(call, response, until), is_json_due=False)
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > limit_bytes:
            raise too_large(self._provider, call, limit_bytes, is_item=True)
        return Download(self._read(call, response, limit_bytes, until, is_item=True), response.headers)

    @contextmanager
    def _sent(self, ask: Ask, token: str | None, *, accept: str | None = None) -> Iterator[httpx.Response]:
        """Send once. What httpx raises holds the request, token and all, so nothing is raised from within `except`."""
        request = build_request(ask, token, default_headers=self._headers, timeout=_TIMEOUT, accept=accept)
        if request is None:
            raise self._unwritable(ask.call)
        with self._lock:
            self.provider_calls += 1
        failure: WorkstationError | None = None
        try:
            response = self._transport.handle_request(request)
        except UnsafeLinkError as error:
            failure = self._unsafe(ask.call, str(error))
        except httpx.HTTPError as error:
            failure = self._unavailable(ask.call, f"no answer from {request.url.host} ({type(error).__name__})")
        if failure is not None:
            raise failure
        try:
            yield response
        finally:
            response.close()

    def _retried(self, ask: Ask, attempt: Callable[[str | None], _T]) -> _T:
        """Try a few times while the wait is short; everyone else on this bucket waits as long as the vendor asked."""
        for number in range(1, MOST_ATTEMPTS + 1):
            self._wait_for_turn(ask.call)
            try:
                return self._authorized(ask, attempt)
            except RetryableError as error:
                if isinstance(error, RateLimitedError):
                    self._pacer.penalise(self._bucket(ask.call), wait_s=error.wait_s)
                if number == MOST_ATTEMPTS or error.wait_s > MOST_WAIT_S or isinstance(error, UnexpectedReplyError):
                    raise
                wait_s = max(error.wait_s, _ATTEMPT_WAITS_S[number - 1])
            self._pause(wait_s * random.uniform(1, 1.25))  # noqa: S311 - it only spreads callers
        raise AssertionError("the last attempt returns or raises")

    def _authorized(self, ask: Ask, attempt: Callable[[str | None], _T]) -> _T:
        """Attempt with our token where it may go; a refused one is replaced once."""
        if not (ask.call.is_authorized and ask.is_ours):
            return attempt(None)
        token = self._checked_token(self._credentials.access_token())
        if token is None:
            return attempt(None)
        try:
            return attempt(token)
        except ReauthorizeError as error:
            if error.details.get("status") != 401:
                raise  # a newer token would be told the same
        return attempt(self._checked_token(self._credentials.access_token(rejected=token)))

    def _checked_token(self, token: str) -> str | None:
        """Return None for an empty one: the credentials' own transport sees to it."""
        if token and not is_token(token):
            raise ReauthorizeError(f"{self._provider}: its token holds characters that no token has: connect it again")
        return token or None

    def _wait_for_turn(self, call: Call) -> None:
        per_s = self._rates.get(f"{self._provider}.{call.pace or call.name}", call.per_s)
        wait_s = self._pacer.take(self._bucket(call), per_s=per_s, burst=call.burst, cost=call.cost)
        if wait_s > MOST_WAIT_S:
            raise RateLimitedError(
                f"{self._provider} {call.name}: the calls of this account are spent for {wait_s:.0f} s", wait_s=wait_s
            )
        if wait_s > 0:
            self._pause(wait_s)

    def _pause(self, wait_s: float) -> None:
        self._sleep(wait_s)
        if self._is_closed:  # the run that asked has ended meanwhile
            raise SourceUnavailableError(f"{self._provider}: closed while a call was waiting for its turn")

    def _bucket(self, call: Call) -> str:
        return f"{self._provider}:{self._account}:{call.pace or call.name}"

    def _reply(self, call: Call, response: httpx.Response, until: float) -> Reply:
        """Read an answer that tells of failure."""
        try:
            body = self._read(call, response, MOST_ERROR_BYTES, until, is_item=False)
        except UnexpectedReplyError:
            if response.status_code < 500:
                raise
            body = b""  # an outage's page may be as long as it likes
        fields = json_object(body)
        return Reply(call, response.status_code, response.headers, fields or {}, is_json=fields is not None)

    def _error(self, reply: Reply, *, is_json_due: bool) -> WorkstationError:
        error = self._classify(reply)
        if error is None and is_json_due:
            error = not_from_the_vendor(self._provider, reply)
        error = error or error_of_status(self._provider, reply, self._clock)
        return self._bounded(error, reply) or error

    def _bounded(self, error: WorkstationError | None, reply: Reply) -> WorkstationError | None:
        if isinstance(error, RetryableError):
            error.wait_s = bounded_wait_s(error.wait_s, default_s=60.0)
        if isinstance(error, ReauthorizeError):
            error.details.setdefault("status", reply.status)
        return error

    def _read(self, call: Call, response: httpx.Response, limit_bytes: int, until: float, *, is_item: bool) -> bytes:
        try:
            return read_body(response, limit_bytes, until=until)
        except TooLongError:
            failure = too_large(self._provider, call, limit_bytes, is_item=is_item)
        except BrokenBodyError as error:
            failure = self._unavailable(call, f"the answer broke off: {error}")
        except httpx.HTTPError as error:
            failure = self._unavailable(call, f"the answer broke off ({type(error).__name__})")
        raise failure

    def _url(self, call: Call, path: Mapping[str, str] | None, params: Params) -> httpx.URL:
        steps = path or {}
        try:
            query = query_of(params)
        except UnicodeError:
            query = None
        if query is None:  # not raised from what would quote it
            raise self._unwritable(call)
        try:
            if not any(value in ("", ".", "..") for value in steps.values()):
                quoted = {name: quote(value, safe="") for name, value in steps.items()}
                return httpx.URL(self._bases.url(call.base) + call.path.format(**quoted) + query)
        except (httpx.InvalidURL, UnicodeError):
            pass
        raise InvalidRequestError(f"{self._provider} {call.name}: it is asked for something that cannot be an id")

    def _given(self, call: Call, url: str, headers: Mapping[str, str] | None = None) -> Ask:
        try:
            link = self._bases.link(url)
        except UnsafeLinkError as error:
            failure = self._unsafe(call, str(error))
        else:
            is_ours = self._bases.is_below(link)
            return Ask(call, link, headers=headers, is_given=True, is_ours=is_ours)
        raise failure

    def _until(self, until: float) -> AbstractContextManager[None]:
        return self._network.deadline(until) if self._network else nullcontext()

    def _unwritable(self, call: Call) -> WorkstationError:
        return InvalidRequestError(
            f"{self._provider} {call.name}: an id or a setting holds characters that no request can carry"
        )

    def _unsafe(self, call: Call, what: str) -> WorkstationError:
        return UnexpectedReplyError(f"{self._provider} {call.name}: it names {what}, which is not followed", wait_s=60)

    def _unavailable(self, call: Call, what: str) -> WorkstationError:
        return SourceUnavailableError(f"{self._provider} {call.name}: {what}: try again later", wait_s=1)


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError):
        return ""  # no link, which is refused as such
