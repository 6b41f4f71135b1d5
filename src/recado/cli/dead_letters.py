"""`recado dead-letters`: what a group gave up, and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.options import settings_options
from recado.cli.places import place_of
from recado.cli.printable import printable, shown
from recado.cli.record_line import field
from recado.cli.settle import discard, redrive
from recado.cli.status_line import StatusLine
from recado.cli.table import show as show_table
from recado.errors import RecadoError
from recado.kafka.abstract import Message
from recado.kafka.admin import Admin
from recado.kafka.peek import Peek
from recado.kafka.tailing import Tail
from recado.outcomes.group_topics import dead_letter_topic, source_of_letters
from recado.outcomes.letter import Letter, letter_of
from recado.outcomes.letter_kinds import Kind, Kinds
from recado.record import TopicPartition
from recado.settings import Settings
from recado.tracking.look import Look

__all__ = ["dead_letters"]

#: Longest wait for letters, in seconds, before the line on the terminal is written anew.
POLL_S = 0.2


@click.group(name="dead-letters", context_settings={"help_option_names": ["-h", "--help"]})
def dead_letters() -> None:
    """What a group gave up: by kind, and one by one with the reason; bring it back, or give it up for good.

    \b
    Examples:
      recado dead-letters list
      recado dead-letters list --topic orders --json
      recado dead-letters show dlq.flask-consumer-group.orders/0/17
      recado dead-letters redrive --kind "ConnectionError in shop.pay.charge" --canary
      recado dead-letters discard dlq.flask-consumer-group.orders/0/17 --reason "test order"
    """


dead_letters.add_command(redrive)
dead_letters.add_command(discard)


@dead_letters.command(name="list")
@click.option("--topic", help="Only those of this source topic.")
@click.option("--limit", default=10_000, type=click.IntRange(1), show_default=True, help="Read so many, the newest.")
@click.option("--all", "everything", is_flag=True, help="Read them all.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@settings_options(group="Whose dead letters.")
def list_(topic: str | None, limit: int, everything: bool, as_json: bool) -> int:
    """Count dead letters by kind: the exception and where it was raised. The kind with the newest letter comes first.

    The total is counted by offsets, so transaction markers count, too.

    \b
    Examples:
      recado dead-letters list
      recado dead-letters list --group billing --all
      recado dead-letters list --json | jq '.kinds[0]'
    """
    settings = settings_to_look()
    topics = _topics(settings, topic)
    settled = Look(settings).settled(settings.group)
    gone = sum(sum(settled.count(name).values()) for name in topics)
    total, kinds = _total(settings, topics) - gone, Kinds()
    with StatusLine() as line:
        for messages in _letters(settings, topics, None if everything else limit):
            kinds.add(
                letter
                for message in messages
                if settled.of(message.topic(), message.partition(), message.offset()) is None
                and _is_of(letter := letter_of(message), settings.group)
            )
            line.show(f"{kinds.seen:,} of {total:,} dead letters read")
    if as_json:
        told = {
            "group": settings.group,
            "total": total,
            "settled": gone,
            "read": kinds.seen,
            "kinds": kinds.newest_first(),
        }
        click.echo(msgspec.json.encode(told))
        return 0
    if total:
        more = "" if everything or kinds.seen >= total else "; --all reads the rest"
        click.echo(
            f"{total:,} dead letters of group {settings.group}, {gone:,} more are settled; {kinds.seen:,} read{more}",
            err=True,
        )
    titles = ("letters", "first", "last", "kind", "newest", "error")
    show_table(titles, [_row(kind) for kind in kinds.newest_first()], empty=f"Group {settings.group} has none.")
    return 0


@dead_letters.command()
@click.argument("letter", metavar="TOPIC/PARTITION/OFFSET")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, key and value as text or base64.")
@settings_options()
def show(letter: str, as_json: bool) -> int:
    """Show one dead letter: where it stood, every failed attempt, the stack, headers and value.

    \b
    Examples:
      recado dead-letters show dlq.flask-consumer-group.orders/0/17
      recado dead-letters show dlq.flask-consumer-group.orders/0/17 --json | jq -r .stack
    """
    place = place_of(letter)
    if place is None:
        raise click.UsageError(f"{letter!r} names no dead letter: it must be TOPIC/PARTITION/OFFSET.")
    where, offset = place
    with Peek(settings_to_look()) as peek:
        message = peek.at(where, [offset]).get(offset)
    if message is None:
        raise RecadoError(
            f"there is no dead letter at {letter}. `recado dead-letters list` names the newest of a kind."
        )
    found = letter_of(message)
    if as_json:
        content = {**field("key", message.key()), **field("value", message.value())}
        headers = [{"name": name, **field("value", value)} for name, value in message.headers() or ()]
        click.echo(msgspec.json.encode({**msgspec.to_builtins(found), **content, "headers": headers}))
        return 0
    for line in _lines(found, message):
        click.echo(line)
    return 0


def _topics(settings: Settings, source: str | None) -> list[str]:
    there = Admin(settings).topic_partitions()
    if source is not None:
        name = dead_letter_topic(settings.group, source)
        return [name] if name in there else []
    return sorted(name for name in there if source_of_letters(name, settings.group) is not None)


def _total(settings: Settings, topics: list[str]) -> int:
    admin = Admin(settings)
    counts = admin.topic_partitions()
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]
    if not partitions:
        return 0
    begins, ends = admin.begins(partitions), admin.ends(partitions)
    return sum(ends.get(where, 0) - begins.get(where, 0) for where in partitions)


def _letters(settings: Settings, topics: list[str], limit: int | None) -> Iterator[list[Message]]:
    """The newest of each topic, about ``limit`` in all; every one where it is None."""
    for topic in topics:
        with Tail(settings, topic) as reader:
            if limit is None:
                reader.from_beginning()
            else:
                reader.from_end(-(-limit // (len(topics) * reader.partitions)))
            while not reader.caught_up:
                yield reader.read(POLL_S)


def _is_of(letter: Letter, group: str) -> bool:
    """Two groups may share a topic's name (``a.b`` and ``c``, ``a`` and ``b.c``): a letter tells whose it is."""
    return letter.group in ("", group)


def _row(kind: Kind) -> tuple[str, ...]:
    return f"{kind.count:,}", _time(kind.first_ms), _time(kind.last_ms), kind.fingerprint, kind.newest, kind.error[:200]


def _lines(letter: Letter, message: Message) -> Iterator[str]:
    facts = {
        "letter": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "id": letter.id,
        "stood at": f"{letter.source_topic}/{letter.source_partition}/{letter.source_offset}",
        "group": letter.group,
        "dead since": _time(letter.timestamp_ms),
        "attempts": str(letter.attempts or ""),
        "first failure": _time(letter.first_failure_ms),
        "last failure": _time(letter.last_failure_ms),
        "reason": letter.reason,
        "kind": letter.fingerprint,
        "error": f"{letter.error_class}: {letter.error_message}" if letter.error_class else "",
    }
    for name, text in facts.items():
        if text:
            yield f"{name:>14}  {printable(text)}"
    for failure in letter.failures:
        yield f"{'attempt failed':>14}  {_time(failure.at_ms)}  {printable(failure.error)}"
    for name, value in message.headers() or ():
        if not name.startswith(("__dlq.", "__connect.", "kafka_dlt-", "recado-")):
            yield f"{'header':>14}  {printable(name)}: {'null' if value is None else shown(value)}"
    for name, content in (("key", message.key()), ("value", message.value())):
        yield f"{name:>14}  {'null' if content is None else shown(content)}"
    if letter.stack:
        yield ""
        yield from (printable(line) for line in letter.stack.splitlines())


def _time(at_ms: int) -> str:
    if at_ms <= 0:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
