"""What may still be spent: decided before anything is embedded, a document at a time.

A document goes in when it fits into every budget. One that is larger than a whole budget goes in when nothing else has
been spent of it, or no sync would ever get beyond it; so what is spent is at most a budget, or that one document. Runs of
one user that go on at the same time see what the others have committed, so each may overspend by one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from threading import Lock
from uuid import UUID

from workstation_pipelines.db import budgets
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import BudgetReachedError
from workstation_pipelines.model import BudgetPeriod, BudgetUnit, Limit, UserId


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tokens that one document, with all that is inside it, would take."""

    tokens: int
    data_source_id: UUID | None = None


def fitting(limits: Sequence[Limit], wanted: Sequence[Wanted], token_price: Decimal | None) -> tuple[int, Limit | None]:
    """Return how many of `wanted`, in order, fit into all limits, and the limit that the next would pass, if any."""
    left = list(limits)
    for number, each in enumerate(wanted):
        if not each.tokens:
            continue
        for place, limit in enumerate(left):
            if limit.data_source_id not in (None, each.data_source_id):
                continue
            price = (token_price or Decimal(0)) if limit.unit is BudgetUnit.USD else Decimal(1)
            spent = limit.spent + each.tokens * price
            is_too_large_for_any = limit.spent == 0 < limit.amount
            if spent > limit.amount and not is_too_large_for_any:
                return number, limit
            left[place] = replace(limit, spent=spent)
    return len(wanted), None


def check_call(
    database: Database, *, user_id: UserId, tokens: int, token_price: Decimal | None, what: str, again: str
) -> None:
    """Raise BudgetReachedError when a single call, `what`, of about so many tokens does not fit into the user's budgets.

    Those for a run, or for one source, are not of it.
    """
    with database.transaction_with_rls(user_id) as connection:
        limits = budgets.limits(connection, user_id=user_id, data_source_id=None)
    _, passed = fitting(
        [limit for limit in limits if limit.period is not BudgetPeriod.RUN], [Wanted(tokens)], token_price
    )
    if passed is not None:
        raise BudgetReachedError(_told(passed, tokens, again, what), wait_s=passed.wait_s)


class Allowance:
    """The budgets of one run. `settle` commits what the run has embedded so far, so that it is counted."""

    def __init__(
        self,
        database: Database,
        *,
        user_id: UserId,
        data_source_id: UUID | None,
        token_price: Decimal | None,
        own: Sequence[Limit] = (),
        settle: Callable[[], object] = lambda: None,
        again: str = "sync again",
    ) -> None:
        self._database = database
        self._user_id = user_id
        self._data_source_id = data_source_id
        self._token_price = token_price
        self._own = own
        self._settle = settle
        self._again = again
        self._spent_here: dict[UUID | None, int] = {}

    def limits(self) -> list[Limit]:
        """Return the budgets as they stand, those raised or lowered meanwhile included; empty when there are none."""
        if not self._stored() and not self._own:
            return []
        self._settle()
        return [self._of_run(limit) for limit in (*self._stored(), *self._own)]

    def take(self, limits: Sequence[Limit], wanted: Sequence[Wanted]) -> tuple[int, BudgetReachedError | None]:
        """Return how many of `wanted` may be embedded now, and the error that ends the run behind them, if not all."""
        number, passed = fitting(limits, wanted, self._token_price)
        for each in wanted[:number]:
            self._spent_here[each.data_source_id] = self._spent_here.get(each.data_source_id, 0) + each.tokens
        if passed is None:
            return number, None
        return number, BudgetReachedError(_told(passed, wanted[number].tokens, self._again), wait_s=passed.wait_s)

    def _stored(self) -> list[Limit]:
        with self._database.transaction_with_rls(self._user_id) as connection:
            return budgets.limits(connection, user_id=self._user_id, data_source_id=self._data_source_id)

    def _of_run(self, limit: Limit) -> Limit:
        if limit.period is not BudgetPeriod.RUN:
            return limit
        tokens = sum(count for source, count in self._spent_here.items() if limit.data_source_id in (None, source))
        price = (self._token_price or Decimal(0)) if limit.unit is BudgetUnit.USD else Decimal(1)
        return replace(limit, spent=tokens * price)


class SharedAllowance:
    """An allowance that several threads spend from, each committing what it took before the next one looks."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._lock = Lock()
        self._over: BudgetReachedError | None = None

    @contextmanager
    def taking(self, tokens: Callable[[], int]) -> Iterator[None]:
        """Hold what a document takes until the end of `with`, by when it is committed.

        Without any budget nobody waits. Raises BudgetReachedError for what does not fit, and for all that comes after.
        """
        if not self._allowance.limits():
            yield
            return
        with self._lock:
            if self._over is None:
                wanted = [Wanted(tokens())]
                _, self._over = self._allowance.take(self._allowance.limits(), wanted)
            if self._over is not None:
                raise self._over
            yield


def _told(limit: Limit, tokens: int, again: str, what: str = "the next document") -> str:
    scope = "of this source" if limit.data_source_id is not None else "of yours"
    ahead = (
        "the next run has a new one"
        if limit.period is BudgetPeriod.RUN
        else f"it begins anew with the next {limit.period}"
    )
    return (
        f"the budget {scope} of {_amount(limit.amount, limit.unit)} a {limit.period} has {_amount(limit.spent, limit.unit)}"
        f" spent, and {what} takes {tokens:,} tokens:"
        f" {ahead}, or raise it (`workstation budget set`) and {again}"
    )


def _amount(amount: Decimal, unit: BudgetUnit) -> str:
    return f"{amount.normalize():f} USD" if unit is BudgetUnit.USD else f"{amount:,.0f} tokens"
