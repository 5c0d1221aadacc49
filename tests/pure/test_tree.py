"""The folders of an account, whatever order they come in and however they are tied together."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from workstation_pipelines.model import Container
from workstation_pipelines.sources.tree import Tree, safe_name

IDS = ["a", "b", "c", "d", "e", "f"]
CONTAINERS = st.builds(
    Container,
    external_id=st.sampled_from(IDS),
    name=st.text(max_size=5),
    parent_external_id=st.none() | st.sampled_from([*IDS, "never-seen"]),
)
STEPS = st.lists(
    st.tuples(st.just("put"), CONTAINERS) | st.tuples(st.just("remove"), st.sampled_from(IDS)), max_size=25
)


def container(external_id: str, parent: str | None, name: str = "") -> Container:
    return Container(external_id, name or external_id, parent)


def parents_after(steps: list[tuple[str, Container | str]]) -> tuple[Tree, dict[str, Container]]:
    """The tree, and the same on paper."""
    tree, known = Tree(), dict[str, Container]()
    for _, subject in steps:
        if isinstance(subject, Container):
            before = known.get(subject.external_id)
            is_new = before is None or (before.name, before.parent_external_id) != (
                subject.name,
                subject.parent_external_id,
            )
            assert tree.put(subject) == is_new
            known[subject.external_id] = subject
        else:
            assert tree.remove(subject) == known.pop(subject, None)
    return tree, known


def ancestors(known: dict[str, Container], start: str) -> list[str]:
    found: list[str] = []
    at: str | None = start
    while at in known and at not in found:
        found.append(at)
        at = known[at].parent_external_id
    return found


@given(STEPS)
def test_any_history_leaves_the_tree_that_the_last_entries_describe(
    steps: list[tuple[str, Container | str]],
) -> None:
    tree, known = parents_after(steps)
    for external_id in [*IDS, "never-seen"]:
        assert (external_id in tree) == (external_id in known)
        assert tree.get(external_id) == known.get(external_id)
        chain = [found.external_id for found in tree.chain(external_id)]
        assert chain == ancestors(known, external_id)
        assert tree.path(external_id) == "/".join(safe_name(known[at].name) for at in reversed(chain))


@given(STEPS)
def test_below_is_the_reverse_of_upwards(steps: list[tuple[str, Container | str]]) -> None:
    tree, known = parents_after(steps)
    for external_id in [*IDS, "never-seen"]:
        below = tree.below(external_id)
        assert below[0] == external_id
        assert len(below) == len(set(below))
        upwards = {at for at in known if external_id in _with_unknown(known, at)}
        assert set(below) == upwards | {external_id}


@given(STEPS)
def test_parents_come_before_what_lies_below_them(steps: list[tuple[str, Container | str]]) -> None:
    tree, known = parents_after(steps)
    for external_id in IDS:
        below = tree.below(external_id)
        for position, at in enumerate(below[1:], start=1):
            assert known[at].parent_external_id in below[:position]


@given(STEPS, st.sets(st.sampled_from([*IDS, "never-seen"])))
def test_within_is_one_of_the_roots_or_below_one(steps: list[tuple[str, Container | str]], roots: set[str]) -> None:
    tree, known = parents_after(steps)
    for external_id in [*IDS, "never-seen"]:
        assert tree.is_within(external_id, roots) == bool(roots & {external_id, *ancestors(known, external_id)})
    assert not tree.is_within(None, roots)


@given(STEPS)
def test_rooted_is_what_ends_at_a_container_without_a_parent(steps: list[tuple[str, Container | str]]) -> None:
    tree, known = parents_after(steps)
    for external_id in IDS:
        chain = ancestors(known, external_id)
        assert tree.is_rooted(external_id) == (bool(chain) and known[chain[-1]].parent_external_id is None)


def _with_unknown(known: dict[str, Container], start: str) -> list[str]:
    """`start`, its ancestors, and the unknown one that the last of them names."""
    found = ancestors(known, start) or [start]
    last = known.get(found[-1])
    if last is not None and last.parent_external_id is not None and last.parent_external_id not in found:
        found.append(last.parent_external_id)
    return found


def test_cycle_is_cut_where_it_closes() -> None:
    tree = Tree([container("a", "c"), container("b", "a"), container("c", "b")])
    assert tree.path("c") == "a/b/c"
    assert tree.below("a") == ["a", "b", "c"]
    assert not tree.is_rooted("a")


def test_container_that_is_its_own_parent_is_its_own_cycle() -> None:
    tree = Tree([container("a", "a")])
    assert tree.path("a") == "a"
    assert tree.below("a") == ["a"]


def test_move_takes_everything_below_along() -> None:
    tree = Tree([container("top", None), container("other", None), container("mid", "top"), container("low", "mid")])
    assert tree.put(container("mid", "other"))
    assert tree.path("low") == "other/mid/low"
    assert tree.below("top") == ["top"]
    assert tree.below("other") == ["other", "mid", "low"]


def test_parent_may_come_later() -> None:
    tree = Tree([container("low", "mid")])
    assert tree.path("low") == "low"
    assert not tree.is_rooted("low")
    assert not tree.is_within("low", {"mid"}), "who knows what became of it"
    tree.put(container("mid", None))
    assert tree.is_within("low", {"mid"})
    assert tree.path("low") == "mid/low"
    assert tree.is_rooted("low")


def test_forgotten_parent_leaves_children_that_find_it_again() -> None:
    tree = Tree([container("top", None), container("low", "top")])
    tree.remove("top")
    assert tree.below("top") == ["top", "low"]
    tree.put(container("top", None, "renamed"))
    assert tree.path("low") == "renamed/low"


def test_same_entry_twice_is_no_news() -> None:
    tree = Tree()
    assert tree.put(container("a", None))
    assert not tree.put(container("a", None))
    assert tree.put(container("a", None, "renamed"))
    assert tree.put(container("a", "b", "renamed"))


def test_deep_tree_needs_no_deep_stack() -> None:
    tree = Tree(container(str(depth), str(depth - 1) if depth else None) for depth in range(20_000))
    assert tree.path("19999").count("/") == 19_999
    assert len(tree.below("0")) == 20_000


@pytest.mark.parametrize(("name", "safe"), [("a/b", "a\u2215b"), ("/", "\u2215"), ("a", "a"), ("..", "..")])
def test_slash_in_a_name_is_no_step(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert Tree([container("top", None), container("low", "top", name)]).path("low") == f"top/{safe}"
