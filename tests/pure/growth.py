"""How a computation's time grows with its input, measured against itself, so that no machine is too slow or too busy."""

from __future__ import annotations

import time
from collections.abc import Callable

# Four times the text takes four times as long where growth is linear, and sixteen times where it is quadratic.
LINEAR = 9.0
NOISE_S = 0.02


def is_linear(work: Callable[[str], object], piece: str, *, count: int, end: str = "") -> bool:
    """Whether a text of `count` pieces takes no longer than its quarter lets expect; the best of three tries counts."""
    short, long = piece * (count // 4) + end, piece * count + end
    return any(_cpu_s(work, long) < LINEAR * _cpu_s(work, short) + NOISE_S for _ in range(3))


def _cpu_s(work: Callable[[str], object], text: str) -> float:
    began_s = time.thread_time()
    work(text)
    return time.thread_time() - began_s
