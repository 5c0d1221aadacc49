"""What a workflow version is called in Dagster, and back. A node needs no name of its own: its id is the key of its step."""

from __future__ import annotations

import re
from dataclasses import dataclass

_JOB = re.compile(r"wf_([a-z0-9_]{1,60})_v([1-9][0-9]{0,8})_([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class JobName:
    """A version of a workflow. Several workflows may share a `job_key`; then their slugs differ."""

    slug: str
    version: int
    job_key: str

    def __str__(self) -> str:
        return f"wf_{self.slug.replace('-', '_')}_v{self.version}_{self.job_key}"


def read(text: str) -> JobName | None:
    """Return what the name of a job says, None when it is not that of a workflow."""
    found = _JOB.fullmatch(text)
    return JobName(found[1].replace("_", "-"), int(found[2]), found[3]) if found else None
