"""Rules while syncs go on: what is stored is what a fresh sync under the present rules would store."""

from __future__ import annotations

import pytest

from tests.conftest import DatabaseUrls
from tests.sync.conftest import Ask, Place
from tests.sync.ruled import Rules, places_of, state
from tests.sync.scripted import VendorAccount, fetched
from tests.sync.syncing import data_source, new_id
from workstation_pipelines.db import library
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import JobStatus, UserId
from workstation_pipelines.text.rules import patterns

ALICE = UserId("alice")

_TEXTS = """SELECT i.external_path, d.text FROM app.documents d JOIN app.sync_items i ON i.local_document_id = d.id
             WHERE d.deleted_at IS NULL"""


@pytest.fixture
def rules(database: Database) -> Rules:
    return Rules(database)


def test_changed_rules_are_applied_to_what_is_stored_without_a_fetch(
    account_place: Place, account: VendorAccount, rules: Rules, ask: Ask
) -> None:
    account.put("a", "alpha one")
    account.put("b", "beta one")
    account_place.sync()
    before = fetched(account_place.path)
    rules.put("swap", "regex_replace", {"pattern": "alpha", "replacement": "gamma"})
    assert rules.stale() == {"a.txt": "rules changed", "b.txt": "rules changed"}
    assert rules.rework() == ["gamma one"]
    assert dict(ask(_TEXTS)) == {"box/a.txt": "gamma one", "box/b.txt": "beta one"}
    assert ask("SELECT live_generation FROM app.documents ORDER BY text") == [(1,), (2,)]
    assert rules.stale() == {}
    rules.put("swap", "regex_replace", {"pattern": "one", "replacement": "two"})
    result = account_place.sync()  # which does the same
    assert (result.counts.chunks_embedded, result.counts.found) == (2, 0)
    assert dict(ask(_TEXTS)) == {"box/a.txt": "alpha two", "box/b.txt": "beta two"}
    rules.remove("swap")
    rules.rework()
    assert dict(ask(_TEXTS)) == {"box/a.txt": "alpha one", "box/b.txt": "beta one"}
    assert ask("SELECT count(*) FROM app.documents WHERE extracted_text IS NOT NULL OR rules_hash <> ''") == [(0,)]
    assert fetched(account_place.path) == before


def test_only_what_a_change_can_reach_is_stale(
    account_place: Place, account: VendorAccount, folder: Place, database: Database, rules: Rules
) -> None:
    account.put("a", "alpha")
    (folder.path / "f.txt").write_text("alpha")
    account_place.sync()
    folder.sync()
    swap = {"pattern": "alpha", "replacement": "gamma"}
    rules.put("by type", "regex_replace", swap, source_type="local_folder")
    assert rules.stale() == {"f": "rules changed"}
    rules.remove("by type")
    assert rules.stale() == {}
    source = data_source(database, account_place.wish)
    rules.put("by source", "regex_replace", swap, data_source_id=source.id)
    assert rules.stale() == {"a.txt": "rules changed"}
    rules.put("by source", "regex_replace", swap, data_source_id=source.id, is_active=False)
    rules.put("other type", "regex_replace", swap, source_type="notion")
    assert rules.stale() == {}


def test_a_filter_keeps_items_from_being_fetched_and_lets_them_back_in(
    account_place: Place, account: VendorAccount, rules: Rules, ask: Ask
) -> None:
    account.put("a", "stays")
    account.put("b", "goes", "private/b.txt")
    account_place.sync()
    before = ask("SELECT id FROM app.documents WHERE text = 'goes'")
    private = {"mode": "exclude", "expression": "starts_with(path, 'private/')"}
    rules.put("no private", "filter", private)
    account.put("c", "never seen", "private/c.txt")
    result = account_place.sync()
    assert (result.counts.fetched, result.counts.skipped, result.status) == (0, 1, JobStatus.COMPLETED)
    assert dict(ask(_TEXTS)) == {"box/a.txt": "stays"}
    statement = "SELECT external_path, sync_status, reason, reason_detail FROM app.sync_items ORDER BY 1"
    left_out = ("skipped", "filtered", "no private")
    assert ask(statement)[1:] == [("private/b.txt", *left_out), ("private/c.txt", *left_out)]
    assert ask(
        "SELECT count(*) FROM app.chunks c JOIN app.documents d ON d.id = c.document_id WHERE d.text = 'goes'"
    ) == [(0,)]
    assert rules.stale() == {}
    rules.remove("no private")
    assert rules.rework() == ["goes"]  # from what is kept
    assert ask("SELECT id FROM app.documents WHERE text = 'goes' AND deleted_at IS NULL") == before
    result = account_place.sync()  # the feed says nothing of it
    assert result.counts.fetched == 1
    assert dict(ask(_TEXTS)) == {"box/a.txt": "stays", "private/b.txt": "goes", "private/c.txt": "never seen"}
    # What changed at the source while it was left out is not brought back as it was.
    rules.put("no private", "filter", private)
    account.put("b", "goes changed")
    account_place.sync()
    account.rename("c", "public/c.txt")
    account_place.sync()
    assert dict(ask(_TEXTS)) == {"box/a.txt": "stays", "public/c.txt": "never seen"}
    rules.remove("no private")
    account_place.sync()
    assert dict(ask(_TEXTS))["private/b.txt"] == "goes changed"
    account.rename("a", "private/a.txt")
    rules.put("no private", "filter", private)
    account_place.sync()
    assert dict(ask(_TEXTS)) == {"public/c.txt": "never seen"}


def test_a_listing_fetches_what_a_filter_had_kept_out(folder: Place, rules: Rules, ask: Ask) -> None:
    (folder.path / "a.txt").write_text("alpha")
    (folder.path / "b.txt").write_text("beta")
    rules.put("no b", "filter", {"mode": "include", "expression": "name != 'b.txt'"})
    assert folder.sync().counts.fetched == 1
    assert folder.sync().counts.fetched == 0
    rules.put("no b", "filter", {"mode": "include", "expression": "name != 'a.txt'"})
    assert folder.sync().counts.fetched == 1
    assert dict(ask(_TEXTS)) == {"b.txt": "beta"}


def test_what_is_redacted_is_in_no_table_at_any_time(
    account_place: Place, account: VendorAccount, database_urls: DatabaseUrls, rules: Rules, ask: Ask
) -> None:
    canary = "canary.q7@example.org"
    account.put("a", f"write to {canary} today\nattach one: and {canary} again", f"box/{canary}.txt")
    account.put("b", f"harmless\nattach deep: to {canary}")
    account.put("gone", f"deleted with {canary}", f"box/{canary}-gone.txt")
    account_place.sync()
    account.delete("gone")
    account_place.sync()
    assert places_of(database_urls.admin_url, canary)
    rules.put("no mail", "redact", {})
    rules.rework()
    assert places_of(database_urls.admin_url, canary) == []
    assert dict(ask(_TEXTS))["box/[redacted email]"].startswith("write to [redacted email] today")
    account.put("c", f"later POISON {canary}", f"box/{canary}-c.txt")
    account.put("d", f"POISON {canary}", f"box/{canary}-d.txt")
    account.unavailable = ["e"]
    account.put("e", f"never had {canary}", f"{canary}-e.txt")
    account.rename("b", f"box/{canary}-b.txt")
    assert account_place.sync().counts.failed == 2
    assert places_of(database_urls.admin_url, canary) == []
    account.unavailable = []
    account.save()
    # The originals are forgotten: another rule needs them fetched again, and that is seen until it is done.
    rules.put("no mail", "redact", {"replacement": "(mail)"})
    assert rules.rework() == []
    assert "rules changed" in rules.stale().values()
    assert account_place.sync().counts.fetched >= 3
    assert rules.stale() == {}
    assert places_of(database_urls.admin_url, canary) == []
    assert ask("SELECT count(*) FROM app.documents WHERE text LIKE '%(mail)%' AND deleted_at IS NULL") == [(5,)]
    # A filter that comes on top hides documents made before; nothing of what they said comes to light.
    rules.put("none", "filter", {"mode": "exclude", "expression": "path"})
    account_place.sync()
    assert dict(ask(_TEXTS)) == {}
    assert places_of(database_urls.admin_url, canary) == []
    rules.remove("no mail")
    rules.remove("none")
    account_place.sync()
    assert ask("SELECT count(*) FROM app.documents WHERE text LIKE '%canary.q7@%' AND deleted_at IS NULL") == [(5,)]
    assert rules.stale() == {}


def test_rules_file_documents_and_their_owner_has_the_last_word(
    account_place: Place, account: VendorAccount, database: Database, database_urls: DatabaseUrls, rules: Rules
) -> None:
    for name in "abc":
        account.put(name, f"text {name}")
    rules.put("tax", "assign_project", {"project": "Tax", "when": "name != 'c.txt'"})
    rules.put("tags", "add_tags", {"tags": ["paper", "new"]})
    account_place.sync()

    def filed() -> dict[str, tuple[object, list[str]]]:
        return {path: (row[9], row[14]) for path, row in state(database_urls.admin_url, "alice").items()}

    assert filed() == {
        "box/a.txt": ("Tax", ["new", "paper"]),
        "box/b.txt": ("Tax", ["new", "paper"]),
        "box/c.txt": (None, ["new", "paper"]),
    }
    with database.transaction_with_rls(ALICE) as connection:
        document = library.document(connection, user_id=ALICE, reference="box/a.txt").id
        mine = library.ensure_project(connection, user_id=ALICE, name="Mine", new_id=new_id)
        library.assign(connection, user_id=ALICE, document_id=document, project=mine)
        for name in ("own", "new"):  # one of which a rule had put there before
            tag = library.ensure_tag(connection, user_id=ALICE, name=name, new_id=new_id)
            library.tag(connection, user_id=ALICE, document_id=document, tag_id=tag)
    account.put("a", "text a changed")
    account_place.sync()
    assert filed()["box/a.txt"] == ("Mine", ["new", "own", "paper"])
    rules.remove("tags")
    rules.put("tax", "assign_project", {"project": "Taxes"})
    rules.rework()
    assert filed() == {
        "box/a.txt": ("Mine", ["new", "own"]),
        "box/b.txt": ("Taxes", []),
        "box/c.txt": ("Taxes", []),
    }
    rules.remove("tax")
    rules.rework()
    assert {path: project for path, (project, _) in filed().items()} == {
        "box/a.txt": "Mine",
        "box/b.txt": None,
        "box/c.txt": None,
    }


def test_a_rule_that_takes_for_ever_fails_its_items_alone_and_a_better_one_heals_them(
    account_place: Place, account: VendorAccount, rules: Rules, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "DEADLINE_S", 0.05)
    account.put("good", "short")
    account.put("bad", "x" * 3000)
    rules.put("slow", "regex_replace", {"pattern": "(x+x+)+y"})
    result = account_place.sync()
    assert (result.status, result.counts.created, result.counts.failed) == (JobStatus.COMPLETED_WITH_ERRORS, 1, 1)
    ((stage, reason, message),) = ask("SELECT stage, reason, message FROM app.sync_failures WHERE resolved_at IS NULL")
    assert (stage, reason) == ("rules", "rule_timeout")
    assert "'slow'" in message
    assert account_place.sync().counts.failed == 0  # it is not tried again under the same rules
    rules.put("slow", "regex_replace", {"pattern": "x+y"})
    assert account_place.sync().counts.created == 1
    assert ask("SELECT count(*) FROM app.sync_failures WHERE resolved_at IS NULL") == [(0,)]
    # Stored documents fail in the same way when they are brought under it, and keep what they have meanwhile.
    rules.put("slow", "regex_replace", {"pattern": "(x+x+)+z"})
    rules.rework()
    assert ask("SELECT sync_status, reason FROM app.sync_items WHERE external_id = 'bad'") == [
        ("failed", "rule_timeout")
    ]
    rules.remove("slow")
    rules.rework()
    assert ask("SELECT sync_status, reason FROM app.sync_items WHERE external_id = 'bad'") == [("synced", "")]
    assert len(ask(_TEXTS)) == 2
    assert rules.stale() == {}
