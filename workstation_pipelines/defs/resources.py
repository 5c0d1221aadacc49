"""The one resource of the code location: the workspace, opened by the first op, sensor or schedule that asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import dagster as dg

from workstation_pipelines.settings import Settings

if TYPE_CHECKING:
    from workstation_pipelines.sync.workspace import Workspace

RESOURCE_KEY = "workspace"


class WorkspaceResource:
    """Opens the workspace once, when it is first asked for: loading the code location connects to nothing."""

    def __init__(self, load_settings: Callable[[], Settings]) -> None:
        self._load_settings = load_settings
        self._lock = threading.Lock()
        self._opened: Workspace | None = None

    def open(self) -> Workspace:
        """Raises InvalidRequestError, SourceUnavailableError."""
        from workstation_pipelines.sync.workspace import Workspace  # NumPy and SQLAlchemy, not needed to load

        with self._lock:
            if self._opened is None:
                self._opened = Workspace.open(self._load_settings())
            return self._opened

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


def workspace_resource(load_settings: Callable[[], Settings]) -> dg.ResourceDefinition:
    """Return a resource that lives as long as a run or a tick and is closed with it."""

    def provide(_context: dg.InitResourceContext) -> Iterator[WorkspaceResource]:
        resource = WorkspaceResource(load_settings)
        try:
            yield resource
        finally:
            resource.close()

    return dg.ResourceDefinition(
        provide,
        description="Database, sources, extractor and embedder, as the settings in the environment choose them.",
    )
