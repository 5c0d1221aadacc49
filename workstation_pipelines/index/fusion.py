"""Two rankings into one, weighted by what the query is like. Pure.

Fusion by rank forgets how sure each ranking is: on identifiers it mixes in neighbours, on paraphrases chance words. Here
both scores become evidence of 0..1 with a fixed meaning, and their weighted sum ranks:

    words    = BM25 / sum of the weights of all asked terms: about the share of the query, by rarity, that a chunk has;
               where repetition lifts the best above 1, all are scaled down to it
    meaning  = cosine similarity, stretched from the range in which the model's answers lie
    score    = w * words + (1 - w) * meaning,  w = 0.25 + 0.5 * share of the query that is identifiers found in the scope

The numbers were tuned on one half of benchmarks/search_corpus, whose README has the figures of the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

Key = TypeVar("Key", bound=tuple[UUID, int, int])

WEIGHT_OF_WORDS = 0.25
WEIGHT_OF_IDENTIFIERS = 0.5

# Below both of these the best hit answers nothing, so there is no answer; further hits may be a little weaker.
WORDS_FLOOR = 0.35
WORDS_FLOOR_OF_A_HIT = 0.15

# Who asks for `PO-10007` is not helped by other orders: once so much of the query is identifiers that do not occur, only
# near certainty counts.
MISSING_IDENTIFIERS = 0.4
STRICT_WORDS_FLOOR = 0.8
STRICT_MEANING_FLOOR = 0.6


@dataclass(frozen=True, slots=True)
class Calibration:
    """How one model's cosine similarities are to be read: the range of answers, and what is too low to be one."""

    lowest: float
    highest: float
    floor: float
    floor_of_a_hit: float


CALIBRATIONS: Mapping[str, Calibration] = {
    "all-MiniLM-L6-v2-int8": Calibration(lowest=0.1, highest=0.8, floor=0.30, floor_of_a_hit=0.18),
}

UNCALIBRATED = Calibration(lowest=0.1, highest=0.8, floor=-1.0, floor_of_a_hit=-1.0)
"""For other models: nothing is dropped, since nobody has measured what their low values mean."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the query is like in this scope. `total_weight` is the weight of all terms, found or not.

    `identifiers` is the share of it that is identifiers which occur, `missing` that of identifiers which do not.
    """

    total_weight: float
    identifiers: float
    missing: float


@dataclass(frozen=True, slots=True)
class Fused(Generic[Key]):
    """A chunk with its score, 0..1, and the signals behind it; a signal that did not find the chunk is None."""

    key: Key
    score: float
    bm25: float | None
    cosine: float | None


def features(weights: Sequence[float], is_identifier: Sequence[bool], is_found: Sequence[bool]) -> Features:
    """Describe a query by its terms. Without weights nothing was found, and all terms weigh the same."""
    if not is_identifier:
        return Features(0.0, 0.0, 0.0)
    weighed = weights or [1.0] * len(is_identifier)
    seen = is_found or [False] * len(is_identifier)
    total = sum(weighed)
    found = sum(w for w, exact, there in zip(weighed, is_identifier, seen, strict=True) if exact and there)
    missing = sum(w for w, exact, there in zip(weighed, is_identifier, seen, strict=True) if exact and not there)
    return Features(total, found / total, missing / total)


def fuse(
    bm25: Mapping[Key, float] | None,
    cosines: Mapping[Key, float] | None,
    query: Features,
    calibration: Calibration,
    read_by: Mapping[Key, Calibration] | None = None,
) -> list[Fused[Key]]:
    """Rank all chunks of both signals, best first, without those that neither signal makes relevant; may be empty.

    `read_by` has the calibrations of those cosines that another model made.
    None means that a signal was not asked for: the other alone decides, and words alone have no floor.
    """
    if cosines is None:
        weight = 1.0
    elif bm25 is None:
        weight = 0.0
    else:
        weight = WEIGHT_OF_WORDS + WEIGHT_OF_IDENTIFIERS * query.identifiers
    by_words, by_meaning = bm25 or {}, cosines or {}
    full = max(query.total_weight, max(by_words.values(), default=0.0))
    words = {key: value / full for key, value in by_words.items()}
    others = read_by or {}
    kept = by_words if cosines is None else _relevant(words, by_meaning, query, calibration, others)
    fused = [
        Fused(
            key,
            weight * words.get(key, 0.0) + (1 - weight) * _meaning(by_meaning.get(key), others.get(key, calibration)),
            by_words.get(key),
            by_meaning.get(key),
        )
        for key in kept
    ]
    return sorted(fused, key=lambda hit: (-hit.score, hit.key))


def _relevant(
    words: Mapping[Key, float],
    cosines: Mapping[Key, float],
    query: Features,
    calibration: Calibration,
    others: Mapping[Key, Calibration],
) -> set[Key]:
    words_floor, words_floor_of_a_hit = WORDS_FLOOR, WORDS_FLOOR_OF_A_HIT
    is_strict = query.missing >= MISSING_IDENTIFIERS
    if is_strict:
        words_floor = words_floor_of_a_hit = STRICT_WORDS_FLOOR
    floors = {one: _floors(one, is_strict=is_strict) for one in {calibration, *others.values()}}
    by_key = {key: floors[others.get(key, calibration)] for key in cosines}
    if max(words.values(), default=0.0) < words_floor and not any(
        value >= by_key[key][0] for key, value in cosines.items()
    ):
        return set()
    return {key for key, value in words.items() if value >= words_floor_of_a_hit} | {
        key for key, value in cosines.items() if value >= by_key[key][1]
    }


def _floors(calibration: Calibration, *, is_strict: bool) -> tuple[float, float]:
    """Return what the best hit and what any hit must reach in meaning."""
    if not is_strict or calibration.floor <= -1.0:
        return calibration.floor, calibration.floor if is_strict else calibration.floor_of_a_hit
    return (max(STRICT_MEANING_FLOOR, calibration.floor),) * 2


def _meaning(cosine: float | None, calibration: Calibration) -> float:
    if cosine is None:
        return 0.0
    stretched = (cosine - calibration.lowest) / (calibration.highest - calibration.lowest)
    return min(1.0, max(0.0, stretched))
