"""`recado tail`: records as they arrive, without touching any group."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import merge
from itertools import groupby

import click
from click.core import ParameterSource

from recado.cli.look import checked_topic, settings_to_look
from recado.cli.options import settings_options
from recado.cli.record_line import as_line, as_object
from recado.cli.status_line import StatusLine
from recado.kafka.abstract import Message
from recado.kafka.tailing import Tail

__all__ = ["moment_ms", "tail"]

#: Longest wait for a record before the counter and Ctrl-C get their turn, in seconds.
POLL_S = 0.2

_AGO = re.compile(r"(\d+)(s|m|h|d)\Z", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

#: The longest span, in digits of its number: far more than Kafka is old, and few enough to count with.
SPAN_DIGITS = 9

#: These say where to begin, so only one of them may be given.
_BEGINNINGS = ("from_beginning", "last", "since")


def moment_ms(text: str, now_s: float, option: str = "--since") -> int:
    """Milliseconds since the epoch of ``10m`` (ago) or an ISO 8601 time, here and now where it names no offset."""
    if ago := _AGO.match(text):
        if len(ago[1]) > SPAN_DIGITS:
            raise click.BadParameter(
                f"{text[:60]!r} is too large: a span such as 10m has {SPAN_DIGITS} digits at most.", param_hint=option
            )
        return max(0, round((now_s - int(ago[1]) * _UNITS_S[ago[2]]) * 1000))
    try:
        return max(0, round(datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r} must be a span such as 30s, 10m, 2h, 1d, or a time such as 2026-01-31T08:00.",
            param_hint=option,
        ) from error


@click.command()
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record that Kafka keeps.")
@click.option("--last", type=click.IntRange(1, 1_000_000), metavar="N", help="Begin with the last N records.")
@click.option("--since", metavar="SPAN|TIME", help="Begin 30s, 10m, 2h or 1d ago, or at a time (ISO 8601).")
@click.option("--max", "limit", type=click.IntRange(1), metavar="N", help="End after N records.")
@click.option("--no-follow", is_flag=True, help="End when all that is there now has been shown.")
@click.option("-v", "--verbose", is_flag=True, help="Show headers, too.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@settings_options()
@click.pass_context
def tail(
    context: click.Context,
    topic: str,
    from_beginning: bool,
    last: int | None,
    since: str | None,
    limit: int | None,
    no_follow: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Show the records of TOPIC as they arrive, until Ctrl-C.

    It joins no group and commits nothing, so nobody notices. Records of transactions show once these are
    committed. A value that is not UTF-8 shows as base64, one that is too long is cut on a terminal.

    \b
    Examples:
      recado tail orders
      recado tail orders --last 10 --no-follow
      recado tail orders --since 10m -v
      recado tail orders --from-beginning --json | jq -r .value
    """
    given = [name for name in _BEGINNINGS if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if len(given) > 1:
        options = " and ".join("--" + name.replace("_", "-") for name in given)
        raise click.UsageError(f"{options} each say where to begin: give one of them.")
    since_ms = None if since is None else moment_ms(since, datetime.now().timestamp())
    show = as_object if as_json else as_line(verbose=verbose, wide=not sys.stdout.isatty())
    with Tail(settings_to_look(), checked_topic(topic)) as reader, StatusLine() as line:
        _begin(reader, from_beginning=from_beginning, last=last, since_ms=since_ms)
        batches = _batches(reader, last=last, follow=not no_follow)
        try:
            _follow(batches, reader, line, _Printer(show, limit))
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # `| head` has seen enough. Python must not try to flush again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _begin(reader: Tail, *, from_beginning: bool, last: int | None, since_ms: int | None) -> None:
    if since_ms is not None:
        reader.from_time(since_ms)
    elif from_beginning:
        reader.from_beginning()
    else:
        reader.from_end(last or 0)


def _batches(reader: Tail, *, last: int | None, follow: bool) -> Iterator[list[Message]]:
    """What comes, an empty list where nothing does for a moment; with ``last`` first these, by their time."""
    if last is not None:
        yield from _last(reader, last)
    while follow or not reader.caught_up:
        yield reader.read(POLL_S)


def _last(reader: Tail, count: int) -> Iterator[list[Message]]:
    """The last ``count`` records of all partitions together: each partition keeps its order."""
    found: list[Message] = []
    while not reader.caught_up:
        found += reader.read(POLL_S)
        yield []
    found.sort(key=lambda message: message.partition())  # stable: offsets stay in order
    partitions = [list(records) for _, records in groupby(found, key=lambda message: message.partition())]
    yield list(merge(*partitions, key=lambda message: message.timestamp()[1]))[-count:]


class _Printer:
    """Prints records up to a limit."""

    def __init__(self, show: Callable[[Message], str], limit: int | None) -> None:
        self._show = show
        self._limit = limit
        self.seen = 0

    def print(self, batch: list[Message]) -> bool:
        """Print what the limit leaves of a batch; False when that was the last."""
        wanted = batch if self._limit is None else batch[: self._limit - self.seen]
        if wanted:
            self.seen += len(wanted)
            click.echo("\n".join(map(self._show, wanted)))
        return self._limit is None or self.seen < self._limit


def _follow(batches: Iterator[list[Message]], reader: Tail, line: StatusLine, printer: _Printer) -> None:
    for batch in batches:
        if batch:
            line.clear()
        if not printer.print(batch):
            return
        away = "" if reader.reachable else "Kafka is away, waiting for it; "
        line.show(f"{away}{printer.seen:,} records shown, Ctrl-C ends")
