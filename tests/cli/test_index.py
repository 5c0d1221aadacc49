"""An index at Pinecone from the command line: copied beside syncs, searched, checked, mended and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.cli.program import Program
from tests.fakes.pinecone import API_KEY, FakePinecone, Stored
from tests.fakes.server import Answer
from workstation_pipelines.settings import IndexStore, Settings


@pytest.fixture
def pinecone() -> Iterator[FakePinecone]:
    with FakePinecone() as fake:
        yield fake


def at_pinecone(settings: Settings, pinecone: FakePinecone, index: IndexStore) -> Settings:
    key = SecretStr(API_KEY)
    return settings.model_copy(
        update={"index": index, "pinecone_api_key": key, "pinecone_url": pinecone.url, "pinecone_index": "ours"}
    )


def test_an_index_is_copied_searched_checked_mended_and_dropped(
    synced: Program, folder: Path, pinecone: FakePinecone
) -> None:
    assert synced("index", "copy", "--to", "pinecone").code == 2  # there is no key
    synced.settings = at_pinecone(synced.settings, pinecone, IndexStore.PGVECTOR)
    assert synced("index", "status", "--json").value == {"searched": "pgvector", "namespaces": []}
    made = synced("index", "create", "--json").value
    assert made["index"].startswith("ours-")
    copied = synced("index", "copy", "--to", "pinecone", "--json")
    assert (copied.code, copied.value["copied"]["documents"]) == (0, 3)
    synced.settings = at_pinecone(synced.settings, pinecone, IndexStore.PINECONE)

    (folder / "lighthouse.md").write_text("# Lighthouse\n\nThe keeper lights the lamp at dusk.\n")
    assert synced("sync", "papers").code == 0
    found = synced("search", "lamp at dusk", "--mode", "vector", "--json").value
    assert (found["hits"][0]["title"], found["notice"]) == ("Lighthouse", "")
    assert pinecone.calls("/search") > 0
    status = synced("index", "status", "--json").value
    assert [each["status"] for each in status["namespaces"]] == ["ready"]
    assert status["namespaces"][0]["backlog"]["waiting"] == 0
    assert synced("index", "verify", "--json").value["is_clean"]

    pinecone.fail("/documents/", answer=Answer.of({"message": "down"}, 503), times=1000)
    (folder / "recipe.txt").write_text("Whisk the eggs, then fold in the flour.\n")
    assert synced("sync", "papers").code == 0
    found = synced("search", "whisk eggs", "--mode", "vector", "--json").value
    assert found["hits"][0]["title"] == "recipe"
    assert "Pinecone cannot answer" in found["notice"]
    assert synced("index", "verify").code == 5
    assert synced("index", "copy", "--to", "pinecone").code == 5
    pinecone.faults.clear()
    assert synced("index", "copy", "--to", "pinecone").code == 0  # goes on at once, whatever was put off

    requests = len(pinecone.requests)
    pinecone.tamper(spoil)
    checked = synced("check", "--json")
    assert (checked.code, checked.value["now"]["stale"]) == (1, [])
    (report,) = checked.value["outside"]["found"]
    assert (report["missing"], report["extra"], len(report["wrong"]), report["waiting"]) == (1, 3, 1, 0)
    assert all(not pinecone.is_write(request) for request in pinecone.requests[requests:])
    repaired = synced("check", "--repair", "--json")
    assert (repaired.code, repaired.value["is_clean"]) == (0, True)
    assert repaired.value["repair"]["reworked"]["embedded"] == 0
    assert synced("check").code == 0

    assert synced("index", "drop", "--yes").code == 2  # it is still the one that is searched
    synced.settings = at_pinecone(synced.settings, pinecone, IndexStore.PGVECTOR)
    assert synced("index", "drop").code == 4
    assert synced("index", "drop", "--yes").code == 0
    assert pinecone.ids() == set()
    assert synced("search", "whisk eggs", "--json").value["hits"][0]["title"] == "recipe"
    assert pinecone.violations == []


def spoil(held: Stored) -> None:
    """Lose one document's vectors, add one to another's, change what a third's say, and add two of nobody's."""
    lost, crowded, wrong = (vector_id for vector_id in sorted(held) if vector_id.endswith("#1#0"))
    held["not ours"] = held[crowded]
    held["00000000-0000-0000-0000-000000000001#1#0"] = held[crowded]
    held[crowded.replace("#1#0", "#1#7")] = held[crowded]
    held[wrong] = {**held[wrong], "mime_type": "text/of-another"}
    del held[lost]


def test_a_first_sync_makes_what_it_needs(workstation: Program, folder: Path, pinecone: FakePinecone) -> None:
    workstation.settings = at_pinecone(workstation.settings, pinecone, IndexStore.PINECONE)
    workstation.connect("papers", folder)
    assert workstation("sync", "papers").code == 0
    assert len(pinecone.ids()) == 3
    assert workstation("index", "verify").code == 0
    assert "pinecone" not in str(pinecone.namespaces)
    assert pinecone.violations == []


def test_a_removed_source_leaves_no_vector_at_pinecone_and_waits_for_it(
    workstation: Program, folder: Path, pinecone: FakePinecone
) -> None:
    workstation.settings = at_pinecone(workstation.settings, pinecone, IndexStore.PINECONE)
    workstation.connect("papers", folder)
    assert workstation("sync", "papers").code == 0
    pinecone.fail("/documents/", answer=Answer.of({"message": "down"}, 503), times=1000)
    refused = workstation("source", "remove", "papers", "--yes")
    assert refused.code == 5
    assert "3 vectors of papers could not be deleted" in refused.err
    halfway = workstation("sync", "papers")
    assert (halfway.code, "being removed" in halfway.err) == (2, True)
    pinecone.faults.clear()
    removed = workstation("source", "remove", "papers", "--yes", "--json").value["certificate"]
    assert (removed["before"]["vectors_outside"], removed["before"]["documents"]) == (3, 3)
    assert set(removed["after"].values()) == {0}
    assert pinecone.ids() == set()
