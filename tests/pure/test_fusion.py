"""Fusion keeps what either ranking is sure of, and says when neither is."""

from __future__ import annotations

from uuid import UUID

import pytest

from workstation_pipelines.index import fusion

CALIBRATION = fusion.Calibration(lowest=0.1, highest=0.8, floor=0.3, floor_of_a_hit=0.18)
PROSE = fusion.Features(total_weight=10.0, identifiers=0.0, missing=0.0)
A, B, C = ((UUID(int=number), 1, 0) for number in (1, 2, 3))


def _order(hits: list[fusion.Fused[tuple[UUID, int, int]]]) -> list[tuple[UUID, int, int]]:
    return [hit.key for hit in hits]


def test_a_paraphrase_ranks_by_meaning_against_a_few_chance_words() -> None:
    assert _order(fusion.fuse({A: 3.0}, {A: 0.2, B: 0.5}, PROSE, CALIBRATION)) == [B, A]


def test_a_found_identifier_ranks_by_words_against_a_nearer_neighbour() -> None:
    query = fusion.features([6.0, 1.0], [True, False], [True, True])
    assert _order(fusion.fuse({A: 6.5, B: 1.0}, {A: 0.2, B: 0.5}, query, CALIBRATION)) == [A, B]


def test_the_same_signals_without_an_identifier_rank_by_meaning() -> None:
    query = fusion.features([6.0, 1.0], [False, False], [True, True])
    assert _order(fusion.fuse({A: 3.0, B: 1.0}, {A: 0.2, B: 0.6}, query, CALIBRATION)) == [B, A]


def test_weak_signals_on_both_sides_are_no_answer() -> None:
    assert fusion.fuse({A: 3.0}, {A: 0.25, B: 0.29}, PROSE, CALIBRATION) == []


def test_one_strong_signal_is_an_answer_and_keeps_the_weaker_hits_above_the_lower_floor() -> None:
    hits = fusion.fuse({A: 9.0}, {A: 0.1, B: 0.2, C: 0.1}, PROSE, CALIBRATION)
    assert _order(hits) == [A, B]


def test_an_identifier_that_does_not_occur_is_not_answered_by_its_neighbours() -> None:
    query = fusion.features([8.0, 2.0], [True, False], [False, True])
    assert fusion.fuse({A: 2.0}, {A: 0.55, B: 0.5}, query, CALIBRATION) == []
    assert _order(fusion.fuse({A: 2.0}, {A: 0.7, B: 0.5}, query, CALIBRATION)) == [A]


def test_an_unknown_model_has_no_floor() -> None:
    assert len(fusion.fuse({}, {A: -0.2, B: 0.05}, PROSE, fusion.UNCALIBRATED)) == 2


def test_words_alone_have_no_floor() -> None:
    assert _order(fusion.fuse({A: 0.1, B: 0.2}, None, PROSE, CALIBRATION)) == [B, A]


def test_meaning_alone_ignores_words() -> None:
    hits = fusion.fuse(None, {A: 0.8, B: 0.45}, fusion.features([], [], []), CALIBRATION)
    assert [(hit.key, round(hit.score, 2), hit.bm25) for hit in hits] == [(A, 1.0, None), (B, 0.5, None)]


def test_scores_stay_between_0_and_1_and_carry_their_signals() -> None:
    hits = fusion.fuse({A: 99.0}, {A: 1.0, B: 0.3}, PROSE, CALIBRATION)
    assert all(0 <= hit.score <= 1 for hit in hits)
    assert (hits[0].bm25, hits[0].cosine, hits[1].bm25) == (99.0, 1.0, None)


def test_words_keep_their_order_above_the_full_weight_of_the_query() -> None:
    assert _order(fusion.fuse({A: 12.0, B: 15.0}, {}, PROSE, CALIBRATION)) == [B, A]


def test_ties_are_ordered_by_chunk() -> None:
    assert _order(fusion.fuse({B: 5.0, A: 5.0}, {}, PROSE, CALIBRATION)) == [A, B]


@pytest.mark.parametrize(
    ("weights", "found", "identifiers", "missing"),
    [([3.0, 1.0], [True, True], 0.75, 0.0), ([3.0, 1.0], [False, True], 0.0, 0.75), ([], [], 0.0, 0.5)],
)
def test_features_weigh_identifiers_by_rarity(
    weights: list[float], found: list[bool], identifiers: float, missing: float
) -> None:
    features = fusion.features(weights, [True, False], found)
    assert (features.identifiers, features.missing) == (identifiers, missing)


def test_a_query_of_stop_words_has_no_features() -> None:
    assert fusion.features([], [], []) == fusion.Features(0.0, 0.0, 0.0)
