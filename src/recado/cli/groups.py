"""`recado groups`: who consumes, and how far they are."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.offsets import show_offsets
from recado.cli.options import settings_options
from recado.cli.table import show
from recado.cli.unseen import count, say_unseen
from recado.errors import RecadoError
from recado.kafka.admin import Admin
from recado.kafka.groups import Group, GroupLag, Groups
from recado.record import TopicPartition

__all__ = ["groups", "known_group"]

#: The state that Kafka tells of a group that is not there.
ABSENT = "dead"


@click.command()
@click.argument("group", required=False)
@click.option("--json", "as_json", is_flag=True, help="Write JSON: an array, or with GROUP one object.")
@click.option("--offsets", is_flag=True, help="List the records of GROUP that are not done below one that is.")
@click.option("--limit", default=100, type=click.IntRange(1), show_default=True, help="Of those, at most so many.")
@settings_options()
def groups(group: str | None, as_json: bool, offsets: bool, limit: int) -> int:
    """List consumer groups with their lag, or GROUP partition by partition.

    Lag is the records from the committed offset to the end of the partition. A partition that a member holds but
    that was never committed counts as a whole, since a new group starts at the earliest record. Where a partition has
    no leader now, the lag is null in JSON.

    \b
    Examples:
      recado groups
      recado groups flask-consumer-group
      recado groups flask-consumer-group --json | jq .lag
      recado groups flask-consumer-group --offsets
    """
    settings = settings_to_look()
    found = Groups(Admin(settings))
    if offsets:
        if group is None:
            raise click.UsageError("--offsets needs a GROUP.")
        return show_offsets(settings, known_group(found, group), found, limit=limit, as_json=as_json)
    return _list(found, as_json=as_json) if group is None else _show(found, group, as_json=as_json)


def _list(known: Groups, *, as_json: bool) -> int:
    described = list(known.describe(known.names()).values())
    lags = known.lags(described)
    found = [_summary(group, lags[group.name]) for group in described]
    if as_json:
        click.echo(msgspec.json.encode(found))
        return 0
    rows = [
        (g["group"], g["state"], str(g["members"]), " ".join(g["topics"]) or "-", _lag(lags[g["group"]])) for g in found
    ]
    empty = "No consumer group yet. Start a worker: recado worker module:worker"
    show(("group", "state", "members", "topics", "lag"), rows, empty=empty)
    say_unseen(len({(lag.topic, lag.partition) for each in lags.values() for lag in each if lag.end is None}), "lag")
    return 0


def _show(known: Groups, name: str, *, as_json: bool) -> int:
    group = known_group(known, name)
    lags = known.lags([group])[name]
    holders = {where: member for member in group.members for where in member.partitions}
    found = [_row(lag, holders) for lag in lags]
    if as_json:
        summary = _summary(group, lags)
        members = [{"id": m.id, "client": m.client, "host": m.host} for m in group.members]
        click.echo(msgspec.json.encode({**summary, "members": members, "partitions": found}))
        return 0
    count = len(group.members)
    click.echo(f"{name} is {group.state}, {count} {'member' if count == 1 else 'members'}", err=True)
    titles = ("topic", "partition", "committed", "end", "lag", "member")
    rows = [[_cell(row[title]) for title in titles] for row in found]
    show(titles, rows, empty="It holds no partition and never committed.")
    say_unseen(_unseen(lags), "lag")
    return 0


def known_group(known: Groups, name: str) -> Group:
    """A group by its name. Raises RecadoError, with the nearest one, where Kafka has none of that name."""
    group = known.describe([name])[name]
    if group.state == ABSENT and not known.lags([group])[name]:
        raise RecadoError(_no_such_group(name, known.names()))
    return group


def _summary(group: Group, lags: Sequence[GroupLag]) -> dict[str, Any]:
    return {
        "group": group.name,
        "state": group.state,
        "members": len(group.members),
        "topics": sorted({lag.topic for lag in lags}),
        "lag": None if _unseen(lags) else sum(lag.lag or 0 for lag in lags),
    }


def _unseen(lags: Sequence[GroupLag]) -> int:
    """How many partitions have no leader now; a part of the lag would be taken for all of it."""
    return sum(lag.end is None for lag in lags)


def _lag(lags: Sequence[GroupLag]) -> str:
    return count(sum(lag.lag or 0 for lag in lags), unseen=_unseen(lags))


def _row(lag: GroupLag, holders: dict[TopicPartition, Any]) -> dict[str, Any]:
    member = holders.get(TopicPartition(lag.topic, lag.partition))
    return {
        "topic": lag.topic,
        "partition": lag.partition,
        "committed": lag.committed,
        "end": lag.end,
        "lag": lag.lag,
        "member": None if member is None else f"{member.client}@{member.host}",
    }


def _cell(value: int | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else value


def _no_such_group(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}?" if near else "`recado groups` lists them all."
    return f"There is no group {name!r}. {hint}"
