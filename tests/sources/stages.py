"""The Stage of each source type, found by its name: a new source brings `<type>_stage.py` and is in every shared test."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.sources.stage import Stage
from workstation_pipelines.model import Delta, SourceType
from workstation_pipelines.sources import SOURCES, source_class

ALL = sorted(SOURCES)
VENDORS = [name for name in ALL if source_class(SourceType(name)).delta is not Delta.NONE]


def stage_of(source_type: SourceType) -> Stage:
    """Open a fresh account of a source type; close it with close()."""
    stage: Stage = _stage_class(source_type)()
    return stage


def having(operation: str) -> list[str]:
    """Name the source types at which this can happen."""
    return [name for name in ALL if operation in _stage_class(SourceType(name)).operations]


def _stage_class(source_type: SourceType) -> Any:
    class_name = SOURCES[source_type].partition(":")[2]
    module: Any = import_module(f"tests.sources.{source_type.value}_stage")
    return getattr(module, f"{class_name}Stage")


def close(stage: Stage) -> None:
    """Stop its server, having seen that everybody kept to the vendor's contract and nobody tried to write."""
    vendor = stage.vendor
    if vendor is None:
        getattr(stage, "close", lambda: None)()
        return
    vendor.close()
    assert not vendor.violations, vendor.violations[:3]
    assert not vendor.writes, vendor.writes[:3]
