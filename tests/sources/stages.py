"""The Stage of each source type, found by its name: a new source brings `<type>_stage.py` and is in every shared test."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.sources.stage import Stage
from workstation_pipelines.model import SourceType
from workstation_pipelines.sources import SOURCES

ALL = sorted(SOURCES)


def stage_of(source_type: SourceType) -> Stage:
    """Open a fresh account of a source type; close it with close()."""
    class_name = SOURCES[source_type].partition(":")[2]
    module: Any = import_module(f"tests.sources.{source_type.value}_stage")
    stage: Stage = getattr(module, f"{class_name}Stage")()
    return stage


def close(stage: Stage) -> None:
    """Stop its server, having seen that everybody kept to the vendor's contract and nobody tried to write."""
    vendor = stage.vendor
    if vendor is None:
        getattr(stage, "close", lambda: None)()
        return
    vendor.close()
    assert not vendor.violations, vendor.violations[:3]
    assert not vendor.writes, vendor.writes[:3]
