"""Random lives of an account: whatever happens, in whatever pages it is told and wherever runs die, all is found."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from tests.fakes.dropbox import FakeDropbox
from tests.fakes.dropbox_space import Space
from tests.sources.dropbox_bench import Opened, served, sources_of, truth
from tests.sources.mirror import Mirror
from workstation_pipelines.errors import CursorExpiredError
from workstation_pipelines.sources.dropbox import feed as dropbox_feed

LIVES = 25
NAMES = ("a.txt", "A.txt", "a.txt.txt", "a.txt-.txt", "a.txt0.txt", "a.txta.txt", "b.txt", "é.txt", "É.txt")


@pytest.fixture
def vendor() -> Iterator[FakeDropbox]:
    with served() as vendor:
        yield vendor


@pytest.fixture
def opened(vendor: FakeDropbox) -> Iterator[Opened]:
    with sources_of(vendor) as opened:
        yield opened


def live(space: Space, dice: Random) -> None:
    """One thing happens; some choices come to nothing."""
    everything = sorted(space.nodes.values(), key=lambda node: node.path)
    node = dice.choice(everything) if everything else None
    folders = ["", *(one.shown_path for one in everything if one.is_folder)]
    path = f"{dice.choice(folders)}/{dice.choice(NAMES)}"
    there = space.nodes.get(path.lower())
    what = dice.choice(["put", "put", "put", "move", "move", "remove", "case", "over", "restore", "mkdir"])
    if what == "put" and (there is None or not there.is_folder):
        space.put(path, f"text {dice.random()}")
    elif what == "mkdir":
        space.mkdir(path) if there is None else None
    elif what == "remove" and node is not None:
        space.remove(node.shown_path)
    elif what == "case" and node is not None:
        space.move(node.shown_path, f"{node.shown_path.rpartition('/')[0]}/{node.name.swapcase()}")
    elif what == "over" and node is not None:
        if node.is_folder:
            space.put_over_folder(node.shown_path, f"text {dice.random()}")
        elif dice.random() < 0.5:
            space.put_over_file(node.shown_path, f"text {dice.random()}")
        else:
            space.mkdir_over_file(node.shown_path)
    elif what == "move" and node is not None and there is None and not path.lower().startswith(node.path + "/"):
        space.move(node.shown_path, path)
    elif what == "restore":
        back = [key for key, nodes in space.removed.items() if nodes[0].path not in space.nodes]
        parents = [key for key in back if _has_room(space, space.removed[key][0].path)]
        if parents:
            space.restore(dice.choice(parents))


def _has_room(space: Space, path: str) -> bool:
    above = path.rpartition("/")[0]
    while above:
        if above in space.nodes and not space.nodes[above].is_folder:
            return False
        above = above.rpartition("/")[0]
    return True


@pytest.mark.parametrize("seed", range(LIVES))
def test_a_random_life_ends_with_exactly_what_is_there(
    vendor: FakeDropbox, opened: Opened, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = Random(seed)  # noqa: S311 - a seed is the point
    monkeypatch.setattr(dropbox_feed, "MOST_EMPTIED", dice.choice([0, 2, 1000]))
    space = vendor.space
    space.tells_case_renames = True
    space.tells_new_first = dice.random() < 0.3
    vendor.repeats_entries = dice.random() < 0.3
    vendor.children_first = dice.random() < 0.3
    source, mirror = opened(), Mirror()
    for _ in range(8):
        for _ in range(dice.randrange(12)):
            live(space, dice)
        vendor.page_size = dice.choice([1, 2, 5, 2000])
        if dice.random() < 0.5:
            mirror.sync(source, most_pages=dice.randrange(1, 6))
            for _ in range(dice.randrange(4)):
                live(space, dice)
        if dice.random() < 0.1:
            vendor.expire_cursors()
        try:
            mirror.sync(source)
        except CursorExpiredError:
            mirror.sync(source, full=True)
        assert mirror.texts() == truth(vendor)
        assert {key: item.place for key, item in mirror.live.items()} == {
            node.id: node.path for node in space.nodes.values() if not node.is_folder
        }
        assert mirror.cursor is not None
        assert mirror.cursor["emptied"] == {}
