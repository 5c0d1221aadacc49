"""Readers that misbehave on purpose; a test's own table of formats names them."""

from __future__ import annotations

import os
import signal
import sys
import threading

from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.limits import ExtractionLimits


def crash(content: Content, limits: ExtractionLimits) -> Extracted:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("unreachable")


def hang(content: Content, limits: ExtractionLimits) -> Extracted:
    threading.Event().wait()
    raise AssertionError("unreachable")


def spin(content: Content, limits: ExtractionLimits) -> Extracted:
    while True:
        pass


def swell(content: Content, limits: ExtractionLimits) -> Extracted:
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


def raise_bug(content: Content, limits: ExtractionLimits) -> Extracted:
    raise ZeroDivisionError


def babble(content: Content, limits: ExtractionLimits) -> Extracted:
    os.write(1, b"noise on standard output\n" * 100)
    return Extracted(text="calm")


def tell_environment(content: Content, limits: ExtractionLimits) -> Extracted:
    return Extracted(text="\n".join(sorted(os.environ)))


def tell_modules(content: Content, limits: ExtractionLimits) -> Extracted:
    return Extracted(text="\n".join(sorted(sys.modules)))


def tell_process(content: Content, limits: ExtractionLimits) -> Extracted:
    return Extracted(text=str(os.getpid()))


def lie_about_headings(content: Content, limits: ExtractionLimits) -> Extracted:
    from workstation_pipelines.model import Heading

    return Extracted(text="short", headings=(Heading(offset=10_000, level=1, text="far away"),))


def return_unclean_text(content: Content, limits: ExtractionLimits) -> Extracted:
    return Extracted(text="NUL \x00 inside")
