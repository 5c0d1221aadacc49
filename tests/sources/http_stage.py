"""A vendor without any sense, and the way to it: what the tests of the transport are made of."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fakes.server import Answer, FakeVendor, Request
from workstation_pipelines.errors import ReauthorizeError
from workstation_pipelines.sources.credentials import CredentialProvider, StaticToken
from workstation_pipelines.sources.http import Call, VendorApi
from workstation_pipelines.sources.pacing import Pacer, Unpaced

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

LIST = Call("items.list", "GET", "/v1/items", per_s=10)
GET = Call("items.get", "GET", "/v1/items/{item_id}", per_s=10)
QUERY = Call("items.query", "POST", "/v1/query", per_s=10)
CONTENT = Call("items.content", "GET", "/v1/items/{item_id}/content", per_s=10)
OPEN = Call("items.open", "GET", "/v1/open/{item_id}", per_s=10, is_authorized=False)
OTHER = Call("files.get", "GET", "/{name}", per_s=10, base="files")
CALLS = (LIST, GET, QUERY, CONTENT, OPEN, OTHER)


class PlainVendor(FakeVendor):
    """Answers everything with `answers`, by path, else with one JSON object."""

    provider = "plain"

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Callable[[Request], Answer]] = {}

    def is_write(self, request: Request) -> bool:
        return request.method not in ("GET", "POST")

    def answer(self, request: Request) -> Answer:
        answer = self.answers.get(request.path)
        return answer(request) if answer else Answer.of({"path": request.path})

    def violation(self, request: Request, answer: Answer) -> str | None:
        return None


@dataclass
class RenewedToken:
    """Credentials whose first token has expired. `renewals` counts what was asked for."""

    tokens: list[str] = field(default_factory=lambda: ["old-token", "test-token"])
    renewals: int = 0

    def access_token(self, *, rejected: str | None = None) -> str:
        if rejected is not None:
            self.renewals += 1
            if len(self.tokens) == 1:
                raise ReauthorizeError("the grant is gone")
            assert rejected == self.tokens.pop(0)
        return self.tokens[0]

    def scopes(self) -> frozenset[str]:
        return frozenset()

    def transport(self, inner: Any) -> Any:
        return inner


@dataclass
class CountingPacer:
    """A Pacer that remembers; `waits_s` are its answers, then 0."""

    waits_s: list[float] = field(default_factory=list)
    taken: list[tuple[str, float, float, float]] = field(default_factory=list)
    penalties: list[tuple[str, float]] = field(default_factory=list)

    def take(self, key: str, *, per_s: float, burst: float, cost: float) -> float:
        self.taken.append((key, per_s, burst, cost))
        return self.waits_s.pop(0) if self.waits_s else 0.0

    def penalise(self, key: str, *, wait_s: float) -> None:
        self.penalties.append((key, wait_s))


def open_api(
    url: str | Mapping[str, str],
    *,
    credentials: CredentialProvider | None = None,
    pacer: Pacer | None = None,
    **options: Any,
) -> VendorApi:
    """An api of CALLS that does not really sleep; `options` go to VendorApi."""
    options = {"calls": CALLS, "classify": lambda _reply: None, "sleep": lambda _wait_s: None, **options}
    return VendorApi(
        provider="plain",
        account="acct",
        urls={"api": url, "files": url} if isinstance(url, str) else url,
        credentials=credentials or StaticToken("test-token"),
        pacer=pacer or Unpaced(),
        clock=lambda: NOW,
        **options,
    )


@contextmanager
def raw_server(script: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve each connection by `script` once its request has come; yields the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    is_over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            head = b""
            while b"\r\n\r\n" not in head:
                block = connection.recv(65536)
                if not block:
                    return
                head += block
            try:
                script(connection)
            except OSError:
                return  # the client has seen enough

    def accept() -> None:
        while not is_over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        is_over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")
