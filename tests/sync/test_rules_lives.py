"""Random lives of rules and items: whatever was changed in whatever order, the end is that of a fresh sync under the last rules.

The examples are the same on every run. `LIVES_SEED=7` chooses others, and then looks for a shorter life that fails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import DatabaseUrls
from tests.sync.ruled import Rules, state
from tests.sync.scripted import VendorAccount, fetched
from tests.sync.syncing import Wish, sync
from workstation_pipelines.db.engine import Database

_users = count()

NAMES = "abc"
TEXTS = (
    "alpha note {n}",
    "alpha to jane@example.org, number {n}, and more words than fit into one passage",
    "mail {n}\nattach one: alpha first {n}\nattach two: for jane@example.org",
    "> all of it\n> is quoted",
)
RULES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("swap", "regex_replace", {"pattern": "alpha", "replacement": "gamma"}),
    ("swap", "regex_replace", {"pattern": "alpha|gamma", "replacement": "delta"}),
    ("redact", "redact", {"kinds": ["email"]}),
    ("redact", "redact", {"kinds": ["email"], "forget_original": False}),
    ("filter", "filter", {"mode": "exclude", "expression": "starts_with(path, 'private/')"}),
    ("filter", "filter", {"mode": "exclude", "expression": "contains(path, 'two')"}),
    ("filter", "filter", {"mode": "include", "expression": "!contains(path, 'b')"}),
    ("short", "truncate", {"max_characters": 20}),
    ("title", "set_title", {"template": "{source_type}: {title}", "when": "!contains(path, 'private')"}),
    ("file", "assign_project", {"project": "P", "when": "contains(path, 'a')"}),
    ("tags", "add_tags", {"tags": ["t", "u"]}),
    ("unquote", "remove_quoted_mail", {}),
)

_NAME = st.sampled_from(NAMES)
_OPERATIONS = st.one_of(
    st.tuples(st.just("put"), _NAME, st.integers(0, len(TEXTS) - 1)),
    st.tuples(st.just("move"), _NAME, st.sampled_from(["private", "box"])),
    st.tuples(st.just("delete"), _NAME, st.just("")),
    st.tuples(st.just("rule"), st.sampled_from(RULES), st.integers(0, 3)),
    st.tuples(st.just("rule"), st.sampled_from(RULES), st.integers(0, 3)),
    st.tuples(st.just("unrule"), st.sampled_from(RULES), st.just("")),
    st.tuples(st.just("rework"), st.just(""), st.just("")),
    st.tuples(st.just("sync"), st.just(""), st.just("")),
    st.tuples(st.just("sync"), st.just(""), st.just("")),
)


class Life:
    """An account with the rules of its owner."""

    def __init__(self, place: Path, urls: DatabaseUrls, database: Database) -> None:
        self.urls = urls
        self.user = f"user{next(_users)}"
        self.account = VendorAccount(place)
        self.account.save()
        self.wish = Wish(urls.app_url, str(place), user=self.user)
        self.rules = Rules(database, self.user)
        self.numbers = count()
        for name in NAMES:
            self.put(name, 0)

    def put(self, name: str, kind: int) -> None:
        self.account.put(name, TEXTS[kind].format(n=next(self.numbers)))

    def move(self, name: str, folder: str) -> None:
        if name in self.account.texts:
            self.account.rename(name, f"{folder}/{name}{next(self.numbers)}.txt")

    def delete(self, name: str, _: str) -> None:
        if name in self.account.texts:
            self.account.delete(name)

    def rule(self, rule: tuple[str, str, dict[str, Any]], place: int) -> None:
        name, kind, config = rule
        # Each has an order of its own: the ids that break a tie are others for the fresh user.
        self.rules.put(name, kind, config, execution_order=place * 100 + sum(map(ord, name)) % 97)

    def unrule(self, rule: tuple[str, str, dict[str, Any]], _: str) -> None:
        if rule[0] in self.rules.stored:
            self.rules.remove(rule[0])

    def rework(self, *_: str) -> None:
        self.rules.rework()

    def sync(self, *_: str) -> None:
        sync(self.wish)

    def end(self, database: Database) -> None:
        """Sync once more, and compare with somebody who syncs the same for the first time."""
        self.sync()
        assert self.rules.stale() == {}
        count_fetched = len(fetched(self.account.file))
        self.sync()
        assert len(fetched(self.account.file)) == count_fetched, "it fetches again what it has"
        fresh = Rules(database, f"{self.user}-fresh")
        for rule in self.rules.stored.values():
            fresh.put(rule.name, rule.transformation_type, dict(rule.config), execution_order=rule.execution_order)
        sync(replace(self.wish, user=f"{self.user}-fresh"))
        assert state(self.urls.admin_url, self.user) == state(self.urls.admin_url, f"{self.user}-fresh")


@pytest.fixture
def database(database_urls: DatabaseUrls) -> Iterator[Database]:
    database = Database(database_urls.app_url, pool_size=2)
    yield database
    database.close()


_CHOSEN = os.environ.get("LIVES_SEED")
_PHASES = [Phase.explicit, Phase.generate] if _CHOSEN is None else [Phase.explicit, Phase.generate, Phase.shrink]


def test_rules_changed_step_by_step_end_as_if_they_had_always_been(
    database_urls: DatabaseUrls, database: Database, tmp_path: Path
) -> None:
    @seed(int(_CHOSEN or 1))
    @settings(
        max_examples=8 if _CHOSEN is None else 60,
        phases=_PHASES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(_OPERATIONS, min_size=4, max_size=12))
    def live(operations: list[tuple[str, Any, Any]]) -> None:
        life = Life(tmp_path / f"account{next(_users)}.json", database_urls, database)
        life.sync()
        for name, *arguments in operations:
            getattr(life, name)(*arguments)
        life.end(database)

    live()
