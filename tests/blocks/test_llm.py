"""The block llm: what is asked, what it is billed with, and what every failure is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from tests.blocks.calls import CANARY, OPERATORS, Desk, ScriptedStop
from tests.blocks.conftest import OpenDesk
from tests.fakes.openai_chat import NEWER_MODEL, FakeChat
from tests.fakes.server import LOGIN_PAGE, Answer
from workstation_pipelines.errors import (
    CancelledError,
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    SourceUnavailableError,
    UnexpectedReplyError,
    WorkstationError,
)

NO_PLACE = "http://127.0.0.1:9/v1"


class WithoutBudgets:
    """A database in which nobody has a budget; for tests that do not bill."""

    @contextmanager
    def transaction_with_rls(self, _user_id: str) -> Iterator[Any]:
        yield SimpleNamespace(execute=lambda *_: SimpleNamespace(all=list))


@pytest.fixture
def chat() -> Iterator[FakeChat]:
    with FakeChat(OPERATORS) as chat:
        yield chat
        assert chat.violations == []


@pytest.fixture
def desk(open_desk: OpenDesk, chat: FakeChat) -> Desk:
    desk = open_desk(
        workstation_llm_url=chat.base_url + "/",
        workstation_llm_key=OPERATORS,
        workstation_llm_model="gpt-4o-mini",
        workstation_prices={"gpt-4o-mini": 1, "gpt-4o-mini:output": 2},
    )
    desk.database = WithoutBudgets()
    return desk


def failure(desk: Desk, config: dict[str, Any], **more: Any) -> WorkstationError:
    with pytest.raises(WorkstationError) as failed:
        desk.ask("llm", config, **more)
    told = f"{failed.value} {failed.value.details} {failed.value!r}"
    assert CANARY not in told
    assert OPERATORS not in told
    return failed.value


def test_a_prompt_is_asked_answered_and_billed_by_its_tokens(desk: Desk, chat: FakeChat) -> None:
    config = {"system": "be brief", "prompt": "one two three", "temperature": 0.2, "max_tokens": 50}
    result = desk.result("llm", config)
    assert result.output == {
        "text": "You said: one two three",
        "json": None,
        "model": "gpt-4o-mini-2026-01-01",
        "finish_reason": "stop",
        "usage": {"input_tokens": 5, "output_tokens": 5, "is_estimated": False},
    }
    assert [(each.unit, each.quantity, each.unit_price) for each in result.usages] == [
        ("input_tokens", 5, Decimal("0.000001")),
        ("output_tokens", 5, Decimal("0.000002")),
    ]
    assert {(each.step, each.provider, each.model) for each in result.usages} == {("llm", "127.0.0.1", "gpt-4o-mini")}
    assert chat.completions[0]["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one two three"},
    ]
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    desk.output("llm", {"messages": history, "prompt": "c", "model": "other"}, model_id="not this")
    assert chat.completions[1] == {"model": "other", "messages": [*history, {"role": "user", "content": "c"}]}
    assert desk.output("llm", {"prompt": "x"}, model_id="of-the-workflow")["model"].startswith("of-the-workflow")


def test_tokens_nobody_counted_are_estimated_and_prices_nobody_knows_are_none(desk: Desk, chat: FakeChat) -> None:
    chat.tells_usage = False
    result = desk.result("llm", {"prompt": "x" * 300, "model": "unknown-1"})
    usage = result.output["usage"]
    assert usage["is_estimated"]
    assert 100 <= usage["input_tokens"] <= 140
    assert [each.unit_price for each in result.usages] == [None, None]


def test_counts_that_cannot_be_are_estimated(desk: Desk, chat: FakeChat) -> None:
    message = {"message": {"content": "x"}, "finish_reason": "stop"}
    for count in (-1, 10**30, True, "7", None):
        usage = {"prompt_tokens": count, "completion_tokens": 2}
        chat.fail("/chat", answer=Answer.of({"choices": [message], "usage": usage}))
        told = desk.output("llm", {"prompt": "x"})["usage"]
        assert (told["is_estimated"], told["output_tokens"]) == (True, 2)
        assert 0 < told["input_tokens"] < 100


def test_json_comes_out_parsed(desk: Desk, chat: FakeChat) -> None:
    chat.write = lambda _messages: '```json\n{"a": [1, "\\u0000"]}\n```'
    assert desk.output("llm", {"prompt": "as JSON", "response": "json"})["json"] == {"a": [1, "�"]}
    assert chat.completions[-1]["response_format"] == {"type": "json_object"}
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}
    chat.write = lambda _messages: '{"a": 1}'
    assert desk.output("llm", {"prompt": "x", "response": "json", "json_schema": schema})["json"] == {"a": 1}
    assert chat.completions[-1]["response_format"]["json_schema"]["schema"] == schema


def test_newer_models_get_the_newer_name_of_the_limit(desk: Desk, chat: FakeChat) -> None:
    desk.output("llm", {"prompt": "x", "model": NEWER_MODEL, "max_tokens": 7})
    assert [each.get("max_completion_tokens") for each in chat.completions] == [7]
    assert chat.calls() == 2


def test_an_answer_that_was_cut_off_or_refused_says_so(desk: Desk, chat: FakeChat) -> None:
    chat.finish_reason = "length"
    assert desk.output("llm", {"prompt": "x"})["finish_reason"] == "length"
    chat.finish_reason, chat.refusal = "stop", "I will not."
    output = desk.output("llm", {"prompt": "x"})
    assert (output["text"], output["finish_reason"]) == ("I will not.", "refusal")


@pytest.mark.parametrize(
    ("answer", "expected", "says"),
    [
        (Answer.of({"error": {"code": "rate_limit_exceeded"}}, 429, {"Retry-After": "3"}), RateLimitedError, "3 s"),
        (Answer.of({"error": {"code": "insufficient_quota"}}, 429), InvalidRequestError, "nothing left"),
        (Answer.of({"error": {"message": OPERATORS, "type": OPERATORS}}, 500), SourceUnavailableError, "500"),
        (Answer.of({"error": {"code": "context_length_exceeded"}}, 400), InvalidRequestError, "context_length"),
        (Answer.of({"error": {"code": OPERATORS}}, 401), ReauthorizeError, "WORKSTATION_LLM_KEY"),
        (LOGIN_PAGE, UnexpectedReplyError, "text/html"),
        (Answer.of([1]), UnexpectedReplyError, "no object"),
        (Answer.of({"choices": []}), UnexpectedReplyError, "no choices"),
        (Answer.of({"choices": [{"message": {"content": 7}}]}), UnexpectedReplyError, "no text"),
    ],
)
def test_each_refusal_is_the_error_that_tells_what_to_do(
    desk: Desk, chat: FakeChat, answer: Answer, expected: type[WorkstationError], says: str
) -> None:
    chat.fail("/chat", answer=answer)
    error = failure(desk, {"prompt": CANARY})
    assert type(error) is expected
    assert says in error.message
    chat.fail("/chat", truncate=True)
    assert isinstance(failure(desk, {"prompt": CANARY}), SourceUnavailableError)


def test_a_cancel_is_heard_while_the_model_thinks(desk: Desk, chat: FakeChat) -> None:
    over, stop = threading.Event(), ScriptedStop()
    chat.write = lambda _messages: "late" if over.wait(10) else ""
    threading.Timer(0.1, stop.cancelled.set).start()
    began_s = time.monotonic()
    assert isinstance(failure(desk, {"prompt": "x"}, stop=stop), CancelledError)
    assert time.monotonic() - began_s < 2
    over.set()


def test_the_operators_key_goes_to_the_operators_endpoint_alone(
    open_desk: OpenDesk, desk: Desk, chat: FakeChat
) -> None:
    with FakeChat(None) as other:
        desk.output("llm", {"prompt": "x", "base_url": other.base_url})
        assert OPERATORS not in str(other.requests)
        other.key = CANARY
        desk.output("llm", {"prompt": "x", "base_url": other.base_url, "key": CANARY})
        assert (
            "give the llm block another"
            in failure(desk, {"prompt": "x", "base_url": other.base_url, "key": "no"}).message
        )
    assert chat.requests == []
    chat.key = CANARY
    desk.output("llm", {"prompt": "x", "key": CANARY})
    closed = open_desk(workstation_fetch_loopback=False, workstation_llm_model="m", workstation_fetch_http=True)
    closed.database = WithoutBudgets()
    for url in ("http://127.0.0.1/v1", "https://169.254.169.254/v1", "https://[::1]/v1"):
        assert "private network" in failure(closed, {"prompt": "x", "base_url": url}).message


def test_what_is_not_set_is_named(open_desk: OpenDesk) -> None:
    bare = open_desk()
    assert "WORKSTATION_LLM_URL" in failure(bare, {"prompt": "x"}).message
    assert "WORKSTATION_LLM_MODEL" in failure(open_desk(workstation_llm_url=NO_PLACE), {"prompt": "x"}).message
    broken = open_desk(workstation_llm_url=NO_PLACE, workstation_llm_key=f"{OPERATORS} é")
    assert "characters" in failure(broken, {"prompt": "x"}).message
