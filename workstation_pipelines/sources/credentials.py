"""Where a connector gets its token from. It asks for every request, and says so when the vendor refuses one."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, NoReturn, Protocol

from workstation_pipelines.errors import ReauthorizeError, RetryableError
from workstation_pipelines.model import Clock

if TYPE_CHECKING:
    import httpx

RETRY_EARLY_REFRESH = timedelta(seconds=30)
"""How long an early refresh that failed is left alone while the token still works."""


class CredentialProvider(Protocol):
    """The credentials of one data source; thread-safe, and safe beside other processes that use the same grant."""

    def access_token(self, *, rejected: str | None = None) -> str:
        """Return a token that should work now, refreshed if it must be; empty where `transport` sees to it.

        `rejected` is a token that the vendor has just refused: the answer is another one, either what someone else has
        meanwhile stored or a new one. Raises ReauthorizeError when the grant is gone, RetryableError.
        """

    def scopes(self) -> frozenset[str]:
        """The scopes that were granted, as far as known; empty when unknown."""

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        """Wrap or replace the way to the vendor; most return `inner`."""


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that never changes: an internal integration's, or a test's."""

    token: str = field(repr=False)
    granted: frozenset[str] = frozenset()

    def access_token(self, *, rejected: str | None = None) -> str:
        if rejected is not None:
            raise ReauthorizeError("the vendor refuses its token: give it a new one with `workstation source connect`")
        return self.token

    def scopes(self) -> frozenset[str]:
        return self.granted

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        return inner


@dataclass(frozen=True, slots=True)
class OAuthGrant:
    """How a vendor grants access: the defaults of its OAuth 2 endpoints and what to ask them for.

    `scopes` are the least that reading needs; `scope_separator` joins them. `authorize_params` go to the consent page
    beside the standard ones. `client_auth` is how the token endpoint wants the client's secret. `rotates` tells that a
    refresh replaces the refresh token, so that the old one may stop working at once. `sends_json` is for a token endpoint
    that takes a JSON body; `token_path` leads to the part of its answer that holds the token; `refresh_scopes` tells that a
    refresh names the scopes again. `redirect_host` is how the vendor wants this machine called in a redirect.
    """

    authorize_url: str
    token_url: str
    scopes: tuple[str, ...]
    scope_separator: str = " "
    scope_parameter: str = "scope"
    authorize_params: tuple[tuple[str, str], ...] = ()
    client_auth: str = "client_secret_post"
    uses_pkce: bool = True
    rotates: bool = False
    sends_json: bool = False
    token_path: tuple[str, ...] = ()
    refresh_scopes: bool = False
    redirect_host: str = "127.0.0.1"


class Secret:
    """A text that shows itself to nobody by accident: masked when printed, refused by pickle, JSON and copies to disk."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: hand over an id and read it again")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a vendor granted. `refresh_at` comes before `expires_at`; both are None for a token that does not expire."""

    access_token: Secret
    refresh_token: Secret | None = None
    refresh_at: datetime | None = None
    expires_at: datetime | None = None
    scopes: frozenset[str] = frozenset()


class LockedTokens(Protocol):
    """Tokens that nobody else refreshes at this moment; `tokens` are the stored ones, read under the lock."""

    @property
    def tokens(self) -> Tokens: ...

    def replace(self, tokens: Tokens) -> None:
        """Store new ones; they are safe when the lock has been let go."""

    def revoke(self, message: str) -> None:
        """Record that the grant is gone and its user has to connect again."""


class CredentialStore(Protocol):
    """The stored tokens of one data source."""

    def read(self) -> Tokens:
        """Return the stored tokens. Raises ReauthorizeError when there are none, or the grant is known to be gone."""

    def locked(self) -> AbstractContextManager[LockedTokens]:
        """Keep every process from refreshing these tokens; what was replaced or revoked is committed at the end."""


class OAuthRefreshProvider:
    """Access tokens of a stored grant, refreshed ahead of time and by one of all threads and processes alone.

    `refresh` asks the vendor; it raises ReauthorizeError when the grant is gone for good and RetryableError otherwise. The
    answer is stored before anyone uses it, since a rotated refresh token exists nowhere else. Between the vendor's answer
    and that commit a killed process loses the grant: nothing but the commit happens there.
    """

    def __init__(self, store: CredentialStore, refresh: Callable[[Tokens], Tokens], clock: Clock) -> None:
        self._store = store
        self._refresh = refresh
        self._clock = clock
        self._lock = Lock()
        self._tokens: Tokens | None = None
        self._unstored: Tokens | None = None
        self._leave_alone_until: datetime | None = None

    def access_token(self, *, rejected: str | None = None) -> str:
        with self._lock:
            tokens = self._tokens or self._store.read()
            if not self._is_usable(tokens, rejected):
                tokens = self._renewed(tokens, rejected)
            self._tokens = tokens
            return tokens.access_token.reveal()

    def scopes(self) -> frozenset[str]:
        with self._lock:
            self._tokens = self._tokens or self._store.read()
            return self._tokens.scopes

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        return inner

    def _is_usable(self, tokens: Tokens, rejected: str | None) -> bool:
        if rejected is not None and tokens.access_token == Secret(rejected):
            return False
        now = self._clock()
        if tokens.refresh_at is None or now < tokens.refresh_at:
            return True
        is_left_alone = self._leave_alone_until is not None and now < self._leave_alone_until
        return is_left_alone and self._still_works(tokens)

    def _still_works(self, tokens: Tokens) -> bool:
        return tokens.expires_at is not None and self._clock() < tokens.expires_at

    def _renewed(self, tokens: Tokens, rejected: str | None) -> Tokens:
        try:
            return self._renewed_under_lock(rejected)
        except RetryableError:
            if rejected is not None or not self._still_works(tokens):
                raise
            self._leave_alone_until = self._clock() + RETRY_EARLY_REFRESH
            return tokens

    def _renewed_under_lock(self, rejected: str | None) -> Tokens:
        with self._store.locked() as held:
            stored = held.tokens
            if self._is_usable(stored, rejected):  # someone else was quicker
                self._unstored = None
                return stored
            current = self._unstored or stored
            gone: ReauthorizeError | None = None
            if current is stored or not self._is_usable(current, rejected):
                try:
                    current = self._refreshed(current, rejected)
                except ReauthorizeError as error:
                    held.revoke(error.message)
                    gone = error  # raised below: an error here would take the record of it back
            if gone is None and current is not stored:
                self._unstored = current  # should the commit fail, the next call stores what the vendor gave only once
                held.replace(current)
        self._unstored = None
        if gone is not None:
            raise gone
        return current

    def _refreshed(self, tokens: Tokens, rejected: str | None) -> Tokens:
        if tokens.refresh_token is not None:
            return self._refresh(tokens)
        if rejected is None and self._still_works(tokens):
            return tokens
        raise ReauthorizeError(
            "the vendor refuses its token and nothing refreshes it: `workstation source connect` connects again"
        )
