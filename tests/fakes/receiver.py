"""A receiver of webhooks on loopback that answers as told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """`answers` are given one a request, then 204: a status code, or a function that gives one after what it does.

    Of a path `/N` the answer is always N, of `/hangs` none before the end of the test,
    of `/drips` one that never ends. `redirect_to` is where redirects lead.
    """

    def __init__(self) -> None:
        self.answers: list[int | Callable[[], int]] = []
        self.received: list[Received] = []
        self.redirect_to = ""
        self.retry_after: str | None = None
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def hang(self) -> int:
        """An answer that does not come before the end of the test."""
        self.released.wait(20)
        return 204

    def drip(self, answer: BufferedIOBase) -> None:
        """An answer of which a byte comes now and then, so that no single wait is long."""
        with suppress(OSError):
            answer.write(b"HTTP/1.0 200 OK\r\nx-long: ")
            for _ in range(60):
                if self.released.wait(0.05):
                    return
                answer.write(b"x")

    def take(self) -> list[Received]:
        """Return what came since the last time."""
        taken, self.received = self.received, []
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body))
            step = self.path.strip("/")
            if step == "hangs":
                receiver.hang()
            if step == "drips":
                receiver.drip(self.wfile)
                return
            answer = int(step) if step.isdigit() else (receiver.answers.pop(0) if receiver.answers else 204)
            code = answer() if callable(answer) else answer
            try:
                self.send_response(code)
                if 300 <= code < 400:
                    self.send_header("location", receiver.redirect_to)
                if receiver.retry_after is not None:
                    self.send_header("retry-after", receiver.retry_after)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                return  # the caller has hung up

        def log_message(self, *_: Any) -> None:
            return

    return Handler
