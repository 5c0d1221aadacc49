"""Saving workflows: a definition becomes the first version of a new workflow, or the next of one that is there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from workstation_pipelines.db import workflow_templates, workflows
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import NewId, UserId
from workstation_pipelines.workflow_model import Owner, TemplateId, TenantId, WorkflowId, WorkflowVersionId
from workstation_pipelines.workflows import catalog, definition

_LABELS = ("name", "description", "category", "tags")


@dataclass(frozen=True, slots=True)
class Labels:
    """What a workflow is called and sorted by; None leaves it as it is, or empty for a new one."""

    name: str | None = None
    description: str | None = None
    category: str | None = None
    tags: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A workflow as one file holds it, to be taken from one place to another: its definition, slug and labels."""

    definition: Any
    slug: str | None = None
    labels: Labels = Labels()


@dataclass(frozen=True, slots=True)
class Saved:
    """`is_new_version` is false where the newest version is the same already."""

    workflow: workflows.Workflow
    version: int
    is_new: bool
    is_new_version: bool


def save(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    slug: str,
    document: Any,
    labels: Labels,
    new_id: NewId,
    template_id: TemplateId | None = None,
) -> Saved:
    """Validate a definition, graph or linear, and save it under a slug: a new workflow, or a new version of that one.

    The same definition again makes no version; labels that are given are changed in any case.
    Raises InvalidDefinitionError with every problem, InvalidRequestError.
    """
    source = catalog.read(document).source
    owner: Owner = {"user_id": user_id, "tenant_id": tenant_id}
    content: dict[str, Any] = {"definition": source, "definition_hash": definition.digest(source)}
    if not workflows.exists(connection, user_id=user_id, tenant_id=tenant_id, slug=slug):
        given: dict[str, Any] = {name: value for name in _LABELS if (value := getattr(labels, name)) is not None}
        created = workflows.create(
            connection,
            **owner,
            workflow_id=WorkflowId(new_id()),
            version_id=WorkflowVersionId(new_id()),
            slug=slug,
            template_id=template_id,
            **{"name": slug, **given, **content},
        )
        return Saved(created, 1, is_new=True, is_new_version=True)
    before = workflows.by_slug(connection, user_id=user_id, tenant_id=tenant_id, slug=slug)
    version_id = WorkflowVersionId(new_id())
    added = workflows.add_version(connection, **owner, workflow_id=before.id, version_id=version_id, **content)
    wanted: dict[str, Any] = {name: getattr(labels, name) for name in _LABELS}
    after = workflows.update(connection, **owner, workflow_id=before.id, **wanted)
    return Saved(after, added.version, is_new=False, is_new_version=added.id == version_id)


def use_template(
    connection: Connection,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    template: workflow_templates.Template,
    slug: str,
    labels: Labels,
    new_id: NewId,
) -> workflows.Workflow:
    """Make a workflow of a template and count its use. Raises InvalidRequestError for a slug that is taken."""
    if workflows.exists(connection, user_id=user_id, tenant_id=tenant_id, slug=slug):
        raise InvalidRequestError(f"you already have a workflow {slug!r}: choose another with --slug")
    made = save(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        slug=slug,
        document=template.definition,
        labels=Labels(
            name=labels.name or template.name,
            description=template.description if labels.description is None else labels.description,
            category=template.category if labels.category is None else labels.category,
            tags=template.tags if labels.tags is None else labels.tags,
        ),
        new_id=new_id,
        template_id=template.id,
    )
    workflow_templates.count_use(connection, user_id=user_id, tenant_id=tenant_id, template_id=template.id)
    return made.workflow


def publish(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, slug: str, is_public: bool, new_id: NewId
) -> workflow_templates.Template:
    """Make one's own template of a workflow's newest version, under its slug, or bring that template up to it.

    Where there is only such a template, it is published or not as it is. Raises NotFoundError.
    """
    owner: Owner = {"user_id": user_id, "tenant_id": tenant_id}
    template = _own_template(connection, slug=slug, **owner)
    if template is None or workflows.exists(connection, slug=slug, **owner):
        workflow = workflows.by_slug(connection, slug=slug, **owner)
        content: dict[str, Any] = {name: getattr(workflow, name) for name in _LABELS}
        content["definition"] = workflows.version(connection, workflow_id=workflow.id, **owner).definition
        if template is None:
            template_id = TemplateId(new_id())
            template = workflow_templates.create(connection, **owner, template_id=template_id, slug=slug, **content)
        else:
            template = workflow_templates.update(connection, **owner, template_id=template.id, **content)
    return workflow_templates.set_public(connection, **owner, template_id=template.id, is_public=is_public)


def _own_template(
    connection: Connection, *, user_id: UserId, tenant_id: TenantId, slug: str
) -> workflow_templates.Template | None:
    try:
        found = workflow_templates.by_slug(connection, user_id=user_id, tenant_id=tenant_id, slug=slug)
    except NotFoundError:
        return None
    return found if found.is_own else None


def read_envelope(document: Any) -> Envelope:
    """Tell a workflow with its labels from a bare definition. Raises InvalidRequestError for labels that are none."""
    if not isinstance(document, Mapping) or "definition" not in document:
        return Envelope(document)
    unknown = sorted(set(map(str, document)) - {"definition", "slug", *_LABELS})
    if unknown:
        raise InvalidRequestError(
            f"unknown fields beside the definition: {', '.join(unknown)}; there are slug, {', '.join(_LABELS)}"
        )
    for name in ("slug", *_LABELS[:3]):
        if not isinstance(document.get(name, ""), str):
            raise InvalidRequestError(f"the workflow's {name} is no text")
    tags = document.get("tags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise InvalidRequestError("the workflow's tags are no list of texts")
    labels = Labels(**{name: document.get(name) for name in _LABELS})
    return Envelope(document["definition"], document.get("slug"), labels)


def envelope_of(workflow: workflows.Workflow, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reverse of read_envelope(): a JSON object that saves the same workflow anywhere."""
    labels = {name: getattr(workflow, name) for name in _LABELS}
    return {"slug": workflow.slug, **labels, "tags": list(workflow.tags), "definition": dict(definition)}


def slug_of(text: str) -> str:
    """Return a slug made from a name or a file's name; empty when nothing is left of it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")
