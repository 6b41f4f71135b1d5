"""`recado topics`: what topics there are and how much they hold."""

from __future__ import annotations

from fnmatch import fnmatchcase

import click
import msgspec

from recado.cli.options import current_settings, settings_options
from recado.cli.table import show
from recado.kafka.admin import Admin

__all__ = ["topics"]


@click.command()
@click.argument("pattern", required=False)
@click.option("--all", "everything", is_flag=True, help="Kafka's internal topics, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@settings_options()
def topics(pattern: str | None, everything: bool, as_json: bool) -> int:
    r"""List topics with their partitions, replicas and records. PATTERN may hold * and ?.

    Records are counted by offsets: compaction and transaction markers make it an upper bound.

    \b
    Examples:
      recado topics
      recado topics 'orders.*' --json
    """
    found = [
        topic
        for topic in Admin(current_settings()).topics()
        if (everything or not topic.internal) and (pattern is None or fnmatchcase(topic.name, pattern))
    ]
    if as_json:
        click.echo(msgspec.json.encode([topic._asdict() for topic in found]).decode())
        return 0
    rows = [(t.name, str(t.partitions), str(t.replicas), f"{t.records:,}") for t in found]
    empty = "No topic yet. Create one: recado kafka topics --create --topic NAME --partitions 3"
    show(("topic", "partitions", "replicas", "records"), rows, empty=empty)
    return 0
