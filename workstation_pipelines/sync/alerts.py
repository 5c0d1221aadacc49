"""What looks after all users' sources without being asked: freshness that is missed or kept again, webhooks to be told."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from workstation_pipelines.db import freshness
from workstation_pipelines.db.engine import Database
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import NewId
from workstation_pipelines.sync import webhooks
from workstation_pipelines.sync.webhook_call import WebhookCaller
from workstation_pipelines.sync.webhooks import Deliveries, Sender
from workstation_pipelines.sync.workspace import Workspace

CHANGES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Alerts:
    """What one look did: objectives found missed, objectives kept again, and messages to webhooks."""

    missed: int
    kept: int
    deliveries: Deliveries


def look_after(workspace: Workspace) -> Alerts:
    """Write what freshness has to say, then send what is due. Idempotent; each source and delivery commits by itself."""
    missed, kept = settle_freshness(workspace.database, new_id=workspace.new_id)
    sender = open_sender(workspace)
    try:
        return Alerts(missed, kept, webhooks.deliver(sender, monotonic=time.monotonic))
    finally:
        sender.caller.close()


def settle_freshness(database: Database, *, new_id: NewId) -> tuple[int, int]:
    """Open and resolve events of freshness for all users; return how many objectives were missed, how many kept again."""
    seen = []
    for user_id, data_source_id in freshness.changes(database, at_most=CHANGES_AT_ONCE):
        with database.transaction_with_rls(user_id) as connection:
            seen.append(freshness.settle(connection, user_id=user_id, data_source_id=data_source_id, new_id=new_id))
    return seen.count(True), seen.count(False)


def open_sender(workspace: Workspace) -> Sender:
    """Return what webhooks are sent with, as the settings choose it. The caller closes its `caller`."""
    return Sender(
        database=workspace.database,
        ring=lambda: workspace.vault.ring,
        caller=WebhookCaller(is_local=workspace.settings.webhook_loopback),
        clock=utc_now,
        new_id=workspace.new_id,
        random=random.random,
    )
