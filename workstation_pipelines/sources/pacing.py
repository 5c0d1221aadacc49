"""Token buckets that all processes share, as connectors see them."""

from __future__ import annotations

from typing import Protocol


class Pacer(Protocol):
    """Token buckets shared by all processes."""

    def take(self, key: str, *, per_s: float, burst: float, cost: float) -> float:
        """Take `cost` tokens and return how many seconds to wait before using them; 0 is go."""

    def penalise(self, key: str, *, wait_s: float) -> None:
        """Keep everyone from this bucket for so long: the vendor asked for it."""


class Unpaced:
    """A Pacer that lets everything through, for where nothing is shared."""

    def take(self, key: str, *, per_s: float, burst: float, cost: float) -> float:
        return 0.0

    def penalise(self, key: str, *, wait_s: float) -> None:
        return
