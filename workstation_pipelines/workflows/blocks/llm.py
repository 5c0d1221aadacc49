"""llm: one question to a chat model, at any endpoint that speaks OpenAI's protocol (checked November 2026).

`POST <base url>/chat/completions` with `{model, messages, temperature, max_tokens, response_format}` answers `{model, choices:
[{message: {content, refusal}, finish_reason}], usage: {prompt_tokens, completion_tokens}}`; some servers leave `usage` out,
and OpenAI's newer models want `max_completion_tokens` in place of `max_tokens`. The operator's endpoint is asked wherever it
is; one that a workflow names has to be public, and never gets the operator's key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import httpx
from pydantic import Field, SecretStr, model_validator

from workstation_pipelines.errors import InvalidRequestError, UnexpectedReplyError, WorkstationError
from workstation_pipelines.index.prices import ChatPrice, chat_price
from workstation_pipelines.model import Usage
from workstation_pipelines.sync import budget
from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows import answers
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.outbound import Incoming, Outbound
from workstation_pipelines.workflows.spending import bill_at_once
from workstation_pipelines.workflows.vendor import Key, Vendor

STEP = "llm"
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_BYTES_A_TOKEN = 3
_WRONG_JSON_WAIT_S = 1.0
_MOST_TOKENS = 1_000_000_000


class Message(BlockConfig):
    role: Literal["system", "user", "assistant"]
    content: str = Field(repr=False)


class LlmConfig(BlockConfig):
    """`prompt`, or `messages`, or both: then the prompt comes last. `response` json asks for it and returns it parsed."""

    prompt: str | None = Field(None, repr=False)
    messages: list[Message] = Field(default_factory=list)
    system: str | None = Field(None, repr=False)
    model: str | None = None
    base_url: str | None = Field(None, repr=False)
    key: SecretStr | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    response: Literal["text", "json"] = "text"
    json_schema: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.prompt is None and not self.messages:
            raise ValueError("give a prompt or messages")
        if self.json_schema is not None and self.response != "json":
            raise ValueError("json_schema is for response json")
        return self


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote, and the tokens that it took."""

    text: str
    model: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    is_estimated: bool


def run(call: BlockCall[LlmConfig]) -> BlockResult:
    """Output: {text, json, model, finish_reason, usage: {input_tokens, output_tokens, is_estimated}}.

    Of an answer that is not the JSON that was asked for the tokens are billed; the first attempt may be followed by another.
    Raises BudgetReachedError before anything is sent.
    """
    config, vendor = call.config, _vendor(call)
    model = config.model or call.model_id or call.workspace.settings.llm_model
    if not model:
        raise InvalidRequestError("llm: no model is named: give the block a `model`, or set WORKSTATION_LLM_MODEL")
    request = _request(config, model)
    asked_tokens = _tokens(json.dumps(request["messages"], ensure_ascii=False))
    _check_budget(call, vendor, model, asked_tokens)
    answer = _asked(vendor, request)
    completion = _completion(vendor, answer, model, asked_tokens)
    usages = _usages(call, vendor, model, completion)
    call.log(
        f"{model} read {completion.input_tokens:,} and wrote {completion.output_tokens:,} tokens"
        f" ({completion.finish_reason})"
    )
    try:
        parsed = _parsed(call, completion) if config.response == "json" else None
    except WorkstationError:
        bill_at_once(call, usages)
        raise
    return BlockResult(
        {
            "text": completion.text,
            "json": parsed,
            "model": completion.model,
            "finish_reason": completion.finish_reason,
            "usage": {
                "input_tokens": completion.input_tokens,
                "output_tokens": completion.output_tokens,
                "is_estimated": completion.is_estimated,
            },
        },
        usages,
    )


def _vendor(call: BlockCall[LlmConfig]) -> Vendor:
    config, settings = call.config, call.workspace.settings
    own = config.key.get_secret_value() if config.key is not None else None
    if config.base_url is not None:
        key = Key(own, "give the llm block another `key`") if own else None
        outbound = Outbound.to_public(settings)
        return Vendor(call, config.base_url.rstrip("/"), key, outbound, "give the llm block a `key`")
    if settings.llm_url is None:
        raise InvalidRequestError(
            "llm: no endpoint is set: set WORKSTATION_LLM_URL (such as https://api.openai.com/v1), WORKSTATION_LLM_KEY and"
            " WORKSTATION_LLM_MODEL, or give the block a `base_url`"
        )
    operators = settings.llm_key.get_secret_value() if settings.llm_key is not None else None
    value, hint = own or operators, "give the llm block another `key`" if own else "set WORKSTATION_LLM_KEY to another"
    key = Key(value, hint) if value else None
    outbound = Outbound(operator_url=settings.llm_url)
    return Vendor(call, settings.llm_url, key, outbound, "set WORKSTATION_LLM_KEY, or give the llm block a `key`")


def _request(config: LlmConfig, model: str) -> dict[str, Any]:
    messages = [{"role": each.role, "content": each.content} for each in config.messages]
    if config.system is not None:
        messages.insert(0, {"role": "system", "content": config.system})
    if config.prompt is not None:
        messages.append({"role": "user", "content": config.prompt})
    request: dict[str, Any] = {"model": model, "messages": messages}
    if config.temperature is not None:
        request["temperature"] = config.temperature
    if config.max_tokens is not None:
        request["max_tokens"] = config.max_tokens
    if config.json_schema is not None:
        schema = {"name": "answer", "schema": config.json_schema}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif config.response == "json":
        request["response_format"] = {"type": "json_object"}
    return request


def _asked(vendor: Vendor, request: Mapping[str, Any]) -> Incoming:
    """Ask once, and once more where the model knows the limit on its tokens under its newer name only."""
    time_s = max(vendor.call.stop.left_s, 1.0)
    answer = vendor.ask("POST", "/chat/completions", body=request, expected=(400,), timeout_s=time_s)
    if answer.status == 400 and "max_tokens" in request and _unsupported(answer) == "max_tokens":
        renamed = {name: value for name, value in request.items() if name != "max_tokens"}
        renamed["max_completion_tokens"] = request["max_tokens"]
        return vendor.ask("POST", "/chat/completions", body=renamed, timeout_s=time_s)
    if answer.status == 400:
        raise answers.refusal(answer, clock=vendor.call.clock, secrets=vendor.secrets)
    return answer


def _unsupported(answer: Incoming) -> str:
    """The name of the parameter that a model does not take, if that is what a refusal says."""
    try:
        error = json.loads(answer.body)["error"]
        return str(error["param"]) if error["code"] == "unsupported_parameter" else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _completion(vendor: Vendor, answer: Incoming, model: str, asked_tokens: int) -> Completion:
    fields = vendor.fields(answer)
    try:
        choice = fields["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise answers.misunderstood(answer, "it holds no choices with a message") from None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise answers.misunderstood(answer, "its message is no text")
    is_refused = not content and isinstance(refusal, str) and bool(refusal)
    text = refusal if is_refused else content or ""
    reason = "refusal" if is_refused else choice.get("finish_reason")
    usage = fields.get("usage")
    read, written = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    named = fields.get("model")
    return Completion(
        text=text,
        model=named if isinstance(named, str) and named else model,
        finish_reason=reason if isinstance(reason, str) else "",
        input_tokens=asked_tokens if read is None else read,
        output_tokens=_tokens(text) if written is None else written,
        is_estimated=read is None or written is None,
    )


def _count(usage: Any, name: str) -> int | None:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= _MOST_TOKENS else None


def _tokens(text: str) -> int:
    return len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN + 1


def _parsed(call: BlockCall[LlmConfig], completion: Completion) -> Any:
    if completion.finish_reason == "refusal":
        raise InvalidRequestError(f"llm: {completion.model} refuses to answer this: ask something else")
    fenced = _FENCED.fullmatch(completion.text)
    try:
        return answers.json_of(fenced[1] if fenced else completion.text)
    except ValueError:
        pass
    what = f"llm: {completion.model} was asked for JSON and wrote something else"
    if completion.finish_reason == "length":
        raise InvalidRequestError(f"{what}, since it was cut off: raise `max_tokens`")
    if call.attempt > 1:
        raise InvalidRequestError(f"{what}, again: say in the prompt what JSON is wanted, or choose another model")
    raise UnexpectedReplyError(f"{what}: try it again", wait_s=_WRONG_JSON_WAIT_S)


def _usages(call: BlockCall[LlmConfig], vendor: Vendor, model: str, completion: Completion) -> list[Usage]:
    price = _price(call, vendor, model, completion.input_tokens, completion.output_tokens)
    provider = httpx.URL(vendor.base_url).host
    return [
        Usage(STEP, provider, model, quantity, unit_price, unit)
        for quantity, unit_price, unit in (
            (completion.input_tokens, price.input_token, "input_tokens"),
            (completion.output_tokens, price.output_token, "output_tokens"),
        )
    ]


def _price(call: BlockCall[LlmConfig], vendor: Vendor, model: str, input_tokens: int, output_tokens: int) -> ChatPrice:
    return chat_price(
        model,
        base_url=vendor.base_url,
        prices=call.workspace.settings.prices,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def _check_budget(call: BlockCall[LlmConfig], vendor: Vendor, model: str, asked_tokens: int) -> None:
    """The answer counts with what it may have at most, as far as that is said."""
    most_output = call.config.max_tokens or 0
    price = _price(call, vendor, model, asked_tokens, most_output)
    cost, tokens = price.of(input_tokens=asked_tokens, output_tokens=most_output), asked_tokens + most_output
    budget.check_call(
        call.workspace.database,
        user_id=call.user_id,
        tokens=tokens,
        token_price=cost / tokens,
        what=f"what is asked of {model}",
        again="run the workflow again",
    )
