"""What every fake vendor is made of: a loopback server, tokens, a log of requests, faults, and a check of its contract."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as the fake sees it. `path` is percent-decoded for reading; `raw_path` is as sent, without the query."""

    method: str
    raw_path: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def steps(self) -> list[str]:
        """The steps of the path, each decoded by itself, so that an encoded slash stays inside one."""
        return [unquote(step) for step in self.raw_path.strip("/").split("/")]

    def one(self, name: str, default: str | None = None) -> str | None:
        return next((value for key, value in self.query if key == name), default)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
        """A JSON answer."""
        body = json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return cls(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})


LOGIN_PAGE = Answer(
    200, b"<!DOCTYPE html><html><body><form>Sign in</form></body></html>", {"Content-Type": "text/html; charset=utf-8"}
)


@dataclass
class Fault:
    """Something that goes wrong with requests that `matches`, after `after` of them went well, `times` times.

    With `answer` the vendor says so instead of its own answer; with `truncate` its answer breaks off half way; with
    `drop` the connection closes without one; `slow_s` delays it.
    """

    matches: Callable[[Request], bool]
    answer: Answer | None = None
    times: int = 1
    after: int = 0
    truncate: bool = False
    drop: bool = False
    slow_s: float = 0.0
    passed: int = 0
    done: int = 0


class FakeVendor:
    """A server on a free loopback port. A subclass holds a vendor's state and answers for it.

    `requests` are all that came, faults included. `writes` are those that would change something at the real vendor: a
    subclass says which in `is_write`. `violations` are requests and answers that break the vendor's published contract.
    Public methods of subclasses that edit its state take `self.lock`.
    """

    provider: ClassVar[str]

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.latency_s = latency_s
        self.tokens: dict[str, str] = {"test-token": "user-1"}
        """Bearer token -> the id of the user it belongs to."""
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.violations: list[str] = []
        self.is_checked = True
        """Whether requests and answers are held against the contract, which takes longer than to answer."""
        self.desk: Callable[[Request], Answer | None] = lambda _request: None
        """Answers OAuth requests, when there is somebody to do it."""
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if not self._is_of_desk(request) and self.is_write(request)]

    @staticmethod
    def _is_of_desk(request: Request) -> bool:
        """Whether it asks for tokens, which is no writing to anybody's account."""
        return request.raw_path.startswith("/oauth/")

    def calls(self, part: str = "") -> int:
        """How many requests had `part` in their path."""
        return sum(part in request.path for request in self.requests)

    def fail(self, part: str, **fault: Any) -> None:
        """Add a Fault for requests whose path contains `part`."""
        self.faults.append(Fault(lambda request: part in request.path, **fault))

    def is_write(self, request: Request) -> bool:
        raise NotImplementedError

    def answer(self, request: Request) -> Answer:
        """Answer a request that met no fault; called with `lock` held."""
        raise NotImplementedError

    def violation(self, request: Request, answer: Answer) -> str | None:
        """Say what in a request or its answer breaks the vendor's contract; None when nothing does."""
        raise NotImplementedError

    def respond(self, request: Request) -> tuple[Answer, Fault | None]:
        if self.latency_s:
            time.sleep(self.latency_s)
        with self.lock:
            self.requests.append(request)
            fault = self._fault(request)
            if fault is not None and fault.answer is not None:
                return fault.answer, fault
            answer = self.desk(request)
            if answer is None:
                answer = self.answer(request)
                broken = self.violation(request, answer) if self.is_checked else None
                if broken is not None:
                    self.violations.append(f"{request.method} {request.path}: {broken}")
            return answer, fault

    def _fault(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if fault.done < fault.times and fault.matches(request):
                if fault.passed < fault.after:
                    fault.passed += 1
                    continue
                fault.done += 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; what the fake itself gets wrong is in `violations`."""


def _handler(vendor: FakeVendor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:  # the client died while it was asking
                self.close_connection = True
                return
            request = Request(
                method=self.command,
                raw_path=parts.path,
                query=parse_qsl(parts.query, keep_blank_values=True),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
            )
            try:
                answer, fault = vendor.respond(request)
            except Exception as error:  # noqa: BLE001 - a mistake in the fake must not look like a vendor's outage
                vendor.violations.append(f"{request.method} {request.path}: the fake fails: {error!r}")
                answer, fault = Answer(599), None
            if fault is not None and fault.slow_s:
                time.sleep(fault.slow_s)
            if fault is not None and fault.drop:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._send(answer, is_truncated=fault is not None and fault.truncate)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

        def _send(self, answer: Answer, *, is_truncated: bool) -> None:
            head = [f"HTTP/1.1 {answer.status} -"]
            head += [f"{name}: {value}" for name, value in answer.headers.items()]
            head.append(f"Content-Length: {len(answer.body)}")
            body = answer.body if self.command != "HEAD" else b""
            if is_truncated:
                self.close_connection = True
                body = body[: len(body) // 2]
            self.wfile.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler
