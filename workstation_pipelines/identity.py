"""The present and fresh ids, as the programs at the rim pass them in; everything else receives them as arguments."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from uuid import UUID

_POOL_BYTES = 4096


def utc_now() -> datetime:
    return datetime.now(UTC)


class Uuid7:
    """Makes UUIDs of version 7 (RFC 9562): ordered by their millisecond, random otherwise. Thread-safe, not across a fork.

    Randomness is drawn from the system by the page, since one system call an id would cost more than the id.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._random = b""
        self._at = 0

    def __call__(self) -> UUID:
        with self._lock:
            if self._at + 10 > len(self._random):
                self._random, self._at = os.urandom(_POOL_BYTES), 0
            tail = self._random[self._at : self._at + 10]
            self._at += 10
        value = int.from_bytes((time.time_ns() // 1_000_000).to_bytes(6, "big") + tail, "big")
        value = value & ~(0xF000 << 64) | 0x7000 << 64
        return UUID(int=value & ~(0xC000 << 48) | 0x8000 << 48)
