"""What a token costs, without asking anybody."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

from workstation_pipelines.index.prices import ChatPrice, chat_price, embedding_price

OURS = {"bge-m3": Decimal("0.01"), "text-embedding-3-small": Decimal(1)}


def test_what_runs_here_costs_nothing() -> None:
    assert embedding_price("minilm", "all-minilm", base_url=None, prices={}) == 0
    assert embedding_price("hashing", "word-hashing-1", base_url=None, prices={}) == 0


def test_known_vendor_has_the_price_of_the_snapshot() -> None:
    price = embedding_price("openai", "text-embedding-3-small", base_url=None, prices={})
    assert price == Decimal("0.02") / 1_000_000


def test_own_price_wins_and_is_exact() -> None:
    url = "http://127.0.0.1:8080/v1"
    assert embedding_price("openai", "bge-m3", base_url=url, prices=OURS) == Decimal("0.00000001")
    assert embedding_price("openai", "text-embedding-3-small", base_url=None, prices=OURS) == Decimal("0.000001")


def test_unknown_model_and_unknown_endpoint_have_no_price() -> None:
    assert embedding_price("openai", "nobody-1", base_url=None, prices={}) is None
    assert embedding_price("openai", "text-embedding-3-small", base_url="http://127.0.0.1/v1", prices={}) is None


def test_the_snapshot_is_loaded_only_when_asked() -> None:
    code = "import sys, workstation_pipelines.index.prices; print('genai_prices' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "False"


def test_chat_models_have_two_prices_and_long_prompts_another() -> None:
    openai = {"base_url": "https://api.openai.com/v1", "prices": {}}
    short = chat_price("gpt-4o-mini", input_tokens=10, output_tokens=10, **openai)  # type: ignore[arg-type]
    assert short == ChatPrice(Decimal("0.00000015"), Decimal("0.0000006"))
    assert short.of(input_tokens=1_000_000, output_tokens=1_000_000) == Decimal("0.75")
    assert chat_price("nobody-1", input_tokens=1, output_tokens=1, **openai) == ChatPrice(None, None)  # type: ignore[arg-type]
    anthropic = "https://api.anthropic.com/v1"
    model = "claude-sonnet-4-5"
    near, far = (
        chat_price(model, base_url=anthropic, prices={}, input_tokens=tokens, output_tokens=1).input_token or 0
        for tokens in (1_000, 300_000)
    )
    assert 0 < near < far


def test_own_prices_of_a_chat_model_win_and_one_alone_is_for_both() -> None:
    def price(prices: dict[str, Decimal]) -> ChatPrice:
        return chat_price("gpt-4o-mini", base_url="http://x/v1", prices=prices, input_tokens=1, output_tokens=1)

    assert price({"gpt-4o-mini": Decimal(1)}) == ChatPrice(Decimal("0.000001"), Decimal("0.000001"))
    both = {"gpt-4o-mini": Decimal(1), "gpt-4o-mini:output": Decimal(0)}
    assert price(both) == ChatPrice(Decimal("0.000001"), Decimal(0))
