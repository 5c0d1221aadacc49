"""Serves a fake vendor by hand, to try the program with it: `python -m tests.fakes.<vendor> [COMMAND ...]`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping

from tests.fakes.server import FakeVendor
from workstation_pipelines.settings import child_environment

_KINDS = ("personal",)
"""First arguments that a fake understands itself."""


def serve(vendor: FakeVendor, settings: Mapping[str, str]) -> None:
    """Serve until the command has ended that was given, or without one until Ctrl-C.

    The command finds the settings in its environment, and a token that is accepted in FAKE_TOKEN; without one they are
    printed.
    """
    command = [argument for argument in sys.argv[1:] if argument not in _KINDS]
    if command:
        token = next(iter(vendor.tokens))
        ended = subprocess.run(command, env=child_environment({**settings, "FAKE_TOKEN": token}), check=False)
        vendor.close()
        sys.exit(ended.returncode)
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
