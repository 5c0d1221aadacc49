"""`workstation check`: damage is named, and mended without asking the source."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest

from tests.cli.program import Program
from tests.conftest import DatabaseUrls
from workstation_pipelines.settings import libpq_url

_DAMAGE = {
    "vectors missing": "UPDATE app.chunks SET embedding = NULL",
    "chunks missing": "DELETE FROM app.chunks",
    "stray chunks": """
        INSERT INTO app.chunks (user_id, document_id, index_config_id, generation, ordinal, start_offset, end_offset,
                                token_count, text_hash, heading_path, text, tsv)
        SELECT user_id, document_id, index_config_id, generation + 7, ordinal, start_offset, end_offset, token_count,
               text_hash, heading_path, text, tsv FROM app.chunks""",
}


def _damage(urls: DatabaseUrls, statement: str) -> None:
    with psycopg.connect(libpq_url(urls.admin_url), autocommit=True) as connection:
        connection.execute(statement)


def test_sound_index_is_clean(synced: Program) -> None:
    checked = synced("check", "--source", "papers", "--json")
    assert (checked.code, checked.value["is_clean"], checked.value["found"]["documents"]) == (0, True, 3)
    assert synced("check").out.startswith("clean: 3 documents")
    assert synced("check", "--repair").out.endswith("repair: nothing to do\n")


@pytest.mark.parametrize("what", _DAMAGE)
def test_damage_is_named_and_repaired_without_the_source(
    synced: Program, folder: Path, database_urls: DatabaseUrls, what: str
) -> None:
    before = synced("search", "owls", "--json").value["hits"]
    _damage(database_urls, _DAMAGE[what])
    shutil.rmtree(folder)
    found = synced("check")
    assert found.code == 1
    assert found.out.startswith("NOT CLEAN: 3 documents")
    assert what == "stray chunks" or "Forest" in found.out
    repaired = synced("check", "--repair")
    assert repaired.code == 0
    assert "nothing fetched" in repaired.out
    assert repaired.out.endswith("now clean\n")
    after = synced("search", "owls", "--json").value["hits"]
    assert [hit["text"] for hit in after] == [hit["text"] for hit in before]


def test_few_passages_need_no_approximate_index(synced: Program) -> None:
    assert synced("optimise", "--json").value == {"chunks_promoted": 0}
    assert "nothing to promote" in synced("optimise").out


def test_altered_text_is_named_and_fetched_again_by_a_full_sync_after_a_repair(
    synced: Program, database_urls: DatabaseUrls
) -> None:
    _damage(database_urls, "UPDATE app.documents SET text = text || '!' WHERE title = 'Forest'")
    ran = synced("check", "--repair", "--json")
    assert (ran.code, ran.value["is_clean"]) == (1, False)
    assert [title for _, title in ran.value["found"]["wrong_hash"]] == ["Forest"]
    assert "text does not fit its hash: Forest" in synced("check").out
    assert "nothing of this can be mended from here" in synced("check", "--repair").out
    assert synced("sync", "papers", "--job-type", "full_sync").code == 0
    assert synced("check", "--json").value["is_clean"]
