"""`recado groups GROUP --offsets`: which records are not done, though later ones of their partition are."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click
import msgspec

from recado.cli.table import show
from recado.clock import wall_clock_ms
from recado.kafka.abstract import Message
from recado.kafka.groups import Group, GroupLag, Groups
from recado.kafka.identity import unstamped
from recado.kafka.peek import Peek
from recado.outcomes.offset_map import decode
from recado.record import TopicPartition
from recado.settings import Settings

__all__ = ["show_offsets"]


def show_offsets(settings: Settings, group: Group, known: Groups, *, limit: int, as_json: bool) -> int:
    """Read the group's offset maps, and of what they leave open the records."""
    holders = {where: f"{m.client}@{m.host}" for m in group.members for where in m.partitions}
    rows: list[dict[str, Any]] = []
    left_out = 0
    with Peek(settings) as peek:
        for lag in known.lags([group])[group.name]:
            found, more = _open_offsets(lag, limit - len(rows))
            left_out += more
            where = TopicPartition(lag.topic, lag.partition)
            records = peek.at(where, found) if found else {}
            rows += [_row(where, offset, records.get(offset), holders.get(where)) for offset in found]
    if as_json:
        click.echo(msgspec.json.encode({"group": group.name, "offsets": rows, "left_out": left_out}))
        return 0
    titles = ("topic", "partition", "offset", "age", "key", "member")
    empty = f"{group.name} has nothing done beyond a record that is not."
    show(titles, [[_cell(title, row) for title in titles] for row in rows], empty=empty)
    if left_out:
        click.echo(f"{left_out:,} more are not shown; --limit shows more.", err=True)
    return 0


def _open_offsets(lag: GroupLag, limit: int) -> tuple[list[int], int]:
    """The first not-done offsets of a partition, and how many more there are."""
    if lag.committed is None:
        return [], 0
    done = decode(lag.committed, unstamped(lag.metadata)[1])
    if done is None:
        return [], 0
    count = done.top + 1 - lag.committed - len(done)
    found = list(islice(done.open_from(lag.committed), limit))
    return found, count - len(found)


def _row(where: TopicPartition, offset: int, record: Message | None, member: str | None) -> dict[str, Any]:
    """``age_s`` and ``key`` are None where the record is gone, or never was one (a transaction's marker)."""
    kind, timestamp_ms = record.timestamp() if record is not None else (0, 0)
    key = record.key() if record is not None else None
    return {
        "topic": where.topic,
        "partition": where.partition,
        "offset": offset,
        "age_s": round((wall_clock_ms() - timestamp_ms) / 1000, 1) if kind else None,
        "key": key.decode("utf-8", "backslashreplace") if key is not None else None,
        "member": member,
    }


def _cell(title: str, row: dict[str, Any]) -> str:
    if title == "age":
        return "-" if row["age_s"] is None else f"{row['age_s']:,.0f} s"
    value = row[title]
    return "-" if value is None else str(value)
