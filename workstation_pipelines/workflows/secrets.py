"""Secrets that workflows refer to as `${secrets.NAME}`: sealed in the database, opened for the step that needs them.

Names are shown, values never again; whoever forgot one stores it anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any
from uuid import UUID

from workstation_pipelines.db import audit, workflow_secrets
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.workflow_secrets import SecretName
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import Clock, UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources.sealing import Binding, KeyRing, SealError, rewrap, seal, unseal
from workstation_pipelines.sync.connect import Rotation
from workstation_pipelines.sync.token_keys import key_ring
from workstation_pipelines.workflow_model import TenantId
from workstation_pipelines.workflows.redaction import SHORTEST

PURPOSE = "secret of a workflow"
LONGEST = 20_000


class SecretVault:
    """Seals and opens secrets. Thread-safe; it reads keys and rows when something is used."""

    def __init__(self, database: Database, settings: Settings, clock: Clock = utc_now) -> None:
        self.database = database
        self._settings = settings
        self._clock = clock

    @cached_property
    def ring(self) -> KeyRing:
        """Raises InvalidRequestError when there is no key."""
        return key_ring(self._settings, self._clock())

    def put(self, *, user_id: UserId, tenant_id: TenantId, name: str, value: str, secret_id: UUID) -> None:
        """Store a secret in the place of one of that name; `secret_id` is a fresh id.

        Raises InvalidRequestError for a name that no reference could hold, and for a value that is too long, or too short to
        be found again in what must not show it.
        """
        if not SHORTEST <= len(value) <= LONGEST or "\x00" in value:
            raise InvalidRequestError(
                f"a secret has {SHORTEST} to {LONGEST:,} characters and no NUL: shorter ones could not be kept out of outputs"
            )
        record = seal(self.ring, {"value": value}, _binding(user_id, tenant_id, secret_id))
        with self.database.transaction_with_rls(user_id, tenant_id) as connection:
            workflow_secrets.put(
                connection, user_id=user_id, tenant_id=tenant_id, secret_id=secret_id, name=name, sealed_value=record
            )

    def open(self, *, user_id: UserId, tenant_id: TenantId, names: Collection[str]) -> dict[str, str]:
        """Return the values of those of `names` that there are. Raises SealError for one that does not open."""
        with self.database.transaction_with_rls(user_id, tenant_id) as connection:
            found = workflow_secrets.sealed(connection, user_id=user_id, tenant_id=tenant_id, names=names)
        values: dict[str, str] = {}
        for name, secret in found.items():
            try:
                opened = unseal(self.ring, secret.record, _binding(user_id, tenant_id, secret.id))
            except SealError:
                raise SealError(
                    f"the secret {name} does not open: its key is not in WORKSTATION_TOKEN_KEYS any more, or its row was"
                    " altered. Put the key back, or store the secret again"
                ) from None
            values[name] = str(opened["value"])
        return values

    def names(self, *, user_id: UserId, tenant_id: TenantId) -> list[SecretName]:
        with self.database.transaction_with_rls(user_id, tenant_id) as connection:
            return workflow_secrets.names(connection, user_id=user_id, tenant_id=tenant_id)

    def remove(self, *, user_id: UserId, tenant_id: TenantId, name: str) -> None:
        """Raises NotFoundError."""
        with self.database.transaction_with_rls(user_id, tenant_id) as connection:
            workflow_secrets.remove(connection, user_id=user_id, tenant_id=tenant_id, name=name)


def rotate(vault: SecretVault, rotation: Rotation) -> None:
    """Put all users' secrets under the key of `rotation`, and count them in it; like sync.connect.rotate_keys()."""
    for user_id, tenant_id in workflow_secrets.owners(vault.database):

        def rewrapped(
            secret_id: UUID, record: Mapping[str, Any], user_id: UserId = user_id, tenant_id: TenantId = tenant_id
        ) -> Mapping[str, Any] | None:
            try:
                return rewrap(vault.ring, record, _binding(user_id, tenant_id, secret_id))
            except SealError:
                return None

        with vault.database.transaction_with_rls(user_id, tenant_id) as connection:
            done, refused = workflow_secrets.rewrap_all(
                connection, user_id=user_id, tenant_id=tenant_id, key_id=rotation.key_id, rewrap=rewrapped
            )
            if done:
                detail = {"records": done, "key_id": rotation.key_id}
                audit.append(connection, [audit.Entry("keys.rotated", detail=detail)])
            left = workflow_secrets.sealed_with(connection, user_id=user_id, tenant_id=tenant_id)
        rotation.rewrapped += done
        rotation.refused += refused
        for key_id, records in left.items():
            rotation.count_left(key_id, records)


def _binding(user_id: UserId, tenant_id: TenantId, secret_id: UUID) -> Binding:
    return Binding(f"{PURPOSE} within {tenant_id}", user_id, secret_id)
