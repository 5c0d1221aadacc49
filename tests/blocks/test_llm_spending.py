"""What llm blocks spend: held against budgets before anything is sent, and billed even where there is no result."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import pytest

from tests.blocks.calls import OPERATORS, Desk, settings
from tests.conftest import DatabaseUrls
from tests.fakes.openai_chat import FakeChat
from workstation_pipelines.db import budgets, metering
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import BudgetReachedError, InvalidRequestError, UnexpectedReplyError
from workstation_pipelines.model import BillBy, BudgetPeriod, BudgetUnit, UserId

ALICE, BOB = UserId("alice"), UserId("bob")


@pytest.fixture
def database(database_urls: DatabaseUrls) -> Iterator[Database]:
    database = Database(database_urls.app_url)
    yield database
    database.close()


def test_budgets_are_kept_and_lost_answers_billed(database: Database) -> None:
    with FakeChat(OPERATORS) as chat:
        desk = Desk(
            settings(
                workstation_llm_url=chat.base_url,
                workstation_llm_key=OPERATORS,
                workstation_llm_model="m",
                workstation_prices={"m": 1_000_000},
            ),
            database,
        )
        wrong = {"prompt": "some JSON please", "response": "json"}
        with pytest.raises(UnexpectedReplyError, match="try it again"):
            desk.ask("llm", wrong)
        with pytest.raises(InvalidRequestError, match="again"):
            desk.ask("llm", wrong, attempt=2)
        chat.finish_reason = "length"
        with pytest.raises(InvalidRequestError, match="raise `max_tokens`"):
            desk.ask("llm", wrong)
        with database.transaction_with_rls(ALICE) as connection:
            bill = metering.bill(connection, user_id=ALICE, by=BillBy.STEP)
        assert {row.name for row in bill} == {"workflow:llm"}
        assert {row.unit: (row.quantity, row.cost_usd) for row in bill} == {
            "input_tokens": (9, Decimal(9)),
            "output_tokens": (15, Decimal(15)),
        }

        def allow(amount: int, unit: BudgetUnit) -> None:
            with database.transaction_with_rls(ALICE) as connection:
                budgets.put(
                    connection,
                    user_id=ALICE,
                    data_source_id=None,
                    period=BudgetPeriod.DAY,
                    unit=unit,
                    amount=Decimal(amount),
                    new_id=uuid4,
                )

        asked, chat.finish_reason = len(chat.completions), "stop"
        allow(60, BudgetUnit.USD)
        desk.output("llm", {"prompt": "x"})
        with pytest.raises(BudgetReachedError, match="what is asked of m takes") as reached:
            desk.ask("llm", {"prompt": "x", "max_tokens": 40})
        assert reached.value.wait_s
        allow(25, BudgetUnit.TOKENS)
        with pytest.raises(BudgetReachedError):
            desk.ask("llm", {"prompt": "x"})
        assert len(chat.completions) == asked + 1
        desk.output("llm", {"prompt": "x"}, user_id=BOB)
