"""A loopback server that speaks the embeddings protocol as strictly as the real one, and can be told to misbehave."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

KEY = "sk-test-51fd0c"
Answer = tuple[int, dict[str, str], bytes]


class EmbeddingsServer:
    """Serves `dimensions`-wide vectors that depend on the text only; keeps every request's body; `answer` overrides."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Answer | None] = lambda body: None
        self.url = ""

    def vector(self, text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        random = np.random.default_rng(zlib.crc32(text.encode()))
        return (random.standard_normal(self.dimensions) * 3).astype(np.float32)

    def respond(self, path: str, authorization: str | None, raw: bytes) -> Answer:
        if path != "/v1/embeddings":
            return refusal(404, "not_found")
        if authorization != f"Bearer {KEY}":
            return refusal(401, "invalid_api_key")
        body = json.loads(raw)
        self.requests.append(body)
        overridden = self.answer(body)
        if overridden is not None:
            return overridden
        texts = body["input"]
        if (
            not texts
            or len(texts) > 2048
            or not all(texts)
            or set(body) - {"model", "input", "encoding_format", "dimensions"}
        ):
            return refusal(400, "invalid_request_error")
        width = body.get("dimensions", self.dimensions)
        entries = [
            {"object": "embedding", "index": index, "embedding": encoded(self.vector(text)[:width], body)}
            for index, text in enumerate(texts)
        ]
        # The protocol promises an index, not an order.
        entries.reverse()
        return success({"object": "list", "data": entries, "model": body["model"], "usage": {"prompt_tokens": 1}})


def encoded(vector: np.ndarray[Any, np.dtype[np.float32]], body: dict[str, Any]) -> str | list[float]:
    if body.get("encoding_format") == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


def success(body: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def refusal(status: int, code: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    message = f"Incorrect API key provided: {KEY}. You sent: a private sentence"
    body = {"error": {"message": message, "type": "some_error", "code": code}}
    return status, {"Content-Type": "application/json", **named}, json.dumps(body).encode()


@contextmanager
def serving(dimensions: int) -> Iterator[EmbeddingsServer]:
    state = EmbeddingsServer(dimensions)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = state.respond(self.path, self.headers["Authorization"], raw)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
