"""The way out: connections that keep away from private networks and never outlive their request's deadline."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpcore
import httpx

from workstation_pipelines.sources.http_guard import UnsafeLinkError, is_loopback

Resolve = Callable[[str, int], Sequence[str]]
"""Host and port -> its addresses. Raises OSError."""

_NOT_PUBLIC = tuple(
    # Special ranges that `is_global` of Python 3.11 lets through, those that carry an IPv4 address inside, and where Azure
    # answers its machines.
    ipaddress.ip_network(network)
    for network in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "2001::/32", "2002::/16", "3fff::/20")
)
_UNICAST = ipaddress.ip_network("2000::/3")
"""All that is given out of IPv6; what is outside translates, loops or has no meaning yet."""


def addresses_of(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Return whether an address may be connected to because a vendor named a host that has it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return is_public(str(ip.ipv4_mapped))
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _UNICAST:
        return False
    if any(ip in network for network in _NOT_PUBLIC if network.version == ip.version):
        return False
    return ip.is_global and not ip.is_multicast


class Network(httpcore.NetworkBackend):
    """Connects to `hosts` as the machine does, and to any other host only where all its addresses are public.

    Such a host is looked up once, and the connection goes to the address that was looked at. With `is_local`, hosts of
    this machine are allowed too.
    """

    def __init__(self, hosts: Iterable[str], *, is_local: bool = False, resolve: Resolve = addresses_of) -> None:
        self._hosts = frozenset(hosts)
        self._is_local = is_local
        self._resolve = resolve
        self._inner = httpcore.SyncBackend()
        self._thread = threading.local()

    @contextmanager
    def deadline(self, until: float) -> Iterator[None]:
        """Let nothing of this thread wait for the network beyond `until` (of time.monotonic)."""
        before = self._until
        self._thread.until = until
        try:
            yield
        finally:
            self._thread.until = before

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = [host] if host in self._hosts else self._allowed(host, port)
        for number, address in enumerate(addresses, start=1):
            wait_s = self.left_s(timeout, httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(address, port, wait_s, local_address, socket_options or ())
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
                continue
            return _Stream(stream, self)
        raise httpcore.ConnectError("no address")

    def left_s(self, timeout: float | None, error: type[Exception]) -> float | None:
        """Return how long this thread may still wait. Raises `error` when that is over."""
        if self._until is None:
            return timeout
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise error("the request's time is over")
        return left_s if timeout is None else min(timeout, left_s)

    @property
    def _until(self) -> float | None:
        until: float | None = getattr(self._thread, "until", None)
        return until

    def _allowed(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise httpcore.ConnectError("the host is not known")
        is_local = self._is_local and all(is_loopback(address) for address in addresses)
        if not is_local and not all(is_public(address) for address in addresses):
            raise UnsafeLinkError("a link into a private network")
        return addresses


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, network: Network) -> None:
        self._inner = inner
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._network.left_s(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._network.left_s(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait_s = self._network.left_s(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, wait_s), self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class NetworkTransport(httpx.HTTPTransport):
    """httpx's own transport over a Network: HTTP/1.1, no proxies, no retries."""

    def __init__(self, network: Network) -> None:
        verified = _verified()
        super().__init__(verify=verified, trust_env=False)
        # httpx offers no way to pass a network backend; the pool that replaces its own is public.
        self._pool = httpcore.ConnectionPool(
            ssl_context=verified, max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0,
            network_backend=network,
        )  # fmt: skip


@cache
def _verified() -> ssl.SSLContext:
    """One context serves all: it takes longer to load the authorities than to ask a vendor something."""
    return httpx.create_ssl_context(trust_env=False)
