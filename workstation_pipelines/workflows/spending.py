"""What a block spends, billed when it is spent: whatever becomes of the attempt then, bill and execution say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from workstation_pipelines.db import attempts, metering
from workstation_pipelines.db.attempts import Spent
from workstation_pipelines.model import Usage
from workstation_pipelines.workflows.blocks.contract import BlockCall

if TYPE_CHECKING:
    from sqlalchemy import Connection


@contextmanager
def paying(call: BlockCall[Any]) -> Iterator[Connection]:
    """Open a transaction for work that is billed in it by bill(); commits at the end. It holds the execution meanwhile."""
    if call.block_id is None:
        with call.workspace.database.transaction_with_rls(call.user_id) as connection:
            yield connection
        return
    with call.workspace.database.transaction_with_rls(call.user_id, call.tenant_id) as connection:
        attempts.hold(connection, user_id=call.user_id, tenant_id=call.tenant_id, block_id=call.block_id)
        yield connection


def bill(connection: Connection, call: BlockCall[Any], usages: Sequence[Usage]) -> None:
    """Bill usages to the execution, and count them in the attempt, in the transaction of paying()."""
    mine = [replace(usage, job_id=call.execution_id) for usage in usages]
    metering.record(connection, user_id=call.user_id, usages=mine)
    if call.block_id is not None and mine:
        place: dict[str, Any] = {"user_id": call.user_id, "tenant_id": call.tenant_id, "block_id": call.block_id}
        attempts.spend(connection, **place, spent=spent_of(mine))


def bill_at_once(call: BlockCall[Any], usages: Sequence[Usage]) -> None:
    """Bill usages of a block as those of its result would be, though there may never be one; commits. Not idempotent."""
    if usages:
        with paying(call) as connection:
            bill(connection, call, [replace(usage, step=f"workflow:{usage.step}") for usage in usages])


def spent_of(usages: Sequence[Usage]) -> Spent:
    """Return what usages come to; what is not tokens counts by its cost alone."""
    written = sum(usage.quantity for usage in usages if usage.unit == "output_tokens")
    read = sum(usage.quantity for usage in usages if usage.unit.endswith("tokens")) - written
    return Spent(input_tokens=read, output_tokens=written, cost=sum((usage.cost for usage in usages), Decimal(0)))
