"""What fits into budgets: never more, except one document that is larger than a whole one."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from workstation_pipelines.model import BudgetPeriod, BudgetUnit, Limit
from workstation_pipelines.sync.budget import Wanted, fitting

HERE, THERE = UUID(int=1), UUID(int=2)
PRICE = Decimal("0.01")


def limit(amount: int, spent: int = 0, unit: BudgetUnit = BudgetUnit.TOKENS, source: UUID | None = None) -> Limit:
    return Limit(BudgetPeriod.DAY, unit, Decimal(amount), Decimal(spent), source)


def tokens(*counts: int, source: UUID | None = HERE) -> list[Wanted]:
    return [Wanted(count, source) for count in counts]


def test_documents_go_in_until_the_next_would_pass_the_limit() -> None:
    assert fitting([limit(100)], tokens(40, 60, 1), None) == (2, limit(100, 100))
    assert fitting([limit(100, 90)], tokens(5, 10, 1), None)[0] == 1
    assert fitting([limit(100)], tokens(40, 60), None) == (2, None)


def test_one_larger_than_a_whole_budget_goes_in_when_nothing_else_is_spent() -> None:
    assert fitting([limit(100)], tokens(500, 1), None)[0] == 1
    assert fitting([limit(100, 1)], tokens(500), None)[0] == 0
    assert fitting([limit(0)], tokens(500), None)[0] == 0


def test_what_costs_nothing_always_fits() -> None:
    assert fitting([limit(0)], tokens(0, 0), None) == (2, None)
    assert fitting([limit(0, unit=BudgetUnit.USD)], tokens(500), Decimal(0)) == (1, None)
    assert fitting([limit(0, unit=BudgetUnit.USD)], tokens(500), None) == (1, None)


def test_money_is_counted_by_the_price_of_a_token() -> None:
    assert fitting([limit(1, unit=BudgetUnit.USD)], tokens(60, 40, 1), PRICE)[0] == 2


def test_a_budget_of_another_source_is_not_touched() -> None:
    assert fitting([limit(10, source=THERE)], tokens(500, source=HERE), None) == (1, None)
    assert fitting([limit(10, 5, source=THERE)], tokens(500, source=THERE), None)[0] == 0


LIMITS = st.lists(
    st.builds(
        limit, st.integers(0, 300), st.integers(0, 200), st.sampled_from(BudgetUnit), st.sampled_from([None, HERE])
    ),
    max_size=3,
)


@given(LIMITS, st.lists(st.integers(0, 120), max_size=12))
def test_no_budget_is_passed_but_by_a_single_document_that_is_larger(limits: list[Limit], counts: list[int]) -> None:
    number, passed = fitting(limits, tokens(*counts), PRICE)
    assert (passed is None) == (number == len(counts))
    for each in limits:
        price = PRICE if each.unit is BudgetUnit.USD else 1
        taken = [count for count in counts[:number] if count]
        spent = each.spent + sum(taken) * price
        if each.spent > each.amount:
            assert not taken or price * sum(taken) == 0
        elif spent > each.amount:
            assert len(taken) == 1
            assert each.spent == 0
    if passed is not None:
        assert counts[number] > 0
