"""What a page of changes means for what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workstation_pipelines.model import Change, ChangeKind, Item, ItemType, StoredItem, SyncStatus
from workstation_pipelines.sync.delta import (
    REMOVED_BY_USER,
    Action,
    Step,
    collapse,
    decide,
    document_title,
    is_mass_delete,
    windows,
)

ITEM = Item("1", "box/a.txt", "h:1", ItemType.FILE, "a", "text/plain", 10)
STORED = StoredItem(
    external_id="1",
    external_path="box/a.txt",
    external_hash="h:1",
    sync_status=SyncStatus.SYNCED,
    reason="",
    title="a",
    mime_type="text/plain",
    external_url=None,
    parent_external_id=None,
    document_id="some document",  # type: ignore[arg-type]
    document_title="a",
    content_hash="b2:1",
    live_generation=1,
    index_config_id=None,
    is_document_deleted=False,
    retry_due=False,
)


def upsert(item: Item = ITEM) -> Change:
    return Change(ChangeKind.UPSERT, item.external_id, item)


def action(item: Item, stored: StoredItem | None) -> Action:
    known = {stored.external_id: stored} if stored else {}
    steps = decide(collapse([upsert(item)]), known, lambda old, new: old.split("|")[0] == new.split("|")[0])
    return steps[0].action


@pytest.mark.parametrize(
    ("item", "stored", "expected"),
    [
        (ITEM, None, Action.FETCH),
        (ITEM, STORED, Action.KEEP),
        (replace(ITEM, external_hash="h:2"), STORED, Action.FETCH),
        (replace(ITEM, external_hash="h:1|newer stat"), STORED, Action.REFRESH),
        (replace(ITEM, external_path="box/b.txt"), STORED, Action.DESCRIBE),
        (replace(ITEM, title="b"), STORED, Action.DESCRIBE),
        (ITEM, replace(STORED, sync_status=SyncStatus.DELETED), Action.FETCH),
        (ITEM, replace(STORED, is_document_deleted=True), Action.FETCH),
        (ITEM, replace(STORED, sync_status=SyncStatus.FAILED), Action.KEEP),
        (ITEM, replace(STORED, sync_status=SyncStatus.FAILED, retry_due=True), Action.FETCH),
        (ITEM, replace(STORED, sync_status=SyncStatus.SKIPPED, is_document_deleted=True), Action.KEEP),
        (replace(ITEM, external_hash="h:2"), replace(STORED, sync_status=SyncStatus.SKIPPED), Action.FETCH),
        (
            replace(ITEM, external_hash="h:2"),
            replace(STORED, sync_status=SyncStatus.SKIPPED, reason=REMOVED_BY_USER),
            Action.KEEP,
        ),
    ],
)
def test_the_action_follows_from_item_and_stored_state(item: Item, stored: StoredItem | None, expected: Action) -> None:
    assert action(item, stored) is expected


@pytest.mark.parametrize("kind", [ChangeKind.DELETED, ChangeKind.ABSENT])
def test_a_deletion_of_what_is_not_live_needs_no_step(kind: ChangeKind) -> None:
    change = collapse([Change(kind, "1")])
    assert decide(change, {}, str.__eq__) == []
    assert decide(change, {"1": replace(STORED, sync_status=SyncStatus.DELETED)}, str.__eq__) == []
    assert [step.action for step in decide(change, {"1": STORED}, str.__eq__)] == [Action.DELETE]


changes = st.lists(
    st.builds(
        lambda external_id, deleted: (
            Change(ChangeKind.DELETED, external_id) if deleted else upsert(replace(ITEM, external_id=external_id))
        ),
        st.sampled_from("abcdef"),
        st.booleans(),
    )
)


@given(changes)
def test_the_last_change_of_an_item_wins(feed: list[Change]) -> None:
    collapsed = collapse(feed)
    for external_id, change in collapsed.items():
        assert change is [each for each in feed if each.external_id == external_id][-1]
    assert len(collapsed) == len({change.external_id for change in feed})


@given(st.lists(st.integers(-1, 50)), st.integers(1, 5), st.integers(1, 60))
def test_windows_keep_every_step_in_order_and_bounded(sizes: Sequence[int], most_items: int, most_bytes: int) -> None:
    steps = [
        Step(Action.FETCH, str(n), replace(ITEM, external_id=str(n), size_bytes=size), None)
        for n, size in enumerate(sizes)
    ]
    cut = list(windows(steps, most_items=most_items, most_bytes=most_bytes))
    assert [step for window in cut for step in window] == steps
    for window in cut:
        weight = sum(max(step.item.size_bytes, 0) for step in window if step.item)
        assert 1 <= len(window) <= most_items
        assert len(window) == 1 or weight <= most_bytes


@pytest.mark.parametrize(
    ("absent", "live", "expected"),
    [(20, 20, False), (21, 20, True), (100, 1000, False), (101, 1000, True), (0, 0, False)],
)
def test_the_brake_holds_above_twenty_items_and_a_tenth(absent: int, live: int, expected: bool) -> None:
    assert is_mass_delete(absent, live) is expected


def test_a_title_found_in_the_text_survives_a_rename() -> None:
    renamed = replace(ITEM, title="new name")
    assert document_title(ITEM, None, "From the text") == "From the text"
    assert document_title(renamed, STORED, None) == "new name"
    assert document_title(renamed, replace(STORED, document_title="From the text"), None) == "From the text"
