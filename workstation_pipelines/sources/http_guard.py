"""What may leave this process: declared reads below a base URL, and GETs of links that a vendor gave."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

import httpx

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.sources.http_call import Call

_ENCODED_SLASH = re.compile(rb"%2[fF]")
_TRAVERSAL = re.compile(rb"(?:^|/|%2[fF])\.{1,2}(?:/|%2[fF]|$)")
_DISGUISED = re.compile(rb"%(?:2[eE]|5[cC])")
_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
_PORTS: Final = {"https": 443, "http": 80}


class UnsafeLinkError(Exception):
    """Raised for a link that is not followed; the message is a few words of ours."""


class Bases:
    """The base URLs of one vendor, by name. They come from an operator, links come from a vendor.

    A link is read by the same parser that the request is built with, so that the two cannot disagree about its host.
    """

    def __init__(self, provider: str, urls: Mapping[str, str]) -> None:
        """Raises InvalidRequestError for a URL that is neither https nor http on this machine."""
        self._urls = {name: _checked(provider, name, url) for name, url in urls.items()}
        self.hosts = frozenset(url.raw_host.decode("ascii") for url in self._urls.values())
        self.are_local = any(is_loopback(host) for host in self.hosts)

    def url(self, name: str) -> str:
        """The base URL, without a slash at its end."""
        return str(self._urls[name]).rstrip("/")

    def is_below(self, link: httpx.URL, name: str | None = None) -> bool:
        """Return whether a link leads below the base `name`, or any of them: same scheme, host and port, no way out."""
        bases = self._urls.values() if name is None else (self._urls[name],)
        path = link.raw_path.partition(b"?")[0]
        if link.userinfo or _TRAVERSAL.search(path) or _DISGUISED.search(path):
            return False
        return any(_origin(link) == _origin(base) and path.startswith(_prefix(base)) for base in bases)

    def link(self, url: str) -> httpx.URL:
        """Parse a link that the vendor gave. Raises UnsafeLinkError when nothing good can come of following it."""
        try:
            link = httpx.URL(url)
        except (httpx.InvalidURL, ValueError, TypeError):
            link = None
        if link is None:
            raise UnsafeLinkError("a link that cannot be read")
        if link.userinfo or not link.host:
            raise UnsafeLinkError("a link that is not a plain one")
        if self.is_below(link) or (self.are_local and is_loopback(link.host) and link.scheme in _PORTS):
            return link
        if link.scheme != "https" or link.port not in (None, 443):
            raise UnsafeLinkError("a link that is not https")
        return link


class ReadOnly(httpx.BaseTransport):
    """Lets through only requests that one of `calls` describes, and GETs of links that the vendor gave.

    Without `bases` only the end of a path is compared.
    """

    def __init__(
        self, inner: httpx.BaseTransport, calls: tuple[Call, ...], *, bases: Mapping[str, str] | None = None
    ) -> None:
        self._inner = inner
        self._patterns = {call: re.compile(_pattern(call, bases)) for call in calls}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        call = request.extensions.get("call")
        if not isinstance(call, Call) or call not in self._patterns or not self._is_read(request, call):
            raise InvalidRequestError("refused a request that no connector has declared as one that only reads")
        return self._inner.handle_request(request)

    def _is_read(self, request: httpx.Request, call: Call) -> bool:
        if any(name in request.headers for name in _OVERRIDES):
            return False
        if request.extensions.get("is_given"):
            return request.method == "GET"
        path = request.url.raw_path.partition(b"?")[0]
        if request.method != call.method or any(way.search(path) for way in (_TRAVERSAL, _DISGUISED, _ENCODED_SLASH)):
            return False
        return self._patterns[call].search(_placed(request.url, path)) is not None

    def close(self) -> None:
        self._inner.close()


def is_loopback(host: str) -> bool:
    """Return whether a host names this machine by itself, without asking anybody."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(provider: str, name: str, url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError):
        base = None
    if base is None or base.userinfo or base.query or base.fragment or not base.host or base.scheme not in _PORTS:
        raise InvalidRequestError(f"{provider}: its base URL {name!r} cannot be used: give one like https://host/path")
    if base.scheme == "http" and not is_loopback(base.host):
        raise InvalidRequestError(f"{provider}: its base URL {name!r} is http and not on this machine: use https")
    return base


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme, 0)


def _placed(url: httpx.URL, path: bytes) -> str:
    scheme, host, port = _origin(url)
    return f"{scheme}://{host}:{port}{path.decode('ascii')}"


def _prefix(base: httpx.URL) -> bytes:
    return base.raw_path.rstrip(b"/") + b"/"


def _pattern(call: Call, bases: Mapping[str, str] | None) -> str:
    """Only what a template leaves open may differ, and never more than one step of the path."""
    steps = (r"[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", call.path))
    if bases is None:
        return "".join(steps) + r"\Z"
    base = httpx.URL(bases[call.base])
    return r"\A" + re.escape(_placed(base, base.raw_path.rstrip(b"/"))) + "".join(steps) + r"\Z"
