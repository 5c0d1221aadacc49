"""Takes a message apart as Gmail does for `format=full`: transfer encodings decoded, parts numbered, files by reference."""

from __future__ import annotations

import base64
from email import message_from_bytes, policy
from email.message import Message
from typing import Any


def base64url(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


class Dissection:
    """One message's payload. `attachments` maps part id to bytes; a body above `large_bytes` is only referred to as well."""

    def __init__(self, raw: bytes, *, large_bytes: int) -> None:
        self._large_bytes = large_bytes
        self.attachments: dict[str, bytes] = {}
        self.message = message_from_bytes(raw, policy=policy.compat32)
        self.payload = self._part(self.message, "")

    def field(self, name: str) -> str:
        return str(self.message.get(name, ""))

    def referred(self, serial: int) -> dict[str, Any]:
        """The payload with attachment ids of this answer: the next one has others."""
        return _with_ids(self.payload, serial)

    def _part(self, part: Message, part_id: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "partId": part_id,
            "mimeType": part.get_content_type(),
            "filename": part.get_filename() or "",
            "headers": [{"name": name, "value": " ".join(str(value).split())} for name, value in part.items()],
        }
        payload = part.get_payload()
        children = [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []
        is_enclosed = part.get_content_type() == "message/rfc822"
        if children and not (is_enclosed and found["filename"]):
            found["body"] = {"size": 0}
            found["parts"] = [
                self._part(child, f"{part_id}.{number}".lstrip(".")) for number, child in enumerate(children)
            ]
            return found
        decoded = children[0].as_bytes() if children else part.get_payload(decode=True)
        body = decoded if isinstance(decoded, bytes) else b""
        found["body"] = {"size": len(body)}
        if not body:
            return found
        is_file = bool(found["filename"]) or not found["mimeType"].startswith("text/") or len(body) > self._large_bytes
        if is_file:
            self.attachments[part_id] = body
        else:
            found["body"]["data"] = base64url(body)
        return found


def _with_ids(part: dict[str, Any], serial: int) -> dict[str, Any]:
    found = dict(part)
    body = part.get("body", {})
    if body.get("size") and "data" not in body:
        found["body"] = {**body, "attachmentId": f"ANG{serial:06}-{part['partId']}"}
    if "parts" in part:
        found["parts"] = [_with_ids(child, serial) for child in part["parts"]]
    return found
