"""One vendor's API as a block asks it: at an address that an operator set, with a key that reaches nobody else."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from pydantic import SecretStr

from workstation_pipelines.errors import InvalidRequestError, RetryableError
from workstation_pipelines.workflows import answers
from workstation_pipelines.workflows.blocks.contract import BlockCall
from workstation_pipelines.workflows.outbound import MOST_BYTES, Incoming, Outbound, Outgoing


@dataclass(frozen=True, slots=True)
class Key:
    """A vendor's key, and how to set it. `header` and `scheme` say how it is sent, as in `Authorization: Bearer`."""

    value: str = field(repr=False)
    hint: str
    header: str = "Authorization"
    scheme: str = "Bearer "

    def __post_init__(self) -> None:
        # The HTTP library's own complaint would quote the key.
        if not (self.value.isascii() and self.value.isprintable()) or " " in self.value:
            raise InvalidRequestError(f"a key holds characters that no key has: {self.hint}")


@dataclass(frozen=True, slots=True)
class Vendor:
    """Asks below `base_url` on behalf of one call of a block."""

    call: BlockCall[Any]
    base_url: str
    key: Key | None
    outbound: Outbound
    refused: str = "see the vendor's pages"
    """What to do about a 401 where there is no key."""

    @property
    def secrets(self) -> frozenset[str]:
        return self.call.secrets | ({self.key.value} if self.key is not None else frozenset())

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Any = None,
        expected: Sequence[int] = (),
        is_repeatable: bool = True,
        most_bytes: int = MOST_BYTES,
        timeout_s: float = 120.0,
    ) -> Incoming:
        """Return an answer of status 2xx, or one that is `expected`; JSON is sent when there is a body.

        Raises RetryableError, ReauthorizeError, InvalidRequestError, and what the call's stop raises.
        """
        pairs = {name: value for name, value in (query or {}).items() if value is not None}
        headers = {"Accept": "application/json"}
        if self.key is not None:
            headers[self.key.header] = self.key.scheme + self.key.value
        if body is not None:
            headers["Content-Type"] = "application/json"
        outgoing = Outgoing(
            method,
            f"{self.base_url}{path}{'?' + urlencode(pairs) if pairs else ''}",
            headers=headers,
            body=json.dumps(answers.storable(body), ensure_ascii=False).encode() if body is not None else None,
            is_repeatable=is_repeatable,
            most_bytes=most_bytes,
            timeout_s=timeout_s,
        )
        answer = self.outbound.send(outgoing, stop=self.call.stop)
        if 200 <= answer.status < 300 or answer.status in expected:
            return answer
        raise answers.refusal(
            answer,
            clock=self.call.clock,
            secrets=self.secrets,
            is_repeatable=is_repeatable,
            key_hint=self.key.hint if self.key is not None else self.refused,
        )

    def unstopped(self, seconds: float) -> Vendor:
        """For what is left to do after a stop: it may take so many seconds, whatever the call's stop says."""
        return replace(self, call=replace(self.call, stop=_Deadline(time.monotonic() + seconds)))

    def fields(self, answer: Incoming, *, is_repeatable: bool = True) -> dict[str, Any]:
        """Return an answer's JSON object without secrets. Raises UnexpectedReplyError, as json_in() does."""
        found = answers.json_in(answer, is_repeatable=is_repeatable, secrets=self.secrets)
        if not isinstance(found, dict):
            raise answers.misunderstood(answer, "its JSON is no object", is_repeatable=is_repeatable)
        return found


@dataclass(frozen=True, slots=True)
class _Deadline:
    """A Stop that is time alone."""

    until: float

    def check(self) -> None:
        if self.left_s <= 0:
            raise RetryableError("its time is over")

    def wait(self, seconds: float) -> None:
        time.sleep(max(min(seconds, self.left_s), 0))
        self.check()

    @property
    def left_s(self) -> float:
        return self.until - time.monotonic()


def key_of(given: SecretStr | None, operators: SecretStr | None, *, variable: str, block: str) -> tuple[str, str]:
    """Return the key that a block's config gives, else the operator's, and how to set it.

    Raises InvalidRequestError when there is neither.
    """
    if given is not None and given.get_secret_value():
        return given.get_secret_value(), f"give the {block} block another `key`"
    if operators is not None and operators.get_secret_value():
        return operators.get_secret_value(), f"set {variable} to another, or give the {block} block a `key`"
    raise InvalidRequestError(
        f"{block}: there is no key: set {variable}, or give the block a `key` such as ${{secrets.NAME}}"
    )
