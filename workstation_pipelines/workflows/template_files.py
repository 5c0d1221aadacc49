"""The system's templates as files of this package, in templates/; a migration stores a frozen copy of each as a row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from workstation_pipelines.workflow_model import TemplateId

FILES = Path(__file__).resolve().parent / "templates"
NAMESPACE = UUID("6f7c1f5e-9d0b-5e0a-8f39-2f1f0d6c7a10")


@dataclass(frozen=True, slots=True)
class SystemTemplate:
    """What a file says; its id is made of its slug, so that all databases have the same."""

    slug: str
    name: str
    description: str
    category: str
    tags: Sequence[str]
    definition: Mapping[str, Any]

    @property
    def id(self) -> TemplateId:
        return TemplateId(uuid5(NAMESPACE, self.slug))


def system_templates(folder: Path = FILES) -> list[SystemTemplate]:
    """Read all files, ordered by their names; a key that is missing or unknown fails loudly."""
    return [SystemTemplate(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
