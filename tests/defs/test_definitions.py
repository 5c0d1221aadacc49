"""What Dagster loads: the names that runs, links and dashboards depend on, and how little loading costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from workstation_pipelines.definitions import defs
from workstation_pipelines.defs import assets, processing
from workstation_pipelines.sources import SOURCES

_ROOT = Path(__file__).resolve().parents[2]

CHECKS = {
    "documents:no_missing_text",
    "embeddings:index_outside_agrees",
    "embeddings:rows_chunks_vectors_agree",
    "items:last_sync_completed",
    "items:no_open_failures",
    "items:synced_lately",
}


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    return defs.get_repository_def()


def test_every_source_type_has_the_same_definitions(repository: dg.RepositoryDefinition) -> None:
    types = [source_type.value for source_type in SOURCES]
    graph = repository.asset_graph
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        f"{name}/{stage}" for name in types for stage in ("items", "documents", "embeddings")
    }
    assert {key.to_user_string() for key in graph.asset_check_keys} == {
        f"{name}/{check}" for name in types for check in CHECKS
    }
    assert {name for name in repository.job_names if not name.startswith("__")} == {
        "agreement_check",
        "housekeeping",
        *(f"{name}_{job}" for name in types for job in ("sync", "checks")),
        *(job.name for job, _ in processing.JOBS.values()),
    }
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "alerts_sensor",
        "index_sweep_sensor",
        "processing_requests_sensor",
        "pending_requests_sensor",
        "reaper_sensor",
        *(f"{name}_delta_sensor" for name in types),
    }
    assert {schedule.name for schedule in repository.schedule_defs} == {
        "agreement_schedule",
        "housekeeping_schedule",
        *(f"{name}_sync_schedule" for name in types),
    }


def test_triggers_run_from_the_start(repository: dg.RepositoryDefinition) -> None:
    assert {sensor.default_status for sensor in repository.sensor_defs} == {dg.DefaultSensorStatus.RUNNING}
    assert {schedule.default_status for schedule in repository.schedule_defs} == {dg.DefaultScheduleStatus.RUNNING}
    assert {sensor.minimum_interval_seconds for sensor in repository.sensor_defs} == {2, 30, 60}
    assert all(sensor.description for sensor in repository.sensor_defs)
    assert all(schedule.description for schedule in repository.schedule_defs)


@pytest.mark.parametrize("source_type", SOURCES)
def test_assets_of_a_type_share_one_op_one_pool_and_one_set_of_partitions(source_type: object) -> None:
    from workstation_pipelines.model import SourceType

    assert isinstance(source_type, SourceType)
    definition = assets.sync_assets(source_type)
    name = source_type.value
    assert definition.can_subset
    assert definition.op.pool == f"provider_{name}"
    assert definition.op.name == f"stream_{name}"
    partitions = definition.partitions_def
    assert isinstance(partitions, dg.DynamicPartitionsDefinition)
    assert partitions.name == f"{name}_data_sources"
    for spec in definition.specs:
        assert (spec.group_name, list(spec.owners)) == (name, ["team:ingest"])
        assert spec.description
        assert spec.kinds
        assert spec.tags["source_type"] == name
        assert spec.freshness_policy is not None
    documents, embeddings, items = sorted(definition.specs, key=lambda spec: spec.key)
    assert [dep.asset_key for dep in documents.deps] == [items.key]
    assert [dep.asset_key for dep in embeddings.deps] == [documents.key]


def test_loading_reads_no_setting_and_imports_no_driver() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, workstation_pipelines.definitions\n"
            "heavy = {'sqlalchemy', 'psycopg', 'psycopg2', 'numpy', 'onnxruntime', 'xberg', 'tokenizers'}\n"
            "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)",
        ],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "WORKSTATION_WEB_PORT": "not a port", "DATABASE_URL": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.slow
def test_dagster_validates_the_code_location(tmp_path: Path) -> None:
    validated = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "workstation_pipelines.definitions"],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "DAGSTER_HOME": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert validated.returncode == 0, validated.stdout + validated.stderr
