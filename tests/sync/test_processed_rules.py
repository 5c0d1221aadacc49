"""Processed documents under rules: whatever was changed in whatever order, the end is that of processing under the last rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import DatabaseUrls
from tests.sync.bulk import ALICE, Bench
from tests.sync.ruled import Rules
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId
from workstation_pipelines.sync.index import check, reindex

FILTER = ("filter", {"mode": "exclude", "expression": "contains(name, 'secret') && size_bytes > `5`"})
STEPS: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
    ("title", "set_title", {"template": "{mime_type}{title}", "when": "!contains(path, 'plain')"}),
    ("file", "assign_project", {"project": "P", "when": "contains(path, 'plain')"}),
    ("tags", "add_tags", {"tags": ["t", "u"]}),
    ("filter", *FILTER),
    ("swap", "regex_replace", {"pattern": "alpha", "replacement": "gamma"}),
    ("inside", "filter", {"mode": "exclude", "expression": "ends_with(path, '/one')"}),
    ("filter", None, {}),
    ("file", None, {}),
    ("swap", "regex_replace", {"pattern": "alpha|gamma", "replacement": "delta"}),
    ("inside", None, {}),
    ("tags", "add_tags", {"tags": ["u", "v"]}),
    ("redact", "redact", {"kinds": ["email"], "forget_original": False}),
    ("filter", *FILTER),
)


def state(bench: Bench) -> list[tuple[Any, ...]]:
    rows = bench.ask(
        """
        SELECT coalesce(p.origin, '') AS outer_origin, CASE WHEN p.id IS NULL THEN d.origin ELSE split_part(d.origin, '/', 2) END,
               d.title, d.text, d.headings, d.language, d.external_url, j.name, d.rules_hash, d.extracted_text, d.extracted,
               d.is_original_forgotten,
               ARRAY(SELECT t.name FROM app.document_tags dt JOIN app.tags t ON t.id = dt.tag_id
                      WHERE dt.document_id = d.id ORDER BY 1) AS tags,
               ARRAY(SELECT c.text FROM app.chunks c WHERE c.document_id = d.id ORDER BY c.ordinal) AS chunks
          FROM app.documents d LEFT JOIN app.documents p ON p.id = d.parent_document_id
          LEFT JOIN app.projects j ON j.id = d.project_id
         WHERE d.deleted_at IS NULL ORDER BY 1, 2"""
    )
    return [tuple(row) for row in rows]


def test_rules_changed_step_by_step_end_as_if_they_had_always_been(
    database: Database, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    texts = {
        "plain.txt": "alpha note",
        "secret.txt": "alpha for jane@example.org and nobody else",
        "mail.txt": "mail\nattach one: alpha first\nattach two: for jane@example.org",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    subjects = [str(tmp_path / name) for name in texts]
    bench, rules = Bench(database), Rules(database)
    bench.process(*subjects)
    for number, (name, kind, config) in enumerate(STEPS):
        if kind is None:
            rules.remove(name)
        else:
            rules.put(name, kind, config, execution_order=sum(map(ord, name)))
        assert check(database, bench.parts().vectorizer, user_id=ALICE).rules_changed
        list(reindex(database, bench.parts().vectorizer, user_id=ALICE))
        assert check(database, bench.parts().vectorizer, user_id=ALICE).is_clean, name
        fresh = Bench(database, user_id=UserId(f"fresh{number}"))
        copied = Rules(database, fresh.user_id)
        for rule in rules.stored.values():
            copied.put(rule.name, rule.transformation_type, dict(rule.config), execution_order=rule.execution_order)
        job_id = fresh.process(*subjects)
        assert state(bench) == state(fresh), f"step {number}: {name}"
    assert ("skipped", "filtered") in fresh.outcomes(job_id)
    assert ("skipped", "filtered") in bench.outcomes(bench.process(*subjects))
    rules.put("redact", "redact", {"kinds": ["email"]}, execution_order=1)
    list(reindex(database, bench.parts().vectorizer, user_id=ALICE))
    assert not bench.ask("SELECT 1 FROM app.documents d WHERE to_jsonb(d)::text LIKE '%jane@%'")
    assert not bench.ask("SELECT 1 FROM app.processing_outcomes o WHERE to_jsonb(o)::text LIKE '%jane@%'")
