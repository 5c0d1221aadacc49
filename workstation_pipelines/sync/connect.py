"""Connecting a data source to an account: look what the new credentials open, then store them; and new keys for old."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from workstation_pipelines.db import audit, data_sources
from workstation_pipelines.db import credentials as stored_credentials
from workstation_pipelines.db import webhooks as stored_webhooks
from workstation_pipelines.db.credentials import SealedRecord
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import DataSourceId, UserId, WebhookId
from workstation_pipelines.sources.sealing import Binding, SealError, rewrap
from workstation_pipelines.sync.credentials import PURPOSE, Vault
from workstation_pipelines.sync.webhooks import PURPOSE as PURPOSE_OF_WEBHOOKS

if TYPE_CHECKING:
    from workstation_pipelines.sources.contract import Account
    from workstation_pipelines.sync.credentials import Credentials
    from workstation_pipelines.sync.workspace import Workspace

_SWEEP_ROWS = 100


def connect(
    workspace: Workspace, data_source: DataSource, credentials: Credentials, *, confirm_account: bool = False
) -> Account:
    """Store credentials for a source after one look at the account. Its items, documents and cursors stay.

    Another account than before is refused unless confirmed, and its credentials are thrown away; when confirmed, the next
    sync lists everything anew. Raises InvalidRequestError, BusyError when a sync of the old account is under way,
    ReauthorizeError, RetryableError.
    """
    trial = workspace.vault.trial(data_source.source_type, credentials)
    opened = workspace.open_with(data_source, trial)
    try:
        account = opened.check()
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{error.message.rstrip('.')}. Nothing was stored; `workstation source configure {data_source.name}`"
            " changes the source's settings"
        ) from error
    finally:
        opened.close()
    is_other = data_source.external_account not in (None, account.external_account)
    if is_other and not confirm_account:
        raise _other_account(data_source, account)
    with ExitStack() as stack:
        if is_other:
            stack.enter_context(data_sources.leased(workspace.database, data_source))
        _store(workspace, data_source, trial.credentials, account, is_other=is_other)
    return account


def _store(
    workspace: Workspace, data_source: DataSource, credentials: Credentials, account: Account, *, is_other: bool
) -> None:
    user_id, source_id = data_source.user_id, data_source.id
    record = workspace.vault.seal(credentials, user_id=user_id, data_source_id=source_id)
    with stored_credentials.locked(workspace.database, user_id=user_id, data_source_id=source_id) as connection:
        now = data_sources.get(connection, user_id=user_id, data_source_id=source_id)
        if not is_other and now.external_account not in (None, account.external_account):
            raise _other_account(now, account)  # somebody else connected it meanwhile
        stored_credentials.connect(
            connection,
            user_id=user_id,
            data_source_id=source_id,
            record=record,
            external_account=account.external_account,
        )
        if is_other:
            stored_credentials.forget_position(connection, user_id=user_id, data_source_id=source_id)
        detail = {"is_first": now.external_account is None, "is_other_account": is_other}
        audit.append(connection, [audit.Entry("source.connected", f"source:{source_id}", detail)])


def _other_account(data_source: DataSource, account: Account) -> InvalidRequestError:
    return InvalidRequestError(
        f"{data_source.name} is connected to the account {data_source.external_account}, and this is {account.label}"
        f" ({account.external_account}): nothing was changed. Sign in with the former, or repeat with --confirm-account:"
        " then the next sync replaces its documents with the other account's"
    )


@dataclass
class Rotation:
    """What a change of keys did. `left` counts records that are still under other keys, by key; `refused` do not open.

    Records are credentials of data sources and secrets of webhooks, under the ids of these.
    """

    key_id: str
    rewrapped: int = 0
    refused: list[UUID] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def count_left(self, key_id: str, records: int) -> None:
        if key_id != self.key_id:
            self.left[key_id] = self.left.get(key_id, 0) + records


def rotate_keys(vault: Vault) -> Rotation:
    """Put every stored record of all users under the newest key, while syncs and refreshes go on.

    Each step is committed, so that a sweep that was stopped goes on where it was; one more does nothing. Raises
    InvalidRequestError when there is no key.
    """
    rotation = Rotation(vault.ring.newest.key_id)
    for user_id in stored_credentials.owners(vault.database):
        _rotate_user(vault, user_id, rotation)
        with vault.database.transaction_with_rls(user_id) as connection:
            for key_id, records in stored_credentials.sealed_with(connection, user_id=user_id).items():
                rotation.count_left(key_id, records)
    for user_id in stored_webhooks.owners(vault.database):
        _rotate_webhooks(vault, user_id, rotation)
    return rotation


def _rotate_user(vault: Vault, user_id: UserId, rotation: Rotation) -> None:
    def rewrapped(data_source_id: DataSourceId, record: SealedRecord) -> SealedRecord | None:
        try:
            return rewrap(vault.ring, record, Binding(PURPOSE, user_id, data_source_id))
        except SealError:
            return None

    after: DataSourceId | None = None
    while True:
        with vault.database.transaction_with_rls(user_id) as connection:
            step = stored_credentials.rewrap_some(
                connection, user_id=user_id, key_id=rotation.key_id, after=after, limit=_SWEEP_ROWS, rewrap=rewrapped
            )
            if step.rewrapped:
                detail = {"records": step.rewrapped, "key_id": rotation.key_id}
                audit.append(connection, [audit.Entry("keys.rotated", detail=detail)])
        rotation.rewrapped += step.rewrapped
        rotation.refused += step.refused
        if step.last_id is None:
            return
        after = step.last_id


def _rotate_webhooks(vault: Vault, user_id: UserId, rotation: Rotation) -> None:
    def rewrapped(webhook_id: WebhookId, record: SealedRecord) -> SealedRecord | None:
        try:
            return rewrap(vault.ring, record, Binding(PURPOSE_OF_WEBHOOKS, user_id, webhook_id))
        except SealError:
            return None

    with vault.database.transaction_with_rls(user_id) as connection:
        done, refused = stored_webhooks.rewrap_all(
            connection, user_id=user_id, key_id=rotation.key_id, rewrap=rewrapped
        )
        rotation.rewrapped += done
        rotation.refused += refused
        for key_id, records in stored_webhooks.sealed_with(connection, user_id=user_id).items():
            rotation.count_left(key_id, records)
