"""A cheap look at a folder: a token that changes when a listing might find something. No file is opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b

from workstation_pipelines.sources.local_folder.walk import Walk

PROBED_FILES = 200_000
PROBED_S = 5.0
_CHECK_CLOCK_EVERY = 1024


def token(
    walk: Walk,
    since: str | None,
    *,
    most_files: int = PROBED_FILES,
    most_s: float = PROBED_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> str:
    """Return `lf1:<files>:<digest>` of each file's path, size, times and inode, in the order of the walk.

    The time of the last change of the inode counts as well, which a listing ignores: a false alarm costs one cheap run.
    Of a folder above `most_files` the first ones count, and one that takes longer than `most_s` seconds is reported
    as unchanged since `since`: there only scheduled syncs find every change.
    Raises SourceUnavailableError.
    """
    end_s = monotonic() + most_s
    seen = blake2b(digest_size=16)
    files = 0
    for relative, stat in walk.files():
        look = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}:{stat.st_ino}:{relative}\0"
        seen.update(look.encode("utf-8", "surrogateescape"))
        files += 1
        if files >= most_files:
            break
        if files % _CHECK_CLOCK_EVERY == 0 and monotonic() > end_s:
            return since or "lf1:slow"
    for failure in walk.failures:
        seen.update(f"{failure.external_id}:{failure.reason}\0".encode())
    return f"lf1:{files}:{seen.hexdigest()}"
