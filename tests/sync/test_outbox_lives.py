"""Random lives of a few documents, with faults and kills between: after a calm drain the index holds the live chunks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import DatabaseUrls
from tests.fakes.pinecone import FakePinecone
from tests.fakes.server import Answer
from tests.sync.indexed import Dead, Indexed
from workstation_pipelines.model import UserId
from workstation_pipelines.sync.faults import OUTBOX_POINTS

NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.integers(1, 60)),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("tag"), NAMES),
    st.tuples(st.just("untag"), NAMES),
    st.tuples(st.just("rechunk"), NAMES, st.integers(5, 30)),
    st.tuples(st.just("drain")),
    st.tuples(st.just("killed"), st.sampled_from(OUTBOX_POINTS)),
    st.tuples(st.just("down"), st.sampled_from(["upsert", "delete"]), st.integers(1, 3)),
    st.tuples(st.just("lost"), st.sampled_from(["upsert", "delete"])),
    st.tuples(st.just("partial"), st.integers(0, 5)),
)


@pytest.fixture
def life(database_urls: DatabaseUrls) -> Iterator[Life]:
    with FakePinecone() as pinecone:
        lived = Life(database_urls, pinecone)
        yield lived
        lived.place.close()


class Life:
    """One place, with a user for each example."""

    def __init__(self, urls: DatabaseUrls, pinecone: FakePinecone) -> None:
        self.urls = urls
        self.place = Indexed(urls, pinecone)
        self.number = 0
        self.texts: dict[str, str] = {}

    def begin(self) -> None:
        self.number += 1
        self.texts.clear()
        pinecone = self.place.pinecone
        self.place.close()
        pinecone.tamper(lambda held: held.clear())
        pinecone.faults.clear()
        pinecone.takes_at_most = None
        self.place = Indexed(self.urls, pinecone, user_id=UserId(f"user-{self.number}"))
        self.place.open()

    def step(self, verb: str, *with_: object) -> None:
        place, pinecone = self.place, self.place.pinecone
        name = str(with_[0]) if with_ else ""
        if verb == "put":
            self.texts[name] = "".join(f"{len(self.texts)}{at % 10}" for at in range(int(str(with_[1]))))
            place.put(name, self.texts[name])
        elif verb == "drain":
            place.time_passes()
            place.drain()
        elif verb == "killed":
            place.time_passes()
            place.drain_interrupted_at(name)
        elif verb == "down":
            pinecone.fail(name, answer=Answer.of({"message": "down"}, 503), times=int(str(with_[1])))
        elif verb == "lost":
            pinecone.fail(name, drop=True)
        elif verb == "partial":
            pinecone.takes_at_most = int(name) or None
        elif name in self.texts and verb == "delete":
            place.delete(name)
        elif name in self.texts and verb in ("tag", "untag"):
            getattr(place, verb)(name, "tag") if verb == "tag" or place.is_tagged(name) else None
        elif name in self.texts and verb == "rechunk":
            place.rechunk(name, self.texts[name], chunk_size=int(str(with_[1])))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_whatever_happens_the_index_ends_in_step(life: Life, steps: list[tuple[object, ...]]) -> None:
    life.begin()
    for step in steps:
        life.step(str(step[0]), *step[1:])
    life.place.pinecone.faults.clear()
    life.place.pinecone.takes_at_most = None
    life.place.time_passes()
    life.place.drain()
    assert life.place.is_in_step()


def test_an_interrupted_drain_leaves_work_behind(life: Life) -> None:
    """The steps above are only worth something if what they interrupt is seen to be unfinished."""
    life.begin()
    life.step("put", "a", 30)
    with pytest.raises(Dead):
        life.place.drain_interrupted_at("outbox_written", is_told=True)
    assert not life.place.is_in_step()
