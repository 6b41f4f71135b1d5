"""`recado topics`: what topics there are and how much they hold."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.options import settings_options
from recado.cli.table import show
from recado.cli.unseen import count, say_unseen
from recado.kafka.admin import Admin, TopicSummary

__all__ = ["topics"]

CREATE = "recado kafka topics --create --topic NAME --partitions 3"


@click.command()
@click.argument("pattern", required=False)
@click.option("--all", "everything", is_flag=True, help="Kafka's internal topics, too.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array.")
@settings_options()
def topics(pattern: str | None, everything: bool, as_json: bool) -> int:
    """List topics with their partitions, replicas and records.

    PATTERN may hold * and ?; quote it, or the shell takes it for files. Records are counted by offsets, so what
    compaction took away and transaction markers count, too. Where a partition has no leader now, JSON has null.

    \b
    Examples:
      recado topics
      recado topics 'orders*'
      recado topics --json | jq -r '.[] | select(.records > 0).name'
    """
    every = Admin(settings_to_look()).topics()
    found = [topic for topic in every if _is_wanted(topic, pattern, everything=everything)]
    if as_json:
        click.echo(msgspec.json.encode([_told(topic) for topic in found]))
        return 0
    rows = [(t.name, str(t.partitions), str(t.replicas), count(t.records, unseen=t.unseen)) for t in found]
    show(("topic", "partitions", "replicas", "records"), rows, empty=_nothing(every, pattern))
    say_unseen(sum(topic.unseen for topic in found), "records")
    return 0


def _told(topic: TopicSummary) -> dict[str, Any]:
    """For a program: only some of the records would be taken for all."""
    told = topic._asdict()
    unseen = told.pop("unseen")
    return {**told, "records": None} if unseen else told


def _is_wanted(topic: TopicSummary, pattern: str | None, *, everything: bool) -> bool:
    if topic.internal and not everything:
        return False
    return pattern is None or fnmatchcase(topic.name, pattern)


def _nothing(every: list[TopicSummary], pattern: str | None) -> str:
    """What to say when no topic is listed, and what to do next."""
    others = sum(not topic.internal for topic in every)
    if pattern is not None and others:
        return f"No topic matches {pattern!r}, of {others}. `recado topics` lists them all."
    return f"No topic yet. Create one: {CREATE}"
