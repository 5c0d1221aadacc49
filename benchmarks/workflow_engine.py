"""Workflows of many trivial nodes through their real job, against plain Dagster ops in the same shape without rows of ours.

    python -m benchmarks.workflow_engine [--nodes 500] [--shapes chain,fan] [--rounds 1] [--json]

Both run in this process, on the same server with fsync, and write Dagster's events to it; processes take turns round by
round. What an attempt costs is told by what it adds to the floor.
"""

# No postponed annotations here: Dagster reads those of an op's function and takes strings for no type it knows.

import argparse
import http.server
import json
import logging
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import psutil
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.storage.dagster_run import DagsterRunStatus

from benchmarks.server import Server, private_server
from workstation_pipelines.db import workflows
from workstation_pipelines.defs import dev, mirroring, workflow_launch
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import DAGSTER_DRIVER, EmbedderName, Settings, with_driver
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import (
    Execution,
    ExecutionStatus,
    RunOwner,
    TenantId,
    WorkflowId,
    WorkflowVersionId,
)
from workstation_pipelines.workflows import control
from workstation_pipelines.workflows.definition import digest

ALICE, HOME = UserId("alice"), TenantId("alice")
SLOW_S = 0.2
SLOW_NODES = 40
LARGE_BYTES = 990_000


def document(nodes: int, shape: str, *, last: str = "`1`", parallel: int = 4) -> dict[str, Any]:
    """Blocks that call nobody: one after the other, or all behind the first. `last` is the expression of the last one."""
    names = [f"step_{number}" for number in range(nodes)]
    edges = pairwise(names) if shape == "chain" else ((names[0], name) for name in names[1:])
    return {
        "nodes": [
            {"id": name, "type": "transform", "config": {"expression": last if name == names[-1] else "`1`"}}
            for name in names
        ],
        "edges": [{"source": source, "target": target} for source, target in edges],
        "max_parallel": parallel,
    }


class Bench:
    """Alice's workflows on one database, and Dagster's storage on another of the same server."""

    def __init__(self, workspace: Workspace, instance: dg.DagsterInstance) -> None:
        self.workspace = workspace
        self.instance = instance
        self._resource = dg.ResourceDefinition.hardcoded_resource(self)

    def open(self) -> Workspace:
        """Stand where a WorkspaceResource does."""
        return self.workspace

    def floor(self, nodes: int, shape: str) -> float:
        """Return the seconds of plain ops, one after the other in this process, which write nothing but Dagster's events."""
        job = _plain_job(nodes, shape)
        run = self.instance.create_run_for_job(job, run_config=job.run_config)
        began_s = time.perf_counter()
        execute_run(InMemoryJob(job), run, self.instance)
        took_s = time.perf_counter() - began_s
        ended = self.instance.get_run_by_id(run.run_id)
        if ended is None or ended.status is not DagsterRunStatus.SUCCESS:
            raise SystemExit("the floor has failed")
        return took_s

    def save(self, written: Mapping[str, Any]) -> str:
        slug = f"bench-{uuid4().hex[:12]}"
        with self.workspace.database.transaction_with_rls(ALICE, HOME) as connection:
            workflows.create(
                connection,
                user_id=ALICE,
                tenant_id=HOME,
                workflow_id=WorkflowId(self.workspace.new_id()),
                version_id=WorkflowVersionId(self.workspace.new_id()),
                slug=slug,
                name=slug,
                definition=written,
                definition_hash=digest(written),
            )
        return slug

    def run(self, execution: Execution, wanted: ExecutionStatus = ExecutionStatus.COMPLETED) -> float:
        """Return the seconds from the begin of the run until its execution is closed."""
        began_s = time.perf_counter()
        owner = RunOwner(execution.id, ALICE, HOME)
        workflow_launch.execute_here(self.workspace, self.instance, owner, resource=self._resource)
        mirroring.mirror(self.workspace.database, self.instance, only=execution.id)
        took_s = time.perf_counter() - began_s
        with self.workspace.database.transaction_with_rls(ALICE, HOME) as connection:
            from workstation_pipelines.db import executions

            ended = executions.get(connection, user_id=ALICE, tenant_id=HOME, execution_id=execution.id)
        if ended.status is not wanted:
            raise SystemExit(f"execution {ended.id} is {ended.status}: {ended.error_class} {ended.error_message}")
        return took_s

    def start(self, slug: str) -> Execution:
        return control.start(self.workspace, user_id=ALICE, tenant_id=HOME, workflow=slug)

    def engine(self, written: Mapping[str, Any]) -> float:
        return self.run(self.start(self.save(written)))

    def retry(self, nodes: int) -> float:
        """Return the seconds of a retry that reuses all nodes but the last, which fails again."""
        slug = self.save(document(nodes, "chain", last="join(`1`, `2`)"))
        failed = self.start(slug)
        self.run(failed, ExecutionStatus.FAILED)
        again = control.retry(self.workspace, user_id=ALICE, tenant_id=HOME, execution_id=failed.id)
        return self.run(again, ExecutionStatus.FAILED)


def _work(_context: dg.OpExecutionContext, _inputs: Mapping[str, Any]) -> Iterator[dg.Output[None]]:
    yield dg.Output(None, "out")


def _plain_job(nodes: int, shape: str) -> dg.JobDefinition:
    out = {"out": dg.Out(dg.Nothing, is_required=False)}
    first = dg.OpDefinition(name="first", compute_fn=_work, ins={}, outs=out)
    later = dg.OpDefinition(name="later", compute_fn=_work, ins={"after": dg.In(dg.Nothing)}, outs=out)
    calls: dict[dg.NodeInvocation, dict[str, dg.IDependencyDefinition]] = {dg.NodeInvocation("first", alias="n0"): {}}
    for number in range(1, nodes):
        above = dg.DependencyDefinition(f"n{number - 1 if shape == 'chain' else 0}", "out")
        calls[dg.NodeInvocation("later", alias=f"n{number}")] = {"after": dg.MultiDependencyDefinition([above])}
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    graph = dg.GraphDefinition(name=f"plain_{shape}_{nodes}", node_defs=[first, later], dependencies=calls)
    return graph.to_job(executor_def=dg.in_process_executor, config=quiet)


class _Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(SLOW_S)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def slow_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def slow_document(url: str, parallel: int) -> dict[str, Any]:
    nodes = [{"id": f"get_{n}", "type": "http_request", "config": {"url": url}} for n in range(SLOW_NODES)]
    return {"nodes": nodes, "edges": [], "max_parallel": parallel}


def large_document(nodes: int) -> dict[str, Any]:
    """Independent nodes that each put out nearly as much as may be stored."""
    names = [f"step_{number}" for number in range(nodes)]
    body = {"type": "transform", "config": {"expression": "input.text"}}
    return {
        "inputs": {"text": {"type": "string", "required": True}},
        "nodes": [{"id": name, **body} for name in names],
        "edges": [],
    }


def per_node(bench: Bench, nodes: int, shape: str, rounds: int, server: Server) -> dict[str, Any]:
    """Return milliseconds a node, of the floor and of the engine, and the CPU of client and server in them."""
    took: dict[str, list[float]] = {name: [] for name in ("floor_ms", "engine_ms", "floor_cpu_ms", "engine_cpu_ms")}
    for number in range(rounds):
        works: list[tuple[str, Callable[[], float]]] = [
            ("floor", lambda: bench.floor(nodes, shape)),
            ("engine", lambda: bench.engine(document(nodes, shape))),
        ]
        for name, work in works if number % 2 == 0 else reversed(works):
            cpu_s = time.process_time() + (server.cpu_s() or 0.0)
            took[f"{name}_ms"].append(1000 * work() / nodes)
            spent_s = time.process_time() + (server.cpu_s() or 0.0) - cpu_s
            took[f"{name}_cpu_ms"].append(1000 * spent_s / nodes)
    figures = {name: round(statistics.median(each), 1) for name, each in took.items()}
    return {"figure": shape, "nodes": nodes, **figures, **_ours_by_floor(figures)}


def _ours_by_floor(figures: Mapping[str, float]) -> dict[str, float]:
    names = {"ours_by_floor": "", "cpu_ours_by_floor": "cpu_"}
    return {
        name: round(figures[f"engine_{kind}ms"] / figures[f"floor_{kind}ms"] - 1, 2) for name, kind in names.items()
    }


def measure(bench: Bench, server: Server, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    load = round(os.getloadavg()[0], 1)
    bench.engine(document(5, "chain"))  # imports, connections
    bench.floor(5, "chain")
    for shape in asked.shapes.split(","):
        if shape:
            yield {**per_node(bench, asked.nodes, shape, asked.rounds, server), "load": load}
    if asked.retry:
        yield {"figure": "retry_reusing_all_but_one", "nodes": asked.nodes, "s": round(bench.retry(asked.nodes), 1)}
    if asked.slow:
        with slow_server() as url:
            seconds = {parallel: bench.engine(slow_document(url, parallel)) for parallel in (1, 4)}
        told = {f"max_parallel_{parallel}_s": round(took, 1) for parallel, took in seconds.items()}
        yield {"figure": "http", "nodes": SLOW_NODES, "each_s": SLOW_S, **told}
    if asked.large:
        slug = bench.save(large_document(asked.large))
        execution = control.start(
            bench.workspace, user_id=ALICE, tenant_id=HOME, workflow=slug, input={"text": "x" * LARGE_BYTES}
        )
        before = psutil.Process().memory_info().rss
        took_s = bench.run(execution)
        peak = _peak_rss_bytes()
        yield {
            "figure": "large_outputs",
            "nodes": asked.large,
            "s": round(took_s, 1),
            "rss_before_mb": before // 2**20,
            "peak_rss_mb": peak // 2**20,
        }


def _peak_rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc/self/status has no VmHWM: this benchmark needs Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--shapes", default="chain,fan", help="chain, fan or both")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--retry", action="store_true", help="retry an execution of which only the last node failed")
    parser.add_argument("--slow", action="store_true", help="nodes that wait for HTTP, with max_parallel 1 and 4")
    parser.add_argument("--large", type=int, default=0, metavar="N", help="N nodes that put out nearly 1 MB each")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as made, private_server(Path(made)) as server:
        server.migrate_template()
        with server.engine_database("bench_engine") as url, server.floor_database("bench_dagster") as dagster_url:
            settings = Settings(
                WORKSTATION_HOME=Path(made) / "home",
                DATABASE_URL=url,
                DAGSTER_POSTGRES_URL=with_driver(dagster_url, DAGSTER_DRIVER),
                WORKSTATION_EMBEDDER=EmbedderName.HASHING,
                WORKSTATION_FETCH_HTTP=True,
                WORKSTATION_FETCH_LOOPBACK=True,
            )
            with Workspace.open(settings) as workspace, dev.open_instance(settings) as instance:
                instance.upgrade()
                for figure in measure(Bench(workspace, instance), server, asked):
                    told = "  ".join(f"{name} {value}" for name, value in figure.items())
                    print(json.dumps(figure) if asked.json else told, flush=True)


if __name__ == "__main__":
    main()
