"""What left its partition: dead letters and copies that waited for another attempt, read by Kafka's own tools."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from recado.torture.programs import Surroundings

__all__ = ["read_dead", "waiting"]

#: Topic, partition, offset.
At = tuple[str, int, int]

_END = re.compile(r"(.+):(\d+):(\d+)$")
_DEAD = re.compile(r"__dlq\.errors\.partition:(\d+),__dlq\.errors\.offset:(\d+)")


def read_dead(surroundings: Surroundings, group: str, topics: Sequence[str]) -> dict[At, int]:
    """The dead letters of the group, by where each stood, and when it was written, in milliseconds."""
    dead: dict[At, int] = {}
    for topic, line in _lines(surroundings, f"dlq.{group}.", topics):
        at_ms, place = re.match(r"CreateTime:(\d+)", line), _DEAD.search(line)
        if at_ms and place:
            at = (topic, int(place[1]), int(place[2]))
            dead[at] = min(dead.get(at, int(at_ms[1])), int(at_ms[1]))  # a repeated one is there twice
    return dead


def waiting(surroundings: Surroundings, group: str) -> int:
    """How many records wait in delay and retry topics, by Kafka's own word."""
    there = surroundings.tool("topics", ["--list"])
    delays = [topic for topic in there if topic.startswith("recado.delay.")]
    retries = [topic for topic in there if topic.startswith(f"retry.{group}.")]
    return _lag(surroundings, "recado.delay", delays) + _lag(surroundings, group, retries)


def _lag(surroundings: Surroundings, group: str, topics: Sequence[str]) -> int:
    if not topics:
        return 0
    ends = {}
    for topic in topics:
        for found in map(_END.match, surroundings.tool("get-offsets", ["--topic", topic, "--time", "latest"])):
            if found and int(found[3]):
                ends[found[1], int(found[2])] = int(found[3])
    for line in surroundings.tool("consumer-groups", ["--describe", "--offsets", "--group", group]):
        words = line.split()
        if len(words) > 3 and words[0] == group and words[3].isdigit():
            where = (words[1], int(words[2]))
            ends[where] = ends.get(where, 0) - int(words[3])
    return sum(max(0, left) for where, left in ends.items() if where[0] in topics)


def _lines(surroundings: Surroundings, prefix: str, topics: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The records of the group's topics of one kind, with time and headers, as lines."""
    there = set(surroundings.tool("topics", ["--list"]))
    for topic in topics:
        if (name := prefix + topic) not in there:
            continue
        lines = surroundings.tool("get-offsets", ["--topic", name, "--time", "latest"])
        total = sum(int(found[3]) for found in map(_END.match, lines) if found)
        shown = [word for kind in ("timestamp", "headers") for word in ("--property", f"print.{kind}=true")]
        limit = ["--max-messages", str(total), "--timeout-ms", "30000"]
        if total:
            for line in surroundings.tool("console-consumer", ["--topic", name, "--from-beginning", *limit, *shown]):
                yield topic, line
