"""`recado groups`: who consumes, and how far they are."""

from __future__ import annotations

import click
import msgspec

from recado.cli.options import current_settings, settings_options
from recado.cli.table import show
from recado.kafka.admin import Admin, GroupLag
from recado.record import TopicPartition

__all__ = ["groups"]


@click.command()
@click.argument("group", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@settings_options()
def groups(group: str | None, as_json: bool) -> int:
    r"""List consumer groups with their lag, or GROUP partition by partition.

    \b
    Examples:
      recado groups
      recado groups flask-consumer-group --json
    """
    admin = Admin(current_settings())
    return _one(admin, group, as_json=as_json) if group is not None else _all(admin, as_json=as_json)


def _all(admin: Admin, *, as_json: bool) -> int:
    found = []
    for name, state in admin.groups().items():
        lags = admin.lag(name)
        found.append(
            {
                "group": name,
                "state": state,
                "members": len(list(admin.members(name))),
                "topics": sorted({lag.topic for lag in lags}),
                "lag": sum(lag.lag or 0 for lag in lags),
            }
        )
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return 0
    rows = [(g["group"], g["state"], str(g["members"]), " ".join(g["topics"]), f"{g['lag']:,}") for g in found]
    show(("group", "state", "members", "topics", "lag"), rows, empty="No consumer group yet: start a worker.")
    return 0


def _one(admin: Admin, group: str, *, as_json: bool) -> int:
    holders = {held: client for _, client, partitions in admin.members(group) for held in partitions}
    lags = {TopicPartition(lag.topic, lag.partition): lag for lag in admin.lag(group)}
    ends = admin.ends([held for held in holders if held not in lags])
    for held, end in ends.items():  # assigned, never committed: everything is still to do
        lags[held] = GroupLag(group, held.topic, held.partition, None, end, "")
    found = [
        {**lag._asdict(), "lag": lag.lag, "member": holders.get(where)}
        for where, lag in sorted(lags.items())
    ]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return 0
    rows = [
        (lag.topic, str(lag.partition), _number(lag.committed), str(lag.end), _number(lag.lag), holders.get(where) or "-")
        for where, lag in sorted(lags.items())
    ]
    titles = ("topic", "partition", "committed", "end", "lag", "member")
    show(titles, rows, empty=f"Group {group} has no member and never committed.")
    return 0


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
