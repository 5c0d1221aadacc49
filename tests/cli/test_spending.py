"""`workstation sync --plan`, `bill`, `metrics` and `budget`: what work takes, took, and may take."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.program import Program
from workstation_pipelines.sync.workspace import Workspace


def test_plan_bill_and_metrics_tell_the_same_of_a_sync(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    plan = workstation("sync", "papers", "--plan", "--json").value
    assert (plan["adds"], plan["skips"], plan["estimate"]["sampled_items"]) == (3, 1, 3)
    shown = workstation("sync", "papers", "--plan").out
    assert "3 to add" in shown
    assert "0 calls (0 to list, 0 to fetch)" in shown
    assert f"{plan['estimate']['tokens']} tokens to embed (0 USD)" in shown
    assert "3 items looked into" in shown
    unsampled = workstation("sync", "papers", "--plan", "--no-sample")
    assert "3 of unknown text, whose tokens are left out" in unsampled.out
    assert workstation("bill").out.strip() == "nothing was spent"
    ran = workstation("sync", "papers", "--json").value
    tokens = ran["counts"]["embedding_tokens"]
    assert plan["estimate"]["tokens"] == tokens > 0
    bill = workstation("bill", "--json").value
    assert [(row["name"], row["quantity"], row["cost_usd"]) for row in bill["rows"]] == [("papers", tokens, 0.0)]
    for by, lines in (("document", 3), ("step", 1), ("model", 1), ("day", 1), ("hour", 1)):
        rows = workstation("bill", "--by", by, "--json").value["rows"]
        assert (by, len(rows), sum(row["quantity"] for row in rows)) == (by, lines, tokens)
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert f"total: {tokens} tokens, 0 USD" in workstation("bill", "--by", "day", "--from", today).out
    assert workstation("bill", "--to", today, "--json").value["rows"] == []
    measured = {(row["step"], row["name"]): row for row in workstation("metrics", "--json").value}
    assert measured["extract", "duration_s"]["times"] == 4
    assert measured["embed", "spent_tokens"]["total"] == tokens
    assert measured["write", "duration_s"]["highest"] > 0
    assert "duration_s" in workstation("metrics", "--source", "papers").out


def test_budget_pauses_a_sync_until_it_is_raised(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    assert workstation("budget", "list").out.strip() == "no budgets: syncs spend what they need"
    assert workstation("budget", "set", "month", "--tokens", "20", "--source", "papers").code == 0
    assert "20 tokens" in workstation("budget", "list").out
    paused = workstation("sync", "papers")
    assert paused.code == 5
    assert "the budget of this source of 20 tokens a month" in paused.out
    assert workstation("budget", "set", "month", "--tokens", "100000", "--source", "papers").code == 0
    again = workstation("sync", "papers", "--budget-tokens", "5", "--json")
    assert (again.code, again.value["status"]) == (5, "paused")
    assert workstation("sync", "papers").code == 0
    (listed,) = workstation("budget", "list", "--json").value
    assert (listed["data_source_name"], listed["amount"], listed["spent"] > 20) == ("papers", 100000.0, True)
    assert workstation("budget", "remove", "month", "--source", "papers", "--json").value == {"removed": 1}
    missing = workstation("budget", "remove", "month")
    assert (missing.code, "no such budget" in missing.err) == (2, True)
    assert workstation("budget", "set", "day").code == 2


def test_unknown_price_is_said_in_plan_bill_and_budget(
    workstation: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "token_price", None)
    workstation.connect("papers", folder)
    assert "price unknown: set WORKSTATION_PRICES" in workstation("sync", "papers", "--plan").out
    assert json.loads(workstation("sync", "papers", "--plan", "--json").out)["estimate"]["cost_usd"] is None
    assert workstation("sync", "papers").code == 0
    assert "of unknown price" in workstation("bill").out
    assert "price of the model is not known" in workstation("budget", "set", "day", "--usd", "1").out
