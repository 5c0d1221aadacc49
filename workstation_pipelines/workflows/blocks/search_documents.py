"""The block `search_documents`: the same hybrid search as `workstation search`, for the user of the execution."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self
from uuid import UUID

from pydantic import Field, model_validator

from workstation_pipelines.db import data_sources, library
from workstation_pipelines.model import Scope, SourceType
from workstation_pipelines.workflow_model import BlockResult, Json
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.blocks.fields import Moment

if TYPE_CHECKING:
    from workstation_pipelines.index.search import Hit

MOST_HITS = 50


class SearchDocumentsConfig(BlockConfig):
    """What to look for, and where. A filter that is not given restricts nothing; an empty list lets nothing through.

    `projects` and `tags` go by name, `sources` by name or id. `modified_within_days` counts back from the search.
    """

    query: str = Field(min_length=1)
    limit: int = Field(default=10, ge=1, le=MOST_HITS)
    projects: list[str] | None = None
    tags: list[str] | None = None
    sources: list[str] | None = None
    source_types: list[SourceType] | None = None
    mime_types: list[str] | None = None
    modified_from: Moment | None = None
    modified_before: Moment | None = None
    modified_within_days: float | None = Field(default=None, gt=0, le=36_600)

    @model_validator(mode="after")
    def _begins_once(self) -> Self:
        if self.modified_from is not None and self.modified_within_days is not None:
            raise ValueError("give either `modified_from` or `modified_within_days`")
        return self


def run(call: BlockCall[SearchDocumentsConfig]) -> BlockResult:
    """Return {"hits", "count", "mode", "notice"}, best first; no hits where nothing is relevant.

    Raises NotFoundError for a project or a source that the user does not have, and what the search raises.
    """
    from workstation_pipelines.index.search import search

    workspace, config = call.workspace, call.config
    scope = _scope(call)
    call.stop.check()
    found = search(
        workspace.database,
        workspace.embedder,
        workspace.index_config(call.user_id),
        config.query,
        scope,
        limit=config.limit,
        store=workspace.vector_store,
        embedder_of=workspace.embedder_of,
    )
    hits = [_as_json(hit) for hit in found.hits]
    return BlockResult({"hits": hits, "count": len(hits), "mode": found.mode.value, "notice": found.notice})


def _scope(call: BlockCall[SearchDocumentsConfig]) -> Scope:
    config, user_id = call.config, call.user_id
    project_ids: list[UUID] | None = None
    source_ids: list[UUID] | None = None
    with call.workspace.database.transaction_with_rls(user_id) as connection:
        if config.projects is not None:
            project_ids = [library.project_id(connection, user_id=user_id, name=name) for name in config.projects]
        if config.sources is not None:
            source_ids = [data_sources.named(connection, user_id=user_id, name=name).id for name in config.sources]
    return Scope(
        user_id=user_id,
        project_ids=project_ids,
        tag_names=config.tags,
        source_types=config.source_types,
        data_source_ids=source_ids,
        mime_types=config.mime_types,
        modified_from=_modified_from(call),
        modified_before=config.modified_before,
    )


def _modified_from(call: BlockCall[SearchDocumentsConfig]) -> datetime | None:
    days = call.config.modified_within_days
    return call.config.modified_from if days is None else call.clock() - timedelta(days=days)


def _as_json(hit: Hit) -> Json:
    return {
        "id": hit.id,
        "document_id": str(hit.document_id),
        "title": hit.title,
        "text": hit.text,
        "score": hit.score,
        "heading": hit.heading_path,
        "source": hit.data_source_name,
        "source_type": hit.source_type,
        "url": hit.external_url,
        "path": hit.external_path,
        "mime_type": hit.mime_type,
        "modified_at": _written(hit.source_modified_at),
        "start_offset": hit.start_offset,
        "end_offset": hit.end_offset,
    }


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
