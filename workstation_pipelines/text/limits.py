"""The caps of text extraction; every one is a constructor argument, since an operator may need another value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """What one document may cost. Bytes, characters and counts are inclusive maxima; times are seconds a document.

    `memory_bytes` is address space above what the child process has mapped when it starts. `max_zip_ratio` (inflated
    to packed bytes) applies once more than `zip_ratio_floor_bytes` have been inflated: small Office files compress
    extremely well without being bombs.
    """

    max_bytes: int = 50_000_000
    max_text_chars: int = 10_000_000
    max_pages: int = 5_000
    max_headings: int = 10_000
    max_children: int = 200
    max_children_bytes: int = 100_000_000
    max_zip_entries: int = 2_000
    max_zip_bytes: int = 300_000_000
    max_zip_ratio: int = 200
    zip_ratio_floor_bytes: int = 10_000_000
    wall_s: float = 30.0
    cpu_s: int = 30
    memory_bytes: int = 1 << 30
