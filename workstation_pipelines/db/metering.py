"""What work cost and how it went: billing records, and metrics by the hour of the server's clock.

Both are written in the transaction of the work they tell of, so that a crash counts nothing twice and loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from workstation_pipelines.db.bulk import BulkStatement, encoded
from workstation_pipelines.model import BillBy, Measure, Usage, UserId

SPENT_TOKENS, SPENT_USD = "spent_tokens", "spent_usd"
"""Names of the metrics that sum up usages, from which budgets are read: a month has few of these rows."""


_USAGE_COLUMNS = {
    "data_source_id": "uuid",
    "document_id": "uuid",
    "job_id": "uuid",
    "step": "text",
    "provider": "text",
    "model": "text",
    "unit": "text",
    "unit_price": "text",
    "quantity": "int8",
}

_BILL = BulkStatement(
    """
    INSERT INTO app.billing_records AS b (hour, user_id, data_source_id, document_id, job_id, step, provider, model, unit,
                                          unit_price, quantity)
    SELECT date_trunc('hour', now(), 'UTC'), $1::text, s.data_source_id, s.document_id, s.job_id, s.step, s.provider,
           s.model, s.unit, s.unit_price::numeric, s.quantity
      FROM {rows}
    ON CONFLICT ON CONSTRAINT billing_records_same_key DO UPDATE SET quantity = b.quantity + excluded.quantity
     WHERE b.user_id = $1::text""",
    _USAGE_COLUMNS,
    constants=1,
)

_MEASURE_COLUMNS = {
    "data_source_id": "uuid",
    "step": "text",
    "name": "text",
    "count": "int8",
    "sum": "float8",
    "max": "float8",
}

# In the order of the key: two transactions that count the same things wait for each other, and never in a circle.
_OBSERVE = BulkStatement(
    """
    INSERT INTO app.observability_metrics AS m (hour, user_id, data_source_id, step, name, count, sum, max)
    SELECT date_trunc('hour', now(), 'UTC'), $1::text, s.data_source_id, s.step, s.name, s.count, s.sum, s.max
      FROM {rows}
     ORDER BY s.data_source_id, s.step, s.name
    ON CONFLICT ON CONSTRAINT observability_metrics_same_key DO UPDATE
       SET count = m.count + excluded.count, sum = m.sum + excluded.sum, max = greatest(m.max, excluded.max)
     WHERE m.user_id = $1::text""",
    _MEASURE_COLUMNS,
    constants=1,
)


def record(connection: Connection, *, user_id: UserId, usages: Sequence[Usage]) -> None:
    """Bill usages, in the transaction of the work that spent them; equal ones of an hour are added up."""
    quantities: dict[tuple[Any, ...], int] = {}
    spent: dict[tuple[UUID | None, str, str], list[float]] = {}
    for usage in usages:
        price = None if usage.unit_price is None else f"{usage.unit_price:f}"
        place = (usage.data_source_id, usage.document_id, usage.job_id)
        key = (*place, usage.step, usage.provider, usage.model, usage.unit, price)
        quantities[key] = quantities.get(key, 0) + usage.quantity
        tokens = usage.quantity if usage.unit.endswith("tokens") else 0
        for name, amount in ((SPENT_TOKENS, float(tokens)), (SPENT_USD, float(usage.cost))):
            spent.setdefault((usage.data_source_id, usage.step, name), []).append(amount)
    if not quantities:
        return
    rows = [(*key, quantity) for key, quantity in quantities.items()]
    _BILL.execute(connection, encoded(_USAGE_COLUMNS, rows), user_id)
    _observe(connection, user_id, [(*key, len(each), sum(each), max(each)) for key, each in spent.items()])


def observe(
    connection: Connection, *, user_id: UserId, data_source_id: UUID | None, measures: Sequence[Measure]
) -> None:
    """Add measures to this hour's metrics of a source, or of no source; each (step, name) at most once a call."""
    _observe(
        connection,
        user_id,
        [(data_source_id, each.step, each.name, each.count, each.total, each.highest) for each in measures],
    )


def _observe(connection: Connection, user_id: UserId, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        _OBSERVE.execute(connection, encoded(_MEASURE_COLUMNS, rows), user_id)


_BILL_BY = text(
    """
    SELECT CASE :by WHEN 'source' THEN b.data_source_id WHEN 'document' THEN b.document_id END AS id,
           CASE :by WHEN 'source' THEN coalesce(s.name, CASE WHEN b.data_source_id IS NULL THEN 'no source'
                                                             ELSE 'a source that is gone' END)
                    WHEN 'document' THEN coalesce(d.title, CASE WHEN b.document_id IS NULL THEN 'no document'
                                                                ELSE 'a document that is gone' END)
                    WHEN 'step' THEN b.step
                    WHEN 'model' THEN b.provider || ' ' || b.model
                    WHEN 'day' THEN to_char(b.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')
                    WHEN 'hour' THEN to_char(b.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') END AS name,
           b.unit, sum(b.quantity)::bigint AS quantity, sum(b.cost) AS cost_usd,
           coalesce(sum(b.quantity) FILTER (WHERE NOT b.is_priced), 0)::bigint AS unpriced_quantity
      FROM app.billing_records b
      LEFT JOIN app.data_sources s ON :by = 'source' AND s.user_id = b.user_id AND s.id = b.data_source_id
      LEFT JOIN app.documents d ON :by = 'document' AND d.user_id = b.user_id AND d.id = b.document_id
     WHERE b.user_id = :user_id
       AND (CAST(:since AS timestamptz) IS NULL OR b.hour >= :since)
       AND (CAST(:until AS timestamptz) IS NULL OR b.hour < :until)
     GROUP BY 1, 2, b.unit
     ORDER BY CASE WHEN :by IN ('day', 'hour') THEN 0 ELSE -sum(b.cost) END,
              CASE WHEN :by IN ('day', 'hour') THEN 0 ELSE -sum(b.quantity) END, 2, 1, b.unit
     LIMIT :limit"""
)


def bill(
    connection: Connection,
    *,
    user_id: UserId,
    by: BillBy,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 1000,
) -> Sequence[Row[Any]]:
    """Return (id, name, unit, quantity, cost_usd, unpriced_quantity), dearest first; days and hours in their order.

    Hours from `since` to before `until` count. `id` is that of the source or document, else None. Days are those of UTC.
    """
    parameters = {"user_id": user_id, "by": by.value, "since": since, "until": until, "limit": limit}
    return connection.execute(_BILL_BY, parameters).all()


def total(
    connection: Connection, *, user_id: UserId, since: datetime | None = None, until: datetime | None = None
) -> Sequence[Row[Any]]:
    """Return (unit, quantity, cost_usd, unpriced_quantity), a row for each unit that was spent."""
    return connection.execute(
        text(
            """
            SELECT b.unit, sum(b.quantity)::bigint AS quantity, sum(b.cost) AS cost_usd,
                   coalesce(sum(b.quantity) FILTER (WHERE NOT b.is_priced), 0)::bigint AS unpriced_quantity
              FROM app.billing_records b
             WHERE b.user_id = :user_id
               AND (CAST(:since AS timestamptz) IS NULL OR b.hour >= :since)
               AND (CAST(:until AS timestamptz) IS NULL OR b.hour < :until)
             GROUP BY b.unit ORDER BY b.unit"""
        ),
        {"user_id": user_id, "since": since, "until": until},
    ).all()


def metrics(
    connection: Connection,
    *,
    user_id: UserId,
    data_source_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[Row[Any]]:
    """Return (step, name, times, total, highest) over the hours from `since` to before `until`, of one source or of all."""
    return connection.execute(
        text(
            """
            SELECT step, name, sum(count)::bigint AS times, sum(sum) AS total, max(max) AS highest
              FROM app.observability_metrics
             WHERE user_id = :user_id AND (CAST(:source AS uuid) IS NULL OR data_source_id = :source)
               AND (CAST(:since AS timestamptz) IS NULL OR hour >= :since)
               AND (CAST(:until AS timestamptz) IS NULL OR hour < :until)
             GROUP BY step, name ORDER BY step, name"""
        ),
        {"user_id": user_id, "source": data_source_id, "since": since, "until": until},
    ).all()


def anonymise(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> None:
    """Keep what a source cost and how much was done, and forget that it was this source, these documents and jobs."""
    parameters = {"user_id": user_id, "source": data_source_id}
    for statement in _ANONYMISE:
        connection.execute(statement, parameters)


_ANONYMISE = (
    text(
        """
        INSERT INTO app.billing_records AS b (hour, user_id, step, provider, model, unit, unit_price, quantity)
        SELECT hour, user_id, step, provider, model, unit, unit_price, sum(quantity) FROM app.billing_records
         WHERE user_id = :user_id AND data_source_id = :source
         GROUP BY hour, user_id, step, provider, model, unit, unit_price
        ON CONFLICT ON CONSTRAINT billing_records_same_key DO UPDATE SET quantity = b.quantity + excluded.quantity
         WHERE b.user_id = :user_id"""
    ),
    text("DELETE FROM app.billing_records WHERE user_id = :user_id AND data_source_id = :source"),
    text(
        """
        INSERT INTO app.observability_metrics AS m (hour, user_id, step, name, count, sum, max)
        SELECT hour, user_id, step, name, sum(count), sum(sum), max(max) FROM app.observability_metrics
         WHERE user_id = :user_id AND data_source_id = :source
         GROUP BY hour, user_id, step, name
        ON CONFLICT ON CONSTRAINT observability_metrics_same_key
        DO UPDATE SET count = m.count + excluded.count, sum = m.sum + excluded.sum, max = greatest(m.max, excluded.max)
         WHERE m.user_id = :user_id"""
    ),
    text("DELETE FROM app.observability_metrics WHERE user_id = :user_id AND data_source_id = :source"),
)
