"""`workstation schedule`: rows are added, seen, paused, resumed and removed, and say when they are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.program import Program


def test_schedules_live_from_add_to_remove(workstation: Program, folder: Path) -> None:
    workstation.connect("papers", folder)
    assert "schedule add" in workstation("schedule", "list").out
    added = {
        options[0]: workstation("schedule", "add", "papers", *options, "--timezone", "Europe/Oslo", "--json").value
        for options in (
            ("--cron", "30 2 * * 1-5"),
            ("--every", "90"),
            ("--daily", "02:30"),
            ("--weekly", "Monday", "08:00"),
        )
    }
    assert [row["schedule_type"] for row in added.values()] == ["cron", "interval", "daily", "weekly"]
    listed = workstation("schedule", "list", "--source", "papers").out
    for shown in ("cron 30 2 * * 1-5", "every 90 minutes", "daily at 02:30", "monday at 08:00", "Europe/Oslo"):
        assert shown in listed

    weekly = added["--weekly"]["id"]
    times = workstation("schedule", "next", weekly, "--count", "3", "--json").value
    moments = [datetime.fromisoformat(each["utc"]) for each in times]
    assert len(moments) == 3
    assert all(each["local"].startswith("Mon") and " 08:00 " in each["local"] for each in times)
    assert moments[1] - moments[0] in [timedelta(days=7, hours=hours) for hours in (-1, 0, 1)]
    every = workstation("schedule", "next", "--json").value
    assert [each["utc"] for each in every] == sorted(each["utc"] for each in every)
    assert len(every) == 10
    assert f"{datetime.fromisoformat(every[0]['utc']):%Y-%m-%d %H:%M} UTC" in workstation("schedule", "next").out

    assert workstation("schedule", "pause", weekly, "--json").value["is_active"] is False
    assert workstation("schedule", "next", weekly, "--json").value == []
    resumed = workstation("schedule", "resume", weekly, "--json").value
    assert resumed["is_active"] is True
    assert datetime.fromisoformat(resumed["next_run_at"]) == moments[0] > datetime.now(UTC)
    assert workstation("schedule", "pause", weekly).code == 0
    assert "Resumed" in workstation("schedule", "resume", weekly).out
    assert "Removed" in workstation("schedule", "remove", weekly).out
    assert workstation("schedule", "remove", weekly, "--json").code == 2
    assert len(workstation("schedule", "list", "--json").value) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--cron"),
        (("--daily", "02:30", "--every", "60"), "--cron"),
        (("--every", "4"), "5 to"),
        (("--weekly", "someday", "02:30"), "weekday"),
        (("--cron", "* * * * *"), "every 5 minutes"),
        (("--daily", "02:30", "--timezone", "Mars/Olympus"), "IANA"),
    ],
)
def test_what_cannot_be_kept_is_refused(workstation: Program, options: tuple[str, ...], says: str) -> None:
    ran = workstation("schedule", "add", "papers", *options)
    assert ran.code == 2
    assert says in ran.err


def test_wrong_id_is_named(workstation: Program) -> None:
    assert "schedule list" in workstation("schedule", "pause", "nonsense").err
    assert workstation("schedule", "next", "nonsense").code == 2
