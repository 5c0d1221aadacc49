"""A document on its way through the rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workstation_pipelines.model import Heading
from workstation_pipelines.text.rules.edits import Edit, edited, moved
from workstation_pipelines.text.rules.expressions import Metadata


@dataclass(frozen=True, slots=True)
class Draft:
    """What the rules so far have made of a document. `dropped_by` names the rule that leaves it out."""

    text: str
    headings: tuple[Heading, ...]
    title: str
    metadata: Metadata
    url: str | None = None
    language: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    dropped_by: str | None = None

    def with_edits(self, edits: Sequence[Edit]) -> Draft:
        """Make the edits in the text; headings go along."""
        if not edits:
            return self
        after = edited(self.text, edits)
        return replace(self, text=after, headings=moved(self.headings, self.text, edits, after))

    def without(self, spans: Iterable[tuple[int, int]]) -> Draft:
        """Take stretches out of the text, and the blank lines at its end."""
        found = sorted(spans)
        if not found:
            return self
        edits: list[Edit] = []
        for start, end in found:
            if edits and start <= edits[-1].end:
                edits[-1] = Edit(edits[-1].start, max(end, edits[-1].end))
            else:
                edits.append(Edit(start, end))
        shorter = self.with_edits(edits)
        kept = len(shorter.text.rstrip())
        return shorter.with_edits([Edit(kept, len(shorter.text))] if kept < len(shorter.text) else [])
