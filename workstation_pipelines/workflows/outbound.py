"""Requests that blocks make outside: to public addresses only, or to the one address that an operator has set.

Each has a connection of its own, without proxy, cookies or keep-alive, and is given up as soon as its block is to stop.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Final

import httpcore
import httpx

from workstation_pipelines.errors import (
    InvalidRequestError,
    RetryableError,
    SourceUnavailableError,
    WorkstationError,
)
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources.http_body import BrokenBodyError, TooLongError, drain, read_body
from workstation_pipelines.sources.http_guard import UnsafeLinkError
from workstation_pipelines.sources.http_network import Network, NetworkTransport, Resolve, addresses_of
from workstation_pipelines.sources.web import checked_url
from workstation_pipelines.workflows.blocks.contract import Stop

MOST_BYTES = 10 * 1024 * 1024
MOST_REDIRECTS = 5
MOST_URL_CHARACTERS = 8000
LONGEST_REQUEST_S = 3600.0

_LISTEN_S = 0.1
_CONNECT_S = 10.0
_WITHOUT_BODY: Final = (204, 304)
_OWN_HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip",
    "Connection": "close",
    "User-Agent": f"workstation-pipelines (httpx {httpx.__version__})",
}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request.

    `is_repeatable`: sending it twice does no more than sending it once; if not, it is only tried again where it certainly
    was not acted upon. `follows` redirects, of a GET or HEAD only; `headers` go to the first host alone. `timeout_s` ends
    it before the time of its block does.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    is_repeatable: bool = True
    follows: bool = False
    most_bytes: int = MOST_BYTES
    timeout_s: float = LONGEST_REQUEST_S


@dataclass(frozen=True, slots=True)
class Incoming:
    """An answer, whatever its status. `who` is whom it is from, for messages: scheme and host.

    `is_too_long`: it is a refusal with more bytes than were allowed, and `body` is empty.
    """

    who: str
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    is_too_long: bool = False


class Outbound:
    """Sends requests; thread-safe, holds nothing open."""

    def __init__(
        self,
        *,
        allows_http: bool = False,
        allows_loopback: bool = False,
        operator_url: str | None = None,
        resolve: Resolve = addresses_of,
    ) -> None:
        """Contacts nobody. With `operator_url` only its scheme, host and port are asked, wherever that is."""
        self._allows_http = allows_http
        self._allows_loopback = allows_loopback
        self._operator_url = httpx.URL(operator_url) if operator_url is not None else None
        self._resolve = resolve

    @classmethod
    def to_public(cls, settings: Settings) -> Outbound:
        """For URLs that a user wrote: public addresses, and what the operator allows besides."""
        return cls(allows_http=settings.fetch_http, allows_loopback=settings.fetch_loopback)

    def send(self, outgoing: Outgoing, *, stop: Stop) -> Incoming:
        """Return what was answered, of any status.

        Raises InvalidRequestError for a URL that may not be asked, for an answer that is too long, and where it is not known
        whether something that must not happen twice has happened; SourceUnavailableError when there may be an answer later;
        and what `stop` raises, within a fraction of a second.
        """
        stop.check()
        url = self._checked(outgoing.url)
        line = _Line(self._hosts, is_local=self._allows_loopback, resolve=self._resolve)
        until = time.monotonic() + min(outgoing.timeout_s, stop.left_s)
        answer: Future[Incoming] = Future()
        Thread(target=self._exchange, args=(answer, outgoing, url, line, until), name="outbound", daemon=True).start()
        try:
            while not wait((answer,), timeout=_LISTEN_S).done:
                stop.check()
            return answer.result()
        except RetryableError as error:
            if outgoing.is_repeatable or not line.is_sent:
                raise
            raise in_doubt(_who(url), error.message) from None
        finally:
            line.cut()

    @property
    def _hosts(self) -> tuple[str, ...]:
        return () if self._operator_url is None else (self._operator_url.raw_host.decode("ascii"),)

    def _checked(self, url: str) -> httpx.URL:
        if self._operator_url is None:
            return checked_url(
                url,
                allows_http=self._allows_http,
                allows_loopback=self._allows_loopback,
                most_characters=MOST_URL_CHARACTERS,
            )
        parsed = httpx.URL(url)
        if _origin(parsed) != _origin(self._operator_url) or parsed.userinfo:
            raise InvalidRequestError(f"{_who(parsed)} is not the address that the operator has set")
        return parsed

    def _exchange(
        self, answer: Future[Incoming], outgoing: Outgoing, url: httpx.URL, line: _Line, until: float
    ) -> None:
        try:
            with NetworkTransport(line) as transport, line.deadline(until):
                answer.set_result(self._asked(transport, outgoing, url, until))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the answer gets it
            answer.set_exception(error)

    def _asked(self, transport: httpx.BaseTransport, outgoing: Outgoing, url: httpx.URL, until: float) -> Incoming:
        headers = outgoing.headers
        may_follow = outgoing.follows and outgoing.method in ("GET", "HEAD")
        for _ in range(MOST_REDIRECTS + 1):
            response = _sent(transport, outgoing, url, headers)
            try:
                if not (may_follow and response.has_redirect_location):
                    return _read(outgoing, url, response, until)
                location = response.headers["location"]
                drain(response, until=until)
            finally:
                response.close()
            next_url = self._checked(_joined(url, location))
            if _origin(next_url) != _origin(url):
                headers = {}  # they may hold a secret that is the first host's
            url = next_url
        raise InvalidRequestError(f"{_who(url)} redirects without end: give the address that it leads to")


def in_doubt(who: str, why: str) -> InvalidRequestError:
    """The error of a request that must not happen twice and may have happened once."""
    return InvalidRequestError(
        f"{why}; what was asked of {who} may have been done, so it is not asked again by itself: look there, then retry"
    )


def too_long(who: str, limit_bytes: int) -> InvalidRequestError:
    return InvalidRequestError(f"{who} answers with more than {limit_bytes:,} bytes: ask for less, or raise the limit")


class _Line(Network):
    """A network whose connection can be cut from another thread, and which knows whether anything was sent."""

    def __init__(self, hosts: Iterable[str], *, is_local: bool, resolve: Resolve) -> None:
        super().__init__(hosts, is_local=is_local, resolve=resolve)
        self.is_sent = False
        self._lock = Lock()
        self._is_cut = Event()
        self._socket: socket.socket | None = None

    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        if self._is_cut.is_set():
            raise httpcore.ConnectError("nobody waits for it any more")
        stream = super().connect_tcp(*args, **options)
        with self._lock:
            if self._is_cut.is_set():
                stream.close()
                raise httpcore.ConnectError("nobody waits for it any more")
            self._release()
            # A second handle of the same connection: TLS takes the first one away.
            self._socket = stream.get_extra_info("socket").dup()
        return _Watched(stream, self)

    def cut(self) -> None:
        """End the connection, whatever a thread waits for on it; nothing connects any more. Idempotent."""
        with self._lock:
            self._is_cut.set()
            if self._socket is not None:
                with suppress(OSError):  # it is closed already
                    self._socket.shutdown(socket.SHUT_RDWR)
            self._release()

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Watched(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, line: _Line) -> None:
        self._inner = inner
        self._line = line

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._line.is_sent = True
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Watched(self._inner.start_tls(ssl_context, server_hostname, timeout), self._line)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _sent(
    transport: httpx.BaseTransport, outgoing: Outgoing, url: httpx.URL, headers: Mapping[str, str]
) -> httpx.Response:
    own = {
        name: value for name, value in _OWN_HEADERS.items() if name.lower() not in {each.lower() for each in headers}
    }
    timeout = httpx.Timeout(outgoing.timeout_s, connect=_CONNECT_S)
    request = httpx.Request(
        outgoing.method,
        url,
        headers={**own, **headers},
        content=outgoing.body,
        extensions={"timeout": timeout.as_dict()},
    )
    try:
        return transport.handle_request(request)
    except UnsafeLinkError:
        raise InvalidRequestError(
            f"{_who(url)} leads into a private network, or may: only public addresses are asked"
        ) from None
    except httpx.HTTPError as error:
        raise _unavailable(url, f"does not answer ({type(error).__name__})") from None


def _read(outgoing: Outgoing, url: httpx.URL, response: httpx.Response, until: float) -> Incoming:
    limit = outgoing.most_bytes
    announced = response.headers.get("content-length", "")
    body, is_too_long = b"", False
    try:
        if outgoing.method != "HEAD" and response.status_code not in _WITHOUT_BODY:
            if announced.isdecimal() and int(announced[:20]) > limit:
                raise TooLongError
            body = read_body(response, limit, until=until)
    except TooLongError:
        if response.status_code < 400:
            raise too_long(_who(url), limit) from None
        is_too_long = True
    except (BrokenBodyError, httpx.HTTPError) as error:
        what = str(error) if isinstance(error, BrokenBodyError) else type(error).__name__
        raise _unavailable(url, f"answered, but the answer broke off: {what}") from None
    return Incoming(_who(url), response.status_code, response.headers, body, is_too_long)


def _unavailable(url: httpx.URL, what: str) -> WorkstationError:
    return SourceUnavailableError(f"{_who(url)} {what}: try it again later", wait_s=1.0)


def _who(url: httpx.URL) -> str:
    """Scheme and host: anything behind them may hold a secret."""
    return f"{url.scheme}://{url.host}"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError):
        return ""
