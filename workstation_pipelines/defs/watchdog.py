"""Watches Dagster from outside of it: what a killed code server leaves behind, nothing inside would ever mend."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dagster as dg
import httpx

from workstation_pipelines.db.engine import Database
from workstation_pipelines.defs import reaping
from workstation_pipelines.identity import utc_now

LOCATIONS_EVERY_S = 10.0
JOBS_EVERY_S = 30.0
RELOAD_TIMEOUT_S = 120.0
RELOAD_AGAIN_AFTER_S = 45.0
"""A new server imports the project, on a busy machine for long; another reload would start it over again."""

_STATES = """{ workspaceOrError { ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename } } } } }"""
_RELOAD = (
    """mutation Reload($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"""
)


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Reloads code locations in error through the web server, and reconciles jobs with runs; each at its own interval.

    A look that fails is said on stderr once, and made again: Dagster may be starting, or the database restarting.
    """

    instance: dg.DagsterInstance
    database: Database
    web_url: str
    locations_every_s: float = LOCATIONS_EVERY_S
    jobs_every_s: float = JOBS_EVERY_S
    grace: timedelta = reaping.GRACE
    _stop: threading.Event = field(default_factory=threading.Event)
    _reloaded_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch in two threads until the block ends."""
        threads = [
            threading.Thread(target=self._repeat, args=each, daemon=True)
            for each in ((self._mend_locations, self.locations_every_s), (self._reconcile, self.jobs_every_s))
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=5)

    def _repeat(self, look: Callable[[], str], every_s: float) -> None:
        said = ""
        while not self._stop.wait(every_s):
            try:
                told = look()
            except httpx.TransportError:
                continue  # the web server is starting or stopping
            except Exception as error:  # noqa: BLE001 - the thread's rim: said, and tried again
                told = f"{type(error).__name__} while watching Dagster; trying again"
            if told and told != said:
                sys.stderr.write(f"workstation: {told}\n")
            said = told

    def _mend_locations(self) -> str:
        now_s = time.monotonic()
        broken = [
            name
            for name in broken_locations(self.web_url)
            if now_s - self._reloaded_s.get(name, -RELOAD_AGAIN_AFTER_S) >= RELOAD_AGAIN_AFTER_S
        ]
        for name in broken:
            reload_location(self.web_url, name)
            self._reloaded_s[name] = time.monotonic()
        return f"reloading what has lost its code server: {', '.join(broken)}" if broken else ""

    def _reconcile(self) -> str:
        done = reaping.reconcile(self.database, self.instance, clock=utc_now, grace=self.grace)
        return str(done) if done.jobs or done.run_ids else ""


def broken_locations(web_url: str) -> list[str]:
    """Return the names of the code locations that are in error. Raises httpx.HTTPError."""
    answer = _ask(web_url, {"query": _STATES})
    return [
        entry["name"] for entry in answer["data"]["workspaceOrError"].get("locationEntries", ()) if _is_broken(entry)
    ]


def reload_location(web_url: str, name: str) -> None:
    """Let a code location start a new server; it may take longer than this. Raises httpx.HTTPError."""
    _ask(web_url, {"query": _RELOAD, "variables": {"name": name}})


def _ask(web_url: str, question: Mapping[str, object]) -> dict[str, Any]:
    with httpx.Client(base_url=web_url, timeout=RELOAD_TIMEOUT_S, trust_env=False) as client:
        answer: dict[str, Any] = client.post("/graphql", json=question).raise_for_status().json()
        return answer


def _is_broken(entry: Mapping[str, object]) -> bool:
    found = entry["locationOrLoadError"]
    is_error = isinstance(found, dict) and found["__typename"] == "PythonError"
    return entry["loadStatus"] == "LOADED" and is_error
