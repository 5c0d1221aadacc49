"""The templates and examples that come along are workflows as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workstation_pipelines.workflows import catalog, saving

_ROOT = Path(__file__).resolve().parents[2]
_TEMPLATES = sorted((_ROOT / "workstation_pipelines" / "workflows" / "templates").glob("*.json"))
_EXAMPLES = sorted((_ROOT / "examples" / "workflows").glob("*.json"))


@pytest.mark.parametrize("file", [*_TEMPLATES, *_EXAMPLES], ids=lambda file: file.stem)
def test_file_is_a_workflow(file: Path) -> None:
    envelope = saving.read_envelope(json.loads(file.read_text()))
    assert envelope.slug in (None, file.stem)
    assert catalog.read(envelope.definition).nodes


def test_templates_have_the_nodes_that_they_are_known_for() -> None:
    sizes = {file.stem: len(json.loads(file.read_text())["definition"]["nodes"]) for file in _TEMPLATES}
    assert (sizes["standard-lead-enrichment"], sizes["ai-powered-enrichment"]) == (5, 6)
    assert {"weekly-digest", "document-triage"} < set(sizes)
