"""Composition root of the code location `sync`: what Dagster loads. Loading it connects to nothing and reads no setting.

From a fresh shell, with a data source's id (without DAGSTER_HOME Dagster makes an empty instance that knows no partition):

    eval "$(workstation env)"
    dagster asset materialize --select 'group:local_folder' --partition ID -m workstation_pipelines.definitions
"""

from __future__ import annotations

from workstation_pipelines.defs.location import sync_definitions
from workstation_pipelines.defs.resources import workspace_resource
from workstation_pipelines.settings import Settings

defs = sync_definitions(workspace_resource(Settings.load))
