"""Webhooks: tell an owner's receiver of the owner's events, at least once each, for as long as that makes sense.

A delivery is claimed in one transaction, sent with none open, and recorded in another. Whoever dies in between is
replaced when the claim is over; the receiver knows the repetition by its `webhook-id`, which stays the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workstation_pipelines.db import events, webhook_deliveries, webhooks
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.webhook_deliveries import Claim, DueDelivery
from workstation_pipelines.db.webhooks import EVERY_KIND, Webhook
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import (
    Clock,
    EventKind,
    NewId,
    Severity,
    UserId,
    WebhookDeliveryId,
    WebhookId,
)
from workstation_pipelines.sources.sealing import Binding, KeyRing, seal, unseal
from workstation_pipelines.sync.webhook_call import Reply, WebhookCaller
from workstation_pipelines.sync.webhook_signature import new_secret, signed_headers

PURPOSE = "secret of a webhook"
MOST_ATTEMPTS = 8
FIRST_WAIT_S = 60.0
LAST_WAIT_S = 24 * 3600.0
SENDING_THREADS = 8
DELIVERIES_AT_ONCE = 200
LONGEST_TICK_S = 25.0
"""No delivery begins later than that; Dagster gives a tick 60 seconds, and the last call may take ten."""

Random = Callable[[], float]
"""Returns a number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What one round did. `failed` are tried again, `given_up` are not."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0

    def plus(self, other: Deliveries) -> Deliveries:
        return Deliveries(self.delivered + other.delivered, self.failed + other.failed, self.given_up + other.given_up)


@dataclass(frozen=True, slots=True)
class Sender:
    """What sending needs. `ring` is asked for when there is something to sign."""

    database: Database
    ring: Callable[[], KeyRing]
    caller: WebhookCaller
    clock: Clock
    new_id: NewId
    random: Random


def add(sender: Sender, *, user_id: UserId, name: str, url: str, kinds: list[str] | None = None) -> tuple[Webhook, str]:
    """Store a webhook and return it with its secret, which is shown this once and then only sealed.

    `kinds` of None are all. Raises InvalidRequestError for a URL, kind or name that cannot be.
    """
    if not 0 < len(name) <= 200 or name != name.strip():
        raise InvalidRequestError("a webhook's name has 1 to 200 characters and no blanks at its ends")
    unknown = set(kinds or ()) - set(EventKind)
    if unknown:
        raise InvalidRequestError(f"no kind of event {min(unknown)!r}: choose from {', '.join(EventKind)}")
    address = sender.caller.checked(url)
    secret, webhook_id = new_secret(), WebhookId(sender.new_id())
    record = seal(sender.ring(), {"key": secret}, Binding(PURPOSE, user_id, webhook_id))
    with sender.database.transaction_with_rls(user_id) as connection:
        added = webhooks.add(
            connection,
            user_id=user_id,
            webhook_id=webhook_id,
            name=name,
            url=address,
            kinds=sorted(set(kinds)) if kinds else [EVERY_KIND],
            sealed_secret=record,
        )
    return added, secret


def deliver(sender: Sender, *, monotonic: Callable[[], float], longest_s: float = LONGEST_TICK_S) -> Deliveries:
    """Send what is due, all users', for `longest_s` at most. Several may do so at the same time.

    Each webhook is told one thing after the other, the oldest first; after one failure it is left alone for this round,
    so that a dead receiver does not keep others waiting.
    """
    end_s = monotonic() + longest_s
    waiting: dict[WebhookId, list[DueDelivery]] = {}
    for due in webhook_deliveries.due(sender.database, at_most=DELIVERIES_AT_ONCE):
        waiting.setdefault(due.webhook_id, []).append(due)

    def send(to_one: list[DueDelivery]) -> Deliveries:
        told = Deliveries()
        for due in to_one:
            if told.failed or told.given_up or monotonic() > end_s:
                break  # the others stay due
            told = told.plus(deliver_one(sender, user_id=due.user_id, delivery_id=due.delivery_id))
        return told

    total = Deliveries()
    if waiting:
        with ThreadPoolExecutor(SENDING_THREADS, thread_name_prefix="webhook") as threads:
            for told in threads.map(send, waiting.values()):
                total = total.plus(told)
    return total


def deliver_one(sender: Sender, *, user_id: UserId, delivery_id: UUID) -> Deliveries:
    """Send one delivery if it is due and nobody else has it."""
    with sender.database.transaction_with_rls(user_id) as connection:
        claim = webhook_deliveries.claim(connection, user_id=user_id, delivery_id=delivery_id)
    if claim is None:
        return Deliveries()
    return _record(sender, claim, _sent(sender, claim))


def send_test(sender: Sender, webhook: Webhook) -> WebhookDeliveryId:
    """Send a message of the type `test` at once; it is tried again like any other. Return its delivery."""
    delivery_id = WebhookDeliveryId(sender.new_id())
    payload = {"type": "test", "timestamp": sender.clock().isoformat(), "data": {"webhook_id": str(webhook.id)}}
    with sender.database.transaction_with_rls(webhook.user_id) as connection:
        webhook_deliveries.add_test(
            connection, user_id=webhook.user_id, webhook_id=webhook.id, delivery_id=delivery_id, payload=payload
        )
    deliver_one(sender, user_id=webhook.user_id, delivery_id=delivery_id)
    return delivery_id


def enable(sender: Sender, webhook: Webhook) -> None:
    """Let a webhook be told again, beginning with what it has not been told yet. Idempotent."""
    with sender.database.transaction_with_rls(webhook.user_id) as connection:
        webhooks.enable(connection, user_id=webhook.user_id, webhook_id=webhook.id)
        events.resolve_about(connection, user_id=webhook.user_id, kind=EventKind.WEBHOOK_DISABLED, about=webhook.id)


def retry_wait_s(attempt: int, *, random: Random) -> float:
    """Return how long to wait after the failure of an attempt, the first being 1: a minute, then more, at last a day.

    Each wait is 3.4 times the one before, give or take a tenth, so that receivers do not get everything at once.
    """
    factor = (LAST_WAIT_S / FIRST_WAIT_S) ** (1 / (MOST_ATTEMPTS - 2))
    planned_s = min(FIRST_WAIT_S * factor ** (attempt - 1), LAST_WAIT_S)
    return float(planned_s * (0.9 + random() / 5))


def _sent(sender: Sender, claim: Claim) -> Reply:
    body = json.dumps(_payload(claim), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    try:
        binding = Binding(PURPOSE, claim.user_id, claim.webhook_id)
        secret = str(unseal(sender.ring(), claim.sealed_secret, binding)["key"])
        headers = signed_headers(secret, message_id=f"msg_{claim.delivery_id}", sent_at=sender.clock(), body=body)
        return sender.caller.post(claim.url, body, headers)
    except InvalidRequestError as error:
        # A key that is missing here may be there for the next sender.
        return Reply(None, error.message)


def _payload(claim: Claim) -> dict[str, Any]:
    payload = dict(claim.payload)
    if claim.data_source_name is not None:
        payload["data"] = {**payload["data"], "data_source_name": claim.data_source_name}
    return payload


def _record(sender: Sender, claim: Claim, reply: Reply) -> Deliveries:
    with sender.database.transaction_with_rls(claim.user_id) as connection:
        if not reply.error and reply.code is not None:
            webhook_deliveries.record_success(connection, claim, response_code=reply.code)
            events.resolve_about(
                connection, user_id=claim.user_id, kind=EventKind.WEBHOOK_GIVEN_UP, about=claim.webhook_id
            )
            return Deliveries(delivered=1)
        is_last = reply.is_gone or claim.attempt >= MOST_ATTEMPTS
        wait_s = max(retry_wait_s(claim.attempt, random=sender.random), min(reply.retry_after_s or 0, LAST_WAIT_S))
        is_ours = webhook_deliveries.record_failure(
            connection,
            claim,
            response_code=reply.code,
            error=reply.error,
            wait_s=None if is_last else wait_s,
        )
        if not is_ours or not is_last:
            return Deliveries(failed=1)
        kind, message = EventKind.WEBHOOK_GIVEN_UP, f"was not told of something in {claim.attempt} attempts"
        if reply.is_gone:
            reason = "its receiver answered 410, which asks for nothing more"
            webhooks.disable(connection, user_id=claim.user_id, webhook_id=claim.webhook_id, reason=reason)
            kind, message = EventKind.WEBHOOK_DISABLED, f"is disabled: {reason}"
        events.open_event(
            connection,
            user_id=claim.user_id,
            kind=kind,
            severity=Severity.WARNING,
            message=f"webhook {claim.webhook_name} {message}; the last: {reply.error}",
            about=claim.webhook_id,
            detail={"webhook_id": str(claim.webhook_id), "delivery_id": str(claim.delivery_id)},
            new_id=sender.new_id,
        )
    return Deliveries(given_up=1)
