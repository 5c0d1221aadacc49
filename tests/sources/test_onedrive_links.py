"""Download links that came with a listing: held for a while, and only so many of them."""

from __future__ import annotations

from datetime import UTC, datetime

from workstation_pipelines.sources.onedrive.links import FRESH_FOR, MOST_LINKS, DownloadLinks

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_link_is_taken_once_in_its_newest_state() -> None:
    links = DownloadLinks(lambda: NOW)
    links.put("a", "first")
    links.put("a", "second")
    assert [links.take("a"), links.take("a"), links.take("b")] == ["second", None, None]


def test_link_goes_when_it_is_old() -> None:
    now = NOW
    links = DownloadLinks(lambda: now)
    links.put("a", "a link")
    links.put("b", "b link")
    now += FRESH_FOR
    assert links.take("a") == "a link"
    now += FRESH_FOR
    assert links.take("b") is None


def test_only_the_newest_are_held() -> None:
    links = DownloadLinks(lambda: NOW)
    for number in range(MOST_LINKS + 1):
        links.put(str(number), "link")
    assert [links.take("0"), links.take("1")] == [None, "link"]


def test_nothing_shows_a_link() -> None:
    links = DownloadLinks(lambda: NOW)
    links.put("a", "secret")
    assert "secret" not in repr(links)
