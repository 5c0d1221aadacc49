"""`workstation search`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.program import Program
from workstation_pipelines.commands import search as command
from workstation_pipelines.commands.marks import Marker, excerpt
from workstation_pipelines.index.search import Mode


def test_hit_tells_where_it_stands_and_how_it_came(synced: Program) -> None:
    result = synced("search", "crane containers", "--json").value
    hit = result["hits"][0]
    text = synced("documents", "show", "harbour.md", "--json").value["text"]
    assert (hit["title"], hit["external_path"], hit["data_source_name"]) == ("Harbour", "notes/harbour.md", "papers")
    assert hit["text"] == text[hit["start_offset"] : hit["end_offset"]]
    assert [hit["text"][start:end] for start, end in hit["marks"]] == ["crane", "containers"]
    job = synced("jobs", "list", "--json").value[0]["id"]
    assert (hit["lineage"]["sync_job_id"], hit["lineage"]["dagster_run_id"]) == (job, None)


def test_explained_hit_names_every_station(synced: Program) -> None:
    document = synced("documents", "show", "forest.md", "--json").value
    job = synced("jobs", "list", "--json").value[0]["id"]
    told = synced("search", "owls", "--explain").out
    for station in (f"chunk {document['id']}#1#0", document["external_id"], job, "synced from the shell", "words"):
        assert station in told
    assert job not in synced("search", "owls").out


def test_nothing_relevant_is_said(synced: Program) -> None:
    assert synced("search", "zeppelin", "--mode", "text").out == "Nothing relevant found.\n"
    assert synced("search", "zeppelin", "--mode", "text", "--json").value["nothing_relevant"]


def test_scope_narrows_the_search(synced: Program) -> None:
    synced("documents", "tag", "forest.md", "wild")
    synced("documents", "tag", "harbour.md", "wet")
    synced("documents", "assign", "forest.md", "Nature")
    for scope, titles in (
        ([], ["Forest", "Harbour"]),
        (["--source", "papers"], ["Forest", "Harbour"]),
        (["--source-type", "local_folder"], ["Forest", "Harbour"]),
        (["--source-type", "gmail"], []),
        (["--mime-type", "text/plain"], []),
        (["--tag", "wild"], ["Forest"]),
        (["--tag", "wild", "--tag", "wet"], ["Forest", "Harbour"]),
        (["--tag", "absent"], []),
        (["--project", "Nature"], ["Forest"]),
        (["--from", "2001-01-01", "--before", "2999-01-01T00:00+02:00"], ["Forest", "Harbour"]),
        (["--before", "2001-01-01"], []),
        (["--limit", "1"], ["Forest"]),
    ):
        hits = synced("search", "owls oaks crane", "--mode", "text", *scope, "--json").value["hits"]
        assert (scope, sorted(hit["title"] for hit in hits)) == (scope, titles)


def test_unusable_search_is_wrong_input(synced: Program) -> None:
    for arguments in (
        [" "],
        ["owl", "--from", "yesterday"],
        ["owl", "--project", "absent"],
        ["owl", "--source", "absent"],
    ):
        assert (arguments, synced("search", *arguments).code) == (arguments, 2)


def test_modes_are_those_of_the_search() -> None:
    assert [mode.value for mode in command.Mode] == [mode.value for mode in Mode]


def test_marks_find_inflected_words_and_whole_identifiers() -> None:
    text = "The pumps failed. ERR-4711 was shown when pumping, not ERR-9."
    marked = [text[start:end] for start, end in Marker("pump ERR-4711").marks(text)]
    assert marked == ["pumps", "ERR-4711", "pumping", "ERR-9"]


def test_excerpt_shows_the_stretch_with_most_marks(tmp_path: Path) -> None:
    text = "oak " + "filler " * 200 + "the owl hunts the mouse at the owl tree " + "filler " * 200
    shown = excerpt(text, Marker("owl mouse oak"), indent="  ", characters=100).plain
    assert "owl hunts the mouse" in shown
    assert shown.startswith("  ... ")
    assert shown.endswith(" ...")
    assert len(shown) < 120
