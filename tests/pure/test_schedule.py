"""When a scheduled sync is due: time zones, clock changes, the calendar's corners, and what is missed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.sync.schedule import WEEKDAYS, next_run_at, upcoming


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule_type", "config", "timezone", "after", "expected"),
    [
        # An ordinary day, in UTC and in a zone; "later than" is strict.
        ("daily", {"at": "02:30"}, "UTC", "2026-11-22 02:29:59", "2026-11-22 02:30:00"),
        ("daily", {"at": "02:30"}, "UTC", "2026-11-22 02:30:00", "2026-11-23 02:30:00"),
        ("daily", {"at": "9:05"}, "Asia/Kolkata", "2026-11-22 03:34:00", "2026-11-22 03:35:00"),
        # Clocks go forward: 02:30 does not exist and is due when the hour is over, at 03:00.
        ("daily", {"at": "02:30"}, "Europe/Berlin", "2026-03-28 12:00:00", "2026-03-29 01:00:00"),
        ("daily", {"at": "02:30"}, "Europe/Berlin", "2026-03-29 01:00:00", "2026-03-30 00:30:00"),
        ("daily", {"at": "00:30"}, "America/Sao_Paulo", "2018-11-03 12:00:00", "2018-11-04 03:00:00"),
        # Clocks go back: 02:30 comes twice and is due the first time only.
        ("daily", {"at": "02:30"}, "Europe/Berlin", "2026-10-24 12:00:00", "2026-10-25 00:30:00"),
        ("daily", {"at": "02:30"}, "Europe/Berlin", "2026-10-25 00:30:00", "2026-10-26 01:30:00"),
        ("daily", {"at": "02:30"}, "Europe/Berlin", "2026-10-25 01:10:00", "2026-10-26 01:30:00"),
        # Half-hour change.
        ("daily", {"at": "01:45"}, "Australia/Lord_Howe", "2026-04-04 12:00:00", "2026-04-04 14:45:00"),
        # Weeks begin where the zone says.
        (
            "weekly",
            {"weekday": "monday", "at": "00:00"},
            "Pacific/Auckland",
            "2026-11-22 00:00:00",
            "2026-11-22 11:00:00",
        ),
        ("weekly", {"weekday": "sunday", "at": "12:00"}, "UTC", "2026-11-22 12:00:00", "2026-11-29 12:00:00"),
        # The calendar's corners.
        ("cron", {"expression": "0 6 31 * *"}, "UTC", "2026-01-31 06:00:00", "2026-03-31 06:00:00"),
        ("cron", {"expression": "0 6 29 2 *"}, "UTC", "2026-01-01 00:00:00", "2028-02-29 06:00:00"),
        ("cron", {"expression": "0 6 29 2 *"}, "UTC", "2096-03-01 00:00:00", "2104-02-29 06:00:00"),
        ("cron", {"expression": "0 6 L * *"}, "UTC", "2026-02-01 00:00:00", "2026-02-28 06:00:00"),
        ("cron", {"expression": "30 8 * * mon-fri"}, "America/New_York", "2026-11-20 13:30:00", "2026-11-23 13:30:00"),
        ("cron", {"expression": "*/5 * * * *"}, "Europe/Berlin", "2026-10-25 00:58:00", "2026-10-25 01:00:00"),
        ("cron", {"expression": "0,58 9 * * *"}, "UTC", "2026-01-01 09:30:00", "2026-01-01 09:58:00"),
    ],
)
def test_next_time(schedule_type: str, config: dict[str, Any], timezone: str, after: str, expected: str) -> None:
    due = next_run_at(schedule_type, config, timezone, _at(after))
    assert due == _at(expected)
    assert due.tzinfo is UTC


def test_interval_keeps_its_phase_and_runs_once_after_downtime() -> None:
    anchor = _at("2026-11-22 08:00:00")
    config = {"minutes": 45}
    assert next_run_at("interval", config, "UTC", anchor, anchor=anchor) == _at("2026-11-22 08:45:00")
    assert next_run_at("interval", config, "UTC", _at("2026-11-22 08:47:13"), anchor=anchor) == _at(
        "2026-11-22 09:30:00"
    )
    assert next_run_at("interval", config, "UTC", _at("2026-11-22 20:00:00"), anchor=anchor) == _at(
        "2026-11-22 20:45:00"
    )


def test_interval_without_an_anchor_counts_from_now() -> None:
    assert next_run_at("interval", {"minutes": 5}, "UTC", _at("2026-11-22 08:00:30")) == _at("2026-11-22 08:05:30")


def test_interval_is_elapsed_time_across_a_clock_change() -> None:
    anchor = _at("2026-03-28 12:00:00")
    due = next_run_at("interval", {"minutes": 1440}, "Europe/Berlin", anchor, anchor=anchor)
    assert due - anchor == timedelta(days=1)


def test_clock_behind_the_kept_due_time_does_not_repeat_it() -> None:
    anchor = _at("2026-11-22 08:00:00")
    after = anchor - timedelta(seconds=2)
    assert next_run_at("interval", {"minutes": 5}, "UTC", after, anchor=anchor) == anchor + timedelta(minutes=5)
    assert next_run_at("daily", {"at": "08:00"}, "UTC", after, anchor=anchor) == anchor + timedelta(days=1)


@pytest.mark.parametrize(
    ("schedule_type", "config", "timezone", "says"),
    [
        ("cron", {"expression": "* * * * *"}, "UTC", "every 5 minutes"),
        ("cron", {"expression": "*/4 * * * *"}, "UTC", "every 5 minutes"),
        ("cron", {"expression": "0,57 * * * *"}, "UTC", "every 5 minutes"),
        ("cron", {"expression": "0,58 23,0 * * *"}, "UTC", "every 5 minutes"),
        ("cron", {"expression": "0 0 * * * *"}, "UTC", "five fields"),
        ("cron", {"expression": "61 0 * * *"}, "UTC", "cannot be used"),
        ("cron", {"expression": "0 0 30 2 *"}, "UTC", "cannot be used"),
        ("cron", {"expression": "@daily"}, "UTC", "five fields"),
        ("cron", {}, "UTC", "five fields"),
        ("interval", {"minutes": 4}, "UTC", "5 to"),
        ("interval", {"minutes": -5}, "UTC", "5 to"),
        ("interval", {"minutes": 10**12}, "UTC", "5 to"),
        ("interval", {"minutes": 5.5}, "UTC", "whole number"),
        ("interval", {"minutes": True}, "UTC", "whole number"),
        ("daily", {"at": "24:00"}, "UTC", "time of day"),
        ("daily", {}, "UTC", "time of day"),
        ("weekly", {"at": "02:30"}, "UTC", "weekday"),
        ("weekly", {"at": "02:30", "weekday": "Monday"}, "UTC", "monday"),
        ("yearly", {}, "UTC", "cron, interval, daily, weekly"),
        ("daily", {"at": "02:30"}, "Europe/Atlantis", "IANA"),
        ("daily", {"at": "02:30"}, "Europe", "IANA"),
        ("daily", {"at": "02:30"}, "../../etc/passwd", "IANA"),
        ("daily", {"at": "02:30"}, "", "IANA"),
    ],
)
def test_unusable_schedule_says_how_to_mend_it(
    schedule_type: str, config: dict[str, Any], timezone: str, says: str
) -> None:
    with pytest.raises(InvalidRequestError, match=says):
        next_run_at(schedule_type, config, timezone, _at("2026-11-22 00:00:00"))


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        next_run_at("daily", {"at": "02:30"}, "UTC", datetime(2026, 11, 22))  # noqa: DTZ001 - the point of the test


_ZONES = sorted(available_timezones() - {"localtime"})


@given(
    zone=st.sampled_from(_ZONES),
    after=st.datetimes(datetime(1990, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - `timezones`
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    weekday=st.sampled_from([None, *WEEKDAYS]),
)
def test_daily_and_weekly_times_are_later_near_and_at_the_wall_clock(
    zone: str, after: datetime, hour: int, minute: int, weekday: str | None
) -> None:
    at = f"{hour:02}:{minute:02}"
    kind, config = ("daily", {"at": at}) if weekday is None else ("weekly", {"at": at, "weekday": weekday})
    due = next_run_at(kind, config, zone, after)
    assert timedelta(0) < due - after <= timedelta(days=2 if weekday is None else 15)  # a zone may skip a whole day
    local = due.astimezone(ZoneInfo(zone))
    is_at_its_time = (local.hour, local.minute) == (hour, minute)
    assert is_at_its_time or _is_just_after_a_gap(due, ZoneInfo(zone))
    assert local.fold == 0 or not is_at_its_time or _is_just_after_a_gap(due, ZoneInfo(zone))


def _is_just_after_a_gap(due: datetime, zone: ZoneInfo) -> bool:
    before = due - timedelta(hours=25)
    return any(
        (before + timedelta(hours=hours)).astimezone(zone).utcoffset() != due.astimezone(zone).utcoffset()
        for hours in range(25)
    )


def _minute_by_minute(
    minute: set[int], hour: set[int], weekday: set[int], zone: ZoneInfo, start: datetime
) -> list[datetime]:
    """The due times of two days as Debian's cron keeps them, by looking at the clock on the wall every minute.

    What a change of clocks skips is due when the skipped time is over, what it shows twice the first time.
    """
    kept: list[datetime] = []
    seen = start.astimezone(zone).replace(tzinfo=None)
    for passed in range(1, 2 * 24 * 60 + 1):
        moment = start + timedelta(minutes=passed)
        wall = moment.astimezone(zone).replace(tzinfo=None)
        skipped = [seen + timedelta(minutes=n) for n in range(1, int((wall - seen).total_seconds()) // 60 + 1)]
        if any(at.minute in minute and at.hour in hour and at.isoweekday() % 7 in weekday for at in skipped):
            kept.append(moment)
        seen = max(seen, wall)
    return kept


_CHANGES = [
    ("Europe/Berlin", "2026-03-28 12:00:00"),
    ("Europe/Berlin", "2026-10-24 12:00:00"),
    ("America/New_York", "2027-03-13 12:00:00"),
    ("America/New_York", "2026-10-31 12:00:00"),
    ("Australia/Lord_Howe", "2026-04-04 02:00:00"),
    ("Australia/Lord_Howe", "2026-10-03 02:00:00"),
    ("America/Sao_Paulo", "2018-11-03 12:00:00"),
    ("Asia/Kolkata", "2028-02-28 06:00:00"),
    ("UTC", "2026-12-30 23:59:00"),
]


@settings(max_examples=60)
@given(
    place=st.sampled_from(_CHANGES),
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekdays=st.sets(st.integers(0, 6), min_size=1),
    clock=st.lists(st.integers(-180, 400), min_size=1, max_size=30),
)
def test_each_due_time_is_kept_once_however_the_clock_jumps(
    place: tuple[str, str], minute: int, hour: int, weekdays: set[int], clock: list[int]
) -> None:
    """Ticks look at a clock that jumps both ways: a tick keeps a due time if, and only if, one has come since the last."""
    zone, start = ZoneInfo(place[0]), _at(place[1])
    config = {"expression": f"{minute} {hour} * * {','.join(map(str, sorted(weekdays)))}"}
    reference = _minute_by_minute({minute}, {hour}, weekdays, zone, start)
    now = answered = start
    due = next_run_at("cron", config, place[0], start)
    kept: list[datetime] = []
    for jump in clock:
        now = min(now + timedelta(minutes=jump), start + timedelta(days=2))
        come = [each for each in reference if answered < each <= now]
        assert (due <= now) == bool(come)
        if come:
            assert due == come[0]
            kept.append(due)
            answered = max(now, due)
            due = next_run_at("cron", config, place[0], now, anchor=due)
    assert kept == sorted(set(kept))


@settings(max_examples=40)
@given(place=st.sampled_from(_CHANGES), minute=st.integers(0, 59), hour=st.integers(0, 23))
def test_ticks_every_minute_keep_every_due_time_of_the_reference(
    place: tuple[str, str], minute: int, hour: int
) -> None:
    zone, start = ZoneInfo(place[0]), _at(place[1])
    config = {"expression": f"{minute} {hour} * * *"}
    reference = _minute_by_minute({minute}, {hour}, set(range(7)), zone, start)
    first = next_run_at("cron", config, place[0], start)
    found = list(islice(upcoming("cron", config, place[0], first=first, now=start), len(reference) + 1))
    assert found[: len(reference)] == reference
    assert found[len(reference)] > start + timedelta(days=2)


def test_overdue_time_is_shown_once_and_what_was_missed_is_not() -> None:
    first, now = _at("2026-11-20 02:30:00"), _at("2026-11-22 08:00:00")
    times = upcoming("daily", {"at": "02:30"}, "UTC", first=first, now=now)
    assert list(islice(times, 3)) == [first, _at("2026-11-23 02:30:00"), _at("2026-11-24 02:30:00")]


@given(
    schedule_type=st.sampled_from(["cron", "interval", "daily", "weekly", "x"]),
    config=st.one_of(
        st.none(),
        st.text(),
        st.lists(st.integers()),
        st.dictionaries(
            st.sampled_from(["expression", "minutes", "at", "weekday"]),
            st.one_of(
                st.none(),
                st.integers(),
                st.floats(),
                st.text(),
                st.lists(st.text()),
                st.from_regex(r"[\d*/,\-L# ]{9,20}"),
            ),
        ),
    ),
    zone=st.one_of(st.just("UTC"), st.text()),
)
def test_whatever_a_row_holds_is_a_time_or_a_refusal(schedule_type: str, config: Any, zone: str) -> None:
    with suppress(InvalidRequestError):
        assert next_run_at(schedule_type, config, zone, _at("2026-11-22 00:00:00")) > _at("2026-11-22 00:00:00")
