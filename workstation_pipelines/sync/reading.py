"""Reading items: fetch and extract what changed, in order, in threads where that may wait. Nothing is decided or written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

from workstation_pipelines.errors import (
    RateLimitedError,
    ReauthorizeError,
    RetryableError,
    SkipItemError,
)
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import Content, Extracted, Item, StoredItem
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync.delta import Step
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.intake import storable_item
from workstation_pipelines.sync.rules import SourceRules
from workstation_pipelines.sync.stopping import StopSignal

PATIENCE_S = 30.0
"""A vendor that asks for a longer wait pauses the whole job; a shorter one is left to the item's next try."""

MOST_UNAVAILABLE = 20
"""After so many items in a row that could not be had, the source itself is away, and the job ends."""


@dataclass(frozen=True, slots=True)
class Read:
    """What came of reading one item: its text, or why there is none."""

    item: Item
    stored: StoredItem | None
    content: Content | None
    extracted: Extracted | None
    problem: SkipItemError | RetryableError | None
    stage: str
    came_along: bool = False
    fetch_s: float | None = None
    extract_s: float | None = None


class ItemReader:
    """Fetches and extracts for one run; remembers how the source does. Not thread-safe, but for what runs in `executor`."""

    def __init__(
        self,
        *,
        source: Source,
        extractor: Extractor,
        executor: Executor,
        faults: Faults,
        stop: StopSignal,
        rules: SourceRules,
    ) -> None:
        self._source = source
        self._extractor = extractor
        self._executor = executor
        self._faults = faults
        self._stop = stop
        self._rules = rules
        self._unavailable = 0
        self._gave_out: RetryableError | ReauthorizeError | None = None

    def read(self, steps: Sequence[Step]) -> Iterator[Read]:
        """Fetch and extract, in the order of `steps`. What is quick happens here, what may wait happens in the executor.

        When the run is to stop, what has been read until then is yielded still.
        """
        waiting: list[Read | Future[Read]] = []
        for step in steps:
            if self._stop.is_set:
                break
            if step.item is None:
                raise AssertionError("a fetch needs its item")
            if (left_out := self.left_out(step)) is not None:
                waiting.append(left_out)
                continue
            if step.content is not None:
                waiting.append(self._with_listed_content(step.item, step.stored, step.content))
                continue
            if self._source.fetch_threads > 1:
                waiting.append(self._executor.submit(self._fetch_and_extract, step.item, step.stored))
                continue
            try:
                read = self._fetch(step.item, step.stored)
            except (RetryableError, ReauthorizeError) as error:
                waiting.append(_failed(error))  # raised below, in its turn
                break
            if read.content is None:
                waiting.append(read)
            elif self._extractor.is_inline(read.content):
                waiting.append(self.extract(read))
            else:
                waiting.append(self._executor.submit(self.extract, read))
        try:
            for read_or_future in waiting:
                self._stop.raise_if_overdue()
                yield read_or_future if isinstance(read_or_future, Read) else self._stop.result_of(read_or_future)
            if len(waiting) < len(steps):
                self._stop.raise_if_set()
        finally:
            for read_or_future in waiting:
                if isinstance(read_or_future, Future):
                    read_or_future.cancel()

    def _with_listed_content(self, item: Item, stored: StoredItem | None, content: Content) -> Read | Future[Read]:
        read = replace(_fetched(item, stored, content), came_along=True)
        if self._extractor.is_inline(content):
            return self.extract(read)
        return self._executor.submit(self.extract, read)

    def _fetch_and_extract(self, item: Item, stored: StoredItem | None) -> Read:
        read = self._fetch(item, stored)
        return read if read.content is None else self.extract(read)

    def _fetch(self, item: Item, stored: StoredItem | None) -> Read:
        if self._gave_out is not None:  # another thread was told so: the vendor is not asked again
            raise self._gave_out
        self._stop.raise_if_set()
        begun_s = time.perf_counter()
        try:
            content = self._source.fetch(item)
        except ReauthorizeError as error:
            self._gave_out = error
            raise
        except (SkipItemError, RetryableError) as error:
            if isinstance(error, RetryableError):
                self._unavailable += 1
                is_long = isinstance(error, RateLimitedError) and error.wait_s > PATIENCE_S
                if is_long or self._unavailable > MOST_UNAVAILABLE:
                    self._gave_out = error
                    raise
            return Read(item, stored, None, None, error, "fetch", fetch_s=time.perf_counter() - begun_s)
        self._unavailable = 0
        self._faults.reach("item_fetched")
        return replace(_fetched(item, stored, content), fetch_s=time.perf_counter() - begun_s)

    def extract(self, read: Read) -> Read:
        if read.content is None:
            raise AssertionError("nothing was fetched")
        begun_s = time.perf_counter()
        try:
            extracted = self._extractor.extract(read.content)
        except (SkipItemError, RetryableError) as error:
            # The bytes are not needed any more, and a batch may hold many of them.
            content, extract_s = replace(read.content, body=b""), time.perf_counter() - begun_s
            return replace(read, content=content, problem=error, stage="extract", extract_s=extract_s)
        return replace(read, extracted=extracted, extract_s=time.perf_counter() - begun_s)

    def left_out(self, step: Step) -> Read | None:
        """Return the item as one that a rule leaves out, or fails on, whatever its content is."""
        if step.item is None or step.item.is_sketch:  # which is described by its content alone
            return None
        problem: SkipItemError | None
        try:
            problem = self._rules.left_out(step.item)
        except SkipItemError as failed:
            problem = failed
        return Read(step.item, step.stored, None, None, problem, "rules") if problem is not None else None

    def forget_unavailable(self) -> int:
        """Return how many items in a row could not be had until now, and count anew."""
        count, self._unavailable = self._unavailable, 0
        return count


def _fetched(item: Item, stored: StoredItem | None, content: Content) -> Read:
    """What a fetch brought; the item as the content describes it, if it does."""
    if content.item is not None:
        item = storable_item(replace(content.item, external_id=item.external_id))
    return Read(item, stored, content, None, None, "fetch")


def _failed(error: RetryableError | ReauthorizeError) -> Future[Read]:
    failed: Future[Read] = Future()
    failed.set_exception(error)
    return failed
