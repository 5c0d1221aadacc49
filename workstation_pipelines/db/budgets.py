"""Budgets: how much a user's syncs may spend in a run, a day or a month; and what of them is spent.

What is spent is read from the hourly metrics that billing adds to, of which a month has few.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db.metering import SPENT_TOKENS, SPENT_USD
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import BudgetPeriod, BudgetUnit, Limit, NewId, UserId

_WITH_SPENT = text(
    """
    SELECT b.id, b.data_source_id, s.name AS data_source_name, b.period, b.unit, b.amount, b.is_active,
           coalesce(sum(m.sum), 0) AS spent,
           extract(epoch FROM CASE b.period
                WHEN 'day' THEN date_trunc('day', now(), 'UTC') + interval '24 hours'
                WHEN 'month' THEN (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
                END - now())::double precision AS wait_s
      FROM app.budgets b
      LEFT JOIN app.data_sources s ON s.user_id = b.user_id AND s.id = b.data_source_id
      LEFT JOIN app.observability_metrics m ON m.user_id = b.user_id
           AND m.name = CASE b.unit WHEN 'usd' THEN :spent_usd ELSE :spent_tokens END
           AND m.hour >= CASE b.period WHEN 'day' THEN date_trunc('day', now(), 'UTC')
                                       WHEN 'month' THEN date_trunc('month', now(), 'UTC') END
           AND (b.data_source_id IS NULL OR m.data_source_id = b.data_source_id)
     WHERE b.user_id = :user_id AND (b.is_active OR NOT :only_active)
       AND (CAST(:source AS uuid) IS NULL OR b.data_source_id IS NULL OR b.data_source_id = :source)
     GROUP BY b.id, s.name
     ORDER BY b.data_source_id NULLS FIRST, b.period, b.unit"""
)


def limits(connection: Connection, *, user_id: UserId, data_source_id: UUID | None) -> list[Limit]:
    """Return the active budgets that work on this source, or on any source, may meet; a run's begin unspent."""
    rows = _rows(connection, user_id=user_id, data_source_id=data_source_id, only_active=True)
    return [
        Limit(
            period=BudgetPeriod(row.period),
            unit=BudgetUnit(row.unit),
            amount=row.amount,
            spent=round(Decimal(str(row.spent)), 12),  # the metrics' sums are binary fractions
            data_source_id=row.data_source_id,
            wait_s=row.wait_s,
        )
        for row in rows
    ]


def all_of(connection: Connection, *, user_id: UserId) -> Sequence[Row[Any]]:
    """Return every budget as (id, data_source_id, data_source_name, period, unit, amount, is_active, spent, wait_s)."""
    return _rows(connection, user_id=user_id, data_source_id=None, only_active=False)


def put(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID | None,
    period: BudgetPeriod,
    unit: BudgetUnit,
    amount: Decimal,
    new_id: NewId,
) -> None:
    """Set the one budget of this user, source, period and unit; the next batch of a sync under way heeds it already."""
    connection.execute(
        text(
            """
            INSERT INTO app.budgets AS b (id, user_id, data_source_id, period, unit, amount)
            VALUES (:id, :user_id, :source, :period, :unit, :amount)
            ON CONFLICT ON CONSTRAINT budgets_same_key DO UPDATE SET amount = excluded.amount, is_active = true
             WHERE b.user_id = :user_id"""
        ),
        {
            "id": new_id(),
            "user_id": user_id,
            "source": data_source_id,
            "period": period.value,
            "unit": unit.value,
            "amount": amount,
        },
    )


def remove(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID | None,
    period: BudgetPeriod,
    unit: BudgetUnit | None = None,
) -> int:
    """Remove a budget, or those of both units; return how many. Raises NotFoundError when there was none."""
    removed = connection.execute(
        text(
            """
            DELETE FROM app.budgets b
             WHERE b.user_id = :user_id AND b.data_source_id IS NOT DISTINCT FROM :source AND b.period = :period
               AND (CAST(:unit AS text) IS NULL OR b.unit = :unit)"""
        ),
        {
            "user_id": user_id,
            "source": data_source_id,
            "period": period.value,
            "unit": unit.value if unit is not None else None,
        },
    ).rowcount
    if not removed:
        raise NotFoundError(f"there is no such budget for a {period.value}: `workstation budget list` shows yours")
    return removed


def _rows(
    connection: Connection, *, user_id: UserId, data_source_id: UUID | None, only_active: bool
) -> Sequence[Row[Any]]:
    parameters = {
        "user_id": user_id,
        "source": data_source_id,
        "only_active": only_active,
        "spent_usd": SPENT_USD,
        "spent_tokens": SPENT_TOKENS,
    }
    return connection.execute(_WITH_SPENT, parameters).all()
