"""`workstation budget`: what syncs may spend in a run, a day or a month."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_json, print_line, print_table
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import BudgetPeriod, BudgetUnit, DataSourceId, Limit

app = typer.Typer(
    help="Set what syncs may spend: a sync pauses before the document that would pass it.", no_args_is_help=True
)

Source = Annotated[str | None, typer.Option("--source", help="For this source alone; otherwise for all together.")]
Period = Annotated[BudgetPeriod, typer.Argument(help="A run is one sync; days and months are those of UTC.")]


def limits_of_run(*, usd: float | None, tokens: int | None) -> list[Limit]:
    """Return what `--budget-usd` and `--budget-tokens` ask for."""
    wanted = ((BudgetUnit.USD, usd), (BudgetUnit.TOKENS, tokens))
    return [Limit(BudgetPeriod.RUN, unit, Decimal(str(amount))) for unit, amount in wanted if amount is not None]


@app.command("set")
def set_budget(
    context: typer.Context,
    period: Period,
    usd: Annotated[float | None, typer.Option(min=0, help="US dollars.")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="Tokens embedded; also where they cost nothing.")] = None,
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    """Set or change a budget. A sync under way heeds it from its next batch on."""
    from workstation_pipelines.db import budgets

    wanted = limits_of_run(usd=usd, tokens=tokens)
    if not wanted:
        raise InvalidRequestError("a budget needs --usd or --tokens")
    with open_session(context) as session:
        source_id = _source_id(session, source)
        with session.transaction() as connection:
            for limit in wanted:
                budgets.put(
                    connection,
                    user_id=session.user_id,
                    data_source_id=source_id,
                    period=period,
                    unit=limit.unit,
                    amount=limit.amount,
                    new_id=session.workspace.new_id,
                )
        is_blind = usd is not None and session.workspace.token_price is None
    if as_json:
        print_json({"period": period, "source": source, "limits": {each.unit.value: each.amount for each in wanted}})
        return
    print_line(f"set: {', '.join(f'{each.amount:,f} {each.unit.value}' for each in wanted)} a {period}")
    if is_blind:
        print_line("  the price of the model is not known, so nothing is counted in USD: set WORKSTATION_PRICES")


@app.command("list")
def list_budgets(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every budget and what is spent of it."""
    from workstation_pipelines.db import budgets

    with open_session(context) as session, session.transaction() as connection:
        rows = budgets.all_of(connection, user_id=session.user_id)
    if as_json:
        print_json(rows)
        return
    print_table(
        ("source", "period", "limit", "spent"),
        (
            (
                row.data_source_name or "all",
                row.period,
                f"{row.amount:,f} {row.unit}",
                "" if row.period == BudgetPeriod.RUN else f"{row.spent:,.6g} {row.unit}",
            )
            for row in rows
        ),
        empty="no budgets: syncs spend what they need",
    )


@app.command("remove")
def remove_budget(
    context: typer.Context,
    period: Period,
    unit: Annotated[BudgetUnit | None, typer.Option(help="Only this one of the two.")] = None,
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    """Remove a budget."""
    from workstation_pipelines.db import budgets

    with open_session(context) as session:
        source_id = _source_id(session, source)
        with session.transaction() as connection:
            removed = budgets.remove(
                connection, user_id=session.user_id, data_source_id=source_id, period=period, unit=unit
            )
    if as_json:
        print_json({"removed": removed})
    else:
        print_line(f"{removed} removed")


def _source_id(session: Session, name: str | None) -> DataSourceId | None:
    return session.source(name).id if name is not None else None
