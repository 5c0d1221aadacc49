"""Partitions: one a data source, its key the data source's id, one dynamic set a source type. Never one an item."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import dagster as dg

from workstation_pipelines.model import SourceType

CHANGED_AT_ONCE = 500
"""The most keys a reconciliation adds, and the most it deletes; the next one goes on."""

Request = dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest


def data_sources(source_type: SourceType) -> dg.DynamicPartitionsDefinition:
    return dg.DynamicPartitionsDefinition(name=f"{source_type.value}_data_sources")


def register_partition(instance: dg.DagsterInstance, source_type: SourceType, data_source_id: UUID) -> None:
    """Let runs name a new data source. Idempotent; without it the sensor does so at its next reconciliation."""
    instance.add_dynamic_partitions(_name(source_type), [str(data_source_id)])


def forget_partition(instance: dg.DagsterInstance, source_type: SourceType, data_source_id: UUID) -> None:
    """Take a removed data source out of the set. Idempotent; its past runs and materialisations stay to be read."""
    instance.delete_dynamic_partition(_name(source_type), str(data_source_id))


def ensure_partitions(instance: dg.DagsterInstance, source_type: SourceType, data_source_ids: Sequence[UUID]) -> None:
    """Add what is missing: a run request for an unknown key would fail the whole tick."""
    if data_source_ids:
        instance.add_dynamic_partitions(_name(source_type), [str(each) for each in data_source_ids])


def known_keys(instance: dg.DagsterInstance, source_type: SourceType) -> list[str]:
    return list(instance.get_dynamic_partitions(_name(source_type)))


def differences(source_type: SourceType, known: Sequence[str], wanted: Sequence[UUID]) -> list[Request]:
    """Return what brings the known keys to the wanted ids, bounded.

    Read `known` before `wanted`: a source added in between is then added twice, which is harmless, never deleted.
    """
    wanted_keys = {str(each) for each in wanted}
    missing = sorted(wanted_keys.difference(known))[:CHANGED_AT_ONCE]
    gone = sorted(set(known).difference(wanted_keys))[:CHANGED_AT_ONCE]
    partitions = data_sources(source_type)
    requests: list[Request] = []
    if missing:
        requests.append(partitions.build_add_request(missing))
    if gone:
        requests.append(partitions.build_delete_request(gone))
    return requests


def _name(source_type: SourceType) -> str:
    return f"{source_type.value}_data_sources"
