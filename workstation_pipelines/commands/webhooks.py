"""`workstation webhooks`: who is told of events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workstation_pipelines.commands.exits import ExitCode
from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, Yes, print_json, print_line, print_table
from workstation_pipelines.commands.questions import confirm
from workstation_pipelines.model import EventKind

if TYPE_CHECKING:
    from workstation_pipelines.db.webhooks import Webhook
    from workstation_pipelines.sync.webhooks import Sender

app = typer.Typer(help="Webhooks: HTTPS addresses that are told of events, signed after Standard Webhooks.")

Name = Annotated[str, typer.Argument(help="The webhook, as `workstation webhooks add` named it.")]


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it from now on.")],
    url: Annotated[str, typer.Argument(help="A public https address.")],
    kind: Annotated[list[str] | None, typer.Option(help=f"Only these events: {', '.join(EventKind)}.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add a webhook and print its secret, this once.

    Messages are sent while Dagster runs; `workstation webhooks test` sends one by itself.
    """
    from workstation_pipelines.sync import webhooks

    with open_session(context) as session, _sender(session) as sender:
        added, secret = webhooks.add(sender, user_id=session.user_id, name=name, url=url, kinds=kind)
    if as_json:
        print_json({**_described(added), "secret": secret})
        return
    print_line(f"Added {added.name}. Its secret, which is not shown again:")
    print_line(secret)
    print_line(f"Next: workstation webhooks test {added.name}")


@app.command("list")
def list_webhooks(context: typer.Context, as_json: AsJson = False) -> None:
    """List your webhooks with what came of their messages."""
    from workstation_pipelines.db import webhook_deliveries, webhooks

    with open_session(context) as session, session.transaction() as connection:
        stored = webhooks.all_of(connection, user_id=session.user_id)
        totals = {row.webhook_id: row for row in webhook_deliveries.totals(connection, user_id=session.user_id)}
    if as_json:
        print_json([{**_described(each), **totals[each.id]._mapping} for each in stored])
        return
    print_table(
        ["webhook", "url", "kinds", "active", "waiting", "told", "given up", "last told", "last error"],
        [
            (
                each.name,
                each.url,
                "all" if list(each.kinds) == ["*"] else list(each.kinds),
                each.is_active,
                totals[each.id].waiting,
                totals[each.id].delivered,
                totals[each.id].given_up,
                totals[each.id].last_delivered_at,
                each.disabled_reason or totals[each.id].last_error,
            )
            for each in stored
        ],
        empty="No webhooks yet: `workstation webhooks add NAME URL` adds one.",
    )


@app.command("test")
def send_test(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Send a message of the type `test` now. Exit code 1 when it did not arrive."""
    from workstation_pipelines.db import webhook_deliveries
    from workstation_pipelines.sync import webhooks

    with open_session(context) as session, _sender(session) as sender:
        webhook = _named(session, name)
        delivery_id = webhooks.send_test(sender, webhook)
        with session.transaction() as connection:
            row = webhook_deliveries.get(connection, user_id=session.user_id, delivery_id=delivery_id)
    if as_json:
        print_json(row)
    elif row.delivered_at is not None:
        print_line(f"{webhook.name} answered with status {row.response_code}.")
    elif not row.attempts:
        print_line(f"{webhook.name} is disabled, so nothing was sent: workstation webhooks enable {webhook.name}")
    else:
        later = "it is not tried again" if row.given_up_at else "it is tried again later, while Dagster runs"
        print_line(f"{webhook.name} was not told: {row.last_error}; {later}.")
    if row.delivered_at is None:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def enable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Tell a disabled webhook again.

    It begins with what waits for it.
    """
    from workstation_pipelines.sync import webhooks

    with open_session(context) as session, _sender(session) as sender:
        webhook = _named(session, name)
        webhooks.enable(sender, webhook)
    if as_json:
        print_json({"enabled": webhook.id, "name": webhook.name})
    else:
        print_line(f"{webhook.name} is told again.")


@app.command()
def remove(context: typer.Context, name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a webhook with what waits for it."""
    from workstation_pipelines.db import webhooks

    with open_session(context) as session:
        webhook = _named(session, name)
        confirm(f"Remove the webhook {webhook.name} to {webhook.url}?", yes=yes)
        with session.transaction() as connection:
            webhooks.remove(connection, user_id=session.user_id, webhook_id=webhook.id)
    if as_json:
        print_json({"removed": webhook.id, "name": webhook.name})
    else:
        print_line(f"Removed {webhook.name}.")


@contextmanager
def _sender(session: Session) -> Iterator[Sender]:
    from workstation_pipelines.sync.alerts import open_sender

    sender = open_sender(session.workspace)
    try:
        yield sender
    finally:
        sender.caller.close()


def _named(session: Session, name: str) -> Webhook:
    from workstation_pipelines.db import webhooks

    with session.transaction() as connection:
        return webhooks.named(connection, user_id=session.user_id, name=name)


def _described(webhook: Webhook) -> dict[str, Any]:
    return {name: value for name, value in asdict(webhook).items() if name != "user_id"}
