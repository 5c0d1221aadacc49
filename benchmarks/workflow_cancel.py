"""How long it takes until a cancelled execution is over, in each state that it may be in, on a real `workstation dev`.

    python -m benchmarks.workflow_cancel [--json]

Over is: the execution, all its steps and its Dagster run say so, and `disagreements()` finds nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.workflow_kills import OWNER, Stack, free_port, save
from workstation_pipelines.db import embedded, executions, steps
from workstation_pipelines.defs import dev, disagreements, workflow_launch
from workstation_pipelines.settings import EmbedderName, Settings
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import Execution, ExecutionId, RunOwner
from workstation_pipelines.workflows import control

LIMIT_S = 30.0
PATIENCE_S = 180.0
SEVERAL = 5


def one(block_type: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"nodes": [{"id": "only", "type": block_type, "config": config, **more}], "edges": []}


def documents(url: str) -> dict[str, dict[str, Any]]:
    return {
        "hangs": one("http_request", {"url": f"{url}hang"}, timeout_s=3600),
        "retries": one(
            "http_request", {"url": f"{url}busy"}, retry={"max_retries": 20, "delay_s": 50, "max_delay_s": 50}
        ),
        "asks": one("approval", {"message": "May it go on?"}),
        "sleeps": one("delay", {"seconds": 3600}),
    }


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/hang":
            self.server.ended.wait(600)  # type: ignore[attr-defined]
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.send_header("Retry-After", "50")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def outside() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    server.ended = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()


class Trial:
    def __init__(self, workspace: Workspace, instance: dg.DagsterInstance) -> None:
        self.workspace = workspace
        self.instance = instance

    def start(self, slug: str, *, is_queued: bool = True) -> ExecutionId:
        execution = control.start(self.workspace, **OWNER, workflow=slug)
        if is_queued:
            workflow_launch.start_execution(self.workspace, self.instance, RunOwner(execution.id, **OWNER))
        return execution.id

    def execution(self, execution_id: ExecutionId) -> Execution:
        with self.workspace.database.transaction_with_rls(**OWNER) as connection:
            return executions.get(connection, **OWNER, execution_id=execution_id)

    def step(self, execution_id: ExecutionId) -> str:
        with self.workspace.database.transaction_with_rls(**OWNER) as connection:
            return steps.of_execution(connection, **OWNER, execution_id=execution_id)[0].status.value

    def run_status(self, execution_id: ExecutionId) -> str:
        run_id = self.execution(execution_id).dagster_run_id
        run = self.instance.get_run_by_id(run_id) if run_id else None
        return run.status.value if run else ""

    def until(self, is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
        began_s = time.monotonic()
        while not is_so():
            if time.monotonic() - began_s > patience_s:
                raise SystemExit("it took too long: see dev.log")
            time.sleep(0.1)
        return time.monotonic() - began_s

    def is_over(self, execution_id: ExecutionId) -> bool:
        stands = (self.execution(execution_id).status, self.step(execution_id))
        # A process that is told to stop before it has begun its run ends as a failure in Dagster's eyes.
        is_run_over = self.run_status(execution_id) in ("", "CANCELED", "SUCCESS", "FAILURE")
        return stands == ("cancelled", "cancelled") and is_run_over

    def cancelled(self, execution_id: ExecutionId) -> float:
        control.cancel(self.workspace, **OWNER, execution_id=execution_id)
        return self.until(lambda: self.is_over(execution_id))

    def in_state(self, state: str) -> ExecutionId:
        if state == "pending":
            return self.start("hangs", is_queued=False)
        if state in ("queued", "starting", "running"):
            execution_id, wanted = self.start("hangs"), {"queued": "QUEUED", "starting": "STARTING"}.get(state)
            self.until(
                lambda: (
                    self.step(execution_id) == "running"
                    if wanted is None
                    else self.run_status(execution_id) in (wanted, "STARTED")
                )
            )
            return execution_id
        slug = {"retrying": "retries", "waiting for a person": "asks", "waiting for a time": "sleeps"}[state]
        execution_id = self.start(slug)
        if state == "retrying":
            self.until(lambda: self.step(execution_id) == "retrying")
        else:
            self.until(lambda: self.execution(execution_id).status == "waiting")
        return execution_id

    def measure(self) -> dict[str, Any]:
        states = ("pending", "queued", "starting", "running", "retrying", "waiting for a person", "waiting for a time")
        figures: dict[str, Any] = {}
        for state in states:
            execution_id = self.in_state(state)
            was = self.run_status(execution_id)
            figures[state] = round(self.cancelled(execution_id), 2)
            print(f"{state} (run {was or 'none'}): {figures[state]} s", file=sys.stderr, flush=True)
        several = [self.start("hangs") for _ in range(SEVERAL)]
        self.until(lambda: any(self.step(each) == "running" for each in several))
        several += [self.start("asks", is_queued=False) for _ in range(SEVERAL)]
        control.cancel_where(self.workspace, **OWNER)
        figures[f"{len(several)} at once"] = round(self.until(lambda: all(map(self.is_over, several))), 2)
        time.sleep(3)
        figures["disagreements"] = len(disagreements.disagreements(self.workspace.database, self.instance, **OWNER))
        figures["load"] = round(os.getloadavg()[0], 1)
        return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="ws-cancel-"))
    settings = Settings(
        WORKSTATION_HOME=folder / "home", WORKSTATION_EMBEDDER=EmbedderName.HASHING, WORKSTATION_WEB_PORT=free_port()
    )
    with outside() as url, Workspace.open(settings) as workspace, dev.open_instance(settings) as instance:
        instance.upgrade()
        stack = Stack(settings, folder / "dev.log")
        try:
            for slug, written in documents(url).items():
                save(workspace, slug, written)
            figures = Trial(workspace, instance).measure()
        finally:
            stack.close()
            embedded.stop(settings.home)
    print(json.dumps(figures) if asked.json else "  ".join(f"{name} {value}" for name, value in figures.items()))
    slowest = max(value for name, value in figures.items() if name not in ("disagreements", "load"))
    return 1 if slowest > LIMIT_S or figures["disagreements"] else 0


if __name__ == "__main__":
    sys.exit(main())
