"""Draining beside a sync: what it commits reaches the index while it goes on, and nothing it does waits for the index."""

from __future__ import annotations

import logging
import time
from threading import Event, Thread
from types import TracebackType
from typing import Self

from workstation_pipelines.db import index_namespaces
from workstation_pipelines.errors import RetryableError, WorkstationError
from workstation_pipelines.model import UserId
from workstation_pipelines.sync.outbox import Drained, ExternalIndex, drain_all, open_namespace

_log = logging.getLogger(__name__)

AT_END_S = 60.0
"""How long the end of a sync waits for the rest; what is left then is sent by the next sync or by the sweep."""


class BackgroundDrain:
    """Drains a user's outboxes in a thread of its own, between `with` and its end. An index that fails is tried again later.

    With `dimensions` the namespace for such vectors is opened first, should the user have none.
    """

    def __init__(self, index: ExternalIndex, user_id: UserId, *, dimensions: int | None) -> None:
        self._index = index
        self._user_id = user_id
        self._dimensions = dimensions
        self._wanted = Event()
        self._ends_at: float | None = None
        self._not_before = 0.0
        self._bug: Exception | None = None
        self.done = Drained()
        self._thread = Thread(target=self._run, name="drain", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the rest, for a minute at most. Raises what was a bug in the drain, unless something else is raised."""
        self._ends_at = time.monotonic() + (AT_END_S if kind is None else 0.0)
        self._wanted.set()
        self._thread.join(AT_END_S)
        if self._bug is not None and kind is None:
            raise self._bug

    def nudge(self) -> None:
        """Say that something was committed. Returns at once."""
        self._wanted.set()

    def _run(self) -> None:
        is_last = False
        while not is_last and self._bug is None:
            self._wanted.wait()
            self._wanted.clear()
            is_last = self._ends_at is not None
            if time.monotonic() >= self._not_before:
                self._drain()

    def _drain(self) -> None:
        try:
            done = self._drain_namespaces()
        except WorkstationError as error:
            done = Drained(error=error.message, wait_s=error.wait_s if isinstance(error, RetryableError) else 60.0)
        except Exception as bug:  # noqa: BLE001 - the thread's rim: raised by whoever waits for it
            self._bug = bug
            return
        self.done = self.done.plus(done)
        if done.wait_s:
            self._not_before = time.monotonic() + done.wait_s
            _log.warning("the vector index lags behind: %s", done.error)

    def _drain_namespaces(self) -> Drained:
        if self._dimensions is not None:
            open_namespace(self._index, user_id=self._user_id, dimensions=self._dimensions)
            self._dimensions = None
        with self._index.database.transaction_with_rls(self._user_id) as connection:
            namespaces = index_namespaces.all_of(connection, user_id=self._user_id)
        total = Drained()
        for namespace in namespaces:
            total = total.plus(drain_all(self._index, namespace, is_stopped=self._is_late))
        return total

    def _is_late(self) -> bool:
        return self._ends_at is not None and time.monotonic() >= self._ends_at
