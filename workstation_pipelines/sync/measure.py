"""How a batch went, step by step: collected while it is made, written with it."""

from __future__ import annotations

from collections.abc import Iterable

from workstation_pipelines.model import Measure


class Measures:
    """Adds up values by step and name. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[int, float, float]] = {}

    def add(self, step: str, name: str, value: float) -> None:
        count, total, highest = self._kept.get((step, name), (0, 0.0, value))
        self._kept[step, name] = (count + 1, total + value, value if value > highest else highest)

    def merge(self, measures: Iterable[Measure]) -> None:
        for each in measures:
            count, total, highest = self._kept.get((each.step, each.name), (0, 0.0, each.highest))
            merged = (count + each.count, total + each.total, max(highest, each.highest))
            self._kept[each.step, each.name] = merged

    def take(self) -> list[Measure]:
        """Return what was added since the last call, and begin anew."""
        kept, self._kept = self._kept, {}
        return [Measure(step, name, *values) for (step, name), values in kept.items()]
