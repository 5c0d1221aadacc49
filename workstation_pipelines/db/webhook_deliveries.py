"""Deliveries of webhooks: a trigger writes one for each event and webhook, a sender claims it, sends it, and says what came.

The database's clock decides when one is due. A claim moves that time on, so that a sender that died is replaced later:
a receiver may get a delivery twice, always under the same id, and never not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.expression import bindparam

from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId, WebhookDeliveryId, WebhookId

CLAIMED_FOR_S = 120.0
"""Longer than sending can take; then the sender counts as dead."""


@dataclass(frozen=True, slots=True)
class DueDelivery:
    user_id: UserId
    webhook_id: WebhookId
    delivery_id: WebhookDeliveryId


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt to send, this sender's until CLAIMED_FOR_S are over. `attempt` counts from 1, across senders."""

    delivery_id: WebhookDeliveryId
    user_id: UserId
    webhook_id: WebhookId
    webhook_name: str
    url: str
    sealed_secret: Mapping[str, Any]
    payload: Mapping[str, Any]
    data_source_name: str | None
    attempt: int


def due(database: Database, *, at_most: int) -> list[DueDelivery]:
    """Return all users' deliveries that are due, one of each webhook before a second of any."""
    with database.across_users() as connection:
        rows = connection.execute(
            text("SELECT user_id, webhook_id, delivery_id FROM app.due_deliveries(:at_most)"), {"at_most": at_most}
        )
        return [DueDelivery(UserId(row[0]), WebhookId(row[1]), WebhookDeliveryId(row[2])) for row in rows]


def claim(connection: Connection, *, user_id: UserId, delivery_id: UUID) -> Claim | None:
    """Take a due delivery for one attempt; None when another has it, it is done, or its webhook is disabled.

    Commit before sending: the claim must outlive the sender.
    """
    row = connection.execute(
        text(
            """
            UPDATE app.webhook_deliveries d
               SET attempts = d.attempts + 1, next_try_at = now() + make_interval(secs => :claimed_for_s)
              FROM app.webhooks w
             WHERE d.user_id = :user_id AND d.id = :id AND w.user_id = :user_id AND w.id = d.webhook_id AND w.is_active
               AND d.delivered_at IS NULL AND d.given_up_at IS NULL AND d.next_try_at <= now()
            RETURNING d.id, d.webhook_id, w.name, w.url, w.sealed_secret, d.payload, d.attempts,
                      (SELECT s.name FROM app.events e
                         JOIN app.data_sources s ON s.user_id = e.user_id AND s.id = e.data_source_id
                        WHERE e.user_id = d.user_id AND e.id = d.event_id) AS data_source_name"""
        ),
        {"user_id": user_id, "id": delivery_id, "claimed_for_s": CLAIMED_FOR_S},
    ).one_or_none()
    if row is None:
        return None
    return Claim(
        delivery_id=WebhookDeliveryId(row.id),
        user_id=user_id,
        webhook_id=WebhookId(row.webhook_id),
        webhook_name=row.name,
        url=row.url,
        sealed_secret=row.sealed_secret,
        payload=row.payload,
        data_source_name=row.data_source_name,
        attempt=row.attempts,
    )


def record_success(connection: Connection, claim: Claim, *, response_code: int) -> None:
    """Close a delivery; also when the claim is over, since the receiver has it."""
    connection.execute(
        text(
            """UPDATE app.webhook_deliveries
                  SET delivered_at = coalesce(delivered_at, now()), given_up_at = NULL, response_code = :code,
                      last_error = ''
                WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": claim.user_id, "id": claim.delivery_id, "code": response_code},
    )


def record_failure(
    connection: Connection, claim: Claim, *, response_code: int | None, error: str, wait_s: float | None
) -> bool:
    """Plan the next attempt in `wait_s`, or with None give the delivery up; False when a later attempt was made already."""
    recorded = connection.execute(
        text(
            """
            UPDATE app.webhook_deliveries
               SET response_code = CAST(:code AS integer), last_error = :error,
                   next_try_at = now() + make_interval(secs => coalesce(CAST(:wait_s AS double precision), 0)),
                   given_up_at = CASE WHEN CAST(:wait_s AS double precision) IS NULL THEN now() END
             WHERE user_id = :user_id AND id = :id AND attempts = :attempt AND delivered_at IS NULL"""
        ),
        {
            "user_id": claim.user_id,
            "id": claim.delivery_id,
            "attempt": claim.attempt,
            "code": response_code,
            "error": error,
            "wait_s": wait_s,
        },
    )
    return recorded.rowcount == 1


def add_test(
    connection: Connection,
    *,
    user_id: UserId,
    webhook_id: UUID,
    delivery_id: WebhookDeliveryId,
    payload: Mapping[str, Any],
) -> None:
    """Queue a delivery that no event asks for, due at once."""
    connection.execute(
        text(
            """INSERT INTO app.webhook_deliveries (id, user_id, webhook_id, occasion, payload)
               VALUES (:id, :user_id, :webhook_id, 'test', :payload)"""
        ).bindparams(bindparam("payload", type_=JSONB)),
        {"id": delivery_id, "user_id": user_id, "webhook_id": webhook_id, "payload": dict(payload)},
    )


def add_message(
    connection: Connection,
    *,
    user_id: UserId,
    webhook_id: UUID,
    delivery_id: WebhookDeliveryId,
    payload: Mapping[str, Any],
) -> bool:
    """Queue what a workflow tells, due at once; False, and nothing is changed, when that delivery is there already."""
    added = connection.execute(
        text(
            """INSERT INTO app.webhook_deliveries (id, user_id, webhook_id, occasion, payload)
               VALUES (:id, :user_id, :webhook_id, 'notice', :payload) ON CONFLICT (id) DO NOTHING"""
        ).bindparams(bindparam("payload", type_=JSONB)),
        {"id": delivery_id, "user_id": user_id, "webhook_id": webhook_id, "payload": dict(payload)},
    )
    return added.rowcount == 1


def get(connection: Connection, *, user_id: UserId, delivery_id: UUID) -> Row[Any]:
    """Return how a delivery stands."""
    return connection.execute(
        text(
            """SELECT id, webhook_id, event_id, occasion, attempts, next_try_at, delivered_at, given_up_at, response_code,
                      last_error, created_at
                 FROM app.webhook_deliveries WHERE user_id = :user_id AND id = :id"""
        ),
        {"user_id": user_id, "id": delivery_id},
    ).one()


def totals(connection: Connection, *, user_id: UserId) -> Sequence[Row[Any]]:
    """Return for each webhook how many deliveries wait, went through and were given up, and what came last."""
    return connection.execute(
        text(
            """
            SELECT w.id AS webhook_id, d.waiting, d.delivered, d.given_up, d.last_delivered_at, f.last_error
              FROM app.webhooks w
              CROSS JOIN LATERAL (
                   SELECT count(*) FILTER (WHERE d.delivered_at IS NULL AND d.given_up_at IS NULL) AS waiting,
                          count(d.delivered_at) AS delivered, count(d.given_up_at) AS given_up,
                          max(d.delivered_at) AS last_delivered_at
                     FROM app.webhook_deliveries d WHERE d.user_id = w.user_id AND d.webhook_id = w.id) d
              LEFT JOIN LATERAL (
                   SELECT d.last_error FROM app.webhook_deliveries d
                    WHERE d.user_id = w.user_id AND d.webhook_id = w.id AND d.attempts > 0
                    ORDER BY d.updated_at DESC, d.id DESC LIMIT 1) f ON true
             WHERE w.user_id = :user_id ORDER BY w.name"""
        ),
        {"user_id": user_id},
    ).all()
