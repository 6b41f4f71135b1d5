"""What the group committed, read by Kafka's own tools from where the coordinator keeps it; pure but for the reading.

The topic ``__consumer_offsets`` holds every commit with the coordinator's time. Its offset maps are decoded here by
code of this room's own, from the layout that docs/worker.md tells, so that no mistake can be made twice.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from recado.errors import TortureBroken
from recado.torture.programs import Surroundings

__all__ = ["Commit", "decode_map", "parse_commits", "read_commits"]

OFFSETS_TOPIC = "__consumer_offsets"
FORMATTER = "org.apache.kafka.tools.consumer.OffsetsMessageFormatter"

#: Silence after which the reader gives up, in milliseconds, and its longest time, in seconds.
SILENCE_MS = 30_000
READ_S = 600.0

_END = re.compile(r"[^:]+:(\d+):(\d+)\Z")


class Commit(NamedTuple):
    """One commit of one partition: the next offset to handle, what is done beyond it, and when (ms, wall clock)."""

    topic: str
    partition: int
    offset: int
    done: tuple[tuple[int, int], ...]
    at_ms: int


def read_commits(surroundings: Surroundings, group: str) -> list[Commit]:
    """Every commit of a group that the coordinator keeps, per partition in their order. Raises TortureBroken.

    Partition by partition, so that the reader needs no group: what a group of its own wrote into this very topic would
    take the place of the last commits.
    """
    arguments = ["--topic", OFFSETS_TOPIC, "--time", "latest"]
    ends = [found for line in surroundings.tool("get-offsets", arguments) if (found := _END.match(line))]
    written: list[str] = []
    for partition, end in ((found[1], found[2]) for found in ends if int(found[2])):
        arguments = ["--topic", OFFSETS_TOPIC, "--partition", partition, "--offset", "earliest"]
        arguments += ["--formatter", FORMATTER, "--max-messages", end, "--timeout-ms", str(SILENCE_MS)]
        surroundings.tool_lines("console-consumer", arguments, written.append, within_s=READ_S)
        if not any(f"Processed a total of {end} messages" in line for line in written[-8:]):
            raise TortureBroken(f"Not all {end} records of {OFFSETS_TOPIC}/{partition} were read")
    return list(parse_commits("".join(written), group))


def parse_commits(text: str, group: str) -> Iterator[Commit]:
    """Read what the formatter writes: JSON objects one after the other, with the tool's own words in between."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find('{"key"', at)) >= 0:
        try:
            entry, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise TortureBroken(f"A commit cannot be read: {text[at : at + 200]}") from error
        key, value = entry["key"].get("data") or {}, (entry.get("value") or {}).get("data")
        if key.get("group") == group and "topic" in key and value:
            done = decode_map(value["offset"], value["metadata"])
            yield Commit(key["topic"], key["partition"], value["offset"], done, value["commitTimestamp"])


def decode_map(base: int, metadata: str) -> tuple[tuple[int, int], ...]:
    """The offsets beyond ``base`` that are done, as (first, last)."""
    found = re.search(r"map=-?\d+,([rRbB]),([\w=-]*)", metadata)
    if found is None:
        return ()
    payload = base64.urlsafe_b64decode(found[2])
    if found[1].isupper():
        payload = zlib.decompress(payload, -15)
    lengths = _runs(payload) if found[1] in "rR" else _bits(payload)
    ranges, at, is_done = [], base, False
    for length in lengths:
        if is_done and length:
            ranges.append((at, at + length - 1))
        at, is_done = at + length, not is_done
    return tuple(ranges)


def _runs(payload: bytes) -> Iterable[int]:
    number = shift = 0
    for byte in payload:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0


def _bits(payload: bytes) -> Iterable[int]:
    run, last = 0, 0
    for byte in payload:
        for place in range(8):
            bit = byte >> place & 1
            if bit != last:
                yield run
                run, last = 0, bit
            run += 1
    if last:
        yield run
