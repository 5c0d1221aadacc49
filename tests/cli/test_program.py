"""What holds for every command: quick help, one JSON value, one line an error, exit codes, no trace."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.program import Program
from tests.conftest import DatabaseUrls
from workstation_pipelines import cli
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.settings import Settings

_HEAVY = {"dagster", "sqlalchemy", "numpy", "onnxruntime", "tokenizers", "rich", "alembic", "psycopg", "xberg"}


def _commands(group: Any, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        path = (*words, name)
        found += _commands(command, path) if hasattr(command, "commands") else [(path, command)]
    return found


_ALL = _commands(typer.main.get_command(cli.app))


def test_commands_that_messages_name_are_there() -> None:
    known = {" ".join(words) for words, _ in _ALL}
    root = Path(cli.__file__).parent
    # The first line of a module may name a group.
    texts = [path.read_text().partition("\n")[2] for path in [*root.rglob("*.py"), *root.parent.glob("docs/*.md")]]
    named = {words for text in texts for words in re.findall(r"`workstation ([a-z][a-z-]*(?: [a-z][a-z-]*)*)", text)}
    unknown = [words for words in named if not any(f"{words} ".startswith(f"{command} ") for command in known)]
    assert unknown == []


def _program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workstation_pipelines.cli", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_takes_less_than_half_a_second_of_computing() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = _program("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert shown.returncode == 0
    assert "Commands:" in shown.stdout
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 0.5


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from workstation_pipelines import cli; cli.main(['--help']); print(*sys.modules, file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split()
    assert not _HEAVY.intersection(loaded)


def test_no_arguments_show_the_help(workstation: Program) -> None:
    assert workstation().out == workstation("--help").out


@pytest.mark.parametrize(("words", "command"), _ALL, ids=[" ".join(words) for words, _ in _ALL])
def test_command_has_json_and_says_what_it_does(words: tuple[str, ...], command: Any) -> None:
    assert "--json" in {name for parameter in command.params for name in parameter.opts}
    assert command.help
    assert "..." not in command.get_short_help_str(limit=60)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["nonsense"], "`workstation --help`"),
        (["source"], "`workstation source --help`"),
        (["source", "show"], "`workstation source show --help`"),
        (["sync", "papers", "--job-type", "sideways"], "`workstation sync --help`"),
        (["documents", "list", "--limit", "0"], "`workstation documents list --help`"),
        (["search", "owl", "--mode", "guess"], "`workstation search --help`"),
    ],
)
def test_wrong_usage_is_one_line_with_code_2(workstation: Program, arguments: list[str], hint: str) -> None:
    ran = workstation(*arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert hint in ran.err


def test_error_with_json_is_one_object_on_stdout(workstation: Program) -> None:
    ran = workstation("source", "show", "absent", "--json")
    message = "no data source named 'absent': `workstation source list` shows yours"
    assert ran.value == {"error": {"kind": "NotFoundError", "message": message, "exit_code": 2}}
    assert (ran.code, ran.err) == (2, f"workstation: {message}\n")


def test_wrong_usage_with_json_is_one_object_on_stdout(workstation: Program) -> None:
    ran = workstation("jobs", "show", "--json")
    assert (ran.code, ran.value["error"]["kind"]) == (2, "UsageError")


def test_bug_is_one_line_and_its_trace_is_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(WORKSTATION_HOME=tmp_path)
    calls = iter([settings.model_copy(update={"database_url": 7}), settings])
    code = cli.main(["source", "list"], lambda: next(calls))
    out, err = capsys.readouterr()
    log = tmp_path / "logs" / "workstation.log"
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "this is a bug" in err
    assert str(log) in err
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_debug_shows_the_trace_of_a_bug(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(WORKSTATION_HOME=tmp_path, WORKSTATION_DEBUG=True)
    calls = iter([settings.model_copy(update={"database_url": 7}), settings])
    assert cli.main(["source", "list"], lambda: next(calls)) == 1
    assert "Traceback" in capsys.readouterr().err


def test_unusable_setting_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    def load() -> Settings:
        raise InvalidRequestError("Settings cannot be used: WORKSTATION_EMBEDDER: no such one.")

    assert cli.main(["source", "list"], load) == 2
    assert capsys.readouterr().err == "workstation: Settings cannot be used: WORKSTATION_EMBEDDER: no such one.\n"


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    ran = _program("db", "status", "--json", WORKSTATION_HOME=str(tmp_path))
    assert (ran.returncode, json.loads(ran.stdout)["server"]) == (0, "absent")
    assert _program("db", "status", WORKSTATION_EMBEDDER="none").returncode == 2


def test_unreachable_database_is_unavailable(workstation: Program) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    workstation.settings = workstation.settings.model_copy(update={"database_url": url, "database_admin_url": url})
    for command in (["source", "list"], ["db", "status"], ["db", "upgrade"], ["db", "verify"]):
        ran = workstation(*command)
        assert (ran.code, ran.err.count("\n")) == (5, 1), ran.err


@pytest.mark.parametrize("user", ["", "two words", "o'brien"])
def test_malformed_user_is_wrong_input(workstation: Program, user: str) -> None:
    assert workstation("--user", user, "source", "list").code == 2


def test_reader_that_goes_away_is_no_error() -> None:
    shown = subprocess.Popen(
        [sys.executable, "-m", "workstation_pipelines.cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert shown.stdout
    assert shown.stderr
    shown.stdout.close()
    complaint = shown.stderr.read()
    shown.stderr.close()
    assert (shown.wait(), complaint) == (0, b"")


def test_names_cannot_command_the_terminal(workstation: Program, folder: Path) -> None:
    (folder / "evil\x1b]0;owned\x07.md").write_text("# Red\x1b[31m alert\n")
    workstation.connect("papers", folder)
    assert workstation("sync", "papers").code == 0
    for command in (["documents", "list"], ["search", "alert"], ["why", "evil\x1b]0;owned\x07.md"]):
        assert "\x1b" not in workstation(*command).out


def test_unmigrated_database_names_the_command(workstation: Program, postgres: DatabaseUrls) -> None:
    workstation.settings = workstation.settings.model_copy(update={"database_url": postgres.admin_url})
    ran = workstation("source", "list")
    assert ran.code == 2
    assert "workstation db upgrade" in ran.err
