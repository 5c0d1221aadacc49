"""The program without its start: a process that has imported everything forks one for each call.

A call is a process of its own as ever, with the arguments, environment, folder and standard streams of whoever calls it.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]

# What commands import when they first need it, and what takes longest.
_HEAVY = (
    "workstation_pipelines.cli",
    "workstation_pipelines.defs.dev",
    "workstation_pipelines.defs.location",
    "workstation_pipelines.defs.watchdog",
    "workstation_pipelines.defs.workflow_now",
    "workstation_pipelines.db.migrate",
    "workstation_pipelines.index.minilm.embedder",
    "workstation_pipelines.index.pinecone",
    "workstation_pipelines.sources.web",
    "workstation_pipelines.sync.workspace",
    "workstation_pipelines.text.extract",
    "rich.table",
)

_CLIENT = """#!{python} -ISE
import array, json, os, socket, sys
call = json.dumps({{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    server.sendmsg([len(call).to_bytes(4, "big")], streams)
    server.sendall(call)
    code = server.recv(1)
sys.exit(code[0] if code else 70)
"""


@contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Serve calls, and yield a folder for the path that holds a `workstation` which sends them; `folder` must exist."""
    address = folder / "calls"
    client = folder / "bin" / "workstation"
    client.parent.mkdir()
    client.write_text(_CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o755)
    command = [sys.executable, "-m", "tests.readme.preforked", str(address)]
    server = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL)
    try:
        while not address.exists() and server.poll() is None:
            time.sleep(0.02)
        yield client.parent
    finally:
        server.kill()
        server.wait()


def _serve(address: str) -> None:
    for name in _HEAVY:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen()
        os.rename(f"{address}.new", address)  # nobody sees it before it listens
        while True:
            caller, _ = listener.accept()
            _reap()
            if os.fork() == 0:
                listener.close()
                _answer(caller)
            caller.close()


def _answer(caller: socket.socket) -> None:
    code = 70
    try:
        length, streams, _, _ = socket.recv_fds(caller, 4, 3)
        call = b""
        while len(call) < int.from_bytes(length, "big"):
            call += caller.recv(65536)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        code = _run(json.loads(call))
    finally:
        caller.sendall(bytes([code]))
        os._exit(0)


def _run(call: dict[str, Any]) -> int:
    from workstation_pipelines import cli

    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    code = cli.main(call["arguments"])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    _serve(sys.argv[1])
