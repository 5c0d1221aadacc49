"""What a measured process tells of itself: when its work began, how long it took, and what it used."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def measured(out: Path) -> Iterator[dict[str, Any]]:
    """Write to `out` how the block went; enter it when all imports are done. What the block puts in is written too.

    `out` appears at once, holding only `began_at` (seconds since the epoch), for a process that is going to be killed.
    """
    told: dict[str, Any] = {"began_at": time.time()}
    out.write_text(json.dumps(told))
    cpu_s, began_s = time.process_time(), time.perf_counter()
    yield told
    told["work_s"] = time.perf_counter() - began_s
    told["client_cpu_s"] = time.process_time() - cpu_s
    told["peak_rss_bytes"] = _peak_rss_bytes()
    # The largest of them; the next larger figure would be all at once, and at most a few run at a time.
    told["children_peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    out.write_text(json.dumps(told))


def _peak_rss_bytes() -> int:
    # getrusage would tell of the process that started this one as well: its peak survives exec.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc/self/status has no VmHWM: this benchmark needs Linux")
