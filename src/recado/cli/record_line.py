"""One record as a person sees it, or as a program reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime

import click
import msgspec
from rich.cells import cell_len, set_cell_size

from recado.cli.printable import printable, shown
from recado.clock import date_of
from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.letters.shown import field
from recado.record import HEADER_ID

__all__ = ["as_line", "as_object"]

#: Of a long value no more bytes than this are looked at for a terminal, whose line ends long before.
LOOKED_AT = 2_000

#: A key that is longer is cut on a terminal, in columns.
KEY_COLUMNS = 40


def as_line(*, verbose: bool, wide: bool) -> Callable[[Message], str]:
    """How to write a record for a person: cut to the terminal's width unless ``wide``; ``verbose`` adds headers."""

    def line(message: Message) -> str:
        columns = None if wide else shutil.get_terminal_size().columns
        text = _line(message, columns)
        if verbose:
            text += "".join(f"\n    {printable(name)}: {_text(value)}" for name, value in headers_of(message))
        return text

    return line


def as_object(message: Message) -> str:
    """One JSON object: key and value as text, or under ``key_base64``/``value_base64`` where they are not UTF-8."""
    headers = headers_of(message)
    kind, timestamp_ms = message.timestamp()
    row = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": timestamp_ms if kind else None,
        "id": next((value.decode("utf-8", "replace") for name, value in headers if name == HEADER_ID and value), None),
        **field("key", message.key()),
        **field("value", message.value()),
        "headers": [{"name": name, **field("value", value)} for name, value in headers],
    }
    return msgspec.json.encode(row).decode()


def _line(message: Message, columns: int | None) -> str:
    where = f"{_time(message, full=columns is None)}  {message.partition()}:{message.offset()}  "
    key, value = message.key(), message.value()
    if columns is None:
        return where + ("" if key is None else f"[{shown(key)}] ") + _text(value)
    start = where + ("" if key is None else f"[{_cut(_text(key[:LOOKED_AT]), KEY_COLUMNS)}] ")
    text = _text(value if value is None else _beginning(value))
    return click.style(start, dim=True) + _cut(text, max(columns - cell_len(start) - 1, KEY_COLUMNS))


def _beginning(value: bytes) -> bytes:
    """The first bytes of a long value, without half a character at their end."""
    if len(value) <= LOOKED_AT:
        return value
    end = LOOKED_AT
    while end > LOOKED_AT - 4 and value[end] & 0xC0 == 0x80:
        end -= 1
    return value[:end]


def _cut(text: str, columns: int) -> str:
    return text if cell_len(text) <= columns else set_cell_size(text, columns - 1) + "…"


def _text(value: bytes | None) -> str:
    return "(null)" if value is None else shown(value)


def _time(message: Message, *, full: bool) -> str:
    """When, on this machine's clock; with the day where that is not today, in UTC with all of it where ``full``."""
    kind, timestamp_ms = message.timestamp()
    if not kind:
        return "-"
    moment = date_of(timestamp_ms)
    if moment is None:
        return f"{timestamp_ms} ms"
    if full:
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    local = moment.astimezone()
    day = "" if local.date() == datetime.now().date() else f"{local:%Y-%m-%d} "
    return f"{day}{local:%H:%M:%S}.{local.microsecond // 1000:03}"
