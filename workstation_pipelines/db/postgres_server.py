"""One PostgreSQL cluster in a folder: make it, start it, see whether it lives, stop it. The caller holds a lock.

Whether the server lives is asked of the processes, not of `postmaster.pid` alone: after a power cut its pid may belong
to another program. Our processes carry a tag in their command line that is made from the data folder's inode, so that
it survives a moved folder and differs in a copied one.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import shlex
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workstation_pipelines.db import postgres_programs
from workstation_pipelines.errors import SourceUnavailableError

if TYPE_CHECKING:
    import psutil

PORT = 5432
"""Only the suffix of the socket's name: the server listens on no network address."""

_START_TIMEOUT_S = 60
_LOG_KEPT_BYTES = 5_000_000
# sockaddr_un holds 107 bytes on Linux and 103 on macOS; the name of the lock file beside the socket is longer.
_SOCKET_FOLDER_MAX_BYTES = 80
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Failing statements and DETAIL lines quote people's texts; the log does not.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _PidFile:
    pid: int
    socket_folder: Path | None
    is_ready: bool


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A cluster in `folder` (an absolute path), with its log beside the data."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    def exists(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    def pid(self) -> int | None:
        """The postmaster's pid, or None when it is not alive."""
        recorded = self._pid_file()
        if recorded is None:
            return None
        return next((process.pid for process in self._processes() if process.pid == recorded.pid), None)

    def is_answering(self) -> bool:
        """Whether a connection would be accepted right now."""
        from psycopg import conninfo, pq

        recorded = self._pid_file()
        if recorded is None or recorded.socket_folder is None:
            return False
        target = conninfo.make_conninfo(
            host=str(recorded.socket_folder), port=PORT, user="postgres", dbname="postgres", connect_timeout=5
        )
        return pq.PGconn.ping(target.encode()) == pq.Ping.OK

    def socket_folder(self) -> Path:
        """Where the running server's socket is: beside the data, or in a short temporary folder for long paths."""
        recorded = self._pid_file()
        return (recorded and recorded.socket_folder) or self._wanted_socket_folder()

    def create(self) -> None:
        """Make the cluster unless it is there. It appears under its name only when whole, so a kill leaves none."""
        if self.exists():
            return
        account = postgres_programs.account_for(self.folder)
        unfinished = self.folder / "data.unfinished"
        postgres_programs.make_private_folder(self.folder, account)
        shutil.rmtree(unfinished, ignore_errors=True)
        _log.info("creating a PostgreSQL cluster in %s", self.data)
        # The builtin C.UTF-8 locale sorts alike on every machine and needs no locale installed.
        made = postgres_programs.run(
            account,
            "initdb",
            unfinished,
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        )
        if made.returncode != 0:
            raise SourceUnavailableError(
                f"initdb could not make a database in {self.folder}: {_last_line(made.stderr or made.stdout)}. "
                "Check free space and permissions there, or set DATABASE_URL to a PostgreSQL server."
            )
        unfinished.rename(self.data)

    def start(self) -> None:
        """Return when the server answers; start it unless it lives. Raises SourceUnavailableError."""
        for _ in range(3):
            recorded = self._pid_file()
            if self.pid() is None:
                self._clear_remains()
                self._launch()
            elif recorded and recorded.is_ready and not _socket_in(recorded.socket_folder):
                # Its socket was cleaned away, or the folder was moved: nobody can reach it, so nobody is using it.
                self.stop()
                continue
            if self._await_answer():
                return
        raise SourceUnavailableError(
            f"The embedded database in {self.folder} does not answer: {self._last_log_line()}. See {self.log_file}.",
            wait_s=10.0,
        )

    def stop(self) -> bool:
        """Shut down fast but cleanly; return whether a server was alive."""
        if self.pid() is None:
            self._clear_remains()
            return False
        account = postgres_programs.account_for(self.folder)
        stopped = postgres_programs.run(account, "pg_ctl", self.data, "stop", "--mode=fast", "-w", "-t", "60")
        if stopped.returncode != 0 and self.pid() is not None:
            raise SourceUnavailableError(f"The embedded database in {self.folder} does not stop. See {self.log_file}.")
        if self._wanted_socket_folder() != self.folder:
            shutil.rmtree(self._wanted_socket_folder(), ignore_errors=True)
        return True

    def _launch(self) -> None:
        account = postgres_programs.account_for(self.folder)
        socket_folder = self._wanted_socket_folder()
        if socket_folder != self.folder:
            postgres_programs.make_private_folder(socket_folder, account)
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_KEPT_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.old"))
        settings = _SETTINGS | {
            "port": str(PORT),
            "unix_socket_directories": str(socket_folder),
            "cluster_name": self._tag(),
        }
        options = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        started = postgres_programs.run(
            account,
            "pg_ctl",
            self.data,
            "start",
            f"--log={self.log_file}",
            f"--options={options}",
            "-w",
            "-t",
            str(_START_TIMEOUT_S),
        )
        if started.returncode != 0 and self.pid() is None:
            raise SourceUnavailableError(
                f"The embedded database in {self.folder} does not start: {self._last_log_line()}. See {self.log_file}.",
                wait_s=10.0,
            )

    def _await_answer(self) -> bool:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self.is_answering():
                return True
            if self.pid() is None:
                return False
            time.sleep(0.05)
        return False

    def _clear_remains(self) -> None:
        """With the postmaster dead: end its orphans, and drop lock files whose pid another program may have now."""
        import psutil

        if not self.exists():
            return
        orphans = self._processes()
        for process in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGQUIT)
        for process in psutil.wait_procs(orphans, timeout=5)[1]:
            process.kill()
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (self._wanted_socket_folder() / name).unlink(missing_ok=True)

    def _processes(self) -> list[psutil.Process]:
        import psutil

        tag, data = self._tag(), str(self.data)
        ours = []
        for process in psutil.process_iter(["name", "status", "cmdline"]):
            words = process.info["cmdline"] or []
            is_alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if is_alive and "postgres" in (process.info["name"] or "") and (tag in " ".join(words) or data in words):
                ours.append(process)
        return ours

    def _pid_file(self) -> _PidFile | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
            return None
        folder = Path(lines[4]) if len(lines) > 4 and lines[4] else None
        return _PidFile(pid=pid, socket_folder=folder, is_ready=len(lines) > 7 and lines[7].strip() == "ready")

    def _tag(self) -> str:
        place = self.data.stat()
        return "ws-" + hashlib.sha256(f"{place.st_dev}:{place.st_ino}".encode()).hexdigest()[:12]

    def _wanted_socket_folder(self) -> Path:
        if _is_fit_for_sockets(self.folder):
            return self.folder
        temporary = Path(tempfile.gettempdir())
        return (temporary if _is_fit_for_sockets(temporary / self._tag()) else Path("/tmp")) / self._tag()  # noqa: S108 - made private

    def _last_log_line(self) -> str:
        try:
            return _last_line(self.log_file.read_text(errors="replace"))
        except OSError:
            return "it wrote no log"


def _is_fit_for_sockets(folder: Path) -> bool:
    text = str(folder)
    return len(text) <= _SOCKET_FOLDER_MAX_BYTES and _PLAIN_PATH.fullmatch(text) is not None


def _socket_in(folder: Path | None) -> bool:
    return folder is not None and (folder / f".s.PGSQL.{PORT}").is_socket()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"
