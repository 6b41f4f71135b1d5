"""`recado dead-letters`: what a group gave up, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from recado.cli.letter_filter import filter_of, filter_options
from recado.cli.look import settings_to_look
from recado.cli.moments import moment
from recado.cli.options import settings_options
from recado.cli.printable import printable, shown
from recado.cli.redrives import redrives
from recado.cli.settle import discard, redrive
from recado.cli.status_line import StatusLine
from recado.cli.table import show as show_table
from recado.errors import RecadoError
from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.kafka.peek import Peek
from recado.letters.filter import Filter
from recado.letters.listing import NEWEST, listing
from recado.letters.shown import as_object
from recado.outcomes.group_topics import DEAD_LETTER
from recado.outcomes.letter import Letter, letter_of
from recado.outcomes.letter_kinds import Kind
from recado.outcomes.settled import What
from recado.record import place_of
from recado.tracking.look import Look

__all__ = ["dead_letters"]


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
dead_letters.add_command(redrives)


@dead_letters.command(name="list")
@filter_options
@click.option("--limit", default=NEWEST, type=click.IntRange(1), show_default=True, help="Read so many, the newest.")
@click.option("--all", "everything", is_flag=True, help="Read them all.")
@click.option("--letters", "letters", default=0, type=click.IntRange(0, 1000), help="Name so many, the newest, too.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@settings_options(group="Whose dead letters.")
def list_(limit: int, everything: bool, letters: int, as_json: bool, **given: Any) -> int:
    """Count dead letters by kind: the exception and where it was raised. The kind with the newest letter comes first.

    It begins with the newest and says how many of all it has read. The total is counted by offsets, so transaction
    markers count, too.

    \b
    Examples:
      recado dead-letters list
      recado dead-letters list --group billing --all
      recado dead-letters list --key order-4711 --since 2h --all --letters 20
      recado dead-letters list --json | jq '.kinds[0]'
    """
    settings = settings_to_look()
    wanted = filter_of(given)
    with StatusLine() as line:
        found = listing(
            Look(settings),
            settings.group,
            wanted,
            limit=None if everything else limit,
            show=letters,
            progress=lambda read, total: line.show(f"{read:,} of {total:,} dead letters read"),
        )
    if as_json:
        click.echo(msgspec.json.encode(found))
        return 0
    if found.total:
        more = "" if everything or found.read >= found.total else "; --all reads the rest"
        click.echo(
            f"{found.total:,} dead letters of group {found.group}, {found.settled:,} more are settled; "
            f"{found.read:,} read{more}",
            err=True,
        )
    if wanted != Filter():
        none = "None of what was read is meant."
    elif everything or found.read >= found.total:
        none = f"Group {found.group} has none."
    else:
        none = "What was read is settled, or another group's."
    show_table(
        ("letters", "first", "last", "kind", "newest", "error"), [_row(kind) for kind in found.kinds], empty=none
    )
    if found.letters:
        rows = [(one.letter, moment(one.timestamp_ms), one.fingerprint, one.error[:200]) for one in found.letters]
        show_table(("letter", "dead since", "kind", "error"), rows, empty="")
    return 0


@dead_letters.command()
@click.argument("letter", metavar="TOPIC/PARTITION/OFFSET")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, key and value as text or base64.")
@settings_options(group="Whose dead letter, where it does not tell.")
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
    settings = settings_to_look()
    with Peek(settings) as peek:
        message = peek.at(where, [offset]).get(offset)
    if message is None:
        raise RecadoError(
            f"there is no dead letter at {letter}. `recado dead-letters list` names the newest of a kind."
        )
    found = letter_of(message)
    if found.source_offset < 0 and not where.topic.startswith(DEAD_LETTER):
        raise RecadoError(f"the record at {letter} is no dead letter. `recado where {letter}` tells of it.")
    settled = Look(settings).settled(found.group or settings.group).of(*where, offset)
    if as_json:
        click.echo(msgspec.json.encode(as_object(message, settled)))
        return 0
    for line in _lines(found, message, settled):
        click.echo(line)
    return 0


def _row(kind: Kind) -> tuple[str, ...]:
    return (
        f"{kind.count:,}",
        moment(kind.first_ms),
        moment(kind.last_ms),
        kind.fingerprint,
        kind.newest,
        kind.error[:200],
    )


def _lines(letter: Letter, message: Message, settled: What | None) -> Iterator[str]:
    facts = {
        "letter": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "id": letter.id,
        "stood at": f"{letter.source_topic}/{letter.source_partition}/{letter.source_offset}",
        "group": letter.group,
        "dead since": moment(letter.timestamp_ms),
        "settled": settled or "",
        "attempts": str(letter.attempts or ""),
        "first failure": moment(letter.first_failure_ms),
        "last failure": moment(letter.last_failure_ms),
        "reason": letter.reason,
        "kind": letter.fingerprint,
        "error": f"{letter.error_class}: {letter.error_message}" if letter.error_class else "",
    }
    for name, text in facts.items():
        if text:
            yield f"{name:>14}  {printable(text)}"
    for failure in letter.failures:
        yield f"{'attempt failed':>14}  {moment(failure.at_ms)}  {printable(failure.error)}"
    for name, value in headers_of(message):
        if not name.startswith(("__dlq.", "__connect.", "kafka_dlt-", "recado-")):
            yield f"{'header':>14}  {printable(name)}: {'null' if value is None else shown(value)}"
    for name, content in (("key", message.key()), ("value", message.value())):
        yield f"{name:>14}  {'null' if content is None else shown(content)}"
    if letter.stack:
        yield ""
        yield from (printable(line) for line in letter.stack.splitlines())
