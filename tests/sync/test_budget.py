"""Syncs and reindexing under budgets: what is spent stays below, what is done stays, and the rest is done later."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder
from tests.sync.scripted import VendorAccount
from tests.sync.stories import story
from tests.sync.syncing import TOKEN_PRICE, Wish, data_source, new_id, sync, vectorizer
from workstation_pipelines.db import budgets
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.errors import BudgetReachedError
from workstation_pipelines.model import BudgetPeriod, BudgetUnit, JobStatus, UserId
from workstation_pipelines.sync import index, reprocess_plan

ALICE = UserId("alice")
CHUNK_TOKENS = 8
"""Of every chunk of the test splitter, whatever its length."""


def put(database: Database, period: BudgetPeriod, amount: Decimal, unit: BudgetUnit, wish: Wish | None = None) -> None:
    source_id = data_source(database, wish).id if wish is not None else None
    with database.transaction_with_rls(ALICE) as connection:
        budgets.put(
            connection, user_id=ALICE, data_source_id=source_id, period=period, unit=unit, amount=amount, new_id=new_id
        )


def tokens_of(text: str) -> int:
    return CHUNK_TOKENS * -(-len(text) // 40)


@pytest.mark.parametrize("place", ["folder", "account.json"])
def test_syncs_under_any_budget_end_where_one_without_ends(
    place: str, database_urls: DatabaseUrls, tmp_path: Path, ask: Ask
) -> None:
    chosen = random.Random(place)  # noqa: S311 - the same budgets each time
    undisturbed = 0
    for version, where in story(tmp_path, place):
        undisturbed += sync(Wish(database_urls.app_url, str(where), user="bob")).counts.embedding_tokens
        largest = max(map(tokens_of, version.truth.values()))
        for _ in range(200):
            budget = chosen.choice([1, 8, 17, 40])
            result = sync(Wish(database_urls.app_url, str(where), budget_tokens=budget))
            assert result.counts.embedding_tokens <= max(budget, largest)
            if result.counts.embedding_tokens > budget:
                # One document, and a rename on the same page, which costs nothing.
                assert 1 <= result.counts.created + result.counts.updated <= 1 + ("moved03.txt" in version.truth)
            if result.status is JobStatus.COMPLETED:
                break
            assert result.status is JobStatus.PAUSED
            assert f"the budget of yours of {budget} tokens a run" in result.message
        else:
            pytest.fail("it does not get on")
        assert not checker.check(database_urls.admin_url, "alice", version.truth), version.name
    ((spent, paused, held),) = ask(
        "SELECT sum(embedding_tokens), count(*) FILTER (WHERE status = 'paused'), count(*) FILTER (WHERE pause_requested)"
        " FROM app.sync_jobs WHERE user_id = 'alice'"
    )
    assert held == paused
    assert spent == undisturbed
    assert paused > 5


def test_a_month_s_budget_pauses_until_the_next_and_goes_on_when_raised(
    account_place: Place, account: VendorAccount, database: Database, ask: Ask
) -> None:
    for n in range(12):
        account.put(f"n{n:02}", f"note {n}")
    put(database, BudgetPeriod.MONTH, 5 * CHUNK_TOKENS * TOKEN_PRICE, BudgetUnit.USD)
    put(database, BudgetPeriod.DAY, Decimal(1000), BudgetUnit.TOKENS, account_place.wish)
    paused = account_place.sync()
    assert (paused.status, paused.counts.created) == (JobStatus.PAUSED, 5)
    assert ask("SELECT pause_requested FROM app.sync_jobs") == [(False,)]
    assert "budget of yours of 0.0000008 USD a month has 0.0000008 USD spent" in paused.message
    assert account_place.sync().counts.created == 0
    assert ask("SELECT kind, occurrences, resolved_at FROM app.events") == [("budget_reached", 2, None)]
    next_month = "((date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC')"
    waits = f"not_before BETWEEN {next_month} AND {next_month} + interval '1 minute'"
    ((is_next, cost),) = ask(f"SELECT {waits}, cost FROM app.sync_jobs WHERE items_created = 5")  # noqa: S608 - ours
    assert is_next
    assert cost == 5 * CHUNK_TOKENS * TOKEN_PRICE
    put(database, BudgetPeriod.MONTH, Decimal(1), BudgetUnit.USD)
    put(database, BudgetPeriod.DAY, Decimal(9 * CHUNK_TOKENS), BudgetUnit.TOKENS, account_place.wish)
    again = account_place.sync()
    assert (again.status, again.counts.created) == (JobStatus.PAUSED, 4)
    assert "the budget of this source of 72 tokens a day has 72 tokens spent" in again.message
    put(database, BudgetPeriod.DAY, Decimal(10_000), BudgetUnit.TOKENS, account_place.wish)
    last = account_place.sync()
    assert (last.status, last.counts.created) == (JobStatus.COMPLETED, 3)
    assert ask("SELECT count(*) FROM app.events WHERE resolved_at IS NULL") == [(0,)]
    assert ask("SELECT sum(quantity), sum(cost) FROM app.billing_records") == [(96, 96 * TOKEN_PRICE)]


def test_a_copy_of_what_is_embedded_goes_in_when_nothing_may_be_spent(folder: Place, database: Database) -> None:
    (folder.path / "a.txt").write_text("the very same text")
    assert folder.sync().status is JobStatus.COMPLETED
    put(database, BudgetPeriod.DAY, Decimal(0), BudgetUnit.TOKENS)
    (folder.path / "b.txt").write_text("the very same text")
    assert folder.sync().status is JobStatus.COMPLETED
    (folder.path / "c.txt").write_text("another text")
    assert folder.sync().status is JobStatus.PAUSED


def test_reindexing_ends_at_a_budget_and_goes_on_when_it_is_raised(
    folder: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    truth = {f"n{n:02}.txt": f"note {n}" for n in range(10)}
    for path, text in truth.items():
        (folder.path / path).write_text(text)
    folder.sync()
    ask("UPDATE app.chunks SET embedding = NULL WHERE text < 'note 5'")
    using = vectorizer(database, "alice", DigestEmbedder())

    def plan() -> reprocess_plan.Plan:
        return reprocess_plan.plan(database, using, user_id=ALICE, selection=Selection(), index_config_id=None)

    planned = plan()
    assert (planned.documents, planned.unchanged, planned.chunks) == (10, 5, 5)
    assert (planned.reused, planned.tokens) == (0, 5 * CHUNK_TOKENS)
    assert planned.cost_usd == planned.tokens * TOKEN_PRICE
    put(database, BudgetPeriod.MONTH, Decimal(13 * CHUNK_TOKENS), BudgetUnit.TOKENS, folder.wish)
    done = index.reindex(database, using, user_id=ALICE)
    assert next(done).documents == 3
    with pytest.raises(BudgetReachedError, match="104 tokens a month has 104 tokens spent") as reached:
        next(done)
    assert reached.value.wait_s is not None
    put(database, BudgetPeriod.MONTH, Decimal(1000), BudgetUnit.TOKENS, folder.wish)
    assert [each.documents for each in index.reindex(database, using, user_id=ALICE)] == [2]
    ask("UPDATE app.chunks SET token_count = token_count; UPDATE app.documents SET index_config_id = NULL")
    ask("UPDATE app.chunks SET index_config_id = (SELECT id FROM app.index_configs), embedding = NULL")
    assert plan().tokens == 10 * CHUNK_TOKENS
    put(database, BudgetPeriod.RUN, Decimal(4 * CHUNK_TOKENS), BudgetUnit.TOKENS)
    for expected in (4, 4):
        run = index.reindex(database, using, user_id=ALICE)
        assert next(run).documents == expected
        with pytest.raises(BudgetReachedError, match="the next run has a new one"):
            next(run)
    assert [each.documents for each in index.reindex(database, using, user_id=ALICE)] == [2]
    assert (plan().unchanged, plan().tokens) == (10, 0)
    assert not checker.check(database_urls.admin_url, "alice", truth)
    assert ask("SELECT sum(quantity) FROM app.billing_records") == [((10 + 5 + 10) * CHUNK_TOKENS,)]


def test_budgets_of_others_are_none_of_mine(folder: Place, database: Database) -> None:
    put(database, BudgetPeriod.DAY, Decimal(0), BudgetUnit.TOKENS)
    (folder.path / "a.txt").write_text("a text")
    assert sync(replace(folder.wish, user="bob")).status is JobStatus.COMPLETED
    assert folder.sync().status is JobStatus.PAUSED
