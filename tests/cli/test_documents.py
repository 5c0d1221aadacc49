"""`workstation documents`, `projects` and `tags`."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.cli.program import Program


def test_list_tells_everything_of_each_document(synced: Program) -> None:
    listed = synced("documents", "list", "--json").value
    assert [document["external_path"] for document in listed] == ["notes/forest.md", "notes/harbour.md", "recipe.txt"]
    first = listed[0]
    assert (first["title"], first["mime_type"], first["generation"]) == ("Forest", "text/markdown", 1)
    assert (first["status"], first["project"], first["tags"], first["source"]) == ("synced", None, [], "papers")
    assert first["external_url"].endswith("/papers/notes/forest.md")
    assert first["id"]
    assert first["external_id"]
    assert first["content_hash"]


def test_list_goes_on_from_an_offset(synced: Program) -> None:
    assert "--offset 2" in synced("documents", "list", "--limit", "2").out
    rest = synced("documents", "list", "--limit", "2", "--offset", "2", "--json").value
    assert [document["external_path"] for document in rest] == ["recipe.txt"]


def test_list_keeps_a_document_on_one_line_in_a_pipe(synced: Program) -> None:
    lines = synced("documents", "list", "--wide").out.splitlines()
    document = synced("documents", "list", "--json").value[0]
    (line,) = [line for line in lines if document["id"] in line]
    for column in ("title", "external_path", "external_id", "external_url", "content_hash"):
        assert document[column] in line


def test_document_is_found_by_id_path_name_title_and_url(synced: Program) -> None:
    document = synced("documents", "list", "--json").value[0]
    for reference in (document["id"], "notes/forest.md", "forest.md", "Forest", document["external_url"]):
        assert synced("documents", "show", reference, "--json").value["id"] == document["id"]
    assert synced("documents", "show", "absent.md").code == 2


def test_show_gives_text_and_chunks(synced: Program) -> None:
    shown = synced("documents", "show", "recipe.txt", "--json").value
    assert shown["chunks"][0]["text"] in shown["text"]
    assert synced("documents", "show", "recipe.txt", "--text").out.strip() == shown["text"].strip()
    assert "generation" in synced("documents", "show", "recipe.txt").out


def test_tags_and_projects_group_documents_and_are_counted(synced: Program) -> None:
    assert synced("documents", "tag", "recipe.txt", "food", "bread", "--json").value["tags"] == ["bread", "food"]
    assert synced("documents", "assign", "recipe.txt", "Kitchen", "--json").value["project"] == "Kitchen"
    for choice in (["--tag", "food"], ["--project", "Kitchen"]):
        assert [each["title"] for each in synced("documents", "list", *choice, "--json").value] == ["recipe"]
    assert {tag["name"]: tag["document_count"] for tag in synced("tags", "list", "--json").value} == {
        "bread": 1,
        "food": 1,
    }
    assert [(each["name"], each["document_count"]) for each in synced("projects", "list", "--json").value] == [
        ("Kitchen", 1)
    ]
    assert "Kitchen" in synced("projects", "list").out
    assert "bread" in synced("tags", "list").out
    assert synced("documents", "untag", "recipe.txt", "bread", "--json").value["tags"] == ["food"]
    assert synced("documents", "assign", "recipe.txt", "--none", "--json").value["project"] is None


@pytest.mark.parametrize("arguments", [["assign", "recipe.txt"], ["assign", "recipe.txt", "Kitchen", "--none"]])
def test_assign_needs_a_project_or_none(synced: Program, arguments: list[str]) -> None:
    assert synced("documents", *arguments).code == 2


def test_empty_lists_say_how_to_begin(workstation: Program) -> None:
    for command in (["source", "list"], ["projects", "list"], ["tags", "list"], ["jobs", "list"]):
        assert "workstation" in workstation(*command).out
    assert workstation("documents", "list").out == "No documents here.\n"


def test_deleted_document_stays_away_whatever_happens_to_its_file(synced: Program, folder: Path) -> None:
    asked = synced("documents", "delete", "recipe.txt")
    assert (asked.code, len(synced("documents", "list", "--json").value)) == (4, 3)
    assert synced("documents", "delete", "recipe.txt", "--yes").code == 0
    (folder / "recipe.txt").write_text("Knead the dough twice as long.\n")
    for job_type in ("manual", "full_sync"):
        assert synced("sync", "papers", "--job-type", job_type).code == 0
        assert [each["title"] for each in synced("documents", "list", "--json").value] == ["Forest", "Harbour"]
    assert synced("search", "dough", "--mode", "text", "--json").value["hits"] == []
    (explained,) = synced("why", "recipe.txt", "--json").value["items"]
    assert (explained["sync_status"], explained["reason"]) == ("skipped", "removed_by_user")
    assert (folder / "recipe.txt").exists()
    assert synced("check").code == 0


def test_deleted_mail_takes_its_attachments_along(workstation: Program, folder: Path) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Tide tables", "a@example.org", "b@example.org"
    mail.set_content("The tables are attached.")
    mail.add_attachment("High water at noon.", filename="tides.txt")
    (folder / "tides.eml").write_bytes(mail.as_bytes())
    workstation.connect("papers", folder)
    assert workstation("sync", "papers").code == 0
    assert len(workstation("documents", "list", "--json").value) == 5
    assert len(workstation("documents", "delete", "tides.eml", "--yes", "--json").value["deleted"]) == 2
    assert len(workstation("documents", "list", "--json").value) == 3
    assert workstation("sync", "papers", "--job-type", "full_sync").code == 0
    assert len(workstation("documents", "list", "--json").value) == 3


def test_deleted_attachment_stays_away_when_its_mail_changes(workstation: Program, folder: Path) -> None:
    def write(text: str) -> None:
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = "Tide tables", "a@example.org", "b@example.org"
        mail.set_content(text)
        mail.add_attachment("High water at noon.", filename="tides.txt")
        (folder / "tides.eml").write_bytes(mail.as_bytes())

    write("The tables are attached.")
    workstation.connect("papers", folder)
    assert workstation("sync", "papers").code == 0
    assert workstation("documents", "delete", "tides.txt", "--yes", "--json").value["title"] == "tides"
    write("The tables are attached once more.")
    assert workstation("sync", "papers", "--json").value["counts"]["fetched"] == 1
    titles = [each["title"] for each in workstation("documents", "list", "--json").value]
    assert sorted(titles) == ["Forest", "Harbour", "Tide tables", "recipe"]
