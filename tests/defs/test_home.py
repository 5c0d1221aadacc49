"""Dagster accepts the configuration that is written for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance
from dagster._core.run_coordinator import QueuedRunCoordinator

from workstation_pipelines.defs import home
from workstation_pipelines.errors import InvalidRequestError

_SECRET_URL = "postgresql+psycopg2://dagster:hush@db.example/dagster"


def test_dagster_accepts_every_setting_and_initialises_its_storage_twice(tmp_path: Path, dagster_url: str) -> None:
    folder = home.ensure_dagster_home(tmp_path / "dagster", dagster_url, is_embedded=True)
    home.initialise_instance(folder)
    home.initialise_instance(folder)

    with DagsterInstance.from_config(str(folder)) as instance:
        coordinator = instance.run_coordinator
        assert isinstance(coordinator, QueuedRunCoordinator)
        assert coordinator.dequeue_interval_seconds == 1
        limits = instance.get_concurrency_config()
        assert limits.pool_config.default_pool_limit == 4
        assert limits.pool_config.pool_granularity is not None
        assert limits.pool_config.pool_granularity.value == "run"
        assert limits.run_queue_config is not None
        assert limits.run_queue_config.max_concurrent_runs == home.MAX_CONCURRENT_RUNS
        assert [dict(limit) for limit in limits.run_queue_config.tag_concurrency_limits] == [
            {"key": "workstation/user", "limit": 2, "value": {"applyLimitPerUniqueValue": True}},
            {"key": "workstation/tenant", "limit": 3, "value": {"applyLimitPerUniqueValue": True}},
            {"key": "dagster/partition", "limit": 1, "value": {"applyLimitPerUniqueValue": True}},
        ]
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_resume_run_attempts == 0
        assert not instance.telemetry_enabled
        assert instance.get_sensor_settings()["use_threads"] is True
        assert instance.get_scheduler_settings()["num_workers"] == 4
        assert instance.get_runs() == []


def test_file_is_written_only_when_it_would_change(tmp_path: Path) -> None:
    home.ensure_dagster_home(tmp_path, "postgresql+psycopg2://a@/dagster?host=/x", is_embedded=True)
    first = (tmp_path / "dagster.yaml").stat()
    home.ensure_dagster_home(tmp_path, "postgresql+psycopg2://a@/dagster?host=/x", is_embedded=True)
    assert (tmp_path / "dagster.yaml").stat().st_ino == first.st_ino
    home.ensure_dagster_home(tmp_path, "postgresql+psycopg2://a@/dagster?host=/y", is_embedded=True)
    assert "host=/y" in (tmp_path / "dagster.yaml").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["dagster.yaml"]


def test_password_stays_out_of_the_file(tmp_path: Path) -> None:
    home.ensure_dagster_home(tmp_path, _SECRET_URL, is_embedded=False)
    text = (tmp_path / "dagster.yaml").read_text()
    assert "hush" not in text
    assert yaml.safe_load(text)["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    assert home.dagster_environment(tmp_path, _SECRET_URL)["DAGSTER_POSTGRES_URL"] == _SECRET_URL
    assert (tmp_path / "dagster.yaml").stat().st_mode & 0o077 == 0


def test_url_that_would_pick_psycopg_3_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="psycopg2") as refused:
        home.ensure_dagster_home(tmp_path, "postgresql://dagster:hush@db.example/dagster", is_embedded=False)
    assert "hush" not in str(refused.value)
