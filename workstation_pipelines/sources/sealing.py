"""Sealing of stored credentials: AES-256-GCM envelopes that open only with one of our keys, for one user and one row.

Each record has a data key of its own, wrapped by a key of the ring, so that a new key means wrapping 32 bytes anew and
leaves the sealed text as it is. Both are bound to purpose, user and row: a record copied elsewhere does not open.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from workstation_pipelines.errors import InvalidRequestError

VERSION = 1
KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class SealError(InvalidRequestError):
    """Raised when a sealed record does not open: a key is missing, or the record is not of this user and row."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """One key of the ring; `key_id` is stored beside what it wraps, the key never."""

    key_id: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys newest first: the first one seals, all of them open."""

    keys: tuple[SealingKey, ...]

    @classmethod
    def parse(cls, text: str, *, origin: str) -> KeyRing:
        """Read `<id>:<base64 of 32 bytes>`, separated by commas or lines. Raises InvalidRequestError, naming `origin`."""
        keys: list[SealingKey] = []
        for number, entry in enumerate((part.strip() for part in re.split(r"[,\n]", text) if part.strip()), 1):
            key_id, separator, encoded = entry.partition(":")
            key = _decoded(encoded)
            if not separator or not _KEY_ID.fullmatch(key_id) or key is None or len(key) != KEY_BYTES:
                raise InvalidRequestError(
                    f"{origin}: entry {number} is not <id>:<base64 of {KEY_BYTES} bytes>: `workstation keys new` prints one"
                )
            if key_id in {known.key_id for known in keys}:
                raise InvalidRequestError(f"{origin}: two keys are named {key_id!r}: give each key an id of its own")
            keys.append(SealingKey(key_id, key))
        if not keys:
            raise InvalidRequestError(f"{origin} holds no key: `workstation keys new` prints one")
        return cls(tuple(keys))

    @property
    def newest(self) -> SealingKey:
        return self.keys[0]

    def find(self, key_id: object) -> SealingKey:
        """Raises SealError."""
        for key in self.keys:
            if key.key_id == key_id:
                return key
        raise SealError(
            f"credentials are sealed with the key {str(key_id)[:64]!r}, which is not there: add it to WORKSTATION_TOKEN_KEYS"
            " behind the newest, or connect the source again"
        )


@dataclass(frozen=True, slots=True)
class Binding:
    """What a record belongs to; it opens for nothing else."""

    purpose: str
    user_id: str
    row_id: UUID

    def as_bytes(self) -> bytes:
        # Lengths in front keep one field from running into the next.
        parts = [self.purpose.encode(), self.user_id.encode(), self.row_id.bytes]
        return b"workstation seal 1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def new_key(key_id: str) -> str:
    """Return a fresh key in the form that `KeyRing.parse` reads."""
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def seal(ring: KeyRing, value: Mapping[str, Any], binding: Binding) -> dict[str, Any]:
    """Return the record that hides `value`: {v, kid, wk, ct}, plain JSON."""
    data_key = secrets.token_bytes(KEY_BYTES)
    ciphertext = _encrypted(data_key, json.dumps(dict(value)).encode(), binding.as_bytes())
    return _record(ring.newest, data_key, ciphertext, binding)


def unseal(ring: KeyRing, record: Mapping[str, Any], binding: Binding) -> dict[str, Any]:
    """Return what was sealed. Raises SealError."""
    data_key = _data_key(ring, record, binding)
    value = json.loads(_decrypted(data_key, record.get("ct"), binding.as_bytes()))
    if not isinstance(value, dict):
        raise SealError("a sealed record holds something else than credentials: connect the source again")
    return value


def rewrap(ring: KeyRing, record: Mapping[str, Any], binding: Binding) -> dict[str, Any]:
    """Return the record under the newest key; the sealed text stays byte for byte. Raises SealError."""
    data_key = _data_key(ring, record, binding)
    _decrypted(data_key, record.get("ct"), binding.as_bytes())  # what does not open is not passed on as if it did
    return _record(ring.newest, data_key, str(record["ct"]), binding)


def _record(key: SealingKey, data_key: bytes, ciphertext: str, binding: Binding) -> dict[str, Any]:
    wrapped = _encrypted(key.key, data_key, _wrapping(binding, key.key_id))
    return {"v": VERSION, "kid": key.key_id, "wk": wrapped, "ct": ciphertext}


def _data_key(ring: KeyRing, record: Mapping[str, Any], binding: Binding) -> bytes:
    if record.get("v") != VERSION:
        raise SealError("credentials are sealed by a newer program: use that one, or connect the source again")
    key = ring.find(record.get("kid"))
    return _decrypted(key.key, record.get("wk"), _wrapping(binding, key.key_id))


def _wrapping(binding: Binding, key_id: str) -> bytes:
    return binding.as_bytes() + b"wrapped by " + key_id.encode()


def _encrypted(key: bytes, plain: bytes, bound_to: bytes) -> str:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, plain, bound_to)).decode()


def _decrypted(key: bytes, encoded: object, bound_to: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = _decoded(encoded) or b""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        raise SealError(
            "stored credentials do not open: they belong to another user or source, were altered, or their key was replaced"
            " under the same id. Put the right key back, or connect the source again"
        ) from None


def _decoded(encoded: object) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except (binascii.Error, ValueError):
        return None
