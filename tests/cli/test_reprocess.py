"""`workstation reprocess`, `build` and `question`, as somebody would go about other chunk sizes."""

from __future__ import annotations

from tests.cli.program import Program


def test_documents_are_planned_reprocessed_and_put_back(synced: Program) -> None:
    planned = synced("reprocess", "run", "--source", "papers", "--chunk-tokens", "32", "--plan", "--json")
    assert (planned.code, planned.value["documents"], planned.value["unchanged"]) == (0, 3, 0)
    assert synced("reprocess", "status").out == "Every document is on the settings chosen for it.\n"
    ran = synced("reprocess", "run", "--source", "papers", "--chunk-tokens", "32", "--json")
    assert (ran.code, ran.value["status"], ran.value["done"]) == (0, "completed", 3)
    assert ran.value["tokens"] == planned.value["tokens"]
    assert synced("check", "--json").value["is_clean"]
    assert synced("search", "owls", "--json").value["hits"][0]["title"] == "Forest"

    later = synced("reprocess", "run", "--source", "papers", "--as-configured", "--background", "--json")
    assert later.value["status"] == "pending"
    (standing,) = synced("reprocess", "status", "--json").value
    assert (standing["documents"], standing["wanted_by"]) == (3, "default")
    assert "in 32 tokens" in standing["config"]
    assert "NOT CLEAN" in synced("check").out
    assert synced("check", "--repair").out.endswith("now clean\n")

    again = synced("reprocess", "run", "--document", "Forest", "--extraction", "--json")
    assert again.value == {"items_to_fetch_again": 1}
    for wrong in (
        ["--source", "papers", "--tag", "t", "--chunk-tokens", "32"],
        ["--source", "papers"],
        ["--tag", "nowhere", "--chunk-tokens", "32"],
        ["--source", "papers", "--chunk-tokens", "32", "--overlap-tokens", "32"],
    ):
        assert synced("reprocess", "run", *wrong).code in (1, 2)


def test_a_build_is_compared_switched_to_rolled_back_and_dropped(synced: Program) -> None:
    for title in ("Forest", "Harbour"):
        synced("documents", "assign", title, "nature")
    build = synced("build", "start", "nature", "--chunk-tokens", "20", "--json").value
    assert build["built"]["documents"] == 2
    build_id = build["build_id"]
    assert synced("build", "compare", build_id).code == 2
    question = synced("question", "add", "nature", "who hunts mice?", "--expect", "Forest", "--json").value["id"]
    found = synced("build", "compare", build_id, "--json").value
    assert (found["live_recall"], found["build_recall"], found["cost_usd"] in (0, "0", 0.0)) == (1.0, 1.0, True)
    assert "recall@10 1.00 live, 1.00 build" in synced("build", "compare", build_id).out
    assert synced("build", "switch", build_id, "--json").value == {"flipped": 2, "reworked": 0}
    assert synced("check").out.startswith("clean")
    assert synced("build", "list", "--json").value[0]["status"] == "live"
    assert synced("build", "rollback", build_id, "--json").value == {"flipped": 2, "reworked": 0}
    assert synced("build", "drop", build_id).out == "Dropped; the spare chunks of 2 documents are gone.\n"
    assert "dropped" in synced("build", "list").out
    assert "who hunts mice?" in synced("question", "list").out
    assert synced("question", "remove", question).code == 0
    assert synced("question", "list").out == "No saved questions.\n"
    assert synced("check").out.startswith("clean")
