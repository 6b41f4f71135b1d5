"""`recado verify`: the ledger of a group."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.options import settings_options
from recado.cli.status_line import StatusLine
from recado.cli.table import show
from recado.errors import RecadoError
from recado.kafka.admin import Admin
from recado.tracking.ledger import Books, Problem
from recado.tracking.look import Look
from recado.tracking.verify import certain, topics_of
from recado.tracking.verify import verify as make_up

__all__ = ["verify"]

COLUMNS = ("accepted", "done", "retrying", "dead", "discarded", "not_handled")

#: Exit code: something does not balance.
FAILED = 1


@click.command()
@click.option("--topic", "only", metavar="TOPIC", multiple=True, help="Only this topic (may be repeated).")
@click.option("--read", is_flag=True, help="Read the records, so that gaps and transaction markers do not count.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@settings_options(group="Whose ledger.")
def verify(only: tuple[str, ...], read: bool, as_json: bool) -> int:
    """Make up the ledger of a group, partition by partition, from Kafka alone.

    accepted = done + retrying + dead + discarded + not handled yet. It may run while workers do. Exit code 1 where a
    record is not accounted for: deleted before it was handled, or committed although no such record is there.

    \b
    Examples:
      recado verify
      recado verify --group billing --topic orders --read
      recado verify --json | jq .balanced
    """
    settings = settings_to_look()
    admin = Admin(settings)
    with StatusLine() as line:

        def books() -> Books:
            look = Look(settings, admin=admin)
            topics = list(only) or topics_of(look, settings.group)
            if not topics:
                raise RecadoError(f"group {settings.group} has committed nothing yet. `recado groups` lists all.")
            return make_up(
                look,
                settings.group,
                topics,
                read=read,
                progress=lambda done, total: line.show(f"{done:,} of {total:,} records read"),
            )

        found = certain(books)
    if as_json:
        told: dict[str, Any] = {**msgspec.to_builtins(found), "balanced": found.balanced, "total": _total(found)}
        click.echo(msgspec.json.encode(told))
    else:
        _show(found)
    return 0 if found.balanced else FAILED


def _total(books: Books) -> dict[str, int]:
    return {column: sum(getattr(entry, column) for entry in books.entries) for column in (*COLUMNS, "again")}


def _show(books: Books) -> None:
    rows = [(f"{e.topic}/{e.partition}", *(f"{getattr(e, name):,}" for name in COLUMNS)) for e in books.entries]
    total = _total(books)
    rows.append(("total", *(f"{total[name]:,}" for name in COLUMNS)))
    show(("partition", "accepted", "done", "retrying", "dead", "discarded", "not handled"), rows, empty="")
    if total["again"]:
        click.echo(f"{total['again']:,} not handled ones have a copy already: after a crash they are handled again.")
    if books.earlier:
        click.echo(
            f"{books.earlier:,} more wait or are dead of earlier topics of these names: they are not in the books."
        )
    for problem in [*books.problems, *(problem for entry in books.entries for problem in entry.problems)]:
        click.echo(_line(problem), err=True)
    click.echo(f"Group {books.group}: {'it balances' if books.balanced else 'IT DOES NOT BALANCE'}.", err=True)


def _line(problem: Problem) -> str:
    what = {
        "expired": "deleted from Kafka before they were handled, redriven or discarded",
        "beyond the end": "committed, but the partition has no such records: its log was cut or made anew",
        "copy of nothing": "waiting or dead, but the partition has no such records: its log was cut or made anew",
    }[problem.kind]
    shown = ", ".join(map(str, problem.offsets)) + ("" if len(problem.offsets) == problem.count else ", …")
    return f"{problem.topic}/{problem.partition}: {problem.count:,} {what}: {shown}"
