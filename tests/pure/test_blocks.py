"""Blocks that need nothing but what they are given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from tests.pure.block_calls import NOW, StopByHand, later, run
from workstation_pipelines.errors import CancelledError, InvalidRequestError, NotFoundError, RetryableError
from workstation_pipelines.workflow_model import BlockResult, Wait, WaitKind
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig, BlockType

HITS = [{"title": "a", "score": 0.9}, {"title": "b", "score": 0.2}, {"title": "c", "score": 0.7}]
PEOPLE: dict[str, Any] = {"nodes": {"search": {"hits": HITS}}}


def test_the_registry_is_sorted_and_says_what_each_block_does() -> None:
    assert list(BLOCKS) == sorted(BLOCKS)
    assert all(kind.summary and kind.lazy_fields <= kind.config.model_fields.keys() for kind in BLOCKS.values())


def test_transform_makes_one_value_or_an_object_of_several() -> None:
    assert run("transform", {"expression": "nodes.search.output.hits[].title"}, **PEOPLE) == ["a", "b", "c"]
    fields = {"best": "nodes.search.output.hits[0].title", "missing": "nodes.other.output"}
    assert run("transform", {"fields": fields}, **PEOPLE) == {"best": "a", "missing": None}


@pytest.mark.parametrize(
    ("block", "config"),
    [
        ("transform", {}),
        ("transform", {"expression": "a", "fields": {"a": "a"}}),
        ("transform", {"expression": "a["}),
        ("transform", {"fields": {}}),
        ("filter", {"items": "a", "where": "unknown(a)"}),
        ("branch", {"cases": []}),
        ("branch", {"cases": [{"name": "x", "when": "!"}]}),
        ("merge", {"mode": "zip"}),
        ("delay", {}),
        ("delay", {"seconds": -1}),
        ("delay", {"seconds": 1, "until": "2026-01-01"}),
        ("approval", {"message": ""}),
        ("output", {}),
        ("require_fresh", {"sources": ["a"]}),
        ("require_fresh", {"sources": [], "within_minutes": 5}),
        ("require_fresh", {"within_minutes": 5, "after": "2026-01-01"}),
        ("search_documents", {"query": "a", "limit": 51}),
        ("search_documents", {"query": "a", "modified_from": "2026-01-01", "modified_within_days": 1}),
        ("search_documents", {"query": "a", "source_types": ["fax"]}),
        ("save_documents", {"documents": [{"title": "a", "text": "b", "mime_type": "text/html"}]}),
        ("for_each", {"items": [], "block": {"type": "nothing"}}),
        ("for_each", {"items": [], "block": {"type": "approval"}}),
        ("for_each", {"items": [], "block": {"type": "for_each"}}),
        ("for_each", {"items": [], "block": {"type": "transform"}, "parallel": 9}),
        ("sync_source", {"source": "a", "sauce": "b"}),
    ],
)
def test_a_wrong_config_is_refused(block: str, config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        run(block, config)


def test_filter_keeps_what_is_true_of_an_item_and_counts_the_rest() -> None:
    found = run("filter", {"items": "nodes.search.output.hits", "where": "item.score > `0.5`"}, **PEOPLE)
    assert found == {"items": [HITS[0], HITS[2]], "count": 2, "dropped": 1}
    by_value = {"items": "${nodes.search.output.hits}", "where": "index == `1` || item.title == input.wanted"}
    assert run("filter", by_value, input={"wanted": "c"}, **PEOPLE)["items"] == HITS[1:]
    with pytest.raises(InvalidRequestError, match="null and no list"):
        run("filter", {"items": "nodes.search.output.hit", "where": "item"}, **PEOPLE)


def test_branch_takes_the_first_true_case_else_the_default_else_none() -> None:
    cases = [{"name": "high", "when": "input.score > `7`"}, {"name": "middling", "when": "input.score > `3`"}]
    taken = [run("branch", {"cases": cases, "default": "low"}, input={"score": score}) for score in (9, 5, 1)]
    assert taken == [{"branch": "high"}, {"branch": "middling"}, {"branch": "low"}]
    assert run("branch", {"cases": cases}, input={"score": 1}) == {"branch": None}


def test_merge_in_the_order_of_the_edges() -> None:
    objects = {"b": {"x": 1, "y": 1}, "a": {"y": 2}}
    assert run("merge", {}, inputs=objects) == {"x": 1, "y": 2}
    assert run("merge", {"mode": "list"}, inputs=objects) == [{"x": 1, "y": 1}, {"y": 2}]
    assert run("merge", {"mode": "first"}, inputs={"a": None, "b": 0, "c": 1}) == 0
    assert run("merge", {"mode": "first"}, inputs={"a": None}) is None
    assert run("merge", {"mode": "concat"}, inputs={"a": [1], "b": [], "c": [2, 3]}) == [1, 2, 3]
    for mode, wanted in (("object", "an object"), ("concat", "a list")):
        with pytest.raises(InvalidRequestError, match=f"'b' is not {wanted}"):
            run("merge", {"mode": mode}, inputs={"b": "text"})


def test_output_is_its_values_as_they_are() -> None:
    values = {"titles": "${nodes.search.output.hits[].title}", "n": 3, "literal": "$${x}"}
    assert run("output", {"values": values}, **PEOPLE) == {"titles": ["a", "b", "c"], "n": 3, "literal": "${x}"}


def test_a_short_delay_is_slept_and_a_long_one_ends_the_run_until_its_time() -> None:
    stop = StopByHand()
    assert run("delay", {"seconds": 20}, stop=stop) == {"until": later(seconds=20).isoformat()}
    assert stop.waits == [20]
    assert run("delay", {"until": "2026-11-22T11:00"}, stop=stop) == {"until": later(hours=-1).isoformat()}
    wait = run("delay", {"seconds": 3600}, stop=stop)
    assert (wait.kind, wait.until) == (WaitKind.TIME, later(hours=1))
    assert run("delay", {"seconds": 3600}, wait=wait, now=later(minutes=30)) == wait
    assert run("delay", {"seconds": 3600}, wait=wait, now=later(hours=2)) == {"until": later(hours=1).isoformat()}
    assert run("delay", {"until": "2026-11-22T14:00+01:00"}).until == later(hours=1)
    assert stop.waits == [20]


def test_a_delay_that_is_slept_hears_a_cancel() -> None:
    stop = StopByHand(sleeps=True)
    threading.Timer(0.05, stop.is_cancelled.set).start()
    with pytest.raises(CancelledError):
        run("delay", {"seconds": 15}, stop=stop)


ASK = {"message": "Send it?", "assignee": "Ann", "expires_after_s": 3600}


def answered(**decision: Any) -> Wait:
    wait: Wait = run("approval", ASK)
    return replace(wait, decision=decision)


def test_an_approval_waits_without_a_token_and_gives_what_was_decided() -> None:
    log: list[str] = []
    wait = run("approval", ASK, log=log)
    assert (wait.kind, wait.until, wait.token_hash, log) == (WaitKind.APPROVAL, later(hours=1), None, [])
    assert wait.message == "Send it? (for Ann)"
    assert run("approval", {"message": "Send it?"}).until is None
    assert run("approval", ASK, wait=wait, now=later(minutes=59)) == wait
    yes = answered(approved=True, comment="well done", by="bob", decided_at="2026-11-22T12:30:00+00:00")
    assert run("approval", ASK, wait=yes, now=later(hours=2)) == {
        "approved": True, "comment": "well done", "by": "bob", "decided_at": "2026-11-22T12:30:00+00:00", "expired": False,
    }  # fmt: skip


def test_a_no_and_no_answer_are_the_end_or_an_output() -> None:
    no = answered(approved=False, comment="secret reasons", by="bob")
    with pytest.raises(InvalidRequestError, match="bob has rejected") as refused:
        run("approval", ASK, wait=no)
    assert "secret" not in refused.value.message
    assert not run("approval", {**ASK, "on_reject": "continue"}, wait=no)["approved"]
    for wait, now in ((answered(), later(hours=1)), (answered(expired=True), NOW)):
        with pytest.raises(InvalidRequestError, match="in time"):
            run("approval", ASK, wait=wait, now=now)
        found = run("approval", {**ASK, "on_expire": "continue"}, wait=wait, now=now)
        assert (found["approved"], found["expired"]) == (False, True)


class ScriptedConfig(BlockConfig):
    value: Any


Script = Callable[[BlockCall[Any]], BlockResult | Wait]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], None]:
    def register(script: Script) -> None:
        monkeypatch.setitem(BLOCKS, "scripted", BlockType(script, ScriptedConfig, "does what a test says"))

    return register


def each(items: Any = "input.items", **config: Any) -> dict[str, Any]:
    return {"items": items, "block": {"type": "scripted", "config": {"value": "${item}"}}, **config}


def test_for_each_resolves_its_block_an_item_and_keeps_the_order() -> None:
    block = {"type": "transform", "config": {"fields": {"title": "item.title", "place": "index"}}}
    config = {"items": "nodes.search.output.hits", "block": block, "parallel": 3}
    found = run("for_each", config, **PEOPLE)
    assert found["results"] == [{"title": title, "place": place} for place, title in enumerate("abc")]
    assert (found["errors"], found["count"]) == ([], 3)
    paired = run("for_each", {**config, "with_items": True}, **PEOPLE)["results"]
    assert paired == [{"item": hit, "output": found["results"][place]} for place, hit in enumerate(HITS)]
    assert run("for_each", {**config, "items": []}, **PEOPLE) == {"results": [], "errors": [], "count": 0}
    joined = {"type": "output", "config": {"values": {}}}
    with pytest.raises(ValidationError):
        run("for_each", {"items": [], "block": joined})


def test_what_an_item_holds_is_data_and_never_a_reference(scripted: Callable[[Script], None]) -> None:
    scripted(lambda call: BlockResult(call.config.value))
    items = ["${input.items}", "$${x}", {"a": "${secrets.KEY}"}]
    assert run("for_each", each(), input={"items": items})["results"] == items


def test_each_item_has_its_own_key_at_every_attempt(scripted: Callable[[Script], None]) -> None:
    keys: list[str] = []
    tried: list[int] = []

    def fails_at_first(call: BlockCall[Any]) -> BlockResult:
        keys.append(call.idempotency_key)
        tried.append(call.scope["index"])
        if tried.count(1) == 1:
            raise RetryableError("busy", wait_s=7)
        return BlockResult(call.config.value)

    scripted(fails_at_first)
    stop, log = StopByHand(), list[str]()
    assert run("for_each", each(), input={"items": [5, 6]}, stop=stop, log=log)["results"] == [5, 6]
    assert keys == ["execution:node:0", "execution:node:1", "execution:node:1"]
    assert stop.waits == [7]
    tried.clear()
    with pytest.raises(RetryableError, match="item 1: busy"):
        run("for_each", each(max_retries=0), input={"items": [5, 6]}, stop=stop)


def test_an_error_ends_for_each_or_is_collected(scripted: Callable[[Script], None]) -> None:
    begun: list[int] = []

    def refuses_twos(call: BlockCall[Any]) -> BlockResult:
        begun.append(call.config.value)
        if call.config.value == 2:
            raise NotFoundError("no such thing")
        return BlockResult(call.config.value * 10)

    scripted(refuses_twos)
    with pytest.raises(NotFoundError, match="item 1: no such thing"):
        run("for_each", each(), input={"items": [1, 2, 3]})
    assert begun == [1, 2]
    assert run("for_each", each(on_error="collect", parallel=2), input={"items": [1, 2, 3]}) == {
        "results": [10, None, 30],
        "errors": [{"index": 1, "error_class": "NotFoundError", "message": "no such thing"}],
        "count": 3,
    }
    with pytest.raises(InvalidRequestError, match="3 items and `max_items` is 2"):
        run("for_each", each(max_items=2), input={"items": [1, 2, 3]})
    scripted(lambda call: BlockResult(call.scope["bug"]))
    with pytest.raises(KeyError):
        run("for_each", each(on_error="collect"), input={"items": [1]})


def test_a_config_that_an_item_makes_wrong_is_told_without_the_item() -> None:
    block = {"type": "delay", "config": {"seconds": "${item}"}}
    with pytest.raises(ValidationError):
        run("for_each", {"items": ["private"], "block": block})
    block = {"type": "merge", "config": {"mode": "${item}"}}
    with pytest.raises(InvalidRequestError, match="item 0: config of merge, mode: Input should be") as refused:
        run("for_each", {"items": ["private"], "block": block})
    assert "private" not in refused.value.message


def test_an_item_waits_for_a_time_and_for_nothing_else(scripted: Callable[[Script], None]) -> None:
    tried: list[Any] = []

    def later_then_done(call: BlockCall[Any]) -> BlockResult | Wait:
        tried.append(call.wait)
        if call.wait is None:
            return Wait(WaitKind(call.config.value), until=later(seconds=30), decision={"run_id": "r"})
        if len(tried) == 2:
            raise RetryableError("busy", wait_s=3)  # and it still knows what it has waited for
        return BlockResult(call.wait.decision)

    scripted(later_then_done)
    stop = StopByHand()
    assert run("for_each", each(), input={"items": ["time"]}, stop=stop)["results"] == [{"run_id": "r"}]
    assert stop.waits == [30, 3]
    with pytest.raises(InvalidRequestError, match="waits for approval"):
        run("for_each", each(), input={"items": ["approval"]})


def test_items_are_worked_on_at_the_same_time_but_no_more_than_asked(scripted: Callable[[Script], None]) -> None:
    lock, at_work, most = threading.Lock(), 0, 0
    all_there = threading.Barrier(3, timeout=5)

    def together(call: BlockCall[Any]) -> BlockResult:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        all_there.wait()
        with lock:
            at_work -= 1
        return BlockResult(None)

    scripted(together)
    run("for_each", each(parallel=3), input={"items": list(range(9))})
    assert most == 3


def test_a_cancel_is_heard_within_a_second_while_items_hang(scripted: Callable[[Script], None]) -> None:
    release, began = threading.Event(), threading.Event()
    worked: list[int] = []

    def hangs(call: BlockCall[Any]) -> BlockResult:
        worked.append(call.config.value)
        began.set()
        release.wait(5)
        return BlockResult(None)

    scripted(hangs)
    stop = StopByHand()
    cancelled_at_s = 0.0

    def cancel() -> None:
        nonlocal cancelled_at_s
        began.wait(5)
        cancelled_at_s = time.monotonic()
        stop.is_cancelled.set()

    threading.Thread(target=cancel).start()
    with pytest.raises(CancelledError):
        run("for_each", each(), input={"items": [1, 2]}, stop=stop)
    assert time.monotonic() - cancelled_at_s < 1
    release.set()
    assert worked == [1]


def test_the_time_of_the_node_ends_for_each(scripted: Callable[[Script], None]) -> None:
    release = threading.Event()
    scripted(lambda call: BlockResult(release.wait(5)))
    with pytest.raises(RetryableError, match="time is over"):
        run("for_each", each(), input={"items": [1]}, stop=StopByHand(timeout_s=0.05))
    release.set()
