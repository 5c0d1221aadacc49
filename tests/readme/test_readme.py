"""Every command of the README works as written, in its order, in a home of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.fakes.google_drive import FakeGoogleDrive
from tests.fakes.oauth import GOOGLE, OAuthDesk
from tests.fakes.pinecone import API_KEY, FakePinecone
from tests.pure.embeddings_server import KEY, serving
from tests.readme import preforked
from workstation_pipelines.db import embedded
from workstation_pipelines.settings import libpq_url

_ROOT = Path(__file__).resolve().parents[2]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(sh|sql)\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)
_MAKE = re.compile(r"^make\b", re.MULTILINE)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with the notes that the README speaks of; its embedded database ends with the module.

    Not below pytest's folder: the next pytest closes that to all but its owner, and root's server is not root.
    """
    home = Path(tempfile.mkdtemp(prefix="ws-readme-"))
    (home / "notes").mkdir()
    (home / "papers").mkdir()
    (home / "notes" / "rent.md").write_text("# Rent\n\nThe rent is due on the third of each month.\n")
    (home / "notes" / "todo.md").write_text("# To do\n\nAsk for an offer for the heat pump.\n")
    yield home
    embedded.stop(home / ".workstation")
    shutil.rmtree(home)


@pytest.fixture
def google(home: Path) -> Iterator[dict[str, str]]:
    """Variables that lead to a Google of our own, and to a browser whose person consents to everything."""
    (home / "browser.py").write_text(
        "import sys, urllib.request as web\nweb.build_opener(web.ProxyHandler({})).open(sys.argv[1]).read()\n"
    )
    with FakeGoogleDrive() as drive:
        desk = OAuthDesk(drive, GOOGLE)
        drive.state.add_file("Plan.md", "# Plan\n\nRenew the lease.\n")
        yield {
            "GOOGLE_DRIVE_API_URL": drive.url,
            "GOOGLE_DRIVE_EXPORT_URL": drive.export_url,
            "GOOGLE_DRIVE_AUTHORIZE_URL": desk.authorize_url,
            "GOOGLE_DRIVE_TOKEN_URL": desk.token_url,
            "BROWSER": f"{sys.executable} {home / 'browser.py'} %s &",
        }
        assert drive.violations == []
        assert drive.writes == []


def _run(script: str, home: Path, more: Mapping[str, str], *programs: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["/bin/sh", "-e", "-c", script],
        cwd=_ROOT,
        env={"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_commands_work_as_written(
    home: Path, google: dict[str, str], database_urls: DatabaseUrls, dagster_url: str
) -> None:
    with serving(dimensions=1536) as server, FakePinecone() as pinecone, preforked.serving(home) as programs:
        google["WORKSTATION_PINECONE_URL"] = pinecone.url
        others = {
            "postgresql://postgres:secret@db.example/workstation": database_urls.admin_url,
            "postgresql://wp_app:secret@db.example/workstation": database_urls.app_url,
            "postgresql://postgres:secret@db.example/dagster": dagster_url,
            "https://models.example/v1": server.url,
            "your-pinecone-key": API_KEY,
            "your-key": KEY,
            "your-client-id": OAuthDesk.client_id,
            "your-client-secret": OAuthDesk.client_secret,
            "/srv/papers": str(home / "papers"),
        }
        assert [name for name in others if name not in _README] == []
        for language, block in _BLOCKS:
            if language == "sql" or _MAKE.search(block):
                continue
            script = block
            for name, real in others.items():
                script = script.replace(name, real if name.startswith("/") else f"'{real}'")
            # The last one, with Dagster's own command, takes the program as it is installed.
            ran = _run(script, home, google, *(() if "dagster " in block else [programs]))
            assert ran.returncode == 0, (block, ran.stdout, ran.stderr)
            assert "workstation:" not in ran.stderr, (block, ran.stderr)
        assert server.requests
        assert pinecone.requests
        assert pinecone.violations == []


def test_make_targets_exist() -> None:
    lines = [line for _, block in _BLOCKS for line in block.splitlines() if _MAKE.search(line)]
    assert {line.split()[1] for line in lines} == {"demo", "dev", "check", "test"}
    for line in lines:
        assert (
            subprocess.run(["/bin/sh", "-c", f"{line} -n"], cwd=_ROOT, capture_output=True, check=False).returncode == 0
        )


def test_sql_is_accepted(postgres: DatabaseUrls) -> None:
    statements = [line for language, block in _BLOCKS if language == "sql" for line in block.splitlines()]
    created = [line for line in statements if line.startswith("CREATE DATABASE")]
    assert created == ["CREATE DATABASE workstation;", "CREATE DATABASE dagster;"]
    (altered,) = [line for line in statements if line not in created]
    with psycopg.connect(libpq_url(postgres.admin_url)) as connection:
        connection.execute(altered)
        connection.rollback()


def test_settings_it_names_exist() -> None:
    settings = (_ROOT / "workstation_pipelines" / "settings.py").read_text()
    named = set(re.findall(r"\b(?:WORKSTATION|DATABASE|DAGSTER)_[A-Z_]+\b", _README))
    assert [name for name in sorted(named) if f'"{name}"' not in settings] == []


def test_files_it_names_exist() -> None:
    named = set(re.findall(r"`([a-z_]+/[a-z_./]*|[a-z_]+\.(?:py|toml))`", _README))
    below_home = {"postgres/", "dagster/", "demo/", "logs/workstation.log"}
    roots = (_ROOT, _ROOT / "workstation_pipelines")
    missing = [name for name in sorted(named - below_home) if not any((root / name).exists() for root in roots)]
    assert missing == []
