"""How the program ends: exit codes, and which error means which."""

from __future__ import annotations

from enum import IntEnum
from typing import assert_never

from workstation_pipelines.errors import (
    BusyError,
    InvalidRequestError,
    NotFoundError,
    ReauthorizeError,
    RetryableError,
    WorkstationError,
)
from workstation_pipelines.model import JobStatus


class ExitCode(IntEnum):
    """What a shell sees. INTERRUPTED is what shells expect after Ctrl-C."""

    OK = 0
    FAILED = 1
    WRONG_INPUT = 2
    BUSY = 3
    NEEDS_CONFIRMATION = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


class UnconfirmedError(WorkstationError):
    """Raised when a command destroys something and nobody said yes."""


def of_error(error: WorkstationError) -> ExitCode:
    if isinstance(error, UnconfirmedError):
        return ExitCode.NEEDS_CONFIRMATION
    if isinstance(error, InvalidRequestError | NotFoundError):
        return ExitCode.WRONG_INPUT
    if isinstance(error, BusyError):
        return ExitCode.BUSY
    if isinstance(error, RetryableError | ReauthorizeError):
        return ExitCode.UNAVAILABLE
    return ExitCode.FAILED


def of_job(status: JobStatus) -> ExitCode:
    """A job that left items out by failing is not a success: it says so until they are taken."""
    match status:
        case JobStatus.COMPLETED:
            return ExitCode.OK
        case JobStatus.NEEDS_CONFIRMATION:
            return ExitCode.NEEDS_CONFIRMATION
        case JobStatus.PAUSED:
            return ExitCode.UNAVAILABLE
        case JobStatus.COMPLETED_WITH_ERRORS | JobStatus.FAILED | JobStatus.CANCELLED:
            return ExitCode.FAILED
        case JobStatus.PENDING | JobStatus.RUNNING:
            raise AssertionError(f"a sync does not end as {status}")
        case _:
            assert_never(status)
