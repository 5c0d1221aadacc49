"""Writes docs/workflow.schema.json: `python -m scripts.write_workflow_schema` from the project's root."""

from __future__ import annotations

from pathlib import Path

from workstation_pipelines.workflows.catalog import schema_text

PATH = Path(__file__).parent.parent / "docs" / "workflow.schema.json"

if __name__ == "__main__":
    PATH.write_text(schema_text())
