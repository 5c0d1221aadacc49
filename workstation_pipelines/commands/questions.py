"""Asking before something is destroyed."""

from __future__ import annotations

import sys

import typer

from workstation_pipelines.commands.exits import UnconfirmedError


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal unless `yes`. Raises UnconfirmedError for a no, and where nobody can be asked."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UnconfirmedError(f"{question} Nothing was done: add --yes to do it")
    if not typer.confirm(question, err=True):
        raise UnconfirmedError("nothing was done")
