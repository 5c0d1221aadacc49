"""How a plan is told."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING

from workstation_pipelines.commands.output import print_json, print_line, shown

if TYPE_CHECKING:
    from workstation_pipelines.sync.estimate import Estimate
    from workstation_pipelines.sync.plan import Plan


def print_plan(plan: Plan, *, as_json: bool, label: str = "") -> None:
    """Print what a sync would do and take, each line behind `label`."""
    if as_json:
        estimate = plan.estimate
        calls = {} if estimate is None else {"provider_calls": estimate.provider_calls}
        values = None if estimate is None else {**asdict(estimate), **calls}
        print_json({**asdict(plan), "estimate": values})
        return
    print_line(
        f"{label}{plan.adds:,} to add, {plan.updates:,} to update, {plan.renames:,} to rename, {plan.deletes:,} to delete,"
        f" {plan.unchanged:,} unchanged, {plan.skips:,} of kinds without text, {plan.unreadable:,} unreadable"
    )
    if plan.estimate is not None:
        _print_estimate(plan.estimate, label)
    for what, paths in plan.examples.items():
        for path in paths:
            print_line(f"  {what}: {shown(path)}")
    if plan.needs_confirmation:
        print_line("So many deletes stop for a confirmation: add --confirm-deletes if they are right.")


def usd(amount: Decimal | None) -> str:
    """Return an amount of money as people read it, small ones with the digits that matter."""
    if amount is None:
        return "unknown"
    if amount == 0:
        return "0 USD"
    return (
        f"{amount:,.2f} USD" if amount >= 1 else f"{amount:.2g} USD" if amount >= Decimal("0.0001") else "< 0.0001 USD"
    )


def _print_estimate(taken: Estimate, label: str) -> None:
    price = "price unknown: set WORKSTATION_PRICES" if taken.cost_usd is None else usd(taken.cost_usd)
    print_line(
        f"{label}  about {taken.provider_calls:,} calls ({taken.listing_calls:,} to list, {taken.fetch_calls:,} to fetch),"
        f" {taken.bytes_to_fetch:,} bytes, {taken.tokens:,} tokens to embed ({price})"
    )
    pace = f", as long as {taken.paced_by} allows" if taken.paced_by is not None else ""
    print_line(f"{label}  about {_duration(taken.duration_s)}{pace}")
    grounds = [f"{taken.sampled_items:,} items looked into"] if taken.sampled_items else []
    if taken.items_by_stored_ratio:
        grounds.append(f"{taken.items_by_stored_ratio:,} taken for what stored documents of their kind are")
    if taken.unknown_items:
        grounds.append(f"{taken.unknown_items:,} of unknown text, whose tokens are left out")
    if grounds:
        print_line(f"{label}  tokens: {'; '.join(grounds)}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
