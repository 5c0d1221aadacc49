"""A guard against listings that never end."""

from __future__ import annotations

from hashlib import blake2b

from workstation_pipelines.errors import UnexpectedReplyError


class PageTokens:
    """Notices a listing that goes round in circles: one per listing, each token stepped once.

    Only digests are kept, since a long listing has many long tokens.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: set[bytes] = set()

    def step(self, token: str) -> str:
        """Return `token`. Raises UnexpectedReplyError when it came before: following it would never end."""
        digest = blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            raise UnexpectedReplyError(f"{self._what}: its pages repeat, so the listing is not followed", wait_s=60)
        self._seen.add(digest)
        return token
