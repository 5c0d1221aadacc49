"""What a sync will take, from what a listing shows and a few items hold."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from workstation_pipelines.model import Content, Item, ItemType
from workstation_pipelines.sources.http_call import Call
from workstation_pipelines.sync.estimate import (
    SAMPLED_ITEMS,
    Candidates,
    Estimate,
    Sampled,
    StoredRatio,
    StratumKey,
    estimate,
    pilots,
    shares,
)

GET = Call("get", "GET", "/get", per_s=10, cost=2, pace="all")


def item(name: str, size_bytes: int, mime_type: str = "text/plain", external_hash: str = "") -> Item:
    return Item(name, name, external_hash or f"st:{name}", ItemType.FILE, name, mime_type, size_bytes)


def candidates(*items: Item, is_update: bool = False, calls: tuple[Call, ...] = ()) -> Candidates:
    found = Candidates()
    for each in items:
        found.add(each, None, is_update=is_update, calls=calls)
    return found


def estimated(of: Candidates, sampled: list[Sampled], stored: dict[str, StoredRatio] | None = None) -> Estimate:
    return estimate(
        of,
        sampled,
        stored or {},
        listing_calls=3,
        listing_s=1.0,
        provider="vendor",
        rates={},
        fetch_threads=2,
        token_price=Decimal("0.01"),
        tokens_per_s=None,
    )


def looked_into(of: Candidates, tokens_per_byte: float, calls: int = 0) -> list[Sampled]:
    return [
        Sampled(key, max(each.size_bytes, 1), round(max(each.size_bytes, 1) * tokens_per_byte), 10, 0.0, 0.0, calls)
        for key, stratum in of.strata.items()
        for each, _ in stratum.chosen()
    ]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=60), st.integers(1, 4))
def test_where_text_is_a_share_of_the_bytes_the_estimate_is_exact(sizes: list[int], per_byte: int) -> None:
    of = candidates(*(item(f"n{number}", size) for number, size in enumerate(sizes)))
    taken = estimated(of, looked_into(of, per_byte))
    assert taken.tokens == per_byte * sum(sizes)
    assert taken.bytes_to_fetch == sum(sizes)
    assert taken.cost_usd == taken.tokens * Decimal("0.01")
    assert all(len(stratum.drawn) <= SAMPLED_ITEMS for stratum in of.strata.values())


def test_items_of_unknown_size_are_taken_for_the_mean_of_their_kind() -> None:
    of = candidates(*(item(f"n{number}", -1) for number in range(10)))
    (key,) = of.strata
    sampled = [Sampled(key, 1, tokens, size, 0.0, 0.0, 0) for tokens, size in ((10, 100), (30, 300))]
    assert (estimated(of, sampled).tokens, estimated(of, sampled).bytes_to_fetch) == (200, 2000)


def test_copies_are_fetched_and_not_embedded() -> None:
    of = candidates(item("a", 100, external_hash="md5:1"), item("b", 100, external_hash="md5:1"), item("c", 100))
    taken = estimated(of, looked_into(of, 1))
    assert (taken.tokens, taken.bytes_to_fetch) == (200, 200 + 100)


def test_stored_documents_do_where_there_are_enough_and_nothing_is_made_up_elsewhere() -> None:
    of = candidates(item("a", 100), item("b", 100, "text/csv"))
    stored = {"text/plain": StoredRatio(100, 1000, 500), "text/csv": StoredRatio(2, 1000, 500)}
    taken = estimated(of, [], stored)
    assert (taken.tokens, taken.items_by_stored_ratio, taken.unknown_items) == (50, 1, 1)


def test_calls_are_those_declared_times_what_the_sample_really_took() -> None:
    of = candidates(*(item(f"n{number}", 10) for number in range(50)), calls=(GET,))
    taken = estimated(of, looked_into(of, 1, calls=2))
    assert (taken.listing_calls, taken.fetch_calls, taken.provider_calls) == (3, 100, 103)
    assert (taken.duration_s, taken.paced_by) == (1.0 + 100 * 2 / 10, "vendor.all")


def test_what_the_listing_brings_along_is_not_fetched() -> None:
    of = Candidates()
    of.add(item("a", -1), Content(b"hello", "a", "text/plain", "h"), is_update=False, calls=())
    taken = estimated(of, [])
    assert (taken.fetch_calls, taken.bytes_to_fetch, of.fetches) == (0, 0, 0)


def test_the_sample_goes_where_the_text_is() -> None:
    pictures = [item(f"p{number}", 1_000_000, "image/png") for number in range(50)]
    of = candidates(*pictures, *(item(f"n{number}", 1000) for number in range(40)), item("t", 1000, "text/csv"))
    first = pilots(of.strata, at_most=24)
    assert [key.mime_type for key in first] == ["image/png", "text/plain", "text/csv"]
    piloted = [Sampled(key, 1000, 0 if "image" in key.mime_type else 100, 0, 0, 0, 0) for key in first]
    assert shares(of.strata, piloted, at_most=21) == {
        StratumKey("text/plain", False, True): 21,
        StratumKey("text/csv", False, True): 0,
    }
