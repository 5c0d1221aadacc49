"""The credentials of stored data sources: sealed in the database, opened for the connector that uses them.

Three kinds are stored: tokens of an OAuth grant, a token that never changes, and the name of an account at Composio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from workstation_pipelines.db import credentials as stored_credentials
from workstation_pipelines.db.credentials import SealedRecord
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, ReauthorizeError, SourceUnavailableError
from workstation_pipelines.model import Clock, DataSourceId, SourceType, UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources import source_class
from workstation_pipelines.sources.credentials import (
    CredentialProvider,
    LockedTokens,
    OAuthGrant,
    OAuthRefreshProvider,
    Secret,
    StaticToken,
    Tokens,
)
from workstation_pipelines.sources.sealing import Binding, KeyRing, seal, unseal
from workstation_pipelines.sync.token_keys import key_ring

if TYPE_CHECKING:
    import httpx

    from workstation_pipelines.sources.composio import ComposioAccount
    from workstation_pipelines.sources.oauth import OAuthEndpoint

    Credentials = Tokens | StaticToken | ComposioAccount

PURPOSE = "credentials of a data source"
_NOT_CONNECTED = "{name} is not connected to an account yet: `workstation source connect {name}`"
_GONE = "access to {name} was withdrawn: `workstation source connect {name}` connects it again"


class Vault:
    """Opens and seals the credentials of data sources. Thread-safe; it reads keys and rows when something is used."""

    def __init__(self, database: Database, settings: Settings, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self._settings = settings

    @cached_property
    def ring(self) -> KeyRing:
        """Raises InvalidRequestError when there is no key."""
        return key_ring(self._settings, self.clock())

    def provider(self, data_source: DataSource) -> CredentialProvider | None:
        """Return the credentials as stored when they are first asked for; None for a source that needs none."""
        if not needs_credentials(data_source.source_type):
            return None
        return StoredProvider(self, data_source)

    def trial(self, source_type: SourceType, credentials: Credentials) -> Trial:
        """Return credentials that are not stored, to look what they open."""
        return Trial(self, source_type, credentials)

    def seal(self, credentials: Credentials, *, user_id: UserId, data_source_id: DataSourceId) -> SealedRecord:
        return seal(self.ring, _as_value(credentials), Binding(PURPOSE, user_id, data_source_id))

    def open(self, record: SealedRecord, *, user_id: UserId, data_source_id: DataSourceId) -> Credentials:
        """Raises SealError."""
        return _from_value(unseal(self.ring, record, Binding(PURPOSE, user_id, data_source_id)))

    def endpoint(self, source_type: SourceType) -> OAuthEndpoint:
        """Return the vendor's authorization server for our client. Raises InvalidRequestError for a source without one."""
        from workstation_pipelines.sources.oauth import OAuthEndpoint

        client = self._settings.oauth_client(source_type)
        return OAuthEndpoint(source_type.value, grant_of(source_type), client, self.clock)

    def opened(self, source_type: SourceType, credentials: Credentials, store: Any) -> CredentialProvider:
        """Return the provider for one kind of credentials; `store` keeps what a refresh gives."""
        if isinstance(credentials, Tokens):
            return OAuthRefreshProvider(store, self.endpoint(source_type).refresh, self.clock)
        if isinstance(credentials, StaticToken):
            return credentials
        from workstation_pipelines.sources.composio import ComposioProvider

        key = self._settings.composio_api_key
        urls = {**getattr(source_class(source_type), "default_urls", {}), **self._settings.source_urls(source_type)}
        return ComposioProvider(
            credentials,
            base_url=self._settings.composio_api_url,
            api_key=key.get_secret_value() if key else None,
            vendor_urls=urls.values(),
            clock=self.clock,
        )


def needs_credentials(source_type: SourceType) -> bool:
    return getattr(source_class(source_type), "oauth", None) is not None


def grant_of(source_type: SourceType) -> OAuthGrant:
    """Raises InvalidRequestError for a source that OAuth does not connect."""
    grant = getattr(source_class(source_type), "oauth", None)
    if not isinstance(grant, OAuthGrant):
        raise InvalidRequestError(f"a {source_type} source is not connected to an account: sync it as it is")
    return grant


class StoredProvider:
    """Implements CredentialProvider for what is stored of a data source, which it reads when it is first used."""

    def __init__(self, vault: Vault, data_source: DataSource) -> None:
        self._vault = vault
        self._source = data_source
        self._store = SealedStore(vault, data_source.user_id, data_source.id, data_source.name)
        self._lock = Lock()
        self._chosen: CredentialProvider | None = None

    def access_token(self, *, rejected: str | None = None) -> str:
        chosen = self._choose()
        try:
            return chosen.access_token(rejected=rejected)
        except ReauthorizeError as error:
            if not isinstance(chosen, OAuthRefreshProvider):  # which has recorded it under its lock
                self._store.revoke(error.message)
            raise

    def scopes(self) -> frozenset[str]:
        return self._choose().scopes()

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        return _late_transport(self._choose, inner)

    def _choose(self) -> CredentialProvider:
        with self._lock:
            if self._chosen is None:
                self._chosen = self._vault.opened(self._source.source_type, self._store.credentials(), self._store)
            return self._chosen


class Trial:
    """Implements CredentialProvider and CredentialStore for credentials that are not stored (yet)."""

    def __init__(self, vault: Vault, source_type: SourceType, credentials: Credentials) -> None:
        self.credentials = credentials
        self._provider = vault.opened(source_type, credentials, self)
        self.access_token = self._provider.access_token
        self.scopes = self._provider.scopes
        self.transport = self._provider.transport

    def read(self) -> Tokens:
        return self.tokens

    @property
    def tokens(self) -> Tokens:
        if not isinstance(self.credentials, Tokens):
            raise TypeError("these credentials are not refreshed")
        return self.credentials

    @contextmanager
    def locked(self) -> Iterator[LockedTokens]:
        yield self

    def replace(self, tokens: Tokens) -> None:
        self.credentials = tokens

    def revoke(self, message: str) -> None:
        """Nothing is stored, so nothing is marked."""


class NotConnected:
    """Implements CredentialProvider for a source that has no account yet: its settings can be checked, no more."""

    def access_token(self, *, rejected: str | None = None) -> str:
        raise ReauthorizeError(_NOT_CONNECTED.format(name="NAME"))

    def scopes(self) -> frozenset[str]:
        return frozenset()

    def transport(self, inner: httpx.BaseTransport) -> httpx.BaseTransport:
        return inner


class SealedStore:
    """Implements CredentialStore over one row; `name` is for messages."""

    def __init__(self, vault: Vault, user_id: UserId, data_source_id: DataSourceId, name: str = "NAME") -> None:
        self._name = name
        self._vault = vault
        self._user_id = user_id
        self._id = data_source_id

    def credentials(self) -> Credentials:
        """Raises ReauthorizeError when there are none or they are known not to work; SealError, NotFoundError."""
        with self._vault.database.transaction_with_rls(self._user_id) as connection:
            return self._open(self._record(connection))

    def read(self) -> Tokens:
        return _tokens(self.credentials())

    @contextmanager
    def locked(self) -> Iterator[LockedTokens]:
        database = self._vault.database
        with stored_credentials.locked(database, user_id=self._user_id, data_source_id=self._id) as connection:
            record = self._record(connection)
            yield _Held(self, connection, record, _tokens(self._open(record)))

    def revoke(self, message: str) -> None:
        with self._vault.database.transaction_with_rls(self._user_id) as connection:
            stored = stored_credentials.read(connection, user_id=self._user_id, data_source_id=self._id)
            if stored.record is not None:
                self.write_revoked(connection, stored.record, message)

    def write_revoked(self, connection: Connection, record: SealedRecord, message: str) -> None:
        stored_credentials.mark_revoked(
            connection, user_id=self._user_id, data_source_id=self._id, record=record, message=message[:2000]
        )

    def write(self, connection: Connection, before: SealedRecord, tokens: Tokens) -> None:
        after = self._vault.seal(tokens, user_id=self._user_id, data_source_id=self._id)
        is_current = stored_credentials.replace(
            connection, user_id=self._user_id, data_source_id=self._id, before=before, after=after
        )
        if not is_current:
            raise SourceUnavailableError(f"data source {self._id} was connected anew meanwhile: try again", wait_s=1)

    def _record(self, connection: Connection) -> SealedRecord:
        stored = stored_credentials.read(connection, user_id=self._user_id, data_source_id=self._id)
        if stored.record is None:
            raise ReauthorizeError(_NOT_CONNECTED.format(name=self._name))
        if stored.needs_reauth:
            raise ReauthorizeError(_GONE.format(name=self._name))
        return stored.record

    def _open(self, record: SealedRecord) -> Credentials:
        return self._vault.open(record, user_id=self._user_id, data_source_id=self._id)


@dataclass(frozen=True, slots=True)
class _Held:
    _store: SealedStore
    _connection: Connection
    _record: SealedRecord
    tokens: Tokens

    def replace(self, tokens: Tokens) -> None:
        self._store.write(self._connection, self._record, tokens)

    def revoke(self, message: str) -> None:
        self._store.write_revoked(self._connection, self._record, message)


def _late_transport(choose: Any, inner: httpx.BaseTransport) -> httpx.BaseTransport:
    """Return a transport that asks at its first request which way to take: opening a source reads nothing."""
    import httpx

    class LateTransport(httpx.BaseTransport):
        chosen: httpx.BaseTransport | None = None

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if self.chosen is None:
                self.chosen = choose().transport(inner)
            return self.chosen.handle_request(request)

        def close(self) -> None:
            inner.close()

    return LateTransport()


def _tokens(credentials: Credentials) -> Tokens:
    if not isinstance(credentials, Tokens):
        raise SourceUnavailableError("the source was connected in another way meanwhile: try again", wait_s=1)
    return credentials


def _as_value(credentials: Credentials) -> dict[str, Any]:
    if isinstance(credentials, Tokens):
        refresh = credentials.refresh_token
        return {
            "provider": "oauth",
            "access_token": credentials.access_token.reveal(),
            "refresh_token": refresh.reveal() if refresh else None,
            "refresh_at": _written(credentials.refresh_at),
            "expires_at": _written(credentials.expires_at),
            "scopes": sorted(credentials.scopes),
        }
    if isinstance(credentials, StaticToken):
        return {"provider": "token", "token": credentials.token, "scopes": sorted(credentials.granted)}
    return {
        "provider": "composio",
        "connected_account_id": credentials.connected_account_id,
        "mode": credentials.mode.value,
    }


def _from_value(value: Mapping[str, Any]) -> Credentials:
    match value["provider"]:
        case "oauth":
            return Tokens(
                access_token=Secret(value["access_token"]),
                refresh_token=Secret(value["refresh_token"]) if value["refresh_token"] else None,
                refresh_at=_read(value["refresh_at"]),
                expires_at=_read(value["expires_at"]),
                scopes=frozenset(value["scopes"]),
            )
        case "token":
            return StaticToken(value["token"], frozenset(value["scopes"]))
        case "composio":
            from workstation_pipelines.sources.composio import ComposioAccount, ComposioMode

            return ComposioAccount(value["connected_account_id"], ComposioMode(value["mode"]))
        case _:
            raise InvalidRequestError("credentials were stored by a newer program: use that one, or connect again")


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
