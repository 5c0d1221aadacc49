"""Kills what runs workflows, again and again, and sees whether rows and runs agree soon after and nothing is lost or done twice.

    python -m benchmarks.workflow_kills [--kills 50] [--seed 1] [--json]

A real `workstation dev` in a scratch home, with a database of its own, started again whenever it ends by itself; executions
of a small workflow keep going in it, failed ones are retried. Each kill takes a run's process, the code server of the
workflows, the daemon or PostgreSQL at a random moment. Then, for at most two minutes: every execution is over or has a run
that is queued or whose process lives, and `disagreements()` finds nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from sqlalchemy.exc import SQLAlchemyError

from workstation_pipelines.db import blocks, embedded, executions, steps, workflows
from workstation_pipelines.defs import dev, disagreements, workflow_launch
from workstation_pipelines.errors import InvalidRequestError, RetryableError
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import EmbedderName, Settings, child_environment
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import (
    Execution,
    ExecutionId,
    ExecutionStatus,
    RunOwner,
    StepStatus,
    TenantId,
    WorkflowId,
    WorkflowVersionId,
)
from workstation_pipelines.workflows import control
from workstation_pipelines.workflows.definition import digest

ROOT = Path(__file__).resolve().parents[1]
ALICE, HOME = UserId("alice"), TenantId("alice")
OWNER: dict[str, Any] = {"user_id": ALICE, "tenant_id": HOME}
LIMIT_S = 120.0
OPEN_AT_ONCE = 2
VICTIMS = {"worker": 6, "code server": 2, "postgres": 2, "daemon": 1}
"""How often each is killed, of eleven times."""

_DEV = """
import sys
from datetime import timedelta
from pathlib import Path
from workstation_pipelines.defs.dev import run_dev
from workstation_pipelines.settings import Settings
sys.exit(run_dev(Settings.load(), Path("workspace.yaml"), locations_every_s=5, jobs_every_s=5))
"""
_PID = re.compile(r"\(pid: (\d+)\)")


def document(url: str) -> dict[str, Any]:
    """First, then three beside each other of which one takes a while, then last; each but the slow one calls outside."""

    def ask(name: str) -> dict[str, Any]:
        query = {"node": name, "execution": "${execution.id}"}
        return {"id": name, "type": "http_request", "config": {"url": url, "query": query}, "retry": {"max_retries": 2}}

    slow = {"id": "slow", "type": "delay", "config": {"seconds": 4}}
    nodes = [ask("first"), ask("left"), slow, ask("right"), ask("last")]
    middle = ("left", "slow", "right")
    edges = [{"source": "first", "target": each} for each in middle] + [
        {"source": each, "target": "last"} for each in middle
    ]
    return {"nodes": nodes, "edges": edges}


def save(workspace: Workspace, slug: str, written: dict[str, Any]) -> None:
    with workspace.database.transaction_with_rls(ALICE, HOME) as connection:
        workflows.create(
            connection,
            **OWNER,
            workflow_id=WorkflowId(workspace.new_id()),
            version_id=WorkflowVersionId(workspace.new_id()),
            slug=slug,
            name=slug,
            definition=written,
            definition_hash=digest(written),
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


class Outside(ThreadingHTTPServer):
    """What the workflow calls; it takes a moment for each answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(0.5)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Stack:
    """`workstation dev`, begun again whenever it ends."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self._log = log
        self._stop = threading.Event()
        self.restarts = -1
        self.process = self._start()
        self._supervisor = threading.Thread(target=self._supervise, daemon=True)
        self._supervisor.start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = child_environment(
            {
                "PYTHONPATH": str(ROOT),
                "WORKSTATION_HOME": str(self.settings.home),
                "WORKSTATION_EMBEDDER": "hashing",
                "WORKSTATION_WEB_PORT": str(self.settings.web_port),
                "WORKSTATION_FETCH_LOOPBACK": "1",
                "WORKSTATION_FETCH_HTTP": "1",
            }
        )
        self.restarts += 1
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _DEV], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def _supervise(self) -> None:
        while not self._stop.wait(0.5):
            if self.process.poll() is not None:
                self.process = self._start()

    def find(self, *words: str) -> psutil.Process | None:
        """A process of the stack whose command line has all these words."""
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    line = " ".join(process.cmdline())
                    if all(word in line for word in words):
                        return process
        return None

    def close(self) -> None:
        self._stop.set()
        self._supervisor.join()
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=60)
        for process in children:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()
        self.process.wait()


@dataclass
class Kill:
    victim: str
    agreed_s: float | None
    open_before: int
    problems: list[str] = field(default_factory=list)


@dataclass
class Trial:
    workspace: Workspace
    instance: dg.DagsterInstance
    stack: Stack
    shuffle: random.Random
    all: list[ExecutionId] = field(default_factory=list)

    def top_up(self) -> None:
        """Have enough executions open: retries of failed ones first."""
        known = [self.execution(each) for each in self.all]
        parents = {execution.parent_execution_id for execution in known}
        failed = [e for e in known if e.status in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)]
        to_retry = [execution for execution in failed if execution.id not in parents]
        for _ in range(OPEN_AT_ONCE - sum(not execution.status.is_over for execution in known)):
            if to_retry:
                execution = control.retry(self.workspace, **OWNER, execution_id=to_retry.pop(0).id)
            else:
                execution = control.start(self.workspace, **OWNER, workflow="calls")
            self.all.append(execution.id)
            with suppress(Exception):  # Dagster's storage may be away: a sensor starts it later
                workflow_launch.start_execution(self.workspace, self.instance, RunOwner(execution.id, ALICE, HOME))

    def execution(self, execution_id: ExecutionId) -> Execution:
        with self.workspace.database.transaction_with_rls(ALICE, HOME) as connection:
            return executions.get(connection, **OWNER, execution_id=execution_id)

    def open(self) -> list[Execution]:
        return [found for found in map(self.execution, self.all) if not found.status.is_over]

    def worker_of(self, execution: Execution) -> psutil.Process | None:
        """The process of an execution's newest run, if it lives."""
        if execution.dagster_run_id is None:
            return None
        records = self.instance.get_records_for_run(
            execution.dagster_run_id, of_type=dg.DagsterEventType.ENGINE_EVENT
        ).records
        for record in reversed(records):
            named = _PID.search(record.event_log_entry.user_message or "")
            if named is not None:
                with suppress(psutil.NoSuchProcess):
                    process = psutil.Process(int(named[1]))
                    if process.status() != psutil.STATUS_ZOMBIE and "multiprocessing" in " ".join(process.cmdline()):
                        return process
        return None

    def kill(self) -> str:
        """Wait until there is something to kill, and kill it at a random moment soon after."""
        victim = self.shuffle.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        while True:
            workers = [worker for worker in map(self.worker_of, self.open()) if worker is not None]
            if workers and (victim != "code server" or self.stack.find("api grpc", "workflow_location")):
                break
            self.top_up()  # what was open may have ended meanwhile
            time.sleep(0.2)
        time.sleep(self.shuffle.uniform(0, 4))
        if victim == "worker":
            for worker in workers[: self.shuffle.randint(1, 2)]:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
        elif victim == "postgres":
            home = self.stack.settings.home
            pid = int(next(home.rglob("postmaster.pid")).read_text().split()[0])
            os.kill(pid, self.shuffle.choice((signal.SIGKILL, signal.SIGQUIT)))
            time.sleep(1)
            embedded.ensure_running(home)
        else:
            words = ("dagster._daemon",) if victim == "daemon" else ("api grpc", "workflow_location")
            process = self.stack.find(*words)
            if process is not None:
                process.kill()
        return victim

    def problems(self) -> list[str]:
        found = [
            f"{each.execution_id}: {each.problem}"
            for each in disagreements.disagreements(self.workspace.database, self.instance, **OWNER)
        ]
        for execution in self.open():
            run = self.instance.get_run_by_id(execution.dagster_run_id) if execution.dagster_run_id else None
            is_at_work = run is not None and run.status.value in ("STARTED", "CANCELING")
            if is_at_work and self.worker_of(execution) is None:
                found.append(f"{execution.id}: it is {execution.status}, its run {run.status.value}, its process gone")
        return found

    def settle(self) -> tuple[float | None, list[str]]:
        """Return after how many seconds nothing was wrong any more, None and what was if that took too long."""
        began_s = time.monotonic()
        found: list[str] = []
        while time.monotonic() - began_s < LIMIT_S:
            with suppress(RetryableError, SQLAlchemyError, dg.DagsterError):
                found = self.problems()
                if not found:
                    return time.monotonic() - began_s, []
            time.sleep(0.25)
        return None, found

    def finish(self) -> list[str]:
        """Let everything end, and return what is wrong in the end."""
        patience_s = time.monotonic() + 4 * LIMIT_S
        while self.open() and time.monotonic() < patience_s:
            time.sleep(1)
        found = [f"{execution.id} is still {execution.status}" for execution in self.open()]
        time.sleep(3)
        found += self.problems()
        for execution_id in self.all:
            found += self._repeated(self.execution(execution_id))
        return found

    def _repeated(self, execution: Execution) -> Iterator[str]:
        """Nodes that were worked on though the execution that this one retries had completed them."""
        if execution.parent_execution_id is None:
            return
        with self.workspace.database.transaction_with_rls(ALICE, HOME) as connection:
            before = steps.of_execution(connection, **OWNER, execution_id=execution.parent_execution_id)
            made = blocks.of_execution(connection, **OWNER, execution_id=execution.id)
        done = {step.node_id for step in before if step.status is StepStatus.COMPLETED}
        for name in sorted(done & {block.node_id for block in made}):
            yield f"{execution.id} did {name} again, which {execution.parent_execution_id} had completed"


@contextmanager
def outside() -> Iterator[str]:
    server = Outside()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()


def patiently(do: Callable[[], Any]) -> Any:
    """Do something that needs both databases, as soon as they are there."""
    while True:
        try:
            return do()
        except (RetryableError, SQLAlchemyError, dg.DagsterError, InvalidRequestError):
            time.sleep(0.5)


def run(kills: int, seed: int, is_verbose: bool) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="ws-kills-"))
    settings = Settings(
        WORKSTATION_HOME=folder / "home", WORKSTATION_EMBEDDER=EmbedderName.HASHING, WORKSTATION_WEB_PORT=free_port()
    )
    done: list[Kill] = []
    with outside() as url, Workspace.open(settings) as workspace, dev.open_instance(settings) as instance:
        instance.upgrade()
        stack = Stack(settings, folder / "dev.log")
        trial = Trial(workspace, instance, stack, random.Random(seed))  # noqa: S311 - to be repeatable
        try:
            save(workspace, "calls", document(url))
            while len(done) < kills:
                patiently(trial.top_up)
                victim = patiently(trial.kill)
                agreed_s, problems = trial.settle()
                done.append(Kill(victim, agreed_s, len(patiently(trial.open)), problems))
                if is_verbose:
                    print(len(done), victim, agreed_s and round(agreed_s, 1), *problems, flush=True)
            left = patiently(trial.finish)
            told = [patiently(lambda each=each: trial.execution(each)) for each in trial.all]
        finally:
            stack.close()
            embedded.stop(settings.home)
    return {
        "kills": len(done),
        "by_victim": {name: _summary([kill for kill in done if kill.victim == name]) for name in VICTIMS},
        "not_agreed_in_time": [asdict(kill) for kill in done if kill.agreed_s is None],
        "wrong_in_the_end": left,
        "executions": dict(Counter(execution.status.value for execution in told)),
        "retries": sum(execution.parent_execution_id is not None for execution in told),
        "restarts_of_the_stack": stack.restarts,
        "load": os.getloadavg(),
        "log": str(folder / "dev.log"),
    }


def _summary(kills: list[Kill]) -> dict[str, Any]:
    times = sorted(kill.agreed_s for kill in kills if kill.agreed_s is not None)
    if not times:
        return {"kills": len(kills)}
    return {"kills": len(kills), "median_s": round(statistics.median(times), 1), "longest_s": round(times[-1], 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `timeout` leaves nothing running
    figures = run(options.kills, options.seed, is_verbose=not options.json)
    print(json.dumps(figures, indent=2))
    return 1 if figures["not_agreed_in_time"] or figures["wrong_in_the_end"] else 0


if __name__ == "__main__":
    sys.exit(main())
