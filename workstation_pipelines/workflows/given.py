"""What a block is called with: the config of its node with its references resolved, for one attempt."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from workstation_pipelines.errors import InvalidRequestError, NotFoundError, WorkstationError
from workstation_pipelines.workflow_model import Json, Node
from workstation_pipelines.workflows import references
from workstation_pipelines.workflows.blocks.contract import BlockConfig, BlockType
from workstation_pipelines.workflows.outputs import stored_output

OpenSecrets = Callable[[Collection[str]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Given:
    """`shown` may be stored: it holds no secret. With an `error` there is no `config`, and the attempt fails of it."""

    shown: Json
    config: BlockConfig | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    error: WorkstationError | None = None


def given(node: Node, block: BlockType, scope: Mapping[str, Any], open_secrets: OpenSecrets) -> Given:
    """Return what to call the block with, or what is wrong with it; secrets are opened for this one call."""
    shown: Json = dict(node.config)
    secrets: Mapping[str, str] = {}
    try:
        names = references.names_of_secrets(node.config)
        secrets = open_secrets(names) if names else {}
        resolved = references.resolve(node.config, scope, secrets, lazy_fields=block.lazy_fields)
        shown = stored_output(resolved.shown, secrets.values())
        return Given(shown, block.config.model_validate(resolved.value), secrets)
    except ValidationError as error:
        return Given(shown, None, secrets, InvalidRequestError(f"the config is refused: {_told(error)}"))
    except (InvalidRequestError, NotFoundError) as error:
        return Given(shown, None, secrets, error)


def _told(error: ValidationError) -> str:
    """Say which fields are wrong and why, without their values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'/'.join(map(str, each['loc']))}: {each['msg']}" for each in found)[:1000]
