"""`recado tail`: records as they arrive, without touching any group."""

from __future__ import annotations

import base64
import re
import sys
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from recado.cli.options import current_settings, settings_options
from recado.gateway.envelope import checked_timestamp
from recado.kafka.abstract import Message
from recado.kafka.tailing import Tail
from recado.record import HEADER_ID

__all__ = ["tail"]

#: How much of a value a line on a terminal shows, in characters.
SHOWN = 200

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command()
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Begin with about the last N records.")
@click.option("--since", metavar="10m|TIME", help="Begin at a time: 30s, 10m, 2h, 1d ago, or ISO 8601 with an offset.")
@click.option("--max", "limit", type=click.IntRange(1), metavar="N", help="End after N records.")
@click.option("-v", "--verbose", is_flag=True, help="Show headers, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@settings_options()
def tail(
    topic: str, from_beginning: bool, last: int | None, since: str | None, limit: int | None, verbose: bool, as_json: bool
) -> int:
    r"""Show the records of TOPIC as they arrive, until Ctrl-C. Nothing is committed, so no group notices.

    \b
    Examples:
      recado tail orders --last 10
      recado tail orders --since 10m --json | jq .value
    """
    seen = 0
    live = sys.stderr.isatty() and not sys.stdout.isatty()
    with Tail(current_settings(), topic) as reader:
        if since is not None:
            reader.from_time(_moment_ms(since))
        elif from_beginning:
            reader.from_beginning()
        else:
            reader.from_end(last or 0)
        if sys.stderr.isatty() and not as_json:
            click.echo(f"Waiting for records of {topic}; Ctrl-C ends.", err=True)
        try:
            while limit is None or seen < limit:
                for message in reader.read(0.2):
                    click.echo(_json(message) if as_json else _line(message, verbose=verbose))
                    seen += 1
                    if limit is not None and seen >= limit:
                        break
                if live:
                    click.echo(f"\r{seen:,} records", err=True, nl=False)
                sys.stdout.flush()
        except KeyboardInterrupt:
            pass
    return 0


def _moment_ms(text: str) -> int:
    if ago := re.fullmatch(r"(\d+)([smhd])", text):
        return int((datetime.now(UTC).timestamp() - int(ago[1]) * _UNITS_S[ago[2]]) * 1000)
    return checked_timestamp(text)


def _line(message: Message, *, verbose: bool) -> str:
    kind, milliseconds = message.timestamp()
    time = datetime.fromtimestamp(milliseconds / 1000).strftime("%H:%M:%S.%f")[:-3] if kind else "-"
    value = "(tombstone)" if message.value() is None else _shown(message.value())
    if sys.stdout.isatty() and len(value) > SHOWN:
        value = value[:SHOWN] + "…"
    key = message.key()
    line = f"{time}  {message.partition()}:{message.offset()}  " + (f"[{_shown(key)}] " if key is not None else "") + value
    if verbose:
        line += "".join(f"\n    {name}: {_shown(value)}" for name, value in message.headers() or [])
    return line


def _shown(value: bytes | None) -> str:
    """Text where it is UTF-8 (control characters escaped: they could rule the terminal), else base64."""
    if value is None:
        return ""
    try:
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value.decode())
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _json(message: Message) -> str:
    headers = message.headers() or []
    row: dict[str, Any] = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1] if message.timestamp()[0] else None,
        "id": next((value.decode("utf-8", "replace") for name, value in headers if name == HEADER_ID and value), None),
        **_field("key", message.key()),
        **_field("value", message.value()),
        "headers": [[name, None if value is None else value.decode("utf-8", "replace")] for name, value in headers],
    }
    return msgspec.json.encode(row).decode()


def _field(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if value is None else value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value or b"").decode()}
