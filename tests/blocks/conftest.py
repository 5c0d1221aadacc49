"""What every test of a block has: a desk to call blocks from, and a proof that no secret was told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.blocks.calls import CANARY, OPERATORS, Desk, settings
from tests.sources.http_stage import PlainVendor

OpenDesk = Callable[..., Desk]


@pytest.fixture
def site() -> Iterator[PlainVendor]:
    with PlainVendor() as site:
        yield site
        assert site.violations == []


@pytest.fixture
def open_desk(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[OpenDesk]:
    """Opens desks by settings; at the end nothing that was logged or printed holds a secret."""
    caplog.set_level(logging.DEBUG)
    desks: list[Desk] = []

    def opened(**given: Any) -> Desk:
        desks.append(Desk(settings(**given)))
        return desks[-1]

    yield opened
    told = [*(line for desk in desks for line in desk.logged), caplog.text, *capfd.readouterr()]
    assert not [text for text in told if CANARY in text or OPERATORS in text]


@pytest.fixture
def desk(open_desk: OpenDesk) -> Desk:
    return open_desk()
