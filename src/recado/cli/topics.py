"""`recado topics`: what topics there are and how much they hold."""

from __future__ import annotations

from fnmatch import fnmatchcase

import click
import msgspec

from recado.cli.look import settings_to_look
from recado.cli.options import settings_options
from recado.cli.table import show
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
    compaction took away and transaction markers count, too.

    \b
    Examples:
      recado topics
      recado topics 'orders*'
      recado topics --json | jq -r '.[] | select(.records > 0).name'
    """
    every = Admin(settings_to_look()).topics()
    found = [topic for topic in every if _is_wanted(topic, pattern, everything=everything)]
    if as_json:
        click.echo(msgspec.json.encode([topic._asdict() for topic in found]))
        return 0
    rows = [(t.name, str(t.partitions), str(t.replicas), f"{t.records:,}") for t in found]
    show(("topic", "partitions", "replicas", "records"), rows, empty=_nothing(every, pattern))
    return 0


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
