"""What a token costs: the operator's own prices, else the snapshot that comes with genai-prices. Nothing is looked up online."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

MILLION = 1_000_000

_OPENAI_URL = "https://api.openai.com/v1"
_OUTPUT = ":output"


@dataclass(frozen=True, slots=True)
class ChatPrice:
    """USD for one token read and one written; None when nobody knows."""

    input_token: Decimal | None
    output_token: Decimal | None

    def of(self, *, input_tokens: int, output_tokens: int) -> Decimal:
        """USD; what is not known counts 0."""
        return input_tokens * (self.input_token or Decimal(0)) + output_tokens * (self.output_token or Decimal(0))


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


def chat_price(
    model: str, *, base_url: str, prices: Mapping[str, Decimal], input_tokens: int, output_tokens: int
) -> ChatPrice:
    """Return what a chat model takes at an endpoint; the number of tokens counts, since long prompts may cost more each.

    `prices` are USD for a million tokens by model, `<model>:output` those it writes; where that is missing the one price is
    for both. The snapshot knows vendors by their `base_url`.
    """
    if model in prices:
        return ChatPrice(prices[model] / MILLION, prices.get(model + _OUTPUT, prices[model]) / MILLION)
    from genai_prices import Usage, calc_price  # takes 0.4 s to import

    read, written = max(input_tokens, 1), max(output_tokens, 1)
    try:
        found = calc_price(Usage(input_tokens=read, output_tokens=written), model, provider_api_url=base_url)
    except LookupError:
        return ChatPrice(None, None)
    return ChatPrice(_each(found.input_price, read), _each(found.output_price, written))


def _each(price: Decimal, tokens: int) -> Decimal:
    """Without the digits that only the division made."""
    return round(price / tokens, 15).normalize()
