"""The options that say which dead letters are meant."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from recado.cli.tail import moment_ms
from recado.letters.filter import Filter
from recado.record import name_of, place_of

__all__ = ["filter_of", "filter_options", "readable"]

F = TypeVar("F", bound=Callable[..., Any])


def readable(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse what is not UTF-8: Python hands out such bytes as characters that can be written nowhere."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8.") from None
    return value


def filter_options(command: F) -> F:
    """Give a command these options; what they give, ``filter_of`` reads."""
    options = [
        click.option("--topic", default="", callback=readable, help="Those of this source topic."),
        click.option("--kind", default="", callback=readable, help="Those of this kind, as `list` writes it."),
        click.option("--key", callback=readable, help="Those with this key."),
        click.option("--text", default="", callback=readable, help="Those with this text in the value or the error."),
        click.option("--since", metavar="SPAN|TIME", help="Those that died since then: 10m, 2h, 1d ago, or a time."),
        click.option("--until", metavar="SPAN|TIME", help="Those that died before that."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def filter_of(given: Mapping[str, Any]) -> Filter:
    """The filter that a command was given. Raises UsageError."""
    now_s = time.time()
    since, until = (
        0 if given[name] is None else moment_ms(given[name], now_s, "--" + name) for name in ("since", "until")
    )
    wanted = Filter(
        letters=[_named(letter) for letter in given.get("letters", ())],
        topic=given["topic"],
        kind=given["kind"],
        key=given["key"],
        text=given["text"],
        since=since,
        until=until,
    )
    if wanted.is_over_before_it_begins:
        raise click.UsageError("--since is not before --until, so no letter can be meant.")
    return wanted


def _named(letter: str) -> str:
    """A letter's place as it is known by: without zeros in front. Raises UsageError."""
    place = place_of(letter)
    if place is None:
        raise click.UsageError(f"{letter!r} names no dead letter: it must be TOPIC/PARTITION/OFFSET.")
    return name_of(*place)
