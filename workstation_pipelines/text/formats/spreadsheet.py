"""Spreadsheets (XLSX, XLSB, XLS, ODS): every sheet's rows as lines, the sheet's name as a heading."""

from __future__ import annotations

import io
from datetime import date, datetime, time, timedelta

import python_calamine

from workstation_pipelines.errors import UnreadableContentError
from workstation_pipelines.model import Content, Extracted
from workstation_pipelines.text.formats.archive import BoundedZip, core_title
from workstation_pipelines.text.formats.builder import TextBuilder
from workstation_pipelines.text.limits import ExtractionLimits

_ZIP_START = b"PK"


def read(content: Content, limits: ExtractionLimits) -> Extracted:
    """Return values as shown by their type, not by their number format; of a formula the value last saved."""
    title = None
    if content.body.startswith(_ZIP_START):
        archive = BoundedZip(content.body, limits)
        # Calamine inflates by itself and without a cap.
        archive.inflate_all()
        title = core_title(archive)
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content.body))
    except python_calamine.PasswordError as error:
        raise UnreadableContentError(
            "it is encrypted: save it without a password and sync again", reason="encrypted"
        ) from error
    builder = TextBuilder(limits)
    for sheet in workbook.sheets_metadata:
        if sheet.typ in (python_calamine.SheetTypeEnum.WorkSheet, python_calamine.SheetTypeEnum.DialogSheet):
            _append_sheet(builder, workbook, sheet.name)
    return builder.build(title=title)


def _append_sheet(builder: TextBuilder, workbook: python_calamine.CalamineWorkbook, name: str) -> None:
    is_first = True
    for row in workbook.get_sheet_by_name(name).iter_rows():
        line = " | ".join(map(_shown, row)).strip(" |")
        if not line:
            continue
        if is_first:
            builder.heading(name, 1)
        (builder.paragraph if is_first else builder.line)(line)
        is_first = False


def _shown(value: float | str | bool | time | date | datetime | timedelta) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.12g}"
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    return " ".join(str(value).split())
