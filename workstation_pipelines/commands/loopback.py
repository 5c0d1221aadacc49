"""The redirect of a consent, received on this machine's loopback address (RFC 8252, 7.3)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from workstation_pipelines.errors import InvalidRequestError, ReauthorizeError, WorkstationError

_REQUEST_TIMEOUT_S = 2.0
"""Browsers open connections in advance that say nothing; the one that does waits behind them."""

_HEAD = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>workstation</title><body style='font-family:sans-serif'>"
)
_DONE = _HEAD + "<h1>Done here</h1><p>You can close this page and go back to the terminal.</p>"
_REFUSED = _HEAD + "<h1>Not connected</h1><p>Access was not given. The terminal says what to do.</p>"
_NOTHING = _HEAD + "<p>Nothing to see here.</p>"


@dataclass
class Landing:
    """Waits where the vendor sends the person back to. `port` is the one it listens on."""

    port: int
    _server: _Server

    def code(self, state: str, *, timeout_s: float) -> str:
        """Return the code that comes with `state`; requests with another one are turned away and change nothing.

        Raises ReauthorizeError when the person or the vendor refuses, WorkstationError when nobody comes in time.
        """
        self._server.state = state
        until = time.monotonic() + timeout_s
        while self._server.answer is None:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise WorkstationError(
                    f"nobody gave consent within {timeout_s:.0f} s, so nothing was stored: start again, --timeout waits longer"
                )
            self._server.timeout = left_s
            self._server.handle_request()
        code = self._server.answer.get("code")
        if not code:
            why = self._server.answer.get("error", "no code")
            raise ReauthorizeError(f"access was not given ({_word(why)}), so nothing was stored: start again")
        return code


@contextmanager
def listening(port: int) -> Iterator[Landing]:
    """Listen on 127.0.0.1, on a free port when `port` is 0. Raises InvalidRequestError when it is taken."""
    try:
        server = _Server(("127.0.0.1", port), _Page)
    except OSError as error:
        raise InvalidRequestError(f"port {port} is not free here ({error.strerror}): choose another --port") from None
    try:
        yield Landing(server.server_address[1], server)
    finally:
        server.server_close()


class _Server(TCPServer):
    allow_reuse_address = True  # the same --port again, a minute after the last time
    state = ""
    answer: dict[str, str] | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no news."""


class _Page(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        # Anything on this machine can ask here; only the answer to our question counts.
        if not hmac.compare_digest(query.get("state", "").encode(), self.server.state.encode()):
            self._show(404, _NOTHING)
            return
        self.server.answer = query
        self._show(200, _DONE if query.get("code") else _REFUSED)

    def _show(self, status: int, page: str) -> None:
        body = page.encode()
        self.send_response(status)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
            "Connection": "close",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


def _word(text: str) -> str:
    return text if text.replace("_", "").isalnum() and text.isascii() and len(text) <= 60 else "refused"
