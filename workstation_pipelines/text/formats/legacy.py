"""Formats that only the xberg library reads: RTF and the binary Word and PowerPoint files of before 2007."""

from __future__ import annotations

import asyncio

import xberg

from workstation_pipelines.errors import UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return the text without headings: the library does not say which lines are headings in these formats."""
    source = xberg.ExtractInput(
        kind=xberg.ExtractInputKind.BYTES, bytes=content.body, mime_type=content.mime_type, filename=content.name
    )
    try:
        result = asyncio.run(_extract(source))
    except xberg.XbergError as error:
        raise _unreadable(str(error)) from error
    if result.errors or not result.results:
        raise _unreadable("; ".join(str(error) for error in result.errors))
    document = result.results[0]
    builder = TextBuilder(limits)
    for paragraph in document.content.split("\n\n"):
        builder.paragraph(paragraph)
    return builder.build(title=document.metadata.title)


async def _extract(source: xberg.ExtractInput) -> xberg.ExtractionResult:
    return await xberg.extract(source)


def _unreadable(reason: str) -> UnreadableContentError:
    if "password" in reason.lower() or "encrypt" in reason.lower():
        return UnreadableContentError("it is encrypted: save it without a password and sync again", reason="encrypted")
    return UnreadableContentError("it is damaged and cannot be read: save it again", reason="corrupt")
