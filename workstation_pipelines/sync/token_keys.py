"""Where the keys that seal credentials come from: a setting, or a file that the embedded database has beside it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources.sealing import KeyRing, new_key

FILE_NAME = "token.keys"


def key_ring(settings: Settings, now: datetime) -> KeyRing:
    """Return the keys; with the embedded database and none set, one is made once and kept beside it.

    Raises InvalidRequestError: on a database of one's own a key that is made by itself would be lost by itself.
    """
    if settings.token_keys is not None:
        return KeyRing.parse(settings.token_keys.get_secret_value(), origin="WORKSTATION_TOKEN_KEYS")
    if not settings.uses_embedded_database:
        raise InvalidRequestError(
            "WORKSTATION_TOKEN_KEYS is not set, so credentials can be neither sealed nor opened: `workstation keys new`"
            " prints a key to set, the same one for every process"
        )
    file = settings.home / FILE_NAME
    return KeyRing.parse(_kept(file, now), origin=str(file))


def key_id_of(now: datetime) -> str:
    """Name a key after the moment it was made."""
    return f"k{now:%Y%m%d%H%M%S}"


def _kept(file: Path, now: datetime) -> str:
    """Read the file, made when it is not there; of several processes that make it one wins and all read that one."""
    try:
        return _read(file)
    except FileNotFoundError:
        pass
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{FILE_NAME}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as new:
            new.write(new_key(key_id_of(now)) + "\n")
            new.flush()
            os.fsync(new.fileno())
        with suppress(FileExistsError):
            os.link(name, file)
    finally:
        os.unlink(name)
    return _read(file)


def _read(file: Path) -> str:
    try:
        with open(file, encoding="ascii") as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                raise InvalidRequestError(
                    f"{file} can be read by others: `chmod 600` it, or make a new key if they may have"
                )
            return opened.read()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(
            f"{file} cannot be read ({type(error).__name__}): it holds the keys to credentials"
        ) from None
