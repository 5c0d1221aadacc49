"""The import contracts in pyproject.toml hold, and each of them notices what it forbids."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(_ROOT / "pyproject.toml", folder)
    shutil.copytree(
        _ROOT / "workstation_pipelines",
        folder / "workstation_pipelines",
        ignore=shutil.ignore_patterns("__pycache__", "*.onnx", "*.json"),
    )
    return folder


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_package_keeps_every_contract() -> None:
    linted = _lint(_ROOT)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("model.py", "import workstation_pipelines.settings", "Packages import downwards only"),
        ("db/illegal.py", "import workstation_pipelines.sync", "Packages import downwards only"),
        ("db/illegal.py", "import workstation_pipelines.index", "Packages import downwards only"),
        ("sources/illegal.py", "import workstation_pipelines.db", "Packages import downwards only"),
        ("text/illegal.py", "import workstation_pipelines.index", "Packages import downwards only"),
        ("sync/illegal.py", "import workstation_pipelines.defs", "Packages import downwards only"),
        ("workflows/illegal.py", "import workstation_pipelines.api", "Packages import downwards only"),
        ("unlisted.py", "", "Packages import downwards only"),
        ("sync/illegal.py", "import dagster", "Dagster stays at the rim"),
        ("api/illegal.py", "def start():\n    from dagster import DagsterInstance", "Dagster stays at the rim"),
        ("api/illegal.py", "import psycopg", "SQL stays in db"),
        ("defs/illegal.py", "from sqlalchemy import text", "SQL stays in db"),
        ("sync/illegal.py", "import psycopg", "SQL stays in db"),
        ("index/illegal.py", "import pgvector.sqlalchemy", "SQL stays in db"),
        ("text/illegal.py", "import httpx", "What decides does no input or output"),
        ("text/illegal.py", "import subprocess", "What decides does no input or output"),
        ("sync/delta.py", "from sqlalchemy import text", "What decides does no input or output"),
        ("workflows/flow.py", "import sqlalchemy", "What decides does no input or output"),
        ("sources/slack/text.py", "import workstation_pipelines.sources.gmail.scope", "No vendor knows another"),
        (
            "sources/http.py",
            "from workstation_pipelines.sources.local_folder import stamp",
            "What vendors share knows no vendor",
        ),
    ],
)
def test_illegal_import_breaks_its_contract(checkout: Path, module: str, line: str, contract: str) -> None:
    path = checkout / "workstation_pipelines" / module
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        linted = _lint(checkout)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    assert linted.returncode == 1
    assert any(contract in row and "BROKEN" in row for row in linted.stdout.splitlines()), linted.stdout


def test_settings_alone_reads_the_environment() -> None:
    readers = {
        str(path.relative_to(_ROOT / "workstation_pipelines"))
        for path in (_ROOT / "workstation_pipelines").rglob("*.py")
        if any(word in path.read_text() for word in ("os.environ", "os.getenv", "import environ", "import getenv"))
    }
    assert readers <= {"settings.py"}
