"""The witness: reads the whole topic with Kafka's own tools, so that recado does not testify for itself.

``kafka-get-offsets`` says how many records there are and ``kafka-console-consumer`` prints each with its partition
and offset. Neither shares a line with recado, nor the client library (librdkafka) through which it wrote: a mistake
in either cannot hide itself by being made twice.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from recado.errors import TortureBroken
from recado.torture.judge import Found
from recado.torture.programs import Surroundings

__all__ = ["parse_line", "read_topic"]

#: Silence after which the reader gives up, in milliseconds.
SILENCE_MS = 30_000

#: Longest reading of a topic, in seconds: a hundred thousand records take some seconds.
READ_S = 600.0

_LINE = re.compile(r"Partition:(\d+)\tOffset:(\d+)\t([^\t]*)\t([^\t]*)\t(.*)\Z", re.DOTALL)
_ID = re.compile(r"(?:^|,)recado-id:([^,]*)")
_END = re.compile(r"[^:]+:\d+:(\d+)\Z")

#: Known by these names to every version here; newer ones prefer ``--formatter-property``.
_SHOWN = ("print.partition", "print.offset", "print.headers", "print.key")


def read_topic(surroundings: Surroundings, topic: str, keep: Path) -> list[Found]:
    """Read every record of a topic in which no transaction ever was, and write them to ``keep`` as JSON lines.

    Raises TortureBroken unless exactly as many were read as Kafka says there are.
    """
    ends = map(_END.match, surroundings.tool("get-offsets", ["--topic", topic, "--time", "latest"]))
    total = sum(int(end[1]) for end in ends if end)
    found: list[Found] = []
    if total:
        arguments = ["--topic", topic, "--from-beginning", "--max-messages", str(total)]
        arguments += ["--timeout-ms", str(SILENCE_MS)]
        arguments += [word for name in _SHOWN for word in ("--property", f"{name}=true")]
        surroundings.tool_lines("console-consumer", arguments, lambda line: _take(line, found), within_s=READ_S)
    keep.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in found))
    if len(found) != total:
        raise TortureBroken(f"The witness read {len(found)} records of topic {topic}, but Kafka says it has {total}.")
    return found


def _take(line: str, found: list[Found]) -> None:
    if (record := parse_line(line)) is not None:
        found.append(record)


def parse_line(line: str) -> Found | None:
    """Read one line of the console consumer; None for one that is no record.

    A record that no sender of ours can have sent gets its key and the number 0, which no history has.
    """
    match = _LINE.match(line)
    if match is None:
        return None
    partition, offset, headers, key, value = match.groups()
    id_ = _ID.search(headers)
    number = 0
    try:
        content = json.loads(value)
        if content["key"] == key:
            number = int(content["number"])
    except (ValueError, KeyError, TypeError):
        pass
    return Found(key, number, id_[1] if id_ else "", int(partition), int(offset))
