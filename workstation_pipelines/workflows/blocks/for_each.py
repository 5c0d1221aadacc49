"""The block `for_each`: runs another block for each item of a list, some of them at a time."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from workstation_pipelines.errors import InvalidRequestError, RetryableError, WorkstationError
from workstation_pipelines.workflow_model import BlockResult, Json, Wait, WaitKind
from workstation_pipelines.workflows import spending
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.blocks.fields import Items, items_of

if TYPE_CHECKING:
    from workstation_pipelines.workflows.blocks.contract import BlockType

LEFT_OUT = frozenset({"for_each", "approval", "delay", "sync_source", "require_fresh", "output"})
"""Block types that are about the execution as a whole, and make no sense once an item."""

MOST_ITEMS = 1000
MOST_AT_A_TIME = 8
CHECK_EVERY_S = 0.5
FIRST_RETRY_S = 1.0


class ItemBlock(BaseModel):
    """The block that is run. `config` may refer to `item` and `index`: `${item.title}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: str
    config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("type")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in LEFT_OUT or name not in _blocks():
            usable = ", ".join(sorted(_blocks().keys() - LEFT_OUT))
            raise ValueError(f"{name!r} cannot be run for each item: use one of {usable}")
        return name


class ForEachConfig(BlockConfig):
    """`parallel` items are worked on at a time, each tried again up to `max_retries` times after an error that may pass.

    With `collect` an item that fails for good is an error beside the results of the others. With `with_items` a result is
    {"item", "output"}, for an expression cannot put two lists side by side.
    """

    items: Items
    block: ItemBlock
    max_items: int = Field(default=100, ge=1, le=MOST_ITEMS)
    parallel: int = Field(default=1, ge=1, le=MOST_AT_A_TIME)
    max_retries: int = Field(default=2, ge=0, le=10)
    on_error: Literal["fail", "collect"] = "fail"
    with_items: bool = False


def run(call: BlockCall[ForEachConfig]) -> BlockResult:
    """Return {"results", "errors", "count"}: a result an item, in their order, null where it failed.

    What an item spent is billed when it is done, so that nothing is lost when a later one fails or the node is cancelled.
    A node that is tried again does all items again, with the same idempotency key for each. Raises InvalidRequestError for
    more than `max_items`, and unless errors are collected what the first item that failed did; no other item is begun then.
    """
    items = items_of(call.config.items, call.scope)
    if len(items) > call.config.max_items:
        raise InvalidRequestError(
            f"there are {len(items):,} items and `max_items` is {call.config.max_items:,}: filter them, or raise it"
        )
    work = _Work(call, items)
    for number in range(min(call.config.parallel, len(items))):
        # Daemons: one that hangs in a call holds up neither a cancel nor the end of the process.
        context = contextvars.copy_context()
        Thread(target=context.run, args=(work.run,), name=f"{call.node_id}-{number}", daemon=True).start()
    try:
        work.wait()
    finally:
        work.stop()
    return work.result()


@dataclass
class _Work:
    """The items of one call, and the threads' common knowledge of them; guarded by `changed`."""

    call: BlockCall[ForEachConfig]
    items: Sequence[Json]
    begun: int = 0
    is_stopped: bool = False
    outputs: dict[int, Json] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)
    changed: Condition = field(default_factory=Condition)

    def run(self) -> None:
        """Work on one item after the other until there is none left."""
        while (index := self._take()) is not None:
            try:
                result = _run_item(self.call, self.items[index], index)
                spending.bill_at_once(
                    self.call, [replace(each, step=self.call.config.block.type) for each in result.usages]
                )
            except Exception as error:  # noqa: BLE001 - raised again, or told, by the thread that waits
                self._settle(index, error=error)
            else:
                self._settle(index, output=result.output)

    def wait(self) -> None:
        """Return when nothing is under way any more. Raises what the call's stop does, within a second of it."""
        with self.changed:
            while not self._is_over():
                self.changed.wait(min(CHECK_EVERY_S, max(self.call.stop.left_s, 0.0)))
                self.call.stop.check()

    def stop(self) -> None:
        with self.changed:
            self.is_stopped = True

    def result(self) -> BlockResult:
        if self.errors and self.call.config.on_error == "fail":
            _raise_first(self.errors)
        errors = [_told(index, error) for index, error in sorted(self.errors.items())]
        results = [self._shown(index) for index in range(len(self.items))]
        return BlockResult({"results": results, "errors": errors, "count": len(results)})

    def _shown(self, index: int) -> Json:
        output = self.outputs.get(index)
        return {"item": self.items[index], "output": output} if self.call.config.with_items else output

    def _take(self) -> int | None:
        with self.changed:
            if self.is_stopped or self.begun == len(self.items):
                return None
            self.begun += 1
            return self.begun - 1

    def _settle(self, index: int, *, output: Json = None, error: Exception | None = None) -> None:
        with self.changed:
            if error is None:
                self.outputs[index] = output
            else:
                self.errors[index] = error
                is_expected = isinstance(error, WorkstationError)
                self.is_stopped |= not is_expected or self.call.config.on_error == "fail"
            self.changed.notify_all()

    def _is_over(self) -> bool:
        done = len(self.outputs) + len(self.errors)
        return done == (self.begun if self.is_stopped else len(self.items))


def _run_item(call: BlockCall[Any], item: Json, index: int) -> BlockResult:
    config: ForEachConfig = call.config
    block = _blocks()[config.block.type]
    names = {"item": item, "index": index}
    inner = replace(
        call,
        config=_config_of(call, block, names),
        scope={**call.scope, **names},
        wait=None,
        idempotency_key=f"{call.idempotency_key}:{index}",
        log=lambda line: call.log(f"item {index}: {line}"),
    )
    retries = 0
    while True:
        inner.stop.check()
        try:
            outcome = block.run(inner)
        except RetryableError as error:
            inner.stop.check()  # it may be the node's own time that is over
            if retries == config.max_retries:
                raise
            retries += 1
            inner.stop.wait(max(error.wait_s, FIRST_RETRY_S * 2.0 ** (retries - 1)))
            continue
        if not isinstance(outcome, Wait):
            return outcome
        if outcome.kind is not WaitKind.TIME or outcome.until is None:
            raise InvalidRequestError(f"it waits for {outcome.kind}, which nothing in `for_each` can do")
        inner.stop.wait(max((outcome.until - call.clock()).total_seconds(), 0.0))
        inner = replace(inner, wait=outcome)


def _config_of(call: BlockCall[Any], block: BlockType, names: Mapping[str, Any]) -> BlockConfig:
    given = call.config.block.config
    lazy = {name: value for name, value in given.items() if name in block.lazy_fields}
    eager = {name: value for name, value in given.items() if name not in block.lazy_fields}
    try:
        return block.config.model_validate({**call.resolve(eager, names), **lazy})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidRequestError(
            f"config of {call.config.block.type}, {place or 'as a whole'}: {first['msg']}"
        ) from None


def _raise_first(errors: Mapping[int, Exception]) -> NoReturn:
    index = min(errors)
    error = errors[index]
    if isinstance(error, WorkstationError):
        error.message = f"item {index}: {error.message}"
        error.args = (error.message,)
    raise error


def _told(index: int, error: Exception) -> Json:
    if not isinstance(error, WorkstationError):
        raise error
    return {"index": index, "error_class": type(error).__name__, "message": error.message}


def _blocks() -> Mapping[str, BlockType]:
    from workstation_pipelines.workflows.blocks import BLOCKS  # which lists this block, too

    return BLOCKS
