"""`workstation why`, for everything that can become of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cli.program import Program
from workstation_pipelines.settings import Settings


def _items(program: Program, reference: str) -> list[dict[str, Any]]:
    ran = program("why", reference, "--json")
    assert ran.code == 0
    items: list[dict[str, Any]] = ran.value["items"]
    assert all(item["explanation"] in program("why", reference).out for item in items)
    return items


def test_synced_file_leads_to_its_document_chunks_and_job(synced: Program, folder: Path) -> None:
    document = synced("documents", "show", "forest.md", "--json").value
    job = synced("jobs", "list", "--json").value[0]["id"]
    for reference in ("notes/forest.md", "forest.md", str(folder / "notes" / "forest.md"), document["id"]):
        (item,) = _items(synced, reference)
        assert item["explanation"] == "here: generation 1 with 1 chunks, searchable"
        assert (item["local_document_id"], item["last_sync_job_id"]) == (document["id"], job)


def test_skipped_file_has_its_reason(workstation: Program, folder: Path) -> None:
    (folder / "empty.md").write_text("")
    workstation.connect("papers", folder, config={"max_file_bytes": 100})
    (folder / "long.txt").write_text("long " * 100)
    workstation("sync", "papers")
    (empty,) = _items(workstation, "empty.md")
    (long,) = _items(workstation, "long.txt")
    assert (empty["sync_status"], empty["explanation"]) == ("skipped", "left out: it holds nothing")
    assert (long["sync_status"], long["reason"]) == ("skipped", "too_large")
    assert "max_file_bytes" in long["explanation"]


def test_failed_file_has_its_message_and_attempts(workstation: Program, folder: Path) -> None:
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 this is no document")
    workstation.connect("papers", folder)
    workstation("sync", "papers")
    (item,) = _items(workstation, str(folder / "broken.docx"))
    assert item["sync_status"] == "failed"
    assert item["message"] in item["explanation"]
    assert item["explanation"].startswith("failed at extract after 1 tries, tried again when it changes: ")


def test_deleted_file_is_gone(synced: Program, folder: Path) -> None:
    (folder / "recipe.txt").unlink()
    synced("sync", "papers")
    (item,) = _items(synced, "recipe.txt")
    assert item["sync_status"] == "deleted"
    assert item["explanation"].startswith("gone: ")


def test_excluded_file_names_the_rule(workstation: Program, folder: Path) -> None:
    config = {"exclude": ["drafts/"], "include": ["*.md", "*.txt", "drafts/", "node_modules/"]}
    workstation.connect("papers", folder, config=config)
    reasons = {
        ".secret.md": "file .secret.md is hidden, and `include_hidden` is false",
        "draft.tmp": "file draft.tmp is left out by a built-in rule",
        "node_modules/x.md": "directory node_modules is left out by a built-in rule",
        "drafts/plan.md": "directory drafts is left out by the `exclude` glob drafts/",
        "link.md": "link.md is a symbolic link, and `follow_symlinks` is false",
        "photo.raw": "none of the `include` globs matches it: *.md, *.txt, drafts/, node_modules/",
        "notes": "it is a directory; what is in it is listed file by file",
    }
    (folder / "link.md").symlink_to(folder / "recipe.txt")
    for path in reasons.keys() - {"link.md", "notes"}:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("x")
    workstation("sync", "papers")
    for path, reason in reasons.items():
        told = workstation("why", str(folder / path), "--json").value
        (unlisted,) = told["unlisted"]
        assert (path, told["items"]) == (path, [])
        assert unlisted["data_source_name"] == "papers"
        assert not unlisted["is_listed"]
        assert unlisted["reason"].startswith(reason)
        assert f"never taken, because {reason}" in workstation("why", str(folder / path)).out


def test_new_file_waits_for_the_next_sync(synced: Program, folder: Path) -> None:
    (folder / "new.md").write_text("# New\n")
    for reference in ("new.md", str(folder / "new.md"), (folder / "new.md").as_uri()):
        assert "the next sync takes it: workstation sync papers" in synced("why", reference).out


def test_unknown_path_belongs_to_no_source(synced: Program, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.md").write_text("x")
    told = synced("why", str(tmp_path / "elsewhere.md"), "--json").value
    assert (told["items"], told["unlisted"]) == ([], [])
    assert "no source of yours has it or covers it" in told["explanation"]


def test_path_outside_the_allowed_folders_could_not_be_covered(synced: Program) -> None:
    assert "WORKSTATION_FOLDER_ROOTS" in synced("why", "/etc/hostname", "--json").value["explanation"]


def test_source_outside_the_allowed_folders_is_told(synced: Program, folder: Path, settings: Settings) -> None:
    synced.settings = settings.model_copy(update={"folder_roots_text": "/nowhere"})
    (folder / "new.md").write_text("# New\n")
    assert "the source cannot be opened: Folder" in synced("why", str(folder / "new.md")).out


def test_json_of_an_unknown_reference_is_one_object(workstation: Program) -> None:
    told = workstation("why", "absent.md", "--json")
    assert told.code == 0
    assert set(told.value) == {"reference", "items", "unlisted", "explanation", "processed"}
