"""`workstation transform preview`: what a rule would do to one stored document, before and after."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line
from workstation_pipelines.commands.source_configure import decoded_config
from workstation_pipelines.errors import InvalidRequestError

if TYPE_CHECKING:
    from workstation_pipelines.sync.preview import Preview


def preview(
    context: typer.Context,
    rule: Annotated[str, typer.Argument(metavar="RULE|CONFIG", help="A rule, or settings in JSON with --type.")],
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, path, end of a path, title or URL.")],
    transformation_type: Annotated[
        str | None, typer.Option("--type", help="Try settings that are not stored: of this type.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a rule would make of a document. Nothing is written; rules that are stored already count as applied."""
    with open_session(context) as session:
        found = _previewed(session, rule, transformation_type, document)
    if as_json:
        print_json({**_described(found), "diff": list(_diff(found))})
        return
    if found.dropped_by is not None:
        print_line(f"It would be left out by {found.dropped_by}.")
    changes = {name: f"{before} -> {after}" for name, (before, after) in _fields(found).items() if before != after}
    print_fields(changes)
    lines = list(_diff(found))
    for line in lines:
        print_line(line)
    if not lines and not changes and found.dropped_by is None:
        print_line("It changes nothing on this document.")


def _previewed(session: Session, rule: str, transformation_type: str | None, document: str) -> Preview:
    from workstation_pipelines.db import library, transformations
    from workstation_pipelines.sync import preview as previewing
    from workstation_pipelines.text.rules import ruleset

    with session.transaction() as connection:
        row = library.document(connection, user_id=session.user_id, reference=document)
        if transformation_type is not None:
            parsed = ruleset.parse("preview", transformation_type, decoded_config(rule))
        elif rule.lstrip().startswith(("{", "@")):
            raise InvalidRequestError("these are settings: say of which type with --type")
        else:
            stored = transformations.named(connection, user_id=session.user_id, name=rule)
            parsed = ruleset.parse(stored.name, stored.transformation_type, stored.config)
        return previewing.preview(connection, parsed, user_id=session.user_id, document_id=row.id)


def _fields(found: Preview) -> dict[str, tuple[Any, Any]]:
    return {
        "title": (found.title_before, found.title),
        "url": (found.url_before, found.url),
        "language": (found.language_before, found.language),
        "project": (None, found.project),
        "tags": ("", ", ".join(found.tags)),
    }


def _described(found: Preview) -> dict[str, Any]:
    return {
        "dropped_by": found.dropped_by,
        "forgets_original": found.forgets_original,
        "is_text_changed": found.text_before != found.text,
        "title": {"before": found.title_before, "after": found.title},
        "url": {"before": found.url_before, "after": found.url},
        "language": {"before": found.language_before, "after": found.language},
        "project": found.project,
        "tags": found.tags,
        "text": {"before": found.text_before, "after": found.text},
    }


def _diff(found: Preview) -> Iterator[str]:
    if found.dropped_by is None:
        before, after = found.text_before.splitlines(), found.text.splitlines()
        yield from difflib.unified_diff(before, after, "before", "after", lineterm="", n=1)
