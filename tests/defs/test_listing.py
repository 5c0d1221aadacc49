"""When the code location of workflows is reloaded for its list of jobs: late enough to be in nobody's way, and seldom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from workstation_pipelines.defs.watchdog import Listing

SAVED = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A clock, and when a version was saved last."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.newest: datetime | None = None
        self.listing = Listing(lambda: self.newest, after_s=30, every_s=60, monotonic=lambda: self.now_s)

    def save(self) -> None:
        self.newest = (self.newest or SAVED) + timedelta(seconds=1)

    def reloads_at(self, until_s: float, every_s: float = 10) -> list[float]:
        """Look every ten seconds, as the watchdog does, and tell when it was due."""
        due = []
        while self.now_s < until_s:
            if self.listing.is_due():
                due.append(self.now_s)
            self.now_s += every_s
        return due


def test_what_was_there_at_the_beginning_is_listed_already() -> None:
    world = World()
    world.save()
    assert world.reloads_at(1200) == []


def test_saved_version_is_listed_half_a_minute_after_it_was_noticed() -> None:
    world = World()
    assert world.reloads_at(1010) == []
    world.save()
    assert world.reloads_at(1200) == [1040]


def test_version_a_second_does_not_put_off_reloads_and_makes_one_a_minute_at_most() -> None:
    world = World()
    world.reloads_at(1010)
    due = []
    for second in range(1010, 1310):
        world.save()
        due += world.reloads_at(second + 1, every_s=1)
    assert due == [1040, 1100, 1160, 1220, 1280]


def test_deleted_workflow_is_taken_off_the_list_like_a_new_one_is_put_on_it() -> None:
    world = World()
    world.save()
    world.reloads_at(1010)
    world.newest = None
    assert world.reloads_at(1200) == [1040]
