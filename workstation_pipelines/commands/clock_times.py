"""Times by the clock: the options that say when, and rows of schedules as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Protocol

import typer

from workstation_pipelines.errors import InvalidRequestError

Cron = Annotated[str | None, typer.Option(help="Five fields, such as '30 2 * * 1-5'.")]
Every = Annotated[int | None, typer.Option(metavar="MINUTES", help="So many minutes apart, 5 at least.")]
Daily = Annotated[str | None, typer.Option(metavar="HH:MM")]
Weekly = Annotated[tuple[str, str] | None, typer.Option(metavar="DAY HH:MM", help="Such as monday 02:30.")]
Timezone = Annotated[str, typer.Option(help="An IANA name; times of day are on its clocks.")]


class Scheduled(Protocol):
    """What a row of any table of schedules says about its times."""

    @property
    def schedule_type(self) -> str: ...

    @property
    def schedule_config(self) -> Mapping[str, Any]: ...

    @property
    def timezone(self) -> str: ...

    @property
    def next_run_at(self) -> datetime | None: ...

    @property
    def is_active(self) -> bool: ...


def chosen(
    cron: str | None, every: int | None, daily: str | None, weekly: tuple[str, str] | None
) -> tuple[str, dict[str, Any]]:
    chosen: list[tuple[str, dict[str, Any]]] = []
    if cron is not None:
        chosen.append(("cron", {"expression": cron}))
    if every is not None:
        chosen.append(("interval", {"minutes": every}))
    if daily is not None:
        chosen.append(("daily", {"at": daily}))
    if weekly is not None:
        chosen.append(("weekly", {"weekday": weekly[0].lower(), "at": weekly[1]}))
    if len(chosen) != 1:
        raise InvalidRequestError("give one of --cron EXPRESSION, --every MINUTES, --daily HH:MM, --weekly DAY HH:MM")
    return chosen[0]


def when(row: Scheduled) -> str:
    config = row.schedule_config if isinstance(row.schedule_config, dict) else {}
    match row.schedule_type:
        case "cron":
            return f"cron {config.get('expression', '')}"
        case "interval":
            return f"every {config.get('minutes', '')} minutes"
        case "daily":
            return f"daily at {config.get('at', '')}"
        case _:
            return f"{config.get('weekday', '')} at {config.get('at', '')}"


def next_shown(row: Scheduled) -> str:
    if not row.is_active:
        return ""
    return utc(row.next_run_at) if row.next_run_at else "at the next tick"


def utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def in_zone(moment: datetime, row: Scheduled) -> str:
    from workstation_pipelines.sync.schedule import known_zone

    local = moment.astimezone(known_zone(row.timezone))
    return f"{local:%a %Y-%m-%d %H:%M %Z}"
