"""Serves a fake vendor by hand, to try the program with it: `python -m tests.fakes.<vendor>`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping

from tests.fakes.server import FakeVendor


def serve(vendor: FakeVendor, settings: Mapping[str, str]) -> None:
    """Print the settings to export and a token that is accepted, and serve until Ctrl-C."""
    lines = [f"{vendor.provider} answers at {vendor.url}", ""]
    lines += [f"export {name}={value}" for name, value in settings.items()]
    lines += ["", *(f"token of {user}: {token}" for token, user in vendor.tokens.items()), "", "Ctrl-C ends it."]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        vendor.close()
        broken = "\n".join(vendor.violations) or "none"
        sys.stdout.write(f"\n{len(vendor.requests)} requests, violations: {broken}\n")
