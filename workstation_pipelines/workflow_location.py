"""Composition root of the code location `workflows`: a lazy repository with one job a workflow version.

It is apart from the location `sync` so that a new or broken workflow cannot take the syncs down with it.
"""

from __future__ import annotations

import dagster

definitions = dagster.Definitions()
