"""What a block spent although there is no result of it that could be billed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workstation_pipelines.db import metering
from workstation_pipelines.model import Usage
from workstation_pipelines.workflows.blocks.contract import BlockCall


def bill_lost(call: BlockCall[Any], usages: Sequence[Usage]) -> None:
    """Bill at once, as a result's usages are billed, what was spent on an attempt that fails; commits. Not idempotent."""
    mine = [replace(usage, job_id=call.execution_id, step=f"workflow:{usage.step}") for usage in usages]
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        metering.record(connection, user_id=call.user_id, usages=mine)
