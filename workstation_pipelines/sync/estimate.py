"""How much text, how many calls and how long: from what a listing shows, what is stored, and a small sample. Pure.

Items are parted into strata by MIME type, by whether they are new, and by whether their size is told. Within one, a few
new ones are chosen with a chance in proportion to their size, so that the mean of their tokens per byte, times all bytes, is what
the whole stratum will take, also where large files have less text to the byte than small ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from statistics import median
from typing import TYPE_CHECKING

from workstation_pipelines.model import Content, Item

if TYPE_CHECKING:
    from workstation_pipelines.sources.http_call import Call

SAMPLED_ITEMS = 24
"""The most items that a plan fetches."""

PILOTS = 12
"""Of so many strata one item is looked at first; the rest of the sample goes where the text turns out to be."""

ENOUGH_STORED = 30
"""So many stored documents of a MIME type say as much of new ones as a sample."""

KEPT_CONTENT_BYTES = 1 << 20
"""A listing's own content is kept for the sample up to this size."""

_CONTENT_HASHES = ("md5:", "sha1:", "sha256:", "dbx:", "qx:")
"""External hashes that are equal for equal bytes, whatever the item."""


@dataclass(frozen=True, slots=True)
class StratumKey:
    mime_type: str
    is_update: bool
    is_size_known: bool


@dataclass(frozen=True, slots=True)
class Sampled:
    """What one item turned out to hold. `tokens` are those of texts not embedded before."""

    key: StratumKey
    weight: float
    tokens: int
    size_bytes: int
    fetch_s: float
    extract_s: float
    calls: int


@dataclass(frozen=True, slots=True)
class StoredRatio:
    """What the stored documents of one MIME type hold."""

    documents: int
    size_bytes: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sync will take. `unknown_items` are those whose text nothing is known of; `tokens` are without them.

    `bytes_to_fetch` takes an item of unknown size for the mean of its kind. `cost_usd` is None when the price is not known.
    `duration_s` takes the listing to be as quick as the plan's was; `paced_by` is the vendor's limit that makes it so long,
    if one does.
    """

    listing_calls: int
    fetch_calls: int
    bytes_to_fetch: int
    tokens: int
    cost_usd: Decimal | None
    duration_s: float
    paced_by: str | None
    sampled_items: int
    items_by_stored_ratio: int
    unknown_items: int

    @property
    def provider_calls(self) -> int:
        return self.listing_calls + self.fetch_calls


@dataclass(slots=True)
class Stratum:
    """The items of one kind, counted, with a few of them drawn."""

    items: int = 0
    weight: float = 0.0
    size_bytes: int = 0
    # (key, number, item, content): Efraimidis and Spirakis' weighted reservoir; the number breaks ties.
    drawn: list[tuple[float, int, Item, Content | None]] = field(default_factory=list)

    def chosen(self) -> list[tuple[Item, Content | None]]:
        return [(item, content) for _, _, item, content in sorted(self.drawn, key=lambda each: -each[0])]


class Candidates:
    """The items that a sync would fetch, as the listing shows them; holds a few a stratum, whatever their number."""

    def __init__(self) -> None:
        self.strata: dict[StratumKey, Stratum] = {}
        self.calls: dict[Call, int] = {}
        self.fetches = 0
        self._hashes: set[str] = set()
        self._random = Random(0)  # noqa: S311 - the same plan each time

    def add(self, item: Item, content: Content | None, *, is_update: bool, calls: Sequence[Call]) -> None:
        if content is None:
            self.fetches += 1
            for call in calls:
                self.calls[call] = self.calls.get(call, 0) + 1
        size_bytes = len(content.body) if content is not None else item.size_bytes
        stratum = self.strata.setdefault(StratumKey(item.mime_type, is_update, size_bytes >= 0), Stratum())
        stratum.items += 1
        stratum.size_bytes += max(size_bytes, 0) if content is None else 0
        if size_bytes == 0 or self._is_copy(item):
            return
        # What an edit adds has little to do with how large the document is.
        weight = float(size_bytes) if size_bytes > 0 and not is_update else 1.0
        stratum.weight += weight
        kept = content if content is not None and size_bytes <= KEPT_CONTENT_BYTES else None
        entry = (self._random.random() ** (1 / weight), stratum.items, item, kept)
        if len(stratum.drawn) < SAMPLED_ITEMS:
            heapq.heappush(stratum.drawn, entry)
        else:
            heapq.heappushpop(stratum.drawn, entry)

    def _is_copy(self, item: Item) -> bool:
        """Return whether an item of the same bytes was added before: it is fetched, and not embedded."""
        if not item.external_hash.startswith(_CONTENT_HASHES):
            return False
        if item.external_hash in self._hashes:
            return True
        self._hashes.add(item.external_hash)
        return False


def pilots(strata: Mapping[StratumKey, Stratum], *, at_most: int) -> list[StratumKey]:
    """Return the strata to look into first, those with the most items before others."""
    nonempty = [key for key, stratum in strata.items() if stratum.drawn]
    return sorted(nonempty, key=lambda key: (-strata[key].items, key.mime_type))[: min(at_most, PILOTS)]


def shares(strata: Mapping[StratumKey, Stratum], piloted: Iterable[Sampled], *, at_most: int) -> dict[StratumKey, int]:
    """Return how many more items to take of each stratum whose pilot had text, in proportion to the text it seems to hold."""
    expected = {each.key: strata[each.key].weight * each.tokens / each.weight for each in piloted if each.tokens}
    given = dict.fromkeys(expected, 0)
    for _ in range(at_most):
        open_ones = [key for key in given if given[key] + 1 < len(strata[key].drawn)]
        if not open_ones:
            break
        chosen = max(open_ones, key=lambda key: expected[key] / (given[key] + 1))
        given[chosen] += 1
    return given


def estimate(
    candidates: Candidates,
    sampled: Sequence[Sampled],
    stored: Mapping[str, StoredRatio],
    *,
    listing_calls: int,
    listing_s: float,
    provider: str,
    rates: Mapping[str, float],
    fetch_threads: int,
    token_price: Decimal | None,
    tokens_per_s: float | None,
) -> Estimate:
    """Put together what is known. `rates` are calls a second that replace the vendor's, by `<provider>.<call>`."""
    tokens, size_bytes, unknown, by_stored = 0.0, 0.0, 0, 0
    for key, stratum in candidates.strata.items():
        of_kind = [each for each in sampled if each.key == key]
        ratio = stored.get(key.mime_type)
        size_bytes += stratum.size_bytes
        if not key.is_size_known:
            size_bytes += stratum.items * _mean(each.size_bytes for each in of_kind)
        if of_kind:
            tokens += stratum.weight * _mean(each.tokens / each.weight for each in of_kind)
        elif is_enough(ratio) and ratio is not None:
            by_stored += stratum.items
            is_by_size = key.is_size_known and not key.is_update
            per_weight = ratio.tokens / (ratio.size_bytes if is_by_size else ratio.documents)
            tokens += stratum.weight * per_weight
        elif stratum.drawn:
            unknown += stratum.items
    declared = sum(candidates.calls.values())
    fetched = [each for each in sampled if each.calls]
    # What a fetch really took, attachments and long pages included.
    surplus = max(sum(each.calls for each in fetched) / len(fetched), 1.0) if fetched else 1.0
    paced_s, paced_by = _paced(candidates.calls, provider, rates, surplus)
    fetch_s = candidates.fetches * _usual(each.fetch_s for each in sampled) / max(fetch_threads, 1)
    items = sum(stratum.items for stratum in candidates.strata.values())
    work_s = items * _usual(each.extract_s for each in sampled) + (tokens / tokens_per_s if tokens_per_s else 0.0)
    return Estimate(
        listing_calls=listing_calls,
        fetch_calls=round(declared * surplus),
        bytes_to_fetch=round(size_bytes),
        tokens=round(tokens),
        cost_usd=None if token_price is None else round(tokens) * token_price,
        duration_s=listing_s + max(paced_s, fetch_s) + work_s,
        paced_by=paced_by if paced_s > fetch_s + work_s else None,
        sampled_items=len(sampled),
        items_by_stored_ratio=by_stored,
        unknown_items=unknown,
    )


def is_enough(ratio: StoredRatio | None) -> bool:
    """Return whether so many documents are stored that no sample is needed."""
    return ratio is not None and ratio.documents >= ENOUGH_STORED and ratio.size_bytes > 0


def _paced(
    calls: Mapping[Call, int], provider: str, rates: Mapping[str, float], surplus: float
) -> tuple[float, str | None]:
    """Return how long the vendor's limits make these calls take, and which limit it is: buckets run side by side."""
    seconds: dict[str, float] = {}
    for call, count in calls.items():
        bucket = f"{provider}.{call.pace or call.name}"
        per_s = rates.get(bucket, call.per_s)
        seconds[bucket] = seconds.get(bucket, 0.0) + count * surplus * call.cost / per_s
    slowest = max(seconds, key=lambda bucket: seconds[bucket], default=None)
    return (seconds[slowest], slowest) if slowest is not None else (0.0, None)


def _usual(durations_s: Iterable[float]) -> float:
    """Return the median: the first of a sample starts processes and opens connections."""
    found = list(durations_s)
    return median(found) if found else 0.0


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
