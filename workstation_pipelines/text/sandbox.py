"""The parser process: `python -m workstation_pipelines.text.sandbox MEMORY_BYTES`, fed over pipes.

It reads untrusted files with native parsers, so it is expected to crash, hang or eat memory now and then. It holds
nothing worth stealing: no settings, no connection, no environment but a search path for modules.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

from workstation_pipelines.errors import SkipItemError, UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text import frames
from workstation_pipelines.text.limits import ExtractionLimits

_MOST_FILE_BYTES = 1 << 20
_MOST_OPEN_FILES = 64


def main() -> None:
    """Answer requests until the extractor closes the connection. Never returns."""
    requests, answers = os.dup(0), os.dup(1)
    # Whatever a parser prints must not end up between the answers.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    _cap_resources(int(sys.argv[1]))
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            reader, content, limits = frames.read_request(lambda size: _receive(requests, size))
            _cap_cpu(limits.cpu_s)
            answer, is_last = _answer(reader, content, limits)
            _send(answers, answer)
            if is_last:
                break
    # Some native parsers crash in their own clean-up at interpreter exit.
    os._exit(0)


def _answer(reader: str, content: Content, limits: ExtractionLimits) -> tuple[bytes, bool]:
    """Return (frame, whether this process has to end): after running out of memory nothing in it can be relied on."""
    try:
        return frames.encode_extracted(_read(reader, content, limits)), False
    except SkipItemError as error:
        return frames.encode_error(error), False
    except MemoryError:
        message = f"reading it takes over {limits.memory_bytes >> 20} MB of memory: split it, or raise memory_bytes"
        return frames.encode_error(UnreadableContentError(message, reason="parser_memory")), True
    except RecursionError:
        message = "its parts are nested too deep to be read"
        return frames.encode_error(UnreadableContentError(message, reason="corrupt")), False
    except Exception as error:  # noqa: BLE001 - the rim: whatever a parser raises is that file's failure, kept with its class
        message = f"it is damaged and cannot be read ({type(error).__name__}): save it again from its program"
        return frames.encode_error(UnreadableContentError(message, reason="corrupt")), False


def _read(reader: str, content: Content, limits: ExtractionLimits) -> Extracted:
    module, _, function = reader.partition(":")
    extracted: Extracted = getattr(importlib.import_module(module), function)(content, limits)
    return extracted


def _receive(requests: int, size: int) -> bytes:
    blocks = []
    while size:
        block = os.read(requests, min(size, 1 << 20))
        if not block:
            raise EOFError
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _send(answers: int, frame: bytes) -> None:
    rest = memoryview(frame)
    while rest:
        rest = rest[os.write(answers, rest) :]


def _cap_resources(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such caps; the wall time still holds.
        return
    mapped_bytes = _mapped_bytes()
    for kind, cap in (
        (resource.RLIMIT_AS, mapped_bytes + memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _MOST_FILE_BYTES),
        (resource.RLIMIT_NOFILE, _MOST_OPEN_FILES),
    ):
        # macOS refuses some of them; each is worth having on its own.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (cap, cap))


def _mapped_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _cap_cpu(cpu_s: int) -> None:
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The kernel counts since the start of the process, and ends it with SIGXCPU.
    soft = int(used.ru_utime + used.ru_stime) + 1 + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
