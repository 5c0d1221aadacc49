"""`workstation transform`: rules from the first look to the last, and what they tell about what they change."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.program import Program


def value(program: Program, *arguments: str) -> Any:
    """Run a command of `transform`, or another, and return its JSON."""
    ran = program(*arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.value


def test_rules_are_added_tried_ordered_and_removed(synced: Program) -> None:
    types = value(synced, "transform", "types")
    assert {"redact", "filter", "add_tags"} <= types.keys()
    config = json.dumps({"pattern": "crane", "replacement": "winch"})
    tried = value(synced, "transform", "preview", config, "harbour.md", "--type", "regex_replace")
    assert "+The winch lifts containers from the ship." in tried["diff"]
    added = value(synced, "transform", "add", "winch", "regex_replace", "--config", config, "--source", "papers")
    assert (added["documents_to_rework"], added["is_active"], added["execution_order"]) == (3, True, 10)
    assert value(synced, "transform", "preview", "winch", "harbour.md")["is_text_changed"]
    assert "It changes nothing" in synced("transform", "preview", "winch", "recipe.txt").out
    assert synced("check").code == 1
    assert synced("check", "--repair").code == 0
    assert "winch" in synced("documents", "show", "harbour.md", "--text").out
    value(
        synced,
        "transform",
        "add",
        "tag",
        "add_tags",
        "--set",
        'tags=["notes"]',
        "--set",
        "when=contains(path, 'notes/')",
    )
    value(
        synced,
        "transform",
        "add",
        "no recipe",
        "filter",
        "--set",
        "mode=exclude",
        "--set",
        "expression=name=='recipe.txt'",
    )
    assert synced("sync", "papers").code == 0
    listed = {document["external_path"]: document["tags"] for document in value(synced, "documents", "list")}
    assert listed == {"notes/forest.md": ["notes"], "notes/harbour.md": ["notes"]}
    why = synced("why", "recipe.txt").out
    assert "your rule 'no recipe' leaves it out" in why
    ordered = value(synced, "transform", "order", "no recipe", "tag")
    assert [rule["name"] for rule in ordered["rules"]] == ["no recipe", "tag", "winch"]
    assert value(synced, "transform", "disable", "no recipe")["is_active"] is False
    assert value(synced, "transform", "edit", "winch", "--set", "pattern=ship", "--everywhere")["config"] == {
        "pattern": "ship",
        "replacement": "winch",
    }
    assert synced("sync", "papers").code == 0
    assert len(value(synced, "documents", "list")) == 3
    for name in ("winch", "tag", "no recipe"):
        assert synced("transform", "remove", name).code == 0
    assert value(synced, "transform", "list") == []
    assert synced("check", "--repair").code == 0
    assert "crane" in synced("documents", "show", "harbour.md", "--text").out


def test_wrong_rules_are_refused_in_one_line(workstation: Program) -> None:
    for arguments, told in (
        (("add", "a", "shout"), "the types are"),
        (("add", "a", "regex_replace", "--config", '{"pattern": "("}'), "pattern cannot be read"),
        (("add", "a", "truncate", "--set", "max_characters"), "KEY=VALUE"),
        (
            ("add", "a", "truncate", "--set", "max_characters=9", "--source", "x", "--source-type", "gmail"),
            "choose one",
        ),
        (("show", "a"), "no rule named 'a'"),
    ):
        refused = workstation("transform", *arguments)
        assert refused.code == 2
        assert told in refused.err
        assert refused.err.count("\n") == 1
