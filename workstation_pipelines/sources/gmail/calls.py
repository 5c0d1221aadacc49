"""What is asked of Gmail, and what each request costs in units of the quota that a user has.

Costs and rate are those of new projects since 2026-05; older ones have 15,000 units a minute and pay less for most calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workstation_pipelines.sources.http import Call

_ME = "/gmail/v1/users/me"
_PACE: Mapping[str, Any] = {"per_s": 6000 / 60, "burst": 250, "pace": "units"}
PROFILE = Call("profile.get", "GET", f"{_ME}/profile", cost=1, **_PACE)
LABELS = Call("labels.list", "GET", f"{_ME}/labels", cost=1, **_PACE)
MESSAGES = Call("messages.list", "GET", f"{_ME}/messages", cost=5, **_PACE)
MESSAGE = Call("messages.get", "GET", f"{_ME}/messages/{{message_id}}", cost=20, **_PACE)
ATTACHMENT = Call(
    "attachments.get", "GET", f"{_ME}/messages/{{message_id}}/attachments/{{attachment_id}}", cost=20, **_PACE
)
THREAD = Call("threads.get", "GET", f"{_ME}/threads/{{thread_id}}", cost=40, **_PACE)
HISTORY = Call("history.list", "GET", f"{_ME}/history", cost=2, **_PACE)
CALLS = (PROFILE, LABELS, MESSAGES, MESSAGE, ATTACHMENT, THREAD, HISTORY)
