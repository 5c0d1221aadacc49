"""`workstation bill` and `workstation metrics`: what work cost, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from workstation_pipelines.commands.invocation import open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table
from workstation_pipelines.commands.planned import usd
from workstation_pipelines.model import BillBy

From = Annotated[
    datetime | None, typer.Option("--from", help="First hour that counts, in UTC: 2026-11-01 or 2026-11-01T13:00:00.")
]
To = Annotated[datetime | None, typer.Option("--to", help="First hour that does not count any more.")]

BILL_COLUMNS = ("source", "quantity", "unit", "cost")


def bill(
    context: typer.Context,
    by: Annotated[BillBy, typer.Option(help="What to split the bill by.")] = BillBy.SOURCE,
    since: From = None,
    until: To = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The most lines.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what was spent, dearest first. What runs here costs nothing and is counted all the same."""
    from workstation_pipelines.db import metering

    hours = {"since": _utc(since), "until": _utc(until)}
    with open_session(context) as session, session.transaction() as connection:
        rows = metering.bill(connection, user_id=session.user_id, by=by, limit=limit, **hours)
        total = metering.total(connection, user_id=session.user_id, **hours)
    if as_json:
        print_json({"by": by, "rows": rows, "total": total})
        return
    print_table((by.value, *BILL_COLUMNS[1:]), map(bill_line, rows), empty="nothing was spent")
    _print_total(total)


def bill_line(row: Any) -> tuple[object, ...]:
    """Return a line of a bill in the order of BILL_COLUMNS."""
    return (row.name, row.quantity, row.unit, _cost(row))


def metrics(
    context: typer.Context,
    source: Annotated[str | None, typer.Option("--source", help="Of this source alone.")] = None,
    since: From = None,
    until: To = None,
    as_json: AsJson = False,
) -> None:
    """Show how often each step was done, and what it took.

    Listing, fetching, extracting, cutting, embedding, writing: how often, how much, the most at once.
    """
    from workstation_pipelines.db import metering

    with open_session(context) as session:
        source_id = session.source(source).id if source is not None else None
        with session.transaction() as connection:
            rows = metering.metrics(
                connection, user_id=session.user_id, data_source_id=source_id, since=_utc(since), until=_utc(until)
            )
    if as_json:
        print_json(rows)
        return
    print_table(
        ("step", "what", "times", "total", "mean", "highest"),
        (
            (row.step, row.name, row.times, f"{row.total:,.6g}", f"{row.total / row.times:,.4g}", f"{row.highest:,.4g}")
            for row in rows
        ),
        empty="nothing was measured",
    )


def _utc(moment: datetime | None) -> datetime | None:
    return moment and (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))


def _cost(row: Any) -> str:
    if row.unpriced_quantity:
        return f"{usd(row.cost_usd)}, {row.unpriced_quantity:,} of unknown price"
    return usd(row.cost_usd)


def _print_total(total: Sequence[Any]) -> None:
    for row in total:
        print_line(f"total: {row.quantity:,} {row.unit}, {_cost(row)}")
    if any(row.unpriced_quantity for row in total):
        print_line("  set WORKSTATION_PRICES to count what has no known price from now on")
