"""What commands print: one JSON value, or lines and tables for a person."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_WIDTH_WITHOUT_TERMINAL = 100_000


def print_json(value: object) -> None:
    """Print one value; times are ISO 8601 in UTC, durations seconds, ids and enumerations text."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2) + "\n")


def print_json_line(value: object) -> None:
    """Print one value of several, on a line of its own, at once."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_line(line: str | Text = "") -> None:
    """Print a line, safe for a terminal; a Text must be so already."""
    _console().print(safe(line) if isinstance(line, str) else line, markup=False, highlight=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print aligned columns, or the sentence `empty`. Into a pipe nothing is folded, so that grep sees whole lines."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    if table.row_count:
        _console().print(table)
    else:
        print_line(empty)


def print_fields(values: Mapping[str, object]) -> None:
    """Print a name and a value a line, leaving out what is not known."""
    known = {name: value for name, value in values.items() if value is not None and value != ""}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        print_line(f"{name:<{width}}  {shown(value)}")


def shown(value: object) -> str:
    """Return a value as one line for a person. Control characters are replaced: names and texts are not ours."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and not isinstance(value, Enum):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.1f} s"
    if isinstance(value, list | tuple):
        return ", ".join(shown(each) for each in value)
    return safe(" ".join(str(value).split()))


def safe(text: str) -> str:
    """Replace what a terminal would take for a command, keeping line ends."""
    if text.isprintable():
        return text
    return "".join(
        char if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs") else " " for char in text
    )


def is_terminal() -> bool:
    return sys.stdout.isatty()


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, width=None if is_terminal() else _WIDTH_WITHOUT_TERMINAL, emoji=False)


def _plain(value: object) -> Any:
    if value is None or (isinstance(value, bool | int | float) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, UUID | Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    mapping = getattr(value, "_mapping", None)  # a row of a result
    if mapping is not None:
        return _plain(dict(mapping))
    if isinstance(value, Iterable):
        return [_plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")
