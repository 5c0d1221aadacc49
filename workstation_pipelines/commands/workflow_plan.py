"""`workstation workflow run --plan`: what would be done and what it may take, without doing any of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workstation_pipelines.commands.invocation import Session
from workstation_pipelines.commands.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from workstation_pipelines.db.workflows import Version, Workflow
    from workstation_pipelines.workflows.outline import Outline


def print_outline(
    session: Session, workflow: Workflow, version: Version, given: Mapping[str, Any], *, as_json: bool
) -> None:
    """Check the input and print the outline of a run. Raises InvalidRequestError for input that does not fit."""
    from workstation_pipelines.db import execution_costs
    from workstation_pipelines.workflows import catalog
    from workstation_pipelines.workflows.blocks import BLOCKS
    from workstation_pipelines.workflows.inputs import checked
    from workstation_pipelines.workflows.outline import outline

    definition = catalog.read(version.definition)
    input = checked(definition.inputs, given)
    with session.transaction() as connection:
        medians_s = execution_costs.median_durations_s(connection, **session.owner, workflow_id=workflow.id)
    calls = {name: block.calls for name, block in BLOCKS.items()}
    planned = outline(definition, calls=calls, medians_s=medians_s, input=input)
    if as_json:
        print_json({"workflow": workflow.slug, "version": version.version, "input": input, "outline": planned})
    else:
        _print(workflow, version, planned, most_at_a_time=definition.max_parallel)


def _print(workflow: Workflow, version: Version, planned: Outline, *, most_at_a_time: int) -> None:
    print_line(f"{workflow.slug}, version {version.version}: nothing was started. It would do, level by level:")
    print_table(
        ["level", "node", "type", "calls", "tries", "at most", "took before"],
        [
            (
                number,
                f"{node.id} (may be skipped)" if node.is_conditional else node.id,
                node.type,
                node.calls,
                node.most_attempts,
                f"{node.timeout_s:,.0f} s",
                "" if node.median_s is None else f"{node.median_s:,.1f} s",
            )
            for number, level in enumerate(planned.levels, 1)
            for node in level
        ],
        empty="It does nothing.",
    )
    called = ", ".join(f"{whom} ({times})" for whom, times in planned.calls.items())
    print_line(f"Calls outside: {called or 'none'}.")
    if planned.model_calls:
        print_line(
            f"Language model: {planned.model_calls} nodes, about {planned.prompt_tokens:,} tokens to read besides what"
            " the nodes before them give."
        )
    if planned.estimate_s is None:
        print_line(f"Time: not known yet, since these have not been run: {', '.join(planned.unknown)}.")
    else:
        print_line(f"Time: about {planned.estimate_s:,.1f} s, with up to {most_at_a_time} nodes at a time.")
