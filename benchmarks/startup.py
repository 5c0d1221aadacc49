"""How long `workstation --help` takes: the median wall time of ten starts, after one that warms the disk's cache.

python -m benchmarks.startup [--runs 10] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

TARGET_S = 0.5
_COMMAND = [sys.executable, "-m", "workstation_pipelines.cli", "--help"]


def start_s() -> float:
    """Start once and return the seconds until the process has ended. Raises CalledProcessError."""
    began_s = time.perf_counter()
    subprocess.run(_COMMAND, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    start_s()
    median_s = statistics.median(start_s() for _ in range(asked.runs))
    if asked.json:
        print(json.dumps({"help_s": round(median_s, 3)}))
    else:
        print(f"workstation --help: {median_s:.3f} s, median of {asked.runs} (target below {TARGET_S} s)")


if __name__ == "__main__":
    main()
