"""Waiting for a turn, for a vendor that asks to, and for one that is down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.fakes.server import Answer
from tests.sources.http_stage import CONTENT, LIST, CountingPacer, PlainVendor, open_api
from workstation_pipelines.errors import (
    ItemGoneError,
    RateLimitedError,
    SourceUnavailableError,
    UnexpectedReplyError,
)
from workstation_pipelines.sources.http import PageTokens, VendorApi


@pytest.fixture
def vendor() -> Iterator[PlainVendor]:
    with PlainVendor() as vendor:
        yield vendor


def throttled(wait_s: str) -> Answer:
    return Answer.of({}, 429, {"Retry-After": wait_s})


def test_short_wait_is_waited_for_and_long_one_raised(vendor: PlainVendor) -> None:
    slept: list[float] = []
    api = open_api(vendor.url, sleep=slept.append)
    vendor.fail("items", answer=throttled("4"))
    assert api.json(LIST)
    assert len(slept) == 1
    assert 4 <= slept[0] <= 5
    vendor.fail("items", answer=throttled("6"))
    with pytest.raises(RateLimitedError) as caught:
        api.json(LIST)
    assert caught.value.wait_s == 6
    assert len(slept) == 1
    api.close()


def test_everyone_on_the_bucket_is_told_to_wait(vendor: PlainVendor) -> None:
    pacer = CountingPacer()
    api = open_api(vendor.url, pacer=pacer)
    vendor.fail("items", answer=throttled("600"))
    with pytest.raises(RateLimitedError):
        api.json(LIST)
    assert pacer.penalties == [("plain:acct:items.list", 600.0)]
    api.close()


def test_empty_bucket_is_no_reason_to_block_it(vendor: PlainVendor) -> None:
    pacer = CountingPacer(waits_s=[60.0])
    api = open_api(vendor.url, pacer=pacer)
    with pytest.raises(RateLimitedError) as caught:
        api.json(LIST)
    assert caught.value.wait_s == 60
    assert pacer.penalties == []
    assert len(pacer.taken) == 1
    assert vendor.requests == []
    api.close()


def test_turn_is_waited_for_while_it_is_near(vendor: PlainVendor) -> None:
    slept: list[float] = []
    api = open_api(vendor.url, pacer=CountingPacer(waits_s=[5.0]), sleep=slept.append)
    api.json(LIST)
    assert slept == [5.0]
    api.close()


def test_each_attempt_takes_its_turn_and_a_redirect_none(vendor: PlainVendor) -> None:
    pacer = CountingPacer()
    api = open_api(vendor.url, pacer=pacer)
    vendor.fail("items", answer=Answer(503), times=2)
    api.json(LIST)
    assert len(pacer.taken) == 3
    vendor.fail("content", answer=Answer(302, b"", {"Location": "/v1/elsewhere"}))
    api.download(CONTENT, path={"item_id": "1"}, limit_bytes=100)
    assert len(pacer.taken) == 4
    assert api.provider_calls == 5
    api.close()


def test_operator_knows_the_rate_better(vendor: PlainVendor) -> None:
    pacer = CountingPacer()
    api = open_api(vendor.url, pacer=pacer, rates={"plain.items.list": 0.25})
    api.json(LIST)
    api.download(CONTENT, path={"item_id": "1"}, limit_bytes=100)
    assert [rate for _, rate, _, _ in pacer.taken] == [0.25, CONTENT.per_s]
    api.close()


def test_outage_is_outlived_by_the_third_attempt(vendor: PlainVendor) -> None:
    slept: list[float] = []
    api = open_api(vendor.url, sleep=slept.append)
    vendor.fail("items", answer=Answer(500), times=2)
    assert api.json(LIST)
    assert len(slept) == 2
    assert all(1 <= wait_s <= 1.25 for wait_s in slept)
    api.close()


def test_longer_outage_is_raised_after_a_bounded_time(vendor: PlainVendor) -> None:
    slept: list[float] = []
    api = open_api(vendor.url, sleep=slept.append)
    vendor.fail("items", answer=Answer(503, b"", {"Retry-After": "5"}), times=99)
    with pytest.raises(SourceUnavailableError):
        api.json(LIST)
    assert len(vendor.requests) == 3
    assert sum(slept) <= 2 * 5 * 1.25
    api.close()


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_refusal_is_not_asked_for_again(vendor: PlainVendor, status: int) -> None:
    slept: list[float] = []
    api = open_api(vendor.url, sleep=slept.append)
    vendor.fail("items", answer=Answer.of({}, status))
    with pytest.raises(Exception, match=str(status)):
        api.json(LIST)
    assert len(vendor.requests) == 1
    assert slept == []
    api.close()


def test_interrupt_ends_a_wait_at_once(vendor: PlainVendor) -> None:
    def interrupted(_wait_s: float) -> None:
        raise KeyboardInterrupt

    api = open_api(vendor.url, sleep=interrupted)
    vendor.fail("items", answer=throttled("3"))
    with pytest.raises(KeyboardInterrupt):
        api.json(LIST)
    assert len(vendor.requests) == 1
    api.close()


def test_pacing_that_fails_keeps_the_call_back(vendor: PlainVendor) -> None:
    class Down(CountingPacer):
        def take(self, key: str, *, per_s: float, burst: float, cost: float) -> float:
            raise SourceUnavailableError("the database cannot be reached", wait_s=5)

    api = open_api(vendor.url, pacer=Down())
    with pytest.raises(SourceUnavailableError, match="database"):
        api.json(LIST)
    assert vendor.requests == []
    api.close()


def test_calls_may_share_a_bucket(vendor: PlainVendor) -> None:
    first, second = (replace(call, pace="requests", cost=cost) for call, cost in ((LIST, 1), (CONTENT, 5)))
    pacer = CountingPacer()
    api = open_api(vendor.url, pacer=pacer, calls=(first, second))
    api.json(first)
    api.download(second, path={"item_id": "1"}, limit_bytes=100)
    assert pacer.taken == [("plain:acct:requests", 10, 10, 1), ("plain:acct:requests", 10, 10, 5)]
    api.close()


def test_page_token_that_comes_again_ends_the_listing() -> None:
    tokens = PageTokens("plain items.list")
    assert [tokens.step(token) for token in ("a", "b", "\ud800")] == ["a", "b", "\ud800"]
    with pytest.raises(UnexpectedReplyError, match=r"items\.list: its pages repeat") as caught:
        tokens.step("a")
    assert caught.value.wait_s == 60


def test_listings_do_not_share_their_page_tokens() -> None:
    assert PageTokens("one").step("a") == PageTokens("another").step("a")


def test_gone_is_told_by_the_status_alone(vendor: PlainVendor) -> None:
    api = open_api(vendor.url)
    vendor.fail("content", answer=Answer(404))
    with pytest.raises(ItemGoneError):
        api.download(CONTENT, path={"item_id": "1"}, limit_bytes=10)
    api.close()


def test_call_that_waits_gives_up_when_its_api_is_closed_meanwhile(vendor: PlainVendor) -> None:
    pacer = CountingPacer(waits_s=[2.0])
    api: VendorApi = open_api(vendor.url, pacer=pacer, sleep=lambda _wait_s: api.close())
    with pytest.raises(SourceUnavailableError, match="closed"):
        api.json(LIST)
    assert vendor.requests == []
