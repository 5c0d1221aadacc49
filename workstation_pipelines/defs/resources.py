"""The one resource of the code location: the workspace, opened by the first op, sensor or schedule that asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.settings import Settings

if TYPE_CHECKING:
    from workstation_pipelines.sync.workspace import Workspace

RESOURCE_KEY = "workspace"


class WorkspaceResource:
    """Opens the workspace once, when it is first asked for: loading the code location connects to nothing.

    In a run, `run_id`, it also holds the lock by which others see that the run's process lives.
    """

    def __init__(self, load_settings: Callable[[], Settings], run_id: str | None = None) -> None:
        self._load_settings = load_settings
        self._run_id = run_id
        self._presence = ExitStack()
        self._lock = threading.Lock()
        self._opened: Workspace | None = None

    def open(self) -> Workspace:
        """Raises InvalidRequestError, SourceUnavailableError."""
        from workstation_pipelines.db.run_presence import present
        from workstation_pipelines.sync.workspace import Workspace  # NumPy and SQLAlchemy, not needed to load

        with self._lock:
            if self._opened is None:
                opened = Workspace.open(self._load_settings())
                if self._run_id is not None:
                    self._presence.enter_context(present(opened.database, self._run_id))
                self._opened = opened
            return self._opened

    def close(self) -> None:
        with self._lock:
            self._presence.close()
            if self._opened is not None:
                self._opened.close()
                self._opened = None


def workspace_resource(load_settings: Callable[[], Settings]) -> dg.ResourceDefinition:
    """Return a resource that lives as long as a run or a tick and is closed with it."""

    def provide(context: dg.InitResourceContext) -> Iterator[WorkspaceResource]:
        resource = WorkspaceResource(load_settings, context.run.run_id if context.run else None)
        try:
            yield resource
        finally:
            resource.close()

    return dg.ResourceDefinition(
        provide,
        description="Database, sources, extractor and embedder, as the settings in the environment choose them.",
    )
