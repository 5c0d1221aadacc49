"""Single pages and files from the web, for URLs that a user typed: nobody's word is taken for where they lead.

Every host, of every redirect too, is looked up once; all its addresses must be public, and the connection goes to one of
those that were looked at. Size, time and number of redirects are bounded, and no proxy of the environment is asked.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from posixpath import basename
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote

import httpx

from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    RateLimitedError,
    SourceUnavailableError,
    UnreadableContentError,
    WorkstationError,
)
from workstation_pipelines.model import Clock, aware_utc
from workstation_pipelines.sources.http_body import BrokenBodyError, TooLongError, drain, read_body
from workstation_pipelines.sources.http_errors import retry_after_s
from workstation_pipelines.sources.http_guard import UnsafeLinkError, is_loopback
from workstation_pipelines.sources.http_network import Network, NetworkTransport, Resolve, addresses_of

MOST_BYTES = 50 * 1024 * 1024
MOST_REQUEST_S = 60.0
"""From the first byte sent to the last one read, redirects included."""

MOST_REDIRECTS = 5
MOST_URL_CHARACTERS = 2000

_PORTS: Final = {"https": 443, "http": 80}
_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip",
    "User-Agent": f"workstation-pipelines (httpx {httpx.__version__})",
}
_FILE_NAME = re.compile(r"""filename="?([^";]{1,200})"?""", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_BUSY = (408, 425, 429)
_DENIED = (401, 403, 407)
_GONE = (404, 410)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was found at a URL. `name` is a file name, as far as anything tells one; `mime_type` is what the server says."""

    url: str
    body: bytes
    name: str
    mime_type: str
    modified_at: datetime | None


class WebFetcher:
    """Fetches URLs without cookies or credentials. Thread-safe."""

    def __init__(
        self,
        *,
        clock: Clock,
        allows_http: bool = False,
        allows_loopback: bool = False,
        limit_bytes: int = MOST_BYTES,
        request_s: float = MOST_REQUEST_S,
        resolve: Resolve = addresses_of,
    ) -> None:
        """Contacts nobody. `allows_loopback` lets URLs lead to this machine, on any port, with http too."""
        self._clock = clock
        self._allows_http = allows_http
        self._allows_loopback = allows_loopback
        self._limit_bytes = limit_bytes
        self._request_s = request_s
        self._network = Network((), is_local=allows_loopback, resolve=resolve)
        self._transport = NetworkTransport(self._network)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def normalised(self, url: str) -> str:
        """Return a URL as it is asked for, without its fragment. Raises InvalidRequestError for one that never will be."""
        return str(self._checked(url))

    def fetch(self, url: str) -> Fetched:
        """Return what is at a URL now.

        Raises InvalidRequestError when it, or a redirect, may not be followed; SkipItemError when there is nothing that
        can be had; RetryableError when there may be later.
        """
        until = time.monotonic() + self._request_s
        hop = self._checked(url)
        with self._network.deadline(until):
            for _ in range(MOST_REDIRECTS + 1):
                response = self._sent(hop)
                try:
                    if not response.has_redirect_location:
                        return self._read(hop, response, until)
                    location = response.headers["location"]
                    drain(response, until=until)
                finally:
                    response.close()
                hop = self._checked(_joined(hop, location))
        raise UnreadableContentError(
            f"{_shown(hop)} redirects without end: give the address it leads to", reason="redirects"
        )

    def _checked(self, url: str) -> httpx.URL:
        return checked_url(url, allows_http=self._allows_http, allows_loopback=self._allows_loopback)

    def _sent(self, url: httpx.URL) -> httpx.Response:
        request = httpx.Request("GET", url, headers=_HEADERS, extensions={"timeout": _TIMEOUT.as_dict()})
        try:
            return self._transport.handle_request(request)
        except UnsafeLinkError:
            raise InvalidRequestError(
                f"{_shown(url)} leads into a private network, or may: only public addresses are fetched"
            ) from None
        except httpx.HTTPError as error:
            raise _unavailable(url, f"does not answer ({type(error).__name__})") from error

    def _read(self, url: httpx.URL, response: httpx.Response, until: float) -> Fetched:
        if response.status_code != 200:
            raise self._refused(url, response)
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit_bytes:
            raise self._too_large(url)
        try:
            body = read_body(response, self._limit_bytes, until=until)
        except TooLongError:
            raise self._too_large(url) from None
        except (BrokenBodyError, httpx.HTTPError) as error:
            what = str(error) if isinstance(error, BrokenBodyError) else type(error).__name__
            raise _unavailable(url, f"answered, but the answer broke off: {what}") from error
        return Fetched(
            url=str(url),
            body=body,
            name=_name(url, response.headers.get("content-disposition", "")),
            mime_type=response.headers.get("content-type", ""),
            modified_at=_moment(response.headers.get("last-modified")),
        )

    def _refused(self, url: httpx.URL, response: httpx.Response) -> WorkstationError:
        status = response.status_code
        if status in _GONE:
            return ItemGoneError(f"{_shown(url)} has nothing there ({status}): check the address", reason="gone")
        if status in _DENIED:
            return UnreadableContentError(
                f"{_shown(url)} does not let us in ({status}): download it and give the file",
                reason="permission_denied",
            )
        if status in _BUSY or status >= 500:
            wait_s = retry_after_s(response.headers, self._clock, default_s=60.0)
            kind = RateLimitedError if status == 429 else SourceUnavailableError
            return kind(f"{_shown(url)} cannot answer now ({status}): try it again later", wait_s=wait_s)
        return UnreadableContentError(
            f"{_shown(url)} answers with status {status}: open it and look", reason=f"http_{status}"
        )

    def _too_large(self, url: httpx.URL) -> ItemTooLargeError:
        return ItemTooLargeError(
            f"{_shown(url)} has more than {self._limit_bytes:,} bytes: download it and split it", reason="too_large"
        )


def is_url(subject: str) -> bool:
    """Return whether this is meant as a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", subject) is not None


def checked_url(
    url: str, *, allows_http: bool, allows_loopback: bool, most_characters: int = MOST_URL_CHARACTERS
) -> httpx.URL:
    """Return a URL, without its fragment, if its form allows to ask for it; where its host leads is seen when connecting.

    Raises InvalidRequestError, whose message tells the host and nothing else of the URL.
    """
    try:
        parsed = httpx.URL(url) if len(url) <= most_characters else None
    except (httpx.InvalidURL, ValueError, TypeError):
        parsed = None
    if parsed is None or not _HOST.fullmatch(parsed.raw_host):
        raise InvalidRequestError(
            f"that is no URL that can be fetched: give one like https://host/path, of at most {most_characters:,}"
            " characters"
        )
    if parsed.userinfo:
        raise InvalidRequestError(f"the URL to {parsed.host} holds a user name or a password: give it without")
    if allows_loopback and is_loopback(parsed.host) and parsed.scheme in _PORTS:
        return parsed.copy_with(fragment=None)
    if parsed.scheme == "http" and not allows_http:
        raise InvalidRequestError(f"the URL to {parsed.host} is http: use https, or have the operator allow http")
    if parsed.scheme not in _PORTS:
        raise InvalidRequestError(f"the URL to {parsed.host} is not https: nothing else is fetched")
    if parsed.port not in (None, _PORTS[parsed.scheme]):
        raise InvalidRequestError(f"the URL to {parsed.host} names a port of its own: only the usual one is asked")
    return parsed.copy_with(fragment=None)


def _shown(url: httpx.URL) -> str:
    """The URL without its query, which may hold a key."""
    return f"{url.scheme}://{url.host}{url.path}"[:300]


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError):
        return ""


def _name(url: httpx.URL, disposition: str) -> str:
    given = _FILE_NAME.search(disposition)
    name = basename((given[1] if given else unquote(url.path)).replace("\\", "/").rstrip("/"))
    return name or url.host


def _moment(header: str | None) -> datetime | None:
    try:
        return aware_utc(parsedate_to_datetime(header)) if header else None
    except ValueError:  # no date, or one without a zone
        return None


def _unavailable(url: httpx.URL, what: str) -> SourceUnavailableError:
    return SourceUnavailableError(f"{_shown(url)} {what}: try it again later", wait_s=60.0)
