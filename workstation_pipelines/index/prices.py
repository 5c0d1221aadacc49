"""What a token costs: the operator's own prices, else the snapshot that comes with genai-prices. Nothing is looked up online."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

MILLION = 1_000_000

_OPENAI_URL = "https://api.openai.com/v1"


def embedding_price(
    embedder: str, model: str, *, base_url: str | None, prices: Mapping[str, Decimal]
) -> Decimal | None:
    """Return USD for one token embedded: 0 for what runs here, None when nobody knows.

    `prices` are USD for a million tokens by model and win over the snapshot, which knows vendors by their `base_url`: what
    a proxy or a server of one's own takes is not known.
    """
    if model in prices:
        return prices[model] / MILLION
    if embedder != "openai":
        return Decimal(0)
    return snapshot_price(model, base_url=base_url or _OPENAI_URL)


def snapshot_price(model: str, *, base_url: str) -> Decimal | None:
    """Return USD for one input token of a model at a vendor's endpoint as of the snapshot; None when it does not know."""
    from genai_prices import Usage, calc_price  # takes 0.4 s to import

    try:
        found = calc_price(Usage(input_tokens=MILLION), model, provider_api_url=base_url)
    except LookupError:
        return None
    return found.total_price / MILLION
