"""What people ask of executions: to start, to stop, to begin again from a step, and to decide on what waits for them.

Rows alone are written here; whoever wants the run at once launches it then, and a sensor launches what nobody has.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import NewId, UserId
from workstation_pipelines.workflow_model import (
    Definition,
    Execution,
    ExecutionId,
    ExecutionStatus,
    Json,
    NodeId,
    Step,
    StepId,
    TenantId,
    Trigger,
    WorkflowId,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from workstation_pipelines.db.executions import NewStep
    from workstation_pipelines.db.workflows import Version, Workflow
    from workstation_pipelines.sync.workspace import Workspace

From = Literal["start", "failed"] | Collection[str]
"""Where a retry begins: with everything, with what has not completed, or with these nodes and what is behind them."""

LONGEST_COMMENT = 2000
CANCELLED_AT_ONCE = 1000
MOST_TOLD = 10


def start(
    workspace: Workspace,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow: str,
    version: int | None = None,
    input: Mapping[str, Json] | None = None,
    trigger: Trigger = Trigger.MANUAL,
    priority: int = 0,
    idempotency_key: str | None = None,
    not_before: datetime | None = None,
) -> Execution:
    """Write a pending execution of a workflow, by its slug or id; the newest version unless one is named.

    Raises NotFoundError, and InvalidRequestError for an inactive workflow, for input that does not fit, naming all that is
    wrong with it, for a version that this program understands no more, and as executions.create does.
    """
    from workstation_pipelines.db import workflows

    with workspace.database.transaction_with_rls(user_id, tenant_id) as connection:
        found = workflows.named(connection, user_id=user_id, tenant_id=tenant_id, name=workflow)
        _refuse_inactive(found)
        chosen = workflows.version(
            connection, user_id=user_id, tenant_id=tenant_id, workflow_id=found.id, version=version
        )
        return write_execution(
            connection,
            new_id=workspace.new_id,
            version=chosen,
            user_id=user_id,
            tenant_id=tenant_id,
            input=input or {},
            trigger=trigger,
            priority=priority,
            idempotency_key=idempotency_key,
            not_before=not_before,
        )


def write_execution(
    connection: Connection,
    *,
    new_id: NewId,
    version: Version,
    user_id: UserId,
    tenant_id: TenantId,
    input: Mapping[str, Json],
    trigger: Trigger,
    priority: int = 0,
    idempotency_key: str | None = None,
    not_before: datetime | None = None,
    scheduled_workflow_id: UUID | None = None,
    parent: Execution | None = None,
    reused: Mapping[NodeId, Json] | None = None,
) -> Execution:
    """Write a pending execution of a version with a step for each node; the caller commits.

    `reused` are outputs of `parent` that stand for their nodes' own. Raises as start() does.
    """
    from workstation_pipelines.db import executions
    from workstation_pipelines.workflows import catalog, inputs

    definition = catalog.read(version.definition)
    return executions.create(
        connection,
        user_id=user_id,
        tenant_id=tenant_id,
        execution_id=ExecutionId(new_id()),
        version_id=version.id,
        input=_storable(inputs.checked(definition.inputs, input)),
        steps=_new_steps(definition, new_id, parent, reused or {}),
        mode=definition.mode,
        trigger=trigger,
        priority=priority,
        idempotency_key=idempotency_key,
        parent_execution_id=parent.id if parent is not None else None,
        not_before=not_before,
        scheduled_workflow_id=scheduled_workflow_id,
    )


def cancel(workspace: Workspace, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId) -> ExecutionStatus:
    """End an execution: at once if no run works on it, within seconds otherwise; return its status now. Idempotent.

    Raises NotFoundError, and InvalidRequestError for one that has ended otherwise.
    """
    from workstation_pipelines.db import execution_control

    with workspace.database.transaction_with_rls(user_id, tenant_id) as connection:
        status = execution_control.request_cancel(
            connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id
        )
    if status in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED):
        raise InvalidRequestError(f"execution {execution_id} has {status} already: there is nothing left to cancel")
    return status


def cancel_where(
    workspace: Workspace,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    workflow_id: WorkflowId | None = None,
    status: ExecutionStatus | None = None,
    older_than: timedelta | None = None,
) -> list[ExecutionId]:
    """Cancel all open executions that fit, as cancel() does; return their ids. Idempotent."""
    from workstation_pipelines.db import execution_control

    cancelled: list[ExecutionId] = []
    while True:
        # In portions, each a transaction, so that nobody waits long for a row.
        with workspace.database.transaction_with_rls(user_id, tenant_id) as connection:
            some = execution_control.request_cancel_where(
                connection,
                user_id=user_id,
                tenant_id=tenant_id,
                workflow_id=workflow_id,
                status=status,
                older_than=older_than,
                limit=CANCELLED_AT_ONCE,
            )
        cancelled += some
        if len(some) < CANCELLED_AT_ONCE:
            return cancelled


def retry(
    workspace: Workspace,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    from_: From = "failed",
    newest: bool = False,
    priority: int | None = None,
    idempotency_key: str | None = None,
) -> Execution:
    """Write a new execution that does again what is to be, and takes over what still holds; see reuse.reusable().

    It has the input of the one that it retries, and its version unless the `newest` is wanted. Raises NotFoundError, and
    InvalidRequestError when the workflow is inactive, that one is not over, nothing in it has failed (from "failed"), a node
    is unknown, or the input does not fit the newest version.
    """
    from workstation_pipelines.db import executions, steps, workflows
    from workstation_pipelines.workflows import catalog, reuse

    with workspace.database.transaction_with_rls(user_id, tenant_id) as connection:
        parent = executions.get(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)
        parent_steps = steps.of_execution(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)
        version = workflows.version(
            connection,
            user_id=user_id,
            tenant_id=tenant_id,
            workflow_id=parent.workflow_id,
            version=None if newest else parent.version,
        )
        definition = catalog.read(version.definition)
        _refuse_inactive(
            workflows.get(connection, user_id=user_id, tenant_id=tenant_id, workflow_id=parent.workflow_id)
        )
        _refuse_unless_retriable(parent, definition, from_)
        reused = reuse.reusable(catalog.read(parent.definition), parent_steps, definition, from_)
        return write_execution(
            connection,
            new_id=workspace.new_id,
            version=version,
            user_id=user_id,
            tenant_id=tenant_id,
            input=parent.input,
            trigger=Trigger.RETRY,
            priority=parent.priority if priority is None else priority,
            idempotency_key=idempotency_key,
            parent=parent,
            reused={step.node_id: step.output for step in parent_steps if step.node_id in reused},
        )


def decide(
    workspace: Workspace,
    *,
    user_id: UserId,
    tenant_id: TenantId,
    execution_id: ExecutionId,
    node_id: str,
    approved: bool,
    comment: str = "",
) -> Step:
    """Decide, as the owner, on the approval that a step waits for, exactly once; a sensor lets its execution go on.

    Raises NotFoundError, and InvalidRequestError when it is too late or the step waits for no approval.
    """
    from workstation_pipelines.db import waits

    with workspace.database.transaction_with_rls(user_id, tenant_id) as connection:
        step = _step(connection, user_id, tenant_id, execution_id, node_id)
        return waits.decide(
            connection,
            user_id=user_id,
            tenant_id=tenant_id,
            decision=_decision(approved=approved, comment=comment, by=user_id),
            step_id=step.id,
        )


def decide_by_token(workspace: Workspace, *, token: str, approved: bool, comment: str = "", by: str = "") -> Step:
    """Decide as whoever holds the token that new_token() gave, exactly once. Raises as decide() does.

    A token that is wrong in any way, and one of an execution that is gone, look the same.
    """
    from workstation_pipelines.db import executions, waits

    execution_id, _ = _split(token)
    owner = executions.owner_of(workspace.database, execution_id)
    if owner is None:
        raise _no_token()
    with workspace.database.transaction_with_rls(owner.user_id, owner.tenant_id) as connection:
        return waits.decide(
            connection,
            user_id=owner.user_id,
            tenant_id=owner.tenant_id,
            decision=_decision(approved=approved, comment=comment, by=by or "whoever holds the token"),
            token_hash=token_hash(token),
        )


def new_token(
    workspace: Workspace, *, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId, node_id: str
) -> str:
    """Return a token by which somebody else may decide on the approval that a step waits for; earlier ones are void.

    Its hash alone is stored, so it can be shown this once. Raises NotFoundError, and InvalidRequestError for a step that
    waits for no approval.
    """
    from workstation_pipelines.db import executions, waits

    token = f"{execution_id}.{secrets.token_urlsafe(32)}"
    with workspace.database.transaction_with_rls(user_id, tenant_id) as connection:
        executions.hold(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id)
        step = _step(connection, user_id, tenant_id, execution_id, node_id)
        waits.set_token(connection, user_id=user_id, tenant_id=tenant_id, step_id=step.id, token_hash=token_hash(token))
    return token


def token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _storable(given: Mapping[str, Json]) -> Mapping[str, Json]:
    from workstation_pipelines.workflows import storable

    problems = [f"{each.path}: {each.message}".removeprefix(": ") for each in storable.problems_of(given)]
    if problems:
        raise InvalidRequestError(f"the input cannot be stored: {'; '.join(problems[:MOST_TOLD])}")
    return given


def _new_steps(
    definition: Definition, new_id: NewId, parent: Execution | None, reused: Mapping[NodeId, Json]
) -> list[NewStep]:
    from workstation_pipelines.db.executions import NewStep

    return [
        NewStep(
            id=StepId(new_id()),
            node_id=node.id,
            node_type=node.type,
            name=node.name,
            ordinal=ordinal,
            reuse=(parent.id, reused[node.id]) if parent is not None and node.id in reused else None,
        )
        for ordinal, node in enumerate(definition.nodes)
    ]


def _refuse_inactive(workflow: Workflow) -> None:
    if not workflow.is_active:
        raise InvalidRequestError(
            f"workflow {workflow.slug} is inactive: `workstation workflow activate {workflow.slug}` lets it run again"
        )


def _refuse_unless_retriable(parent: Execution, definition: Definition, from_: From) -> None:
    if not parent.status.is_over:
        raise InvalidRequestError(
            f"execution {parent.id} is {parent.status}: cancel it, or wait for its end, before you retry it"
        )
    if from_ == "failed" and parent.status is ExecutionStatus.COMPLETED:
        raise InvalidRequestError(
            f"nothing has failed in execution {parent.id}: retry it from `start`, or from the nodes to do again"
        )
    if not isinstance(from_, str):
        known = {node.id for node in definition.nodes}
        unknown = sorted(set(from_) - known)
        if unknown:
            raise InvalidRequestError(
                f"that version has no node {', '.join(unknown)}: choose among {', '.join(sorted(known))}"
            )


def _step(
    connection: Connection, user_id: UserId, tenant_id: TenantId, execution_id: ExecutionId, node_id: str
) -> Step:
    from workstation_pipelines.db import steps

    for step in steps.standing(connection, user_id=user_id, tenant_id=tenant_id, execution_id=execution_id):
        if step.node_id == node_id:
            return step
    raise NotFoundError(f"no step {node_id} in an execution {execution_id} of yours")


def _decision(*, approved: bool, comment: str, by: str) -> dict[str, Json]:
    if len(comment) > LONGEST_COMMENT or "\x00" in comment:
        raise InvalidRequestError(f"a comment has at most {LONGEST_COMMENT} characters, and no U+0000")
    return {"approved": approved, "comment": comment, "by": by, "decided_at": utc_now().isoformat()}


def _split(token: str) -> tuple[ExecutionId, str]:
    execution_id, _, secret = token.partition(".")
    try:
        return ExecutionId(UUID(execution_id)), secret
    except ValueError:
        raise _no_token() from None


def _no_token() -> NotFoundError:
    return NotFoundError("nothing waits for this approval: check the token, it is given once and whole")
