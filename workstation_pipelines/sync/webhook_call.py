"""One call of a webhook: a POST to a public https address that somebody named, without redirects, within ten seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.sources.http_guard import UnsafeLinkError, is_loopback
from workstation_pipelines.sources.http_network import Network, NetworkTransport, Resolve, addresses_of

LONGEST_CALL_S = 10.0
LONGEST_URL = 2000
_USER_AGENT = f"workstation-pipelines (httpx {httpx.__version__})"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call: a status code, or none and why. `error` is empty for success, and never the receiver's words."""

    code: int | None
    error: str = ""
    retry_after_s: float | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver asks for nothing more, ever."""
        return self.code == httpx.codes.GONE


class WebhookCaller:
    """Calls webhooks; thread-safe. With `is_local` it also calls this machine, over http too.

    Every other address must be public at the moment of the connection, whatever the host's name resolved to before.
    """

    def __init__(
        self, *, is_local: bool = False, resolve: Resolve = addresses_of, longest_call_s: float = LONGEST_CALL_S
    ) -> None:
        self._is_local = is_local
        self._longest_call_s = longest_call_s
        self._network = Network((), is_local=is_local, resolve=resolve)
        # A transport alone: it follows nothing, keeps no cookie and asks no proxy.
        self._transport: httpx.BaseTransport = NetworkTransport(self._network)

    def close(self) -> None:
        self._transport.close()

    def checked(self, url: str) -> str:
        """Return the URL as it will be called. Raises InvalidRequestError for one that may not be."""
        return str(_checked(url, is_local=self._is_local))

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send JSON and return what came. The reply's body is not read. Raises InvalidRequestError as checked() does."""
        request = httpx.Request(
            "POST",
            _checked(url, is_local=self._is_local),
            content=body,
            headers={"User-Agent": _USER_AGENT, "Content-Type": "application/json", "Accept": "*/*", **headers},
            extensions={"timeout": httpx.Timeout(self._longest_call_s).as_dict()},
        )
        try:
            with self._network.deadline(time.monotonic() + self._longest_call_s):
                response = self._transport.handle_request(request)
                response.close()
        except UnsafeLinkError:
            return Reply(None, "the host's address is not public: nothing was sent")
        except httpx.TimeoutException:
            return Reply(None, f"no answer within {self._longest_call_s:g} s")
        except httpx.HTTPError as error:
            return Reply(None, f"it could not be reached ({type(error).__name__})")
        return _reply(response)


def _reply(response: httpx.Response) -> Reply:
    code = response.status_code
    if response.is_success:
        return Reply(code)
    error = f"it answered with status {code}"
    if response.is_redirect:
        error += ": redirects are not followed, so give the address that it redirects to"
    wait = response.headers.get("retry-after", "")
    return Reply(code, error, float(wait) if wait.isascii() and wait.isdigit() and len(wait) <= 6 else None)


def _checked(url: str, *, is_local: bool) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise InvalidRequestError("a webhook's URL cannot be read: give one like https://host/path") from None
    if len(url) > LONGEST_URL or not parsed.host or parsed.userinfo or parsed.fragment:
        raise InvalidRequestError("a webhook's URL is host and path, without user and fragment: https://host/path")
    if is_local and is_loopback(parsed.host) and parsed.scheme in ("http", "https"):
        return parsed
    if parsed.scheme != "https" or parsed.port not in (None, 443):
        raise InvalidRequestError("a webhook is called over https on port 443: give a URL like https://host/path")
    return parsed
