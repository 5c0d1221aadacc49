"""When a scheduled sync is due next: pure, in the schedule's own time zone.

`schedule_config` by type: cron {"expression": "30 2 * * 1-5"}, interval {"minutes": 60}, daily {"at": "02:30"},
weekly {"weekday": "monday", "at": "02:30"}.

Times of day follow the clock on the wall as Debian's cron does: one that the change to summer time skips is due when
the skipped hour is over, one that the change back shows twice is due the first time. Intervals are elapsed time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import aware_utc

SHORTEST = timedelta(minutes=5)
"""A row moves on a minute after its run exists; what is due more often would not be started as often as it says."""

LONGEST_MINUTES = 366 * 24 * 60
SCHEDULE_TYPES = ("cron", "interval", "daily", "weekly")
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

_AT = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")


def next_run_at(
    schedule_type: str,
    config: Mapping[str, Any],
    timezone: str,
    after: datetime,
    *,
    anchor: datetime | None = None,
) -> datetime:
    """Return the first due time later than `after`, in UTC; what was due before is skipped, however often it was.

    `anchor` is the due time that was kept last: intervals count from it, so that lateness does not add up; without it
    they count from `after`. Raises InvalidRequestError for a schedule that is malformed, closer than five minutes, or
    never due.
    """
    if not isinstance(config, Mapping):
        raise InvalidRequestError('a schedule is an object such as {"minutes": 60}, not another JSON value')
    zone = known_zone(timezone)
    after = aware_utc(after)
    anchor = aware_utc(anchor) if anchor else after
    after = max(after, anchor)  # the database's clock said that `anchor` had come, and ours may be behind it
    if schedule_type == "interval":
        every = _interval(config)
        return anchor + ((after - anchor) // every + 1) * every
    return _after_cron(_expression(schedule_type, config), zone, after)


def upcoming(
    schedule_type: str, config: Mapping[str, Any], timezone: str, *, first: datetime, now: datetime
) -> Iterator[datetime]:
    """Yield `first`, the due time of a row, and all that follow it, in UTC; endless. What is overdue is made up for once.

    Raises InvalidRequestError.
    """
    due = aware_utc(first)
    while True:
        yield due
        due = next_run_at(schedule_type, config, timezone, max(due, aware_utc(now)), anchor=due)


def _after_cron(expression: str, zone: ZoneInfo, after: datetime) -> datetime:
    try:
        moments = CronSim(expression, after.astimezone(zone))
        _refuse_too_close(expression, moments)
        for moment in moments:
            due = moment.astimezone(UTC)
            if due > after:  # in an hour shown twice, the first showing may lie behind us
                return due
    except CronSimError:
        raise InvalidRequestError(
            f"cron expression {expression!r} cannot be used: give minute, hour, day, month and weekday, as in '30 2 * * 1-5'"
        ) from None
    raise InvalidRequestError(f"cron expression {expression!r} is never due: no such day exists")


def _refuse_too_close(expression: str, moments: CronSim) -> None:
    minutes, hours = sorted(moments.minutes), moments.hours
    gaps = [later - earlier for earlier, later in pairwise(minutes)]
    if any((hour + 1) % 24 in hours for hour in hours):
        gaps.append(minutes[0] + 60 - minutes[-1])
    if gaps and min(gaps) < SHORTEST // timedelta(minutes=1):
        raise InvalidRequestError(f"cron expression {expression!r} is due more often than every 5 minutes: widen it")


def _expression(schedule_type: str, config: Mapping[str, Any]) -> str:
    if schedule_type == "cron":
        expression = config.get("expression")
        if not isinstance(expression, str) or len(expression.split()) != 5:
            raise InvalidRequestError(
                "a cron schedule needs `expression` with five fields: minute, hour, day, month and weekday"
            )
        return expression
    if schedule_type == "daily":
        return f"{_time_of_day(config)} * * *"
    if schedule_type == "weekly":
        weekday = config.get("weekday")
        if weekday not in WEEKDAYS:
            raise InvalidRequestError(f"a weekly schedule needs `weekday`, one of {', '.join(WEEKDAYS)}")
        return f"{_time_of_day(config)} * * {WEEKDAYS.index(weekday)}"
    raise InvalidRequestError(f"unknown schedule type {schedule_type!r}: choose one of {', '.join(SCHEDULE_TYPES)}")


def _time_of_day(config: Mapping[str, Any]) -> str:
    found = _AT.fullmatch(str(config.get("at", "")))
    if not found:
        raise InvalidRequestError("a daily or weekly schedule needs `at`, a time of day such as '02:30'")
    return f"{int(found[2])} {int(found[1])}"


def _interval(config: Mapping[str, Any]) -> timedelta:
    minutes = config.get("minutes")
    if not isinstance(minutes, int) or isinstance(minutes, bool):
        raise InvalidRequestError("an interval schedule needs `minutes`, a whole number")
    every = timedelta(minutes=min(max(minutes, 0), LONGEST_MINUTES + 1))
    if not SHORTEST <= every <= timedelta(minutes=LONGEST_MINUTES):
        raise InvalidRequestError(f"an interval of {minutes} minutes cannot be kept: use 5 to {LONGEST_MINUTES}")
    return every


def known_zone(name: str) -> ZoneInfo:
    """Raises InvalidRequestError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequestError(
            f"unknown time zone {name!r}: use an IANA name such as Europe/Berlin or UTC"
        ) from None
