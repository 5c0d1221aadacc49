"""`workstation transform`: rules that change, filter and file documents on their way in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, print_fields, print_json, print_line, print_table
from workstation_pipelines.commands.source_configure import decoded_config
from workstation_pipelines.commands.transform_preview import preview
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import SourceType

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection

    from workstation_pipelines.db.transformations import Transformation

app = typer.Typer(
    help="Rules that change, filter and file documents: types, add, list, show, edit, order, enable, disable, preview, remove."
)
app.command()(preview)

ORDER_STEP = 10

Name = Annotated[str, typer.Argument(metavar="RULE", help="Its name or id.")]
Config = Annotated[str | None, typer.Option(help="The settings: a JSON object, or @FILE.")]
Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting; the value is JSON, or text.")
]
OfSource = Annotated[str | None, typer.Option("--source", help="Only for this source.")]
OfType = Annotated[SourceType | None, typer.Option("--source-type", help="Only for sources of this type.")]
Order = Annotated[int | None, typer.Option(help="Rules are applied from the lowest to the highest number.")]


@dataclass(frozen=True, slots=True)
class Effect:
    """How many documents the present rules have not been applied to."""

    documents_to_rework: int


@app.command()
def types(as_json: AsJson = False) -> None:
    """List what rules can do.

    Each with its settings and an example.
    """
    from workstation_pipelines.text.rules.types import TYPES

    if as_json:
        print_json(
            {
                name: {"summary": kind.summary, "example": kind.example, "schema": kind.config.model_json_schema()}
                for name, kind in TYPES.items()
            }
        )
        return
    for name, kind in TYPES.items():
        print_line(f"{name}: {kind.summary}")
        print_line(f"    settings: {', '.join(kind.config.model_fields) or 'none'}")
        print_line(f"    example:  {json.dumps(kind.example, ensure_ascii=False)}")


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it from now on.")],
    transformation_type: Annotated[str, typer.Argument(metavar="TYPE", help="One that `transform types` lists.")],
    config: Config = None,
    settings: Setting = None,
    source: OfSource = None,
    source_type: OfType = None,
    order: Order = None,
    inactive: Annotated[bool, typer.Option("--inactive", help="Store it, and apply it once it is enabled.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add a rule. What is stored is brought under it by the next sync, or by `check --repair`."""
    from workstation_pipelines.db import transformations
    from workstation_pipelines.db.transformations import Transformation

    checked = _checked(name, transformation_type, _settings({}, config, settings))
    _refuse_two_scopes(source, source_type)
    with open_session(context) as session, session.transaction() as connection:
        rule = Transformation(
            name=_named(name),
            transformation_type=transformation_type,
            config=checked,
            source_type=source_type.value if source_type is not None else None,
            data_source_id=session.source(source).id if source is not None else None,
            execution_order=_next_order(session, connection) if order is None else order,
            is_active=not inactive,
        )
        rule_id = session.workspace.new_id()
        transformations.add(connection, user_id=session.user_id, transformation_id=rule_id, rule=rule)
        _audit(connection, "added", rule_id)
        effect = _effect(session, connection)
        row = transformations.named(connection, user_id=session.user_id, name=rule.name)
    _print_changed("Added", row, effect, as_json=as_json)


@app.command("list")
def list_rules(context: typer.Context, as_json: AsJson = False) -> None:
    """List rules in the order in which they are applied."""
    from workstation_pipelines.db import transformations

    with open_session(context) as session, session.transaction() as connection:
        rows = transformations.all_of(connection, user_id=session.user_id)
    if as_json:
        print_json(rows)
        return
    print_table(
        ["order", "rule", "type", "for", "active", "settings"],
        [
            (
                row.execution_order,
                row.name,
                row.transformation_type,
                row.data_source_name or row.source_type or "everything",
                row.is_active,
                json.dumps(row.config, ensure_ascii=False),
            )
            for row in rows
        ],
        empty="No rules yet: `workstation transform types` shows what they can do.",
    )


@app.command()
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show one rule with its settings."""
    from workstation_pipelines.db import transformations

    with open_session(context) as session, session.transaction() as connection:
        row = transformations.named(connection, user_id=session.user_id, name=name)
    if as_json:
        print_json(row)
    else:
        print_fields({**row._mapping, "config": json.dumps(row.config, ensure_ascii=False)})


@app.command()
def edit(
    context: typer.Context,
    name: Name,
    config: Config = None,
    settings: Setting = None,
    rename: Annotated[str | None, typer.Option(help="Another name.")] = None,
    source: OfSource = None,
    source_type: OfType = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="For everything, no longer for one source.")] = False,
    order: Order = None,
    as_json: AsJson = False,
) -> None:
    """Change a rule. --config replaces all settings, --set changes one of them."""
    _refuse_two_scopes(source, source_type, everywhere=everywhere)
    with open_session(context) as session, session.transaction() as connection:
        changes: dict[str, Any] = {}
        if rename is not None:
            changes["name"] = _named(rename)
        if order is not None:
            changes["execution_order"] = order
        if source is not None or source_type is not None or everywhere:
            changes["data_source_id"] = session.source(source).id if source is not None else None
            changes["source_type"] = source_type.value if source_type is not None else None
        row, effect = _change(session, connection, name, changes, config=config, settings=settings)
    _print_changed("Changed", row, effect, as_json=as_json)


@app.command()
def enable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Apply a rule again."""
    with open_session(context) as session, session.transaction() as connection:
        row, effect = _change(session, connection, name, {"is_active": True})
    _print_changed("Enabled", row, effect, as_json=as_json)


@app.command()
def disable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Keep a rule without applying it."""
    with open_session(context) as session, session.transaction() as connection:
        row, effect = _change(session, connection, name, {"is_active": False})
    _print_changed("Disabled", row, effect, as_json=as_json)


@app.command()
def order(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="RULE...", help="In the order in which they are to be applied.")
    ],
    as_json: AsJson = False,
) -> None:
    """Apply these rules in this order, before all others."""
    from workstation_pipelines.db import transformations

    with open_session(context) as session, session.transaction() as connection:
        rows = {row.id: row for row in transformations.all_of(connection, user_id=session.user_id)}
        first = [transformations.named(connection, user_id=session.user_id, name=name).id for name in names]
        if len(set(first)) < len(first):
            raise InvalidRequestError("a rule is named twice: name each once")
        for place, rule_id in enumerate([*first, *(each for each in rows if each not in first)], 1):
            rule = replace(_stored(rows[rule_id]), execution_order=place * ORDER_STEP)
            transformations.replace(connection, user_id=session.user_id, transformation_id=rule_id, rule=rule)
        _audit(connection, "ordered", *first)
        effect = _effect(session, connection)
        changed = transformations.all_of(connection, user_id=session.user_id)
    if as_json:
        print_json({"rules": changed, "documents_to_rework": effect.documents_to_rework})
        return
    print_line("Applied in this order: " + ", ".join(row.name for row in changed))
    _print_effect(effect)


@app.command()
def remove(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Remove a rule. What it did to documents is undone by the next sync, or by `check --repair`."""
    from workstation_pipelines.db import transformations

    with open_session(context) as session, session.transaction() as connection:
        row = transformations.named(connection, user_id=session.user_id, name=name)
        transformations.remove(connection, user_id=session.user_id, transformation_id=row.id)
        _audit(connection, "removed", row.id)
        effect = _effect(session, connection)
    _print_changed("Removed", row, effect, as_json=as_json)


def _change(
    session: Session,
    connection: Connection,
    name: str,
    changes: Mapping[str, Any],
    *,
    config: str | None = None,
    settings: Sequence[str] | None = None,
) -> tuple[Any, Effect]:
    from workstation_pipelines.db import transformations

    row = transformations.named(connection, user_id=session.user_id, name=name)
    wanted = _settings(row.config, config, settings)
    rule = replace(_stored(row), config=_checked(row.name, row.transformation_type, wanted), **changes)
    transformations.replace(connection, user_id=session.user_id, transformation_id=row.id, rule=rule)
    _audit(connection, "changed", row.id)
    changed = transformations.named(connection, user_id=session.user_id, name=str(row.id))
    return changed, _effect(session, connection)


def _settings(stored: Mapping[str, Any], config: str | None, settings: Sequence[str] | None) -> dict[str, Any]:
    merged = dict(stored) if config is None else decoded_config(config)
    for setting in settings or ():
        key, found, value = setting.partition("=")
        if not found:
            raise InvalidRequestError(f"{setting!r} sets nothing: write KEY=VALUE")
        try:
            merged[key] = json.loads(value)
        except ValueError:
            merged[key] = value
    return merged


def _checked(name: str, transformation_type: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as they are stored: those that were given, in their canonical form."""
    from workstation_pipelines.text.rules import ruleset

    return ruleset.parse(name, transformation_type, config).config.model_dump(mode="json", exclude_unset=True)


def _named(name: str) -> str:
    name = name.strip()
    if not 0 < len(name) <= 100 or "\0" in name:
        raise InvalidRequestError("a rule's name has 1 to 100 characters")
    return name


def _refuse_two_scopes(source: str | None, source_type: SourceType | None, *, everywhere: bool = False) -> None:
    if (source is not None) + (source_type is not None) + everywhere > 1:
        raise InvalidRequestError("a rule is for one source, for one type of sources, or for everything: choose one")


def _stored(row: Any) -> Transformation:
    from workstation_pipelines.db.transformations import Transformation

    return Transformation(
        name=row.name,
        transformation_type=row.transformation_type,
        config=row.config,
        source_type=row.source_type,
        data_source_id=row.data_source_id,
        execution_order=row.execution_order,
        is_active=row.is_active,
    )


def _next_order(session: Session, connection: Connection) -> int:
    from workstation_pipelines.db import transformations

    rows = transformations.all_of(connection, user_id=session.user_id)
    return max((row.execution_order for row in rows), default=0) + ORDER_STEP


def _effect(session: Session, connection: Connection) -> Effect:
    from workstation_pipelines.db import vectors

    return Effect(vectors.census(connection, user_id=session.user_id, data_source_id=None)["rules_changed"])


def _audit(connection: Connection, what: str, *rule_ids: UUID) -> None:
    from workstation_pipelines.db import audit

    audit.append(connection, [audit.Entry(f"transformation.{what}", f"transformation:{each}") for each in rule_ids])


def _print_changed(what: str, row: Any, effect: Effect, *, as_json: bool) -> None:
    if as_json:
        print_json({**row._mapping, "documents_to_rework": effect.documents_to_rework})
        return
    scope = row.data_source_name or row.source_type or "everything"
    print_line(f"{what} {row.name} ({row.transformation_type}, for {scope}).")
    _print_effect(effect)


def _print_effect(effect: Effect) -> None:
    if effect.documents_to_rework:
        print_line(
            f"{effect.documents_to_rework:,} documents are to be brought under your rules: the next sync does it, and"
            " `workstation check --repair` does it now, without fetching anything."
        )
