"""What token buckets in the database promise, to one process and to several at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from tests.conftest import DatabaseUrls
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.pacing import PostgresPacer
from workstation_pipelines.errors import SourceUnavailableError

Admin = psycopg.Connection[tuple[object, ...]]

LONGEST_QUEUE_S = 5.0

TAKER = """
import json, sys, time
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.pacing import PostgresPacer
pacer = PostgresPacer(Database(sys.argv[1], pool_size=1))
pacer.take("warm", per_s=1, burst=1, cost=1)
print("ready", flush=True)
sys.stdin.readline()
grants = []
for _ in range(int(sys.argv[2])):
    start = time.monotonic()
    wait_s = pacer.take("slack:T1:history", per_s=50, burst=10, cost=1)
    grants.append((start + wait_s, time.monotonic() + wait_s))
print(json.dumps(grants))
"""
"""When a grant may be used is known within the time that asking took; nobody need wait for it."""


@pytest.fixture
def pacer(shared: Database) -> PostgresPacer:
    return PostgresPacer(shared)


@pytest.fixture
def bucket() -> str:
    return f"drive:{uuid4()}:list"


def pass_time(admin: Admin, bucket: str, seconds: float) -> None:
    """Make the bucket so much older, which is the same as waiting."""
    admin.execute(
        "UPDATE app_private.rate_buckets SET updated_at = updated_at - make_interval(secs => %s) WHERE bucket = %s",
        [seconds, bucket],
    )


@pytest.fixture
def takers(module_database_urls: DatabaseUrls) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", TAKER, module_database_urls.app_url, "60"]
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
            for _ in range(4)
        ]


def test_four_processes_together_keep_the_rate_in_any_window(takers: list[subprocess.Popen[str]]) -> None:
    for taker in takers:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "ready\n"
    for taker in takers:
        assert taker.stdin is not None
        print("go", file=taker.stdin, flush=True)
    grants = sorted(
        (earliest, latest) for taker in takers for earliest, latest in json.loads(taker.communicate(timeout=60)[0])
    )
    assert len(grants) == 240
    for first, (opens_s, _) in enumerate(grants):
        closes_s = opens_s
        for count, (_, latest_s) in enumerate(grants[first:], start=1):
            closes_s = max(closes_s, latest_s)
            assert count <= 10 + 50 * (closes_s - opens_s) + 1e-6
    # The rate is used as well as kept: 230 calls beyond the burst take 4.6 s.
    assert grants[-1][0] - grants[0][1] <= 230 / 50 + 0.2


def test_each_take_is_quick(pacer: PostgresPacer, bucket: str) -> None:
    pacer.take(bucket, per_s=1000, burst=1000, cost=1)
    durations = []
    for _ in range(50):
        start = time.perf_counter()
        pacer.take(bucket, per_s=1000, burst=1000, cost=1)
        durations.append(time.perf_counter() - start)
    assert sorted(durations)[len(durations) // 2] < 0.05


def test_penalty_holds_every_process_and_ends(
    pacer: PostgresPacer, module_database_urls: DatabaseUrls, module_admin: Admin, bucket: str
) -> None:
    pacer.penalise(bucket, wait_s=30)
    other = Database(module_database_urls.app_url, pool_size=1)
    try:
        waits_s = [PostgresPacer(other).take(bucket, per_s=50, burst=10, cost=1) for _ in range(5)]
    finally:
        other.close()
    assert all(25 < wait_s < 34 for wait_s in waits_s)
    assert len(set(waits_s)) == 5, "those who wait come back one after another"
    pass_time(module_admin, bucket, 30.5)
    assert pacer.take(bucket, per_s=50, burst=10, cost=1) == 0


def test_penalty_is_followed_by_a_slow_start(pacer: PostgresPacer, module_admin: Admin, bucket: str) -> None:
    pacer.take(bucket, per_s=1, burst=10, cost=1)
    pacer.penalise(bucket, wait_s=60)
    pass_time(module_admin, bucket, 60)
    assert pacer.take(bucket, per_s=1, burst=10, cost=1) == 0
    assert pacer.take(bucket, per_s=1, burst=10, cost=1) > 0.5


def test_the_longest_penalty_counts(pacer: PostgresPacer, bucket: str) -> None:
    pacer.penalise(bucket, wait_s=60)
    pacer.penalise(bucket, wait_s=1)
    assert pacer.take(bucket, per_s=10, burst=10, cost=1) > 55


@pytest.mark.parametrize("wait_s", [3601.0, 1e18, float("inf"), float("nan")])
def test_no_penalty_lasts_longer_than_an_hour(pacer: PostgresPacer, bucket: str, wait_s: float) -> None:
    pacer.penalise(bucket, wait_s=wait_s)
    assert 3500 < pacer.take(bucket, per_s=10, burst=10, cost=1) <= 3600


def test_negative_penalty_is_none(pacer: PostgresPacer, bucket: str) -> None:
    pacer.penalise(bucket, wait_s=-100)
    assert pacer.take(bucket, per_s=10, burst=10, cost=1) == 0


def test_accounts_have_buckets_of_their_own(pacer: PostgresPacer) -> None:
    mine, yours = f"slack:{uuid4()}:history", f"slack:{uuid4()}:history"
    pacer.penalise(mine, wait_s=600)
    assert pacer.take(yours, per_s=1, burst=1, cost=1) == 0


def test_being_refused_costs_nothing(pacer: PostgresPacer, bucket: str) -> None:
    assert pacer.take(bucket, per_s=1 / 60, burst=1, cost=1) == 0
    waits_s = [pacer.take(bucket, per_s=1 / 60, burst=1, cost=1) for _ in range(20)]
    assert max(waits_s) < 60 * 1.1 + 1


def test_call_dearer_than_the_burst_passes_and_is_paid_for(
    pacer: PostgresPacer, module_admin: Admin, bucket: str
) -> None:
    assert pacer.take(bucket, per_s=0.5, burst=5, cost=20) == 0
    assert pacer.take(bucket, per_s=0.5, burst=5, cost=20) > 35
    pass_time(module_admin, bucket, 40)
    assert pacer.take(bucket, per_s=0.5, burst=5, cost=20) == 0


def test_rate_of_nothing_is_an_hour_not_an_error(pacer: PostgresPacer, bucket: str) -> None:
    assert pacer.take(bucket, per_s=0, burst=1, cost=1) == 0
    assert pacer.take(bucket, per_s=0, burst=1, cost=1) == 3600


def test_buckets_are_reached_through_the_two_functions_only(shared: Database) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), shared.across_users() as connection:
        connection.execute(text("SELECT * FROM app_private.rate_buckets"))


def test_unreachable_database_is_an_outage() -> None:
    database = Database("postgresql+psycopg://wp_app@127.0.0.1:1/none")
    try:
        with pytest.raises(SourceUnavailableError):
            PostgresPacer(database).take("a", per_s=1, burst=1, cost=1)
    finally:
        database.close()


def test_exhausted_pool_is_an_outage(module_database_urls: DatabaseUrls) -> None:
    database = Database(module_database_urls.app_url, pool_size=1)
    database._engine.pool._timeout = 0.05  # type: ignore[attr-defined]  # half a minute by default
    try:
        with (
            database.across_users(),
            database.across_users(),
            pytest.raises(SourceUnavailableError, match="connections"),
        ):
            PostgresPacer(database).take("a", per_s=1, burst=1, cost=1)
    finally:
        database.close()


@dataclass
class Bucket:
    """The same bucket on paper. `now_s` is its own time."""

    per_s: float
    burst: float
    tokens: float = field(init=False)
    updated_s: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def wait_s(self, now_s: float, cost: float) -> float:
        level = self._level(now_s)
        return max(0.0, self.updated_s - now_s) + max(0.0, min(cost, self.burst) - level) / self.per_s

    def take(self, now_s: float, cost: float) -> None:
        self.tokens, self.updated_s = self._level(now_s) - cost, max(now_s, self.updated_s)

    def penalise(self, now_s: float, wait_s: float) -> None:
        self.tokens, self.updated_s = min(self.tokens, 1.0), max(self.updated_s, now_s + wait_s)

    def _level(self, now_s: float) -> float:
        return min(self.burst, self.tokens + self.per_s * max(0.0, now_s - self.updated_s))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.floats(0.5, 30)),
        st.tuples(st.just("take"), st.just(1.0)),
        st.tuples(st.just("wait"), st.floats(0.1, 100)),
        st.tuples(st.just("penalise"), st.floats(0, 200)),
    ),
    max_size=15,
)


@settings(max_examples=60)
@given(per_s=st.sampled_from([0.02, 0.5, 3.0]), burst=st.sampled_from([1.0, 5.0, 20.0]), steps=STEPS)
def test_bucket_behaves_like_one_on_paper(
    shared: Database, module_admin: Admin, per_s: float, burst: float, steps: list[tuple[str, float]]
) -> None:
    pacer, name, model = PostgresPacer(shared), str(uuid4()), Bucket(per_s, burst)
    began_s, skipped_s, unsure_s = time.monotonic(), 0.0, 0.001
    for step, amount in steps:
        start_s = time.monotonic()
        now_s = start_s - began_s + skipped_s
        if step == "take":
            expected_s = model.wait_s(now_s, amount)
            wait_s = pacer.take(name, per_s=per_s, burst=burst, cost=amount)
            unsure_s += time.monotonic() - start_s
            if abs(expected_s - LONGEST_QUEUE_S) <= unsure_s:
                return  # whether it queued depends on moments
            if expected_s > LONGEST_QUEUE_S:
                assert min(expected_s - unsure_s, 3600) <= wait_s <= min(expected_s * 1.1 + unsure_s, 3600)
            else:
                assert wait_s == pytest.approx(expected_s, abs=unsure_s)
                model.take(now_s, amount)
        elif step == "wait":
            pass_time(module_admin, name, amount)
            skipped_s += amount
        else:
            pacer.penalise(name, wait_s=amount)
            unsure_s += time.monotonic() - start_s
            model.penalise(now_s, amount)
