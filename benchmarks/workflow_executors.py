"""Eight nodes that need nothing of one another and take a second each: in one thread, in eight, and in eight processes.

python -m benchmarks.workflow_executors [--json]
"""

# No postponed annotations here: Dagster reads those of an op's function and takes strings for no type it knows.

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import DagsterRunStatus

from workstation_pipelines.defs.threads import threads_executor

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
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as made, dg.DagsterInstance.local_temp(made) as instance:
        for job in (in_process, threads, processes):
            began_s = time.perf_counter()
            result = dg.execute_job(dg.reconstructable(job), instance)
            figures[job.__name__] = round(time.perf_counter() - began_s, 2)
            run = instance.get_run_by_id(result.run_id)
            assert run is not None
            if run.status is not DagsterRunStatus.SUCCESS:
                raise SystemExit(
                    f"{job.__name__}: {[event.message for event in result.all_events if event.is_failure]}"
                )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    figures = measure()
    if asked.json:
        print(json.dumps(figures))
    else:
        print("  ".join(f"{name} {seconds} s" for name, seconds in figures.items()))


if __name__ == "__main__":
    main()
