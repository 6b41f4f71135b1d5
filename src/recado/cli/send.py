"""`recado send`: one record, or one for each line of standard input, straight to Kafka."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import click

from recado.cli.look import checked_topic, settings_to_look
from recado.cli.main import UNREACHABLE
from recado.cli.options import settings_options
from recado.cli.sending import Maker, Sending, Tally
from recado.errors import ConfigurationError, DeliveryFailed, UnknownTopic
from recado.gateway.envelope import checked_header
from recado.gateway.problem import Problem
from recado.kafka.admin import Admin
from recado.kafka.cluster import connect
from recado.settings import Settings

__all__ = ["lines", "send"]

#: What is read of standard input at once, in bytes; less when less is there, so that no line waits for others.
CHUNK_BYTES = 65_536


@click.command()
@click.argument("topic")
@click.argument("value", metavar="[VALUE|-]", required=False)
@click.option("--key", help="The key of every record: equal keys share a partition and stay in order.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be given several times.")
@click.option("--partition", type=click.IntRange(0), metavar="N", help="This partition; else the key decides.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line for each record.")
@settings_options(wait_s="Longest wait for Kafka's confirmation, in seconds.")
def send(
    topic: str, value: str | None, key: str | None, headers: tuple[str, ...], partition: int | None, as_json: bool
) -> int:
    """Send VALUE to TOPIC and tell where it lies, once Kafka has confirmed it.

    Without VALUE, or with -, each line of standard input becomes a record, an empty line an empty one. Each is sent
    as it comes, in order; the first that fails ends it.

    \b
    Exit code: 0 all are delivered, 1 some are not, 4 Kafka is unreachable.

    \b
    Examples:
      recado send orders 'Hola Kafka'
      recado send orders '{"id": 7}' --key customer-1 --header source=shop
      recado send orders < events.ndjson
      tail -f app.log | recado send logs --json
    """
    if value is None and sys.stdin.isatty():
        raise click.UsageError("Give a VALUE, or - to type one record a line.")
    pairs = [_header(text) for text in headers]
    settings = settings_to_look()
    _check_topic(settings, topic, partition)
    make = Maker(topic, None if key is None else key.encode(), pairs, -1 if partition is None else partition)
    if value is None or value == "-":
        return _send(settings, make, _typed(settings), as_json=as_json)
    return _send(settings, make, [[value.encode()]], as_json=as_json)


def lines(stream: IO[bytes], max_bytes: int, is_idle: Callable[[], bool] = lambda: False) -> Iterator[list[bytes]]:
    """What came, cut at line ends, as soon as it is there; an empty list when ``is_idle`` says that no more is now.

    Of a line beyond ``max_bytes`` comes only enough to see that it is.
    """
    rest = b""
    read = getattr(stream, "read1", stream.read)
    while chunk := read(CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        if whole:
            yield [line.removesuffix(b"\r") for line in whole]
        rest = rest[: max_bytes + 2]
        if is_idle():
            yield []
    if rest:
        yield [rest.removesuffix(b"\r")]


def _typed(settings: Settings) -> Iterator[list[bytes]]:
    if sys.stdin.isatty():
        click.echo("Each line becomes a record; Ctrl-D ends.", err=True)
    try:
        yield from lines(sys.stdin.buffer, settings.max_record_bytes, _stdin_is_idle)
    except KeyboardInterrupt:
        click.echo("", err=True)  # the end of what is typed: what was sent is still waited for


def _stdin_is_idle() -> bool:
    """Whether reading would wait: nobody has typed more yet. Where that cannot be told, it might."""
    try:
        return not select.select([sys.stdin], [], [], 0)[0]
    except (OSError, ValueError):
        return True


def _send(settings: Settings, make: Maker, batches: Iterable[list[bytes]], *, as_json: bool) -> int:
    producer, topics, _ = connect(settings)
    try:
        with Sending(producer, wait_s=settings.wait_s, as_json=as_json) as sending:
            tally = _feed(sending, make, batches, settings.max_record_bytes)
    finally:
        producer.close(0)
    if not as_json and (tally.sent > 1 or (not tally.sent and not tally.unsaid)):
        click.echo(tally.sentence(make.topic))
    if tally.unsaid:
        click.echo(tally.unsaid, err=True)
    if tally.unconfirmed and not topics.refresh():
        return UNREACHABLE
    return 1 if tally.failed or tally.unconfirmed or tally.unsaid else 0


def _feed(sending: Sending, make: Maker, batches: Iterable[list[bytes]], max_bytes: int) -> Tally:
    """Send batch after batch until one has a record that fails or is too large."""
    spare_bytes = max_bytes - make.overhead_bytes
    for batch in batches:
        if not batch:
            sending.finish()  # while nobody types, the fate of what was typed can be told
        bad = next((index for index, value in enumerate(batch) if len(value) > spare_bytes), None)
        if not sending.add(make.records(batch[:bad])):
            return sending.tally
        if bad is not None:
            sending.finish()
            return sending.tally.stopped(
                f"record {sending.tally.sent + 1} is larger than RECADO_MAX_RECORD_BYTES ({max_bytes}) allows: "
                "it and what follows was not sent."
            )
    sending.finish()
    return sending.tally


def _check_topic(settings: Settings, topic: str, partition: int | None) -> None:
    """Ask Kafka first: a wrong name or partition should be told before anything is read."""
    checked_topic(topic)
    count = Admin(settings).topic_partitions().get(topic)
    if count is None:
        remedy = f"recado kafka topics --create --topic {topic} --partitions 3"
        raise UnknownTopic(f"topic {topic} does not exist. Create it with: {remedy}")
    if topic.startswith("__"):
        raise DeliveryFailed(f"topic {topic} is Kafka's own: a record of yours could break it.")
    if partition is not None and partition >= count:
        raise click.BadParameter(f"{partition} is not one of the {count} of {topic} (0 to {count - 1}).",
                                 param_hint="--partition")  # fmt: skip


def _header(text: str) -> tuple[str, bytes]:
    name, sign, value = text.partition("=")
    if not sign:
        raise click.BadParameter(f"{text!r} must be NAME=VALUE.", param_hint="--header")
    try:
        return checked_header(name, value)
    except Problem as problem:
        raise ConfigurationError(f"--header {text!r}: {problem}") from problem
