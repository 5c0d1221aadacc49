"""Eight nodes that need nothing of one another and take a second each: in one thread, in eight, and in eight processes.

Dagster's storage is PostgreSQL, as it is in use: its SQLite files are no place for eight processes at once.

python -m benchmarks.workflow_executors [--json]
"""

# No postponed annotations here: Dagster reads those of an op's function and takes strings for no type it knows.

import argparse
import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import DagsterRunStatus

from benchmarks.server import private_server
from workstation_pipelines.defs.threads import threads_executor
from workstation_pipelines.settings import DAGSTER_DRIVER, with_driver

NODES = 8
NODE_S = 1.0


def _sleep(_context: dg.OpExecutionContext, _inputs: Mapping[str, Any]) -> Iterator[dg.Output[None]]:
    time.sleep(NODE_S)
    yield dg.Output(None, "out")


_NODE = dg.OpDefinition(name="sleep", compute_fn=_sleep, ins={}, outs={"out": dg.Out(dg.Nothing, is_required=False)})


def _job(name: str, executor: dg.ExecutorDefinition) -> dg.JobDefinition:
    nodes: dict[dg.NodeInvocation, dict[str, dg.IDependencyDefinition]] = {
        dg.NodeInvocation("sleep", alias=f"n{number}"): {} for number in range(NODES)
    }
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return dg.GraphDefinition(name=name, node_defs=[_NODE], dependencies=nodes).to_job(
        executor_def=executor, config=quiet
    )


def in_process() -> dg.JobDefinition:
    return _job("in_process", dg.in_process_executor)


def threads() -> dg.JobDefinition:
    return _job("threads", threads_executor(NODES))


def processes() -> dg.JobDefinition:
    return _job("processes", dg.multiprocess_executor.configured({"max_concurrent": NODES}))


def measure() -> dict[str, float]:
    """Return the wall seconds of each run."""
    figures = {}
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="ws-bench-"))
        server = stack.enter_context(private_server(Path(made)))
        url = with_driver(stack.enter_context(server.floor_database("bench_dagster")), DAGSTER_DRIVER)
        storage = {"storage": {"postgres": {"postgres_url": url}}}
        instance = stack.enter_context(dg.DagsterInstance.local_temp(made, overrides=storage))
        instance.upgrade()
        for job in (in_process, threads, processes):
            began_s = time.perf_counter()
            result = dg.execute_job(dg.reconstructable(job), instance)
            figures[job.__name__] = round(time.perf_counter() - began_s, 2)
            run = instance.get_run_by_id(result.run_id)
            assert run is not None
            if run.status is not DagsterRunStatus.SUCCESS:
                raise SystemExit(f"{job.__name__} ended as {run.status.value}: {_failures(instance, run.run_id)}")
    return figures


def _failures(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    entries = [record.event_log_entry for record in instance.get_records_for_run(run_id).records]
    found = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    errors = [getattr(event.event_specific_data, "error", None) for event in found]
    return [f"{event.step_key}: {error.message}" for event, error in zip(found, errors, strict=True) if error]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `timeout` leaves nothing running
    logging.disable(logging.WARNING)
    figures = measure()
    if asked.json:
        print(json.dumps(figures))
    else:
        print("  ".join(f"{name} {seconds} s" for name, seconds in figures.items()))


if __name__ == "__main__":
    main()
