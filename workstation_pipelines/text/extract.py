"""Bytes to clean text: picks the reader by the file's real type and runs parsers in capped processes of their own."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from workstation_pipelines.errors import (
    ItemTooLargeError,
    SkipItemError,
    UnreadableContentError,
    UnsupportedContentError,
)
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text import frames, mime
from workstation_pipelines.text.formats import plain
from workstation_pipelines.text.formats.table import FORMATS, Format, format_for
from workstation_pipelines.text.limits import ExtractionLimits
from workstation_pipelines.text.mime import detect_mime_type

__all__ = ["ExtractionLimits", "SandboxedExtractor", "detect_mime_type", "has_text"]

_IN_PROCESS = {
    "workstation_pipelines.text.formats.plain:read": plain.read,
    "workstation_pipelines.text.formats.plain:read_code": plain.read_code,
    "workstation_pipelines.text.formats.plain:read_markdown": plain.read_markdown,
}
_DIED_OF_TIME = -int(getattr(signal, "SIGXCPU", 0)) or None
_OUT_OF_MEMORY_MARKS = (
    b"memory allocation of",
    b"MemoryError",
    b"bad_alloc",
    b"Out of memory",
    b"Cannot allocate memory",
)
_LAST_WORDS_BYTES = 4_096
_HEAD_BYTES = 8_192
_CONTAINER_STARTS = (b"PK", b"\xd0\xcf\x11\xe0")


def has_text(mime_type: str) -> bool:
    """Return whether anything reads this type, so that fetching such a file is worth it; also when the type says nothing."""
    return mime.says_nothing(mime_type) or format_for(FORMATS, mime_type.partition(";")[0].strip().lower()) is not None


class SandboxedExtractor:
    """An Extractor for use by many threads. Parser processes start when first needed and serve many documents.

    `processes` bounds how many documents are parsed at once; further threads wait their turn. Each process is replaced
    after `documents_per_process` documents, and at once when it crashes, hangs or runs out of memory.
    """

    def __init__(
        self,
        limits: ExtractionLimits | None = None,
        *,
        processes: int = 2,
        documents_per_process: int = 200,
        formats: Mapping[str, Format] = FORMATS,
    ) -> None:
        self._limits = limits or ExtractionLimits()
        self._documents_per_process = documents_per_process
        self._formats = formats
        self._closed = threading.Event()
        # Last in, first out: a quiet system keeps one process warm and never starts the second.
        self._idle: queue.LifoQueue[_ParserProcess | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)

    def extract(self, content: Content) -> Extracted:
        """Return the text of `content` with title, language, headings and attachments; `mime_type` is the real one.

        Raises UnsupportedContentError, ItemTooLargeError or UnreadableContentError; `reason` is one of empty,
        unsupported_type, no_text, too_large, encrypted, corrupt, zip_bomb, xml_bomb, parser_crashed, parser_timeout and
        parser_memory.
        """
        try:
            return self._extract(content)
        except SkipItemError as error:
            message = f"{content.name}: {error.message}"
            raise type(error)(message, reason=error.reason, transient=error.transient) from error

    def is_inline(self, content: Content) -> bool:
        """Whether extract() needs no parser process for this, and so neither waits nor runs foreign code."""
        chosen = format_for(self._formats, self._mime_type(content))
        return chosen is None or chosen.in_process

    def close(self) -> None:
        """End the parser processes; those at work end after their document. May be called twice."""
        self._closed.set()
        idle = 0
        with contextlib.suppress(queue.Empty):
            while True:
                process = self._idle.get_nowait()
                idle += 1
                if process:
                    process.close()
        # A thread that came past the check of `_closed` just now finds a place instead of waiting for ever.
        for _ in range(idle):
            self._idle.put(None)

    def _extract(self, content: Content) -> Extracted:
        body = content.body
        if not body:
            raise UnsupportedContentError("it is empty (0 bytes)", reason="empty")
        if len(body) > self._limits.max_bytes:
            raise ItemTooLargeError(
                f"it has {len(body):,} bytes, more than the {self._limits.max_bytes:,} allowed: raise max_bytes",
                reason="too_large",
            )
        mime_type = self._mime_type(content)
        chosen = format_for(self._formats, mime_type)
        if chosen is None:
            raise _unsupported(mime_type)
        if chosen.in_process:
            extracted = _IN_PROCESS[chosen.reader](content, self._limits)
        else:
            extracted = self._in_sandbox(chosen.reader, replace(content, mime_type=mime_type))
        if not extracted.text or extracted.text.isspace():
            raise UnreadableContentError(
                f"no text was found in its {len(body):,} bytes: open it and look whether it shows any", reason="no_text"
            )
        return replace(extracted, mime_type=mime_type)

    @staticmethod
    def _mime_type(content: Content) -> str:
        # What a container holds is told at its end, or anywhere in its directory.
        body = content.body
        head = body if body.startswith(_CONTAINER_STARTS) else body[:_HEAD_BYTES]
        return mime.resolve_mime_type(content.name, content.mime_type, head)

    def _in_sandbox(self, reader: str, content: Content) -> Extracted:
        if self._closed.is_set():
            raise RuntimeError("the extractor is closed")
        process = self._idle.get()
        try:
            process = process or _ParserProcess(self._limits)
            return process.read(reader, content)
        finally:
            if process and (process.is_spent(self._documents_per_process) or self._closed.is_set()):
                process.close()
                process = None
            self._idle.put(process)


class _ParserProcess:
    """One parser process, used by one thread at a time."""

    def __init__(self, limits: ExtractionLimits) -> None:
        self._limits = limits
        self._documents = 0
        self._is_reliable = True
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; close() closes it
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workstation_pipelines.text.sandbox", str(limits.memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=tempfile.gettempdir(),
            # Nothing of ours: no keys, no database address. The parser finds modules where we do.
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANG": "C.UTF-8"},
        )
        if not self._process.stdin or not self._process.stdout:
            raise RuntimeError("a process was started with pipes and has none")
        self._requests, self._answers = self._process.stdin, self._process.stdout
        # Unblocked, so that a process that neither reads nor answers costs the wall time and not the thread.
        os.set_blocking(self._requests.fileno(), False)
        os.set_blocking(self._answers.fileno(), False)

    def is_spent(self, documents: int) -> bool:
        return not self._is_reliable or self._documents >= documents

    def read(self, reader: str, content: Content) -> Extracted:
        self._documents += 1
        self._is_reliable = False
        self._deadline_s = time.monotonic() + self._limits.wall_s
        try:
            self._send(frames.encode_request(reader, content, self._limits))
            extracted = frames.read_answer(self._receive, self._limits)
        except TimeoutError as error:
            raise self._timeout() from error
        except (EOFError, ConnectionError, frames.BrokenFrameError) as error:
            raise self._cause_of_death() from error
        except SkipItemError as error:
            self._is_reliable = error.reason != "parser_memory"
            raise
        self._is_reliable = True
        return extracted

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for file in (self._requests, self._answers, self._stderr):
            file.close()

    def _send(self, frame: bytes) -> None:
        rest = memoryview(frame)
        while rest:
            self._wait_for(self._requests.fileno(), select.POLLOUT)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self._requests.fileno(), rest) :]

    def _receive(self, size: int) -> bytes:
        blocks = []
        while size:
            self._wait_for(self._answers.fileno(), select.POLLIN)
            block = os.read(self._answers.fileno(), min(size, 1 << 20))
            if not block:
                raise EOFError
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)

    def _wait_for(self, fd: int, event: int) -> None:
        left_s = self._deadline_s - time.monotonic()
        poll = select.poll()
        poll.register(fd, event)
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise TimeoutError

    def _timeout(self) -> UnreadableContentError:
        return UnreadableContentError(
            f"reading it took longer than {self._limits.wall_s:g} s and was stopped: split it, or raise wall_s",
            reason="parser_timeout",
            transient=True,  # the machine may have been busy
        )

    def _cause_of_death(self) -> UnreadableContentError:
        self._process.kill()
        status = self._process.wait()
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _LAST_WORDS_BYTES))
        # Only looked at: a parser's last words may quote the document.
        last_words = self._stderr.read()
        if status == _DIED_OF_TIME:
            return self._timeout()
        if any(mark in last_words for mark in _OUT_OF_MEMORY_MARKS):
            return UnreadableContentError(
                f"reading it takes more than {self._limits.memory_bytes >> 20} MB of memory: "
                "split it, or raise memory_bytes",
                reason="parser_memory",
            )
        return UnreadableContentError(
            "its parser crashed on it, so it is damaged or hostile: save it again from its program",
            reason="parser_crashed",
        )


def _unsupported(mime_type: str) -> SkipItemError:
    if mime_type == mime.ENCRYPTED_OFFICE:
        return UnreadableContentError("it is encrypted: save it without a password and sync again", reason="encrypted")
    if mime_type.startswith("image/"):
        return UnsupportedContentError(
            f"it is an image or a scan ({mime_type}) without a text layer: run text recognition (OCR) on it first",
            reason="no_text",
        )
    return UnsupportedContentError(
        f"files of type {mime_type} are not read: convert it to a document format, or exclude it",
        reason="unsupported_type",
    )
