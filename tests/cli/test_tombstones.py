"""`workstation documents delete|deleted|restore|purge`, and `workstation audit`, which remembers them."""

from __future__ import annotations

import json

from tests.cli.program import Program


def test_deleted_document_is_listed_restored_and_remembered(synced: Program) -> None:
    document = synced("documents", "show", "recipe.txt", "--json").value
    assert "documents restore" in synced("documents", "delete", "recipe.txt", "--yes").out
    (row,) = synced("documents", "deleted", "--json").value
    assert (row["id"], row["title"], row["reason"]) == (document["id"], "recipe", "removed_by_user")
    assert "deleted here" in synced("documents", "deleted").out
    restored = synced("documents", "restore", "recipe.txt", "--json").value
    assert restored == {"document_ids": [document["id"]], "own": [], "at_source": [document["id"]]}
    assert synced("documents", "deleted").out == "No deleted documents.\n"
    assert synced("documents", "restore", "recipe.txt").code == 2
    assert synced("sync", "papers", "--json").value["counts"]["fetched"] == 1
    assert synced("documents", "show", "recipe.txt", "--json").value["text"] == document["text"]
    assert synced("search", "bread", "--json").value["hits"][0]["title"] == "recipe"
    actions = [entry["action"] for entry in synced("audit", "list", "--action", "document", "--json").value]
    assert actions == ["document.restored", "document.deleted"]


def test_purged_document_is_gone_for_good(synced: Program) -> None:
    synced("documents", "delete", "recipe.txt", "--yes")
    assert synced("documents", "purge", "--json", "--yes").value == {"purged": 0}
    assert synced("documents", "purge", "--older-than", "0", "--yes").out == "Erased 1 deleted documents.\n"
    assert synced("documents", "restore", "recipe.txt").code == 2
    assert synced("sync", "papers", "--json").value["counts"]["fetched"] == 0


def test_audit_is_shown_exported_and_verified(synced: Program) -> None:
    synced("documents", "delete", "recipe.txt", "--yes")
    assert "source.added" in synced("audit", "list").out
    lines = [json.loads(line) for line in synced("audit", "export").out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    verified = synced("audit", "verify", "--json").value
    assert verified == {"entries": len(lines), "hash": lines[-1]["hash"], "breaks": []}
    assert "none changed or missing" in synced("audit", "verify").out
    assert lines[-1]["hash"] in synced("audit", "show", str(len(lines))).out
    assert synced("audit", "show", "999").code == 2
    assert synced("--user", "bob", "audit", "list").out == "Nothing was logged yet.\n"


def test_housekeeping_counts_before_it_removes(synced: Program) -> None:
    synced("documents", "delete", "recipe.txt", "--yes")
    counted = synced("housekeeping", "--dry-run", "--json").value
    assert counted["is_dry_run"]
    assert set(counted["rows"].values()) == {0}
    assert "tombstones" in synced("housekeeping").out
    assert len(synced("documents", "deleted", "--json").value) == 1
