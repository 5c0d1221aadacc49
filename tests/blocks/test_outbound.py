"""Requests of blocks: nothing private is connected to, nothing hangs, and what must not happen twice does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from tests.blocks.calls import CANARY, ScriptedStop
from tests.fakes.server import Answer
from tests.sources.http_stage import PlainVendor, head, raw_server
from tests.sources.test_web import PRIVATE
from workstation_pipelines.errors import (
    CancelledError,
    InvalidRequestError,
    RetryableError,
    SourceUnavailableError,
    WorkstationError,
)
from workstation_pipelines.sources.http_network import Resolve
from workstation_pipelines.workflows.outbound import Outbound, Outgoing


def answers(*each: Sequence[str]) -> Resolve:
    """Each look-up takes the next answer, the last one for ever."""
    left = list(each)
    return lambda _host, _port: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The addresses that were connected to; nobody is reached."""
    found: list[object] = []

    def create_connection(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        found.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    return found


def ask(
    outbound: Outbound, url: str, *, method: str = "GET", stop: ScriptedStop | None = None, **more: object
) -> object:
    return outbound.send(Outgoing(method, url, **more), stop=stop or ScriptedStop())  # type: ignore[arg-type]


def test_no_spelling_of_a_private_address_is_connected_to(connected: list[object]) -> None:
    outbound = Outbound(allows_http=True)
    for url in PRIVATE:
        for each in (url, url.replace("https:", "http:")):
            with pytest.raises(InvalidRequestError, match=r"private network|is no URL"):
                ask(outbound, each)
    assert connected == []


@pytest.mark.parametrize(
    "url",
    [
        f"https://{CANARY}@host.example/x",
        f"https://user:{CANARY}@host.example/x",
        f"http://host.example/{CANARY}",
        f"https://host.example:8443/{CANARY}",
        f"ftp://host.example/{CANARY}",
        f"file:///{CANARY}",
        f"https:///{CANARY}",
        f"{CANARY}",
        f"https://host.example/{CANARY}" + "x" * 8000,
    ],
)
def test_urls_that_are_not_asked_are_refused_without_being_shown(url: str, connected: list[object]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        ask(Outbound(), url)
    assert CANARY not in refused.value.message
    assert connected == []


@pytest.mark.parametrize(
    ("resolve", "expected"),
    [
        (answers(["93.184.216.34", "10.0.0.7"]), []),
        (answers(["169.254.169.254"]), []),
        (answers(["127.0.0.1"]), []),
        # Looked up once: what the name leads to afterwards does not matter.
        (answers(["93.184.216.34"], ["127.0.0.1"]), [("93.184.216.34", 443)]),
    ],
)
def test_a_name_that_leads_inside_is_not_followed_there(
    resolve: Resolve, expected: list[object], connected: list[object]
) -> None:
    with pytest.raises(WorkstationError, match=r"private network|does not answer"):
        ask(Outbound(resolve=resolve), "https://rebinding.example/")
    assert connected == expected


def test_redirects_are_looked_at_like_the_first_address(site: PlainVendor) -> None:
    targets = {
        "/inside": "https://10.0.0.1/",
        "/metadata": "http://169.254.169.254/latest/",
        "/decimal": "https://2130706433:443/",
        "/user": f"https://x:{CANARY}@host.example/",
        "/file": "file:///etc/passwd",
    }
    for path, target in targets.items():
        site.answers[path] = partial(lambda target, _request: Answer(302, b"", {"Location": target}), target)
        # A loopback that is allowed for URLs is not for what a decimal name leads to.
        outbound = Outbound(allows_loopback=True, resolve=lambda host, _port: [host.replace("2130706433", "10.0.0.2")])
        with pytest.raises(InvalidRequestError) as refused:
            ask(outbound, site.url + path, follows=True)
        assert CANARY not in refused.value.message
    assert site.calls() == len(targets)


def test_headers_stay_with_the_first_host_and_loops_end(site: PlainVendor) -> None:
    site.answers["/here"] = lambda _request: Answer(302, b"", {"Location": "/there"})
    site.answers["/away"] = lambda _request: Answer(
        302, b"", {"Location": f"{site.url}/there".replace("127.0.0.1", "localhost")}
    )
    site.answers["/loop"] = lambda _request: Answer(302, b"", {"Location": "/loop"})
    outbound = Outbound(allows_loopback=True, resolve=answers(["127.0.0.1"]))
    ask(outbound, site.url + "/here", follows=True, headers={"X-Key": CANARY})
    assert site.requests[-1].headers["x-key"] == CANARY
    ask(outbound, site.url + "/away", follows=True, headers={"X-Key": CANARY, "User-Agent": CANARY})
    assert CANARY not in str(site.requests[-1].headers)
    with pytest.raises(InvalidRequestError, match="redirects without end"):
        ask(outbound, site.url + "/loop", follows=True)
    assert site.calls("/loop") == 6
    assert ask(outbound, site.url + "/loop").status == 302  # type: ignore[attr-defined]
    assert ask(outbound, site.url + "/loop", method="POST", follows=True).status == 302  # type: ignore[attr-defined]


def test_the_operators_address_is_asked_wherever_it_is_and_no_other(site: PlainVendor) -> None:
    outbound = Outbound(operator_url=site.url + "/v1")
    assert ask(outbound, site.url + "/v1/x").status == 200  # type: ignore[attr-defined]
    for url in (
        "http://127.0.0.1:1/v1",
        "http://localhost/v1",
        site.url.replace("//", "//user@"),
        "https://127.0.0.1/v1",
    ):
        with pytest.raises(InvalidRequestError, match="not the address"):
            ask(outbound, url)
    with pytest.raises(InvalidRequestError, match="private network"):
        ask(Outbound(allows_http=True), site.url.rpartition(":")[0])


def hang(over: threading.Event, said: bytes = b"") -> Callable[[socket.socket], object]:
    def script(connection: socket.socket) -> None:
        connection.sendall(said)
        over.wait(10)

    return script


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 O", head("Content-Length: 100") + b"x"])
def test_a_cancel_is_heard_while_a_call_hangs_and_its_connection_is_closed(said: bytes) -> None:
    over, seen = threading.Event(), threading.Event()

    def script(connection: socket.socket) -> None:
        connection.sendall(said)
        seen.set()
        if connection.recv(1) == b"":
            over.set()

    stop = ScriptedStop()
    with raw_server(script) as url:
        threading.Thread(target=lambda: stop.cancelled.set() if seen.wait(5) else None).start()
        began_s = time.monotonic()
        with pytest.raises(CancelledError):
            ask(Outbound(allows_loopback=True), url, method="POST", is_repeatable=False, stop=stop)
        assert time.monotonic() - began_s < 2
        assert over.wait(2)
    assert not [thread for thread in threading.enumerate() if thread.name == "outbound" and _outlives(thread)]


def test_a_cancel_is_heard_during_a_handshake_of_tls_and_a_look_up() -> None:
    over, stop = threading.Event(), ScriptedStop()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Timer(0.15, stop.cancelled.set).start()
    with listener, pytest.raises(CancelledError):
        ask(Outbound(allows_loopback=True), f"https://127.0.0.1:{listener.getsockname()[1]}/", stop=stop)
    assert not [thread for thread in threading.enumerate() if thread.name == "outbound" and _outlives(thread)]

    def slow(_host: str, _port: int) -> Sequence[str]:
        over.wait(10)
        return ["93.184.216.34"]

    with pytest.raises(CancelledError):
        ask(Outbound(resolve=slow), "https://slow.example/", stop=stop)
    stop = ScriptedStop()
    threading.Timer(0.15, stop.cancelled.set).start()
    with pytest.raises(CancelledError):
        ask(Outbound(resolve=slow), "https://slow.example/", stop=stop)
    over.set()


def _outlives(thread: threading.Thread) -> bool:
    thread.join(2)
    return thread.is_alive()


def test_time_ends_a_call_and_tells_whether_it_may_be_repeated() -> None:
    over = threading.Event()
    outbound = Outbound(allows_loopback=True)
    with raw_server(hang(over)) as url:
        for is_stopped in (True, False):
            timeout_s = 60.0 if is_stopped else 0.2
            with pytest.raises(RetryableError):
                ask(outbound, url, stop=ScriptedStop(0.2 if is_stopped else 60), timeout_s=timeout_s)
            stop = ScriptedStop(0.2 if is_stopped else 60)
            with pytest.raises(InvalidRequestError, match="may have been done"):
                ask(outbound, url, method="POST", is_repeatable=False, stop=stop, timeout_s=timeout_s)
        over.set()


def test_what_was_never_sent_may_be_asked_again(connected: list[object]) -> None:
    with pytest.raises(SourceUnavailableError):
        ask(Outbound(resolve=answers(["93.184.216.34"])), "https://down.example/", method="POST", is_repeatable=False)
    assert connected


def test_a_failed_handshake_of_tls_is_nothing_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 no tls here\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        address = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(SourceUnavailableError):
            ask(Outbound(allows_loopback=True), address, method="POST", is_repeatable=False)


@pytest.mark.parametrize(
    "said",
    [
        head("Content-Length: 100") + b"x" * 50,
        head("Content-Encoding: gzip", "Content-Length: 4") + b"oops",
        head("Content-Encoding: br", "Content-Length: 4") + b"oops",
        b"",
        b"no http at all\r\n\r\n",
    ],
)
def test_a_broken_answer_is_told_apart_by_what_may_be_repeated(said: bytes) -> None:
    outbound = Outbound(allows_loopback=True)
    with raw_server(lambda connection: connection.sendall(said)) as url:
        with pytest.raises(SourceUnavailableError):
            ask(outbound, f"{url}/{CANARY}?x={CANARY}")
        with pytest.raises(InvalidRequestError, match="may have been done") as doubt:
            ask(outbound, f"{url}/{CANARY}?x={CANARY}", method="POST", is_repeatable=False)
    assert CANARY not in doubt.value.message


@pytest.mark.parametrize("announced", [True, False])
def test_no_answer_is_longer_than_its_cap(announced: bool) -> None:
    body = b"x" * 3000
    said = head(*(["Content-Length: 3000"] if announced else ["Connection: close"])) + body
    with raw_server(lambda connection: connection.sendall(said)) as url:
        outbound = Outbound(allows_loopback=True)
        with pytest.raises(InvalidRequestError, match="more than 2,999 bytes"):
            ask(outbound, url, most_bytes=2999)
        assert ask(outbound, url, most_bytes=3000).body == body  # type: ignore[attr-defined]
