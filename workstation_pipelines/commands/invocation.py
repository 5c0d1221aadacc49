"""What one call of the program works with: its settings, its user, and the open system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import Owner, TenantId

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from workstation_pipelines.db.data_sources import DataSource
    from workstation_pipelines.db.workflows import Workflow
    from workstation_pipelines.settings import Settings
    from workstation_pipelines.sync.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Invocation:
    """Settings are read when a command needs them: help needs none. `user` of None is the one of the settings."""

    load_settings: Callable[[], Settings]
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """The open system on behalf of one user, within one tenant, which counts for workflows alone."""

    workspace: Workspace
    user_id: UserId
    tenant_id: TenantId

    def transaction(self) -> AbstractContextManager[Connection]:
        return self.workspace.database.transaction_with_rls(self.user_id, self.tenant_id)

    @property
    def owner(self) -> Owner:
        return {"user_id": self.user_id, "tenant_id": self.tenant_id}

    def workflow(self, connection: Connection, name: str) -> Workflow:
        """Find by slug or id. Raises NotFoundError."""
        from workstation_pipelines.db import workflows

        return workflows.named(connection, **self.owner, name=name)

    def source(self, name: str) -> DataSource:
        """Raises NotFoundError."""
        return self.workspace.named_source(self.user_id, name)


def settings_of(context: typer.Context) -> Settings:
    """Raises InvalidRequestError."""
    return invocation_of(context).load_settings()


@contextmanager
def open_session(context: typer.Context) -> Iterator[Session]:
    """Open the system for one command. Raises InvalidRequestError, SourceUnavailableError."""
    from workstation_pipelines.sync.workspace import Workspace

    invocation = invocation_of(context)
    settings = invocation.load_settings()
    with Workspace.open(settings) as workspace:
        user = settings.user if invocation.user is None else invocation.user
        yield Session(workspace, UserId(user), TenantId(user if settings.tenant is None else settings.tenant))


def invocation_of(context: typer.Context) -> Invocation:
    found = context.obj
    if not isinstance(found, Invocation):
        raise TypeError("start the program by workstation_pipelines.cli.main")
    return found
