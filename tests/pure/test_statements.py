"""Every SQL statement names the owner itself: row-level security is the net under it, and the planner cannot see the net."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from workstation_pipelines.db import search_scope, tables
from workstation_pipelines.model import Scope, UserId

_PACKAGE = Path(tables.__file__).resolve().parents[1]
_DB = sorted((_PACKAGE / "db").glob("*.py"))
_ELSEWHERE = sorted(path for path in _PACKAGE.rglob("*.py") if path.parent.name != "db")

_TABLES = {table.name for table in tables.metadata.sorted_tables}
_VIEWS = {
    "daily_cost_summary",
    "data_source_rules",
    "data_source_summary",
    "document_index_settings",
    "document_lineage",
    "documents_with_metadata",
    "processing_job_summary",
    "project_summary",
    "source_freshness",
    "sync_job_summary",
    "user_workflow_summary",
    "workflow_execution_summary",
}
# Whose rows belong to a tenant besides their user; a statement names both.
_WITHIN_TENANTS = {table.name for table in tables.metadata.sorted_tables if "tenant_id" in table.columns} | {
    "user_workflow_summary",
    "workflow_execution_summary",
}

# The functions that answer across users, with ids and times, and the proof that the rest does not.
ACROSS_USERS = {
    "builds_to_purge",
    "data_source_owner",
    "data_sources_of_type",
    "due_deliveries",
    "due_syncs",
    "due_workflows",
    "execution_owner",
    "executions_to_start",
    "indexes_behind",
    "freshness_changes",
    "newest_workflow_version_at",
    "open_workflow_runs",
    "processing_job_owner",
    "processing_jobs_to_start",
    "rate_penalise",
    "rate_take",
    "recently_used_workflows",
    "silent_processing_jobs",
    "silent_sync_jobs",
    "running_sync_jobs",
    "sources_to_probe",
    "unwanted_sync_jobs",
    "waiting_sync_jobs",
    "users_with_rows",
    "verify_rls",
    "webhook_owners",
    "workflow_runs_to_mirror",
    "workflow_secret_owners",
    "workflow_version_by_job",
}
# What needs no owner beside it, and a function that takes one.
CONTEXT = {"set_current_user_id", "user_id", "tenant_id", "open_event"}
# Functions that answer for the context's user, whom they look up themselves.
OF_THE_CONTEXT = {"audit_append", "audit_head", "audit_verify", "count_template_use", "tenants_with_executions"}

# Inserted into the statements of a search; `test_conditions_of_a_search_name_the_owner` holds them to it.
CONDITIONS = {
    "where.documents": "d.user_id = :user_id",
    "where.chunks": "c.user_id = :user_id",
    "where.tables": "app.documents d",
    "_CHOSEN": "d.user_id = :user_id",
}

_REFERENCE = re.compile(r"\b(FROM|JOIN|UPDATE|USING|INTO)\s+app\.(\w+|\{\})(?:\s+(?:AS\s+)?(\w+))?")
# As (alias of the left side or nothing, alias of the right side or the parameter).
_EQUAL = {
    column: re.compile(rf"(?:\b(\w+)\.|(?<![.\w])){column}\s*=\s*(?:(:{column}|%s|\$\d+)|(\w+)\.{column})")
    for column in ("user_id", "tenant_id")
}
_NOT_ALIASES = {"SET", "WHERE", "ON", "USING", "JOIN", "LEFT", "CROSS", "ORDER", "VALUES", "SELECT", "FOR", "LIMIT"}
_SQL = re.compile(
    r"\b(SELECT\s[\s\S]*\sFROM|INSERT\s+INTO|UPDATE\s[\s\S]*\sSET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX|TEMP)|TRUNCATE"
    r"|ALTER\s+TABLE|DROP\s+TABLE|COPY\s+\w+)\b"
)


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield every string of a module but its docstrings, f-strings with {} for what they insert, if not in CONDITIONS."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in ast.walk(node) if part is not node)
            yield node.lineno, "".join(_written(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            yield node.lineno, node.value


def _written(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return CONDITIONS.get(ast.unparse(part.value), "{}")
    return str(ast.literal_eval(part))


def without_owner(statement: str) -> list[str]:
    """Return the tables of the schema in a statement whose rows it does not restrict to an owner, and tenant if they have."""
    outside = [table for table in _without(statement, "tenant_id") if table in _WITHIN_TENANTS]
    return _without(statement, "user_id") + outside


def _without(statement: str, column: str) -> list[str]:
    """Return the tables in a statement whose rows it does not restrict by this column.

    Each must be led back, by equality of owners, to a bound value or to something outside the string, if it is a part.
    """
    careless = []
    tables_by_alias: dict[str, str] = {}
    for verb, table, word in _REFERENCE.findall(statement):
        if verb == "INTO":
            columns = re.search(r"INTO\s+app\.[\w{}]+(?:\s+AS\s+\w+)?\s*\(([^)]*)\)", statement)
            if columns is None or column not in columns.group(1):
                careless.append(table)
        elif table not in ACROSS_USERS | OF_THE_CONTEXT:
            tables_by_alias["" if word in _NOT_ALIASES else word] = table
    equal = {(left, parameter or right) for left, parameter, right in _EQUAL[column].findall(statement)}
    led_back = {end for pair in equal for end in pair} - set(tables_by_alias)
    for _ in tables_by_alias:
        led_back |= {end for pair in equal if set(pair) & led_back for end in pair}
    return careless + [table for alias, table in tables_by_alias.items() if alias not in led_back]


@pytest.mark.parametrize("path", _DB, ids=lambda path: path.name)
def test_every_statement_on_a_table_or_view_names_its_owner(path: Path) -> None:
    found = [(line, without_owner(string)) for line, string in strings(path.read_text())]
    assert [f"{path.name}:{line}: {names}" for line, names in found if names] == []


@pytest.mark.parametrize("path", _DB, ids=lambda path: path.name)
def test_whatever_of_the_schema_is_named_is_known(path: Path) -> None:
    known = _TABLES | _VIEWS | ACROSS_USERS | OF_THE_CONTEXT | CONTEXT
    named = {name for _, string in strings(path.read_text()) for name in re.findall(r"\bapp\.(\w+)", string)}
    assert named - known == set()


def test_conditions_of_a_search_name_the_owner() -> None:
    where = search_scope.conditions(search_scope.Filters(Scope(UserId("alice"), tag_names=["a"])))
    for owner, conjunction in (("d.user_id", where.documents), ("c.user_id", where.chunks)):
        assert conjunction.split(" AND ")[0] == f"{owner} = :user_id"
        assert " OR " not in conjunction
    assert where.parameters["user_id"] == "alice"


def test_statements_were_found() -> None:
    references = [
        table for path in _DB for _, string in strings(path.read_text()) for _, table, _ in _REFERENCE.findall(string)
    ]
    assert len(references) > 60
    assert set(references) > {"documents", "chunks", "sync_items", "sync_jobs", "data_sources"}


@pytest.mark.parametrize(
    ("statement", "careless"),
    [
        ("SELECT * FROM app.tags WHERE name = :name", ["tags"]),
        ("SELECT * FROM app.tags WHERE user_id = :user_id", []),
        ("SELECT * FROM app.tags t JOIN app.documents d ON d.id = t.id WHERE t.user_id = :user_id", ["documents"]),
        ("SELECT * FROM app.tags t JOIN app.documents d ON d.user_id = t.user_id WHERE t.user_id = :user_id", []),
        ("SELECT * FROM app.tags t JOIN app.documents d ON d.user_id = t.user_id", ["tags", "documents"]),
        ("EXISTS (SELECT FROM app.tags t WHERE t.user_id = outside.user_id)", []),
        ("INSERT INTO app.tags (id, name) VALUES (1, 2)", ["tags"]),
        ("INSERT INTO app.tags (id, user_id) VALUES (1, 2)", []),
        ("UPDATE app.tags SET name = 'x' WHERE id = 1", ["tags"]),
        ("SELECT * FROM app.workflows WHERE user_id = :user_id AND tenant_id = :tenant_id", []),
        ("SELECT * FROM app.workflows WHERE user_id = :user_id", ["workflows"]),
        ("INSERT INTO app.workflows (id, user_id) VALUES (1, 2)", ["workflows"]),
        ("DELETE FROM app.workflows WHERE tenant_id = :tenant_id", ["workflows"]),
        ("DELETE FROM app.chunks c USING app.documents d WHERE c.user_id = :user_id AND d.id = c.id", ["documents"]),
        ("SELECT app.data_source_owner(:id)", []),
    ],
)
def test_careless_statement_is_recognised(statement: str, careless: list[str]) -> None:
    assert without_owner(statement) == careless


def test_strings_are_found_in_modules_as_they_are_written() -> None:
    source = (
        '"""Doc: SELECT 1 FROM app.tags."""\nX = "a"\nY = f"b {X} c"\ndef f() -> str:\n    "doc"\n    return "d" "e"\n'
    )
    assert [string for _, string in strings(source)] == ["a", "b {} c", "de"]


@pytest.mark.parametrize("path", _ELSEWHERE, ids=lambda path: path.relative_to(_PACKAGE).as_posix())
def test_no_module_outside_db_contains_sql(path: Path) -> None:
    found = [line for line, string in strings(path.read_text()) if _SQL.search(string)]
    assert found == []
