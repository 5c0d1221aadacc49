"""Access tokens are refreshed ahead of time, once for all who ask, and stored before anyone uses them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Barrier, Lock

import pytest

from workstation_pipelines.errors import ReauthorizeError, SourceUnavailableError, UnexpectedReplyError
from workstation_pipelines.sources.credentials import OAuthRefreshProvider, Secret, StaticToken, Tokens

START = datetime(2026, 11, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Shelf:
    """A CredentialStore in memory, with a log of what happened, and a vendor that gives numbered tokens."""

    tokens: Tokens
    now: datetime = START
    log: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    commit_failures: list[Exception] = field(default_factory=list)
    given: int = 0
    _lock: Lock = field(default_factory=Lock)
    _pending: list[Tokens] = field(default_factory=list)

    def clock(self) -> datetime:
        return self.now

    def read(self) -> Tokens:
        return self.tokens

    @contextmanager
    def locked(self) -> Iterator[Shelf]:
        with self._lock:
            self._pending.clear()
            yield self
            if self.commit_failures:
                raise self.commit_failures.pop()
            for tokens in self._pending:
                self.tokens = tokens
                self.log.append(f"stored {tokens.access_token.reveal()}")

    def replace(self, tokens: Tokens) -> None:
        self._pending.append(tokens)

    def revoke(self, message: str) -> None:
        self.log.append("revoked")

    def refresh(self, tokens: Tokens) -> Tokens:
        assert tokens.refresh_token is not None
        if self.failures:
            raise self.failures.pop()
        self.given += 1
        self.log.append(f"refreshed with {tokens.refresh_token.reveal()}")
        return granted(self.now, self.given)


def granted(now: datetime, number: int) -> Tokens:
    end = now + HOUR
    return Tokens(Secret(f"a{number}"), Secret(f"r{number}"), end - timedelta(minutes=5), end, frozenset({"read"}))


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(granted(START, 0))


@pytest.fixture
def provider(shelf: Shelf) -> OAuthRefreshProvider:
    return OAuthRefreshProvider(shelf, shelf.refresh, shelf.clock)


def test_token_is_used_until_five_minutes_before_its_end(shelf: Shelf, provider: OAuthRefreshProvider) -> None:
    shelf.now = START + timedelta(minutes=54, seconds=59)
    assert provider.access_token() == "a0"
    shelf.now = START + timedelta(minutes=55)
    assert provider.access_token() == "a1"
    assert shelf.log == ["refreshed with r0", "stored a1"]
    assert provider.scopes() == {"read"}


def test_refused_token_is_replaced_once_for_everyone_who_had_it(shelf: Shelf, provider: OAuthRefreshProvider) -> None:
    barrier = Barrier(50)

    def ask(_number: int) -> str:
        barrier.wait()
        return provider.access_token(rejected="a0")

    with ThreadPoolExecutor(50) as threads:
        assert set(threads.map(ask, range(50))) == {"a1"}
    assert shelf.given == 1


def test_token_that_another_process_stored_is_taken_without_a_refresh(
    shelf: Shelf, provider: OAuthRefreshProvider
) -> None:
    assert provider.access_token() == "a0"
    shelf.tokens = granted(START, 7)
    assert provider.access_token(rejected="a0") == "a7"
    assert shelf.given == 0


def test_refused_token_that_others_have_replaced_is_no_reason_to_refresh(
    shelf: Shelf, provider: OAuthRefreshProvider
) -> None:
    assert provider.access_token(rejected="from yesterday") == "a0"
    assert shelf.given == 0


def test_withdrawn_grant_is_recorded_and_asked_for_only_once(shelf: Shelf, provider: OAuthRefreshProvider) -> None:
    shelf.failures = [ReauthorizeError("gone")]
    with pytest.raises(ReauthorizeError):
        provider.access_token(rejected="a0")
    assert shelf.log == ["revoked"]


def test_vendor_that_is_down_keeps_the_grant(shelf: Shelf, provider: OAuthRefreshProvider) -> None:
    shelf.now = START + HOUR
    shelf.failures = [SourceUnavailableError("down")]
    with pytest.raises(SourceUnavailableError):
        provider.access_token()
    assert shelf.log == []
    assert provider.access_token() == "a1"


def test_token_that_still_works_is_used_while_the_vendor_cannot_refresh(
    shelf: Shelf, provider: OAuthRefreshProvider
) -> None:
    shelf.now = START + timedelta(minutes=56)
    shelf.failures = [UnexpectedReplyError("a login page"), SourceUnavailableError("down")]
    assert provider.access_token() == "a0"
    assert provider.access_token() == "a0"
    assert len(shelf.failures) == 1, "one try is enough for a while"
    shelf.now += timedelta(seconds=31)
    assert provider.access_token() == "a0"
    assert shelf.failures == []
    shelf.failures = [SourceUnavailableError("down")]
    with pytest.raises(SourceUnavailableError):
        provider.access_token(rejected="a0")


def test_rotated_token_whose_commit_failed_is_stored_by_the_next_call(
    shelf: Shelf, provider: OAuthRefreshProvider
) -> None:
    shelf.now = START + HOUR
    shelf.commit_failures = [SourceUnavailableError("the database restarts")]
    with pytest.raises(SourceUnavailableError):
        provider.access_token()
    assert provider.access_token() == "a1"
    assert shelf.log == ["refreshed with r0", "stored a1"]


def test_unstored_token_gives_way_to_a_newer_connection(shelf: Shelf, provider: OAuthRefreshProvider) -> None:
    shelf.now = START + HOUR
    shelf.commit_failures = [SourceUnavailableError("the database restarts")]
    with pytest.raises(SourceUnavailableError):
        provider.access_token()
    shelf.tokens = granted(shelf.now, 9)
    assert provider.access_token() == "a9"
    assert shelf.given == 1


def test_grant_without_refresh_token_lasts_as_long_as_its_token(shelf: Shelf) -> None:
    shelf.tokens = Tokens(Secret("only"), None, START, START + HOUR)
    provider = OAuthRefreshProvider(shelf, shelf.refresh, shelf.clock)
    assert provider.access_token() == "only"
    shelf.now = START + HOUR
    with pytest.raises(ReauthorizeError, match="nothing refreshes it"):
        provider.access_token()
    assert shelf.log == ["revoked"]


def test_token_without_an_end_is_never_refreshed_by_itself(shelf: Shelf) -> None:
    shelf.tokens = Tokens(Secret("lasting"))
    provider = OAuthRefreshProvider(shelf, shelf.refresh, shelf.clock)
    shelf.now = START + timedelta(days=4000)
    assert provider.access_token() == "lasting"
    with pytest.raises(ReauthorizeError):
        provider.access_token(rejected="lasting")


def test_static_token_that_is_refused_asks_for_a_new_one() -> None:
    token = StaticToken("canary")
    assert token.access_token() == "canary"
    with pytest.raises(ReauthorizeError, match="`workstation source connect`"):
        token.access_token(rejected="canary")
    assert "canary" not in repr(token)
