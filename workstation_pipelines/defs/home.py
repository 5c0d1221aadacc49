"""DAGSTER_HOME: the instance's configuration as a file, and its storage brought to the newest schema."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workstation_pipelines.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

STORAGE_URL_VARIABLE = "DAGSTER_POSTGRES_URL"
USER_TAG = "workstation/user"
TENANT_TAG = "workstation/tenant"
MAX_CONCURRENT_RUNS = 4
MAX_CONCURRENT_RUNS_A_USER = 2
MAX_CONCURRENT_RUNS_A_TENANT = 3
"""A tenant's users together leave one place to others."""


def ensure_dagster_home(folder: Path, storage_url: str, *, is_embedded: bool) -> Path:
    """Write `dagster.yaml` into `folder` unless it says the same already; return `folder`.

    The embedded server's URL holds no password and is written out. Any other stays in the environment variable
    DAGSTER_POSTGRES_URL, which every Dagster process then needs; see `dagster_environment`.
    Raises InvalidRequestError for a URL without the driver psycopg2 and for a folder that cannot be written.
    """
    if not storage_url.startswith("postgresql+psycopg2://"):
        raise InvalidRequestError(
            f"{STORAGE_URL_VARIABLE} must start with postgresql+psycopg2:// : Dagster's storage breaks with psycopg 3, "
            "which SQLAlchemy takes for a bare postgresql:// URL."
        )
    import yaml

    postgres_url: str | Mapping[str, str] = storage_url if is_embedded else {"env": STORAGE_URL_VARIABLE}
    text = "# Written by `workstation`; changes are overwritten.\n" + yaml.safe_dump(
        _configuration(folder, postgres_url), sort_keys=False
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(folder / "dagster.yaml", text)
    except OSError as error:
        raise InvalidRequestError(f"DAGSTER_HOME {folder} cannot be written: {error.strerror}.") from error
    return folder


def dagster_environment(folder: Path, storage_url: str) -> dict[str, str]:
    """Return the variables that a child process needs to be on this instance."""
    return {"DAGSTER_HOME": str(folder), STORAGE_URL_VARIABLE: storage_url, "DAGSTER_DISABLE_TELEMETRY": "1"}


def initialise_instance(folder: Path) -> None:
    """Create Dagster's tables, or migrate them, before several processes start at once. Idempotent.

    The variable DAGSTER_POSTGRES_URL must be set unless the storage is embedded.
    """
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(folder)) as instance:
        instance.upgrade()


def _configuration(folder: Path, postgres_url: str | Mapping[str, str]) -> dict[str, Any]:
    ticks = {"skipped": 2, "success": 7, "failure": 30, "started": 7}
    threads = {"use_threads": True, "num_workers": 4, "num_submit_workers": 4}
    return {
        "storage": {"postgres": {"postgres_url": postgres_url}},
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(folder)},
        },
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(folder / "compute_logs")},
        },
        # A location that has just lost its code server has it back within seconds; what is queued waits for that.
        "run_queue": {
            "dequeue_interval_seconds": 1,
            "max_user_code_failure_retries": 10,
            "user_code_failure_retry_delay": 5,
        },
        "concurrency": {
            # With granularity `op` a killed worker would keep its slot.
            "pools": {"granularity": "run", "default_limit": 4},
            "runs": {
                "max_concurrent_runs": MAX_CONCURRENT_RUNS,
                "tag_concurrency_limits": [
                    {
                        "key": USER_TAG,
                        "value": {"applyLimitPerUniqueValue": True},
                        "limit": MAX_CONCURRENT_RUNS_A_USER,
                    },
                    {
                        "key": TENANT_TAG,
                        "value": {"applyLimitPerUniqueValue": True},
                        "limit": MAX_CONCURRENT_RUNS_A_TENANT,
                    },
                    # A partition is a data source, and two runs of one would only find each other busy.
                    {"key": "dagster/partition", "value": {"applyLimitPerUniqueValue": True}, "limit": 1},
                ],
            },
        },
        "run_monitoring": {
            "enabled": True,
            "start_timeout_seconds": 120,
            "cancel_timeout_seconds": 60,
            "poll_interval_seconds": 10,
            "free_slots_after_run_end_seconds": 60,
        },
        "sensors": threads,
        "schedules": threads,
        "retention": {"sensor": {"purge_after_days": ticks}, "schedule": {"purge_after_days": ticks}},
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},  # no sign-up dialog over the first page
    }


def _replace(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    descriptor, written = tempfile.mkstemp(dir=path.parent, prefix=".dagster-")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(written).replace(path)
