"""Apify, Apollo and Composio: what each block asks for, takes and bills; and what every failure of theirs is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from tests.blocks.calls import CANARY, NOW, OPERATORS, Desk, ScriptedStop
from tests.blocks.conftest import OpenDesk
from tests.fakes.apify import FakeApify
from tests.fakes.apollo import FakeApollo
from tests.fakes.composio import ConnectedAccount, FakeComposio
from tests.fakes.server import LOGIN_PAGE, Answer, FakeVendor
from workstation_pipelines.errors import (
    CancelledError,
    FencedError,
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)
from workstation_pipelines.workflow_model import Wait, WaitKind


class Bills:
    """Stands in for the database where what was lost is billed; test_llm_spending does so for real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
        self.lost: list[Any] = []
        for module in modules:
            monkeypatch.setattr(
                f"workstation_pipelines.workflows.blocks.{module}.bill_at_once",
                lambda _call, usages: self.lost.extend(usages),
            )


@pytest.fixture
def bills(monkeypatch: pytest.MonkeyPatch) -> Bills:
    return Bills(monkeypatch, "apify_actor", "composio_tool")


@pytest.fixture
def apify() -> Iterator[FakeApify]:
    with FakeApify(OPERATORS) as apify:
        yield apify
        assert apify.violations == []


@pytest.fixture
def apollo() -> Iterator[FakeApollo]:
    with FakeApollo(OPERATORS) as apollo:
        yield apollo
        assert apollo.violations == []


@pytest.fixture
def composio() -> Iterator[FakeComposio]:
    with FakeComposio(OPERATORS) as composio:
        composio.accounts["ca_1"] = ConnectedAccount("t", "https://x", user_id="alice")
        composio.accounts["ca_2"] = ConnectedAccount("t", "https://x", user_id="bob")
        composio.tools["ECHO"] = lambda arguments: {"said": arguments}
        yield composio
        assert composio.violations == []


@dataclass
class Place:
    """One of the three vendors, with a config that works, and the name of what sets its key."""

    block: str
    config: dict[str, Any]
    vendor: FakeVendor
    desk: Desk
    path: str
    variable: str
    is_repeatable: bool


@pytest.fixture(params=["apify_actor", "apollo_enrich", "composio_tool"])
def place(
    request: pytest.FixtureRequest,
    open_desk: OpenDesk,
    apify: FakeApify,
    apollo: FakeApollo,
    composio: FakeComposio,
    bills: Bills,
) -> Place:
    desk = open_desk(
        apify_api_url=apify.url,
        apify_token=OPERATORS,
        apollo_api_url=apollo.url,
        apollo_api_key=OPERATORS,
        composio_api_url=composio.url,
        composio_api_key=OPERATORS,
    )
    places: dict[str, Callable[[], Place]] = {
        "apify_actor": lambda: Place(
            "apify_actor", {"actor": "acme/crawler"}, apify, desk, "/runs", "APIFY_TOKEN", False
        ),
        "apollo_enrich": lambda: Place(
            "apollo_enrich", {"person": {"email": CANARY}}, apollo, desk, "/match", "APOLLO_API_KEY", True
        ),
        "composio_tool": lambda: Place(
            "composio_tool", {"tool": "ECHO"}, composio, desk, "/execute", "COMPOSIO_API_KEY", False
        ),
    }
    return places[request.param]()


def failure(desk: Desk, block: str, config: dict[str, Any], **more: Any) -> WorkstationError:
    with pytest.raises(WorkstationError) as failed:
        desk.ask(block, config, **more)
    told = f"{failed.value} {failed.value.details} {failed.value!r}"
    assert not [secret for secret in (CANARY, OPERATORS, "quoted text") if secret in told]
    return failed.value


@pytest.mark.parametrize(
    ("answer", "expected", "in_doubt"),
    [
        (Answer.of({"error": {"type": "too-many"}}, 429, {"Retry-After": "5"}), RateLimitedError, False),
        (Answer.of({"error": f"quoted text {CANARY}"}, 503, {"Retry-After": "5"}), RateLimitedError, False),
        (Answer.of({"error": {"type": OPERATORS, "code": CANARY}}, 500), SourceUnavailableError, True),
        (Answer.of({"error": "quoted text", "error_code": OPERATORS}, 401), ReauthorizeError, False),
        (Answer.of({"error": "quoted text"}, 403), ReauthorizeError, False),
        (Answer.of({"error": "quoted text", "error_code": "BAD_FIELD"}, 422), InvalidRequestError, False),
        (Answer(302, b"", {"Location": "https://login.example/"}), InvalidRequestError, False),
        (LOGIN_PAGE, UnexpectedReplyError, True),
        (Answer.of([1, 2]), UnexpectedReplyError, True),
        (Answer.of({"data": 7, "person": "quoted text"}), UnexpectedReplyError, True),
    ],
)
def test_each_refusal_is_the_error_that_tells_what_to_do(
    place: Place, answer: Answer, expected: type[WorkstationError], in_doubt: bool
) -> None:
    place.vendor.fail(place.path, answer=answer)
    error = failure(place.desk, place.block, place.config)
    if in_doubt and not place.is_repeatable:
        assert type(error) is InvalidRequestError
        assert "may have been done" in error.message
        return
    assert type(error) is expected
    if isinstance(error, RateLimitedError):
        assert error.wait_s == 5
    if isinstance(error, ReauthorizeError):
        assert place.variable in error.message
    if answer.status == 422:
        assert "BAD_FIELD" in error.message
    assert place.vendor.calls() == 1


def test_lost_answers_are_asked_for_again_only_where_that_is_safe(place: Place) -> None:
    for fault in ({"drop": True}, {"truncate": True}):
        place.vendor.fail(place.path, **fault)
        error = failure(place.desk, place.block, place.config)
        assert isinstance(error, SourceUnavailableError if place.is_repeatable else InvalidRequestError)


def test_cancel_and_time_are_heard_while_it_hangs(place: Place) -> None:
    over, stop = threading.Event(), ScriptedStop()
    place.vendor.desk = lambda _request: Answer(500) if over.wait(10) else None
    threading.Timer(0.1, stop.cancelled.set).start()
    began_s = time.monotonic()
    assert isinstance(failure(place.desk, place.block, place.config, stop=stop), CancelledError)
    assert time.monotonic() - began_s < 2
    error = failure(place.desk, place.block, place.config, stop=ScriptedStop(0.2))
    assert isinstance(error, RetryableError if place.is_repeatable else InvalidRequestError)
    over.set()


def test_a_key_of_ones_own_wins_and_none_is_named(place: Place, open_desk: OpenDesk) -> None:
    error = failure(place.desk, place.block, {**place.config, "key": CANARY})
    assert isinstance(error, ReauthorizeError)
    assert "give the" in error.message
    assert OPERATORS not in str(place.vendor.requests)
    error = failure(open_desk(), place.block, place.config)
    assert place.variable in error.message
    assert "characters" in failure(place.desk, place.block, {**place.config, "key": f"{CANARY}\r\nX: y"}).message
    assert place.vendor.calls() == 1


# Apify


@pytest.fixture
def crawl(open_desk: OpenDesk, apify: FakeApify) -> Desk:
    return open_desk(apify_api_url=apify.url, apify_token=OPERATORS)


CRAWL = {"actor": "acme/crawler", "input": {"q": 1}, "max_items": 2, "max_minutes": 5, "max_charge_usd": 0.5}


def test_an_actor_is_run_and_its_items_taken(crawl: Desk, apify: FakeApify) -> None:
    apify.items = [{"n": n, "text": "x"} for n in range(5)]
    result = crawl.result("apify_actor", {**CRAWL, "fields": ["n"], "memory_mb": 256})
    assert result.output == {
        "run_id": "run0",
        "status": "SUCCEEDED",
        "dataset_id": "dsrun0",
        "items": [{"n": 0}, {"n": 1}],
        "count": 2,
        "usage_usd": 0.25,
    }
    assert [(each.provider, each.model, each.quantity, each.unit, each.unit_price) for each in result.usages] == [
        ("apify", "acme/crawler", 1, "calls", None)
    ]
    run = apify.runs["run0"]
    assert (run.actor, run.input) == ("acme~crawler", {"q": 1})
    assert run.options == {"timeout": "300", "memory": "256", "maxTotalChargeUsd": "0.5"}


def short() -> ScriptedStop:
    """A node whose time leaves none to stay with a run."""
    return ScriptedStop(10.15)


def test_a_long_run_is_let_go_of_and_looked_at_later(crawl: Desk, apify: FakeApify) -> None:
    apify.ends_after = 1_000
    wait = crawl.ask("apify_actor", CRAWL, stop=short())
    assert isinstance(wait, Wait)
    assert (wait.kind, wait.message) == (WaitKind.TIME, "run run0 of acme/crawler at Apify")
    assert wait.until == NOW + timedelta(minutes=5)  # half of the ten that it has been going
    wait = crawl.ask("apify_actor", CRAWL, stop=short(), wait=replace(wait, decision={}))
    assert isinstance(wait, Wait)
    apify.ends_after = 0
    assert crawl.output("apify_actor", CRAWL, wait=wait)["count"] == 1
    assert len(apify.runs) == 1


def test_whatever_fails_after_the_start_begins_no_second_run(crawl: Desk, apify: FakeApify) -> None:
    wait: Any = None
    faults: list[dict[str, Any]] = [
        {"answer": Answer(500)},
        {"drop": True},
        {"answer": LOGIN_PAGE},
        {"answer": Answer.of({}, 429, {"Retry-After": "1200"})},
    ]
    for fault in faults:
        apify.fail("/actor-runs/", **fault)
        wait = crawl.ask("apify_actor", CRAWL, wait=wait)
        assert isinstance(wait, Wait)
    assert wait.until == NOW + timedelta(seconds=1200)
    apify.fail("/items", truncate=True)
    wait = crawl.ask("apify_actor", CRAWL, wait=wait)
    assert isinstance(wait, Wait)
    assert crawl.output("apify_actor", CRAWL, wait=wait)["status"] == "SUCCEEDED"
    assert len(apify.runs) == 1


def test_a_cancel_aborts_the_run_and_the_end_of_the_nodes_time_does_not(crawl: Desk, apify: FakeApify) -> None:
    apify.ends_after = 1_000_000
    stop = ScriptedStop()
    threading.Timer(0.2, stop.cancelled.set).start()
    assert isinstance(failure(crawl, "apify_actor", CRAWL, stop=stop), CancelledError)
    assert apify.runs["run0"].status == "ABORTED"
    over = threading.Event()
    apify.desk = lambda request: Answer(500) if "actor-runs" in request.path and over.wait(0.4) else None
    wait = crawl.ask("apify_actor", CRAWL, stop=ScriptedStop(0.3))
    over.set()
    assert isinstance(wait, Wait)
    apify.desk, apify.ends_after = lambda _request: None, 0
    assert crawl.output("apify_actor", CRAWL, wait=wait)["run_id"] == "run1"
    assert apify.calls("/run1/abort") == 0


def test_a_run_that_is_another_ones_now_is_left_to_it(crawl: Desk, apify: FakeApify) -> None:
    class Fenced(ScriptedStop):
        def check(self) -> None:
            if apify.runs:
                raise FencedError("another run has it")

    assert isinstance(failure(crawl, "apify_actor", CRAWL, stop=Fenced()), FencedError)
    assert apify.calls("/abort") == 0


@pytest.mark.parametrize("status", ["FAILED", "TIMED-OUT", "ABORTED"])
def test_a_run_that_ends_otherwise_fails_the_block_and_is_billed(
    crawl: Desk, apify: FakeApify, bills: Bills, status: str
) -> None:
    apify.ends_as = status
    error = failure(crawl, "apify_actor", {**CRAWL, "input": {"q": "quoted text"}})
    assert isinstance(error, InvalidRequestError)
    assert f"run run0 of acme/crawler ended as {status}" in error.message
    assert [each.unit for each in bills.lost] == ["calls"]


def test_what_cannot_be_is_refused_before_anybody_is_asked(crawl: Desk, apify: FakeApify) -> None:
    for actor in ("../users/me", "a/b/c", "", "a?x=1"):
        assert "user/name" in failure(crawl, "apify_actor", {"actor": actor}).message
    assert apify.requests == []
    apify.items = [{"text": "x" * 2000}]
    assert "more than 1,000 bytes" in failure(crawl, "apify_actor", {**CRAWL, "max_bytes": 1000}).message
    assert "404 (record-not-found)" in failure(crawl, "apify_actor", {"actor": "acme/unknown"}).message


# Apollo


@pytest.fixture
def enrich(open_desk: OpenDesk, apollo: FakeApollo) -> Desk:
    return open_desk(apollo_api_url=apollo.url, apollo_api_key=OPERATORS)


ADA, NOBODY = {"email": "ada@example.com"}, {"email": "nobody@example.com"}


@pytest.mark.parametrize("status", [200, 404])
def test_what_apollo_does_not_know_is_null(enrich: Desk, apollo: FakeApollo, status: int) -> None:
    apollo.misses_with = status
    person = {"id": "p1", "name": "Ada", "title": "Countess"}
    found = enrich.result("apollo_enrich", {"person": ADA, "reveal_personal_emails": True})
    assert found.output == {"person": person, "credits": 1, "is_estimated": True}
    assert [(each.unit, each.quantity, each.unit_price) for each in found.usages] == [
        ("calls", 1, None),
        ("credits", 1, None),
    ]
    missed = enrich.result("apollo_enrich", {"person": NOBODY})
    assert missed.output == {"person": None, "credits": 0, "is_estimated": True}
    assert [each.unit for each in missed.usages] == ["calls"]
    known = {"id": "o1", "name": "Example"}
    assert enrich.output("apollo_enrich", {"organization": {"domain": "example.com"}})["organization"] == known
    assert enrich.output("apollo_enrich", {"organization": {"domain": "nobody.example"}})["organization"] is None
    assert apollo.credits == 2


def test_up_to_ten_people_are_asked_about_at_once(enrich: Desk, apollo: FakeApollo) -> None:
    output = enrich.output("apollo_enrich", {"people": [NOBODY, ADA, NOBODY]})
    assert [match and match["id"] for match in output["matches"]] == [None, "p1", None]
    assert (output["missing"], output["credits"], output["is_estimated"]) == (2, 1, False)
    apollo.tells_credits = False
    assert enrich.output("apollo_enrich", {"people": [ADA] * 10})["credits"] == 10
    wrong: list[dict[str, Any]] = [{"people": [ADA] * 11}, {"people": []}, {}, {"person": ADA, "people": [ADA]}]
    for config in wrong:
        with pytest.raises(ValueError, match=r"people|person"):
            enrich.call("apollo_enrich", config)
    apollo.fail("/bulk", answer=Answer.of({"matches": [None]}))
    assert isinstance(failure(enrich, "apollo_enrich", {"people": [ADA, ADA]}), UnexpectedReplyError)
    asked = apollo.calls()
    assert "nothing is said" in failure(enrich, "apollo_enrich", {"person": {}}).message
    assert "domain" in failure(enrich, "apollo_enrich", {"organization": {"name": "Example"}}).message
    assert apollo.calls() == asked


# Composio


@pytest.fixture
def tools(open_desk: OpenDesk, composio: FakeComposio) -> Desk:
    return open_desk(composio_api_url=composio.url, composio_api_key=OPERATORS)


def test_a_tool_is_run_as_the_workflows_user(tools: Desk, composio: FakeComposio) -> None:
    result = tools.result("composio_tool", {"tool": "ECHO", "arguments": {"a": 1}})
    assert result.output == {"successful": True, "data": {"said": {"a": 1}}, "error": None, "log_id": "log_1"}
    assert composio.executed == [{"tool": "ECHO", "arguments": {"a": 1}, "user_id": "alice"}]
    assert [(each.provider, each.model, each.unit) for each in result.usages] == [("composio", "ECHO", "calls")]
    config = {"tool": "ECHO", "connected_account_id": "ca_2", "user_id": "bob", "version": "20250909_00"}
    tools.output("composio_tool", config)
    assert composio.executed[-1] == {"arguments": {}, **config}


def test_a_tool_that_fails_fails_the_block_or_comes_out(tools: Desk, composio: FakeComposio, bills: Bills) -> None:
    def fails(_arguments: dict[str, Any]) -> None:
        raise ValueError("quoted text")

    composio.tools["FAILS"] = fails
    error = failure(tools, "composio_tool", {"tool": "FAILS"})
    assert isinstance(error, InvalidRequestError)
    assert "log_1" in error.message
    assert [each.unit for each in bills.lost] == ["calls"]
    output = tools.output("composio_tool", {"tool": "FAILS", "on_error": "continue"})
    assert (output["successful"], output["error"]) == (False, "quoted text")
    assert "404" in failure(tools, "composio_tool", {"tool": "UNKNOWN"}).message
    asked = composio.calls()
    for config in ({"tool": "a/../b"}, {"tool": "ECHO", "connected_account_id": "../x"}):
        assert isinstance(failure(tools, "composio_tool", config), InvalidRequestError)
    assert composio.calls() == asked
    composio.fail("/execute", drop=True)
    error = failure(tools, "composio_tool", {"tool": "ECHO", "is_idempotent": True})
    assert isinstance(error, SourceUnavailableError)


def test_on_a_shared_server_nobody_acts_with_anothers_account(open_desk: OpenDesk, composio: FakeComposio) -> None:
    shared = open_desk(composio_api_url=composio.url, composio_api_key=OPERATORS, database_url="postgresql://u@h/d")
    shared.output("composio_tool", {"tool": "ECHO", "connected_account_id": "ca_1"})
    for account in ("ca_2", "ca_3"):
        error = failure(shared, "composio_tool", {"tool": "ECHO", "connected_account_id": account})
        assert isinstance(error, ReauthorizeError)
        assert error.message.startswith(f"composio: this user has no account {account}")
    assert "user_id" in failure(shared, "composio_tool", {"tool": "ECHO", "user_id": "bob"}).message
    assert len(composio.executed) == 1
    own = {"tool": "ECHO", "user_id": "bob", "connected_account_id": "ca_2", "key": OPERATORS}
    shared.output("composio_tool", own)
