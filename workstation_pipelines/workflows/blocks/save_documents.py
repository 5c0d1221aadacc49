"""The block `save_documents`: stores texts as documents of the user's, which are found like any other from then on."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from workstation_pipelines.db import library
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows import spending
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.redaction import redacted

if TYPE_CHECKING:
    from workstation_pipelines.sync.saving import TextToSave

MOST_DOCUMENTS = 500


class DocumentToSave(BaseModel):
    """A text. `key` is the user's own name for the document: whoever saves under it again changes that same document.

    Without one it is this node's document in this execution, however often it is tried.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    title: str = Field(min_length=1, max_length=500)
    text: str = Field(min_length=1, repr=False)
    mime_type: Literal["text/markdown", "text/plain"] = "text/markdown"
    external_url: str | None = Field(default=None, max_length=2000)
    key: str | None = Field(default=None, min_length=1, max_length=500)
    project: str | None = None
    tags: list[str] = Field(default_factory=list, max_length=50)


class SaveDocumentsConfig(BlockConfig):
    """`project` and `tags` are those of every document that has none of its own, and in addition to its own."""

    documents: list[DocumentToSave] = Field(max_length=MOST_DOCUMENTS)
    project: str | None = None
    tags: list[str] = Field(default_factory=list, max_length=50)


def run(call: BlockCall[SaveDocumentsConfig]) -> BlockResult:
    """Return {"documents": [{"document_id", "key", "title", "outcome"}], "document_ids"} in the order given.

    Each is stored, and billed, in a transaction of its own; what was stored before an error or a cancel stays, and is
    found unchanged when it is tried again. `outcome` is created, updated, unchanged or left_out (by a rule of the user's).
    Raises InvalidRequestError, BudgetReachedError, RetryableError.
    """
    from workstation_pipelines.sync.saving import SavingTerms

    documents: list[dict[str, str | None]] = []
    terms = SavingTerms(
        user_id=call.user_id,
        job_id=call.execution_id,
        transaction=lambda: spending.paying(call),
        bill=lambda connection, usages: spending.bill(connection, call, usages),
        check=call.stop.check,
    )
    saving = call.workspace.save_texts(_texts(call), terms)
    with closing(saving):
        for saved in saving:
            document_id = str(saved.document_id) if saved.document_id is not None else None
            documents.append(
                {
                    "document_id": document_id,
                    "key": saved.key,
                    "title": saved.title,
                    "outcome": saved.outcome.value,
                }
            )
    ids = [each["document_id"] for each in documents if each["outcome"] != "left_out"]
    return BlockResult({"documents": documents, "document_ids": ids})


def _texts(call: BlockCall[SaveDocumentsConfig]) -> list[TextToSave]:
    from workstation_pipelines.sync.saving import TextToSave

    # What is kept, and found by a search, is no place for a secret.
    config = SaveDocumentsConfig.model_validate(redacted(call.config.model_dump(), call.secrets))
    keys = [each.key or f"{call.idempotency_key}:{ordinal}" for ordinal, each in enumerate(config.documents)]
    if len(set(keys)) < len(keys):
        raise InvalidRequestError("two documents have the same `key`: give each one of its own, or none")
    names = {name for each in config.documents if (name := each.project or config.project)}
    project_ids = _project_ids(call, names)
    return [
        TextToSave(
            key=key,
            text=each.text,
            title=each.title,
            mime_type=each.mime_type,
            external_url=each.external_url,
            project_id=project_ids.get(each.project or config.project or ""),
            tags=[*config.tags, *each.tags],
        )
        for key, each in zip(keys, config.documents, strict=True)
    ]


def _project_ids(call: BlockCall[SaveDocumentsConfig], names: set[str]) -> dict[str, UUID]:
    if not names:
        return {}
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        return {
            name: library.ensure_project(connection, user_id=call.user_id, name=name, new_id=call.new_id)
            for name in sorted(names)
        }
