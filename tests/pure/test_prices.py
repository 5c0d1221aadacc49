"""What a token costs, without asking anybody."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

from workstation_pipelines.index.prices import embedding_price

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
