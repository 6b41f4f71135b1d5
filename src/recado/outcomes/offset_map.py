"""The offset map: which offsets beyond a committed one are done, as text stored beside it (pure)."""

from __future__ import annotations

import base64
import binascii
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["MAP_CHARS", "DoneMap", "Encoded", "Ranges", "decode", "encode"]

#: Most characters of a map. Brokers take 4,096 bytes of metadata by default (``offset.metadata.max.bytes``), of which
#: the topic's id takes 29.
MAP_CHARS = 4_000

#: Begins a map, so that no other metadata is taken for one; a later layout gets another letter.
MARK = "map="

#: Offsets that a map may span; beyond that it is no map of ours.
MAX_SPAN = 1 << 32

#: What deflating may blow up to, in bytes: a bit for each of so many offsets is far more than a worker tracks.
MAX_RAW = 1 << 20

#: Smaller payloads are not worth deflating.
LEAST_DEFLATED = 32

#: Done offsets as (first, last), ascending, never touching.
Ranges = Sequence[tuple[int, int]]


class Encoded(NamedTuple):
    """A map as text (empty: nothing is done ahead), and how many of its ranges are in it."""

    text: str
    ranges: int


class DoneMap:
    """Offsets that were done before this stay began. ``leader_epoch`` is that of the newest record when it was told.

    A record that was written under a later epoch is another one than what stood at its offset then: the log was cut
    (KIP-320: https://cwiki.apache.org/confluence/display/KAFKA/KIP-320).
    """

    __slots__ = ("_firsts", "leader_epoch", "ranges", "top")

    def __init__(self, ranges: Ranges, leader_epoch: int) -> None:
        self.ranges = ranges
        self.leader_epoch = leader_epoch
        #: The highest done offset.
        self.top = ranges[-1][1]
        self._firsts = [first for first, _ in ranges]

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._firsts, offset) - 1
        return at >= 0 and offset <= self.ranges[at][1]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def open_from(self, base: int) -> Iterator[int]:
        """The offsets from ``base`` on that are not done below one that is, ascending."""
        for first, last in self.ranges:
            yield from range(base, first)
            base = last + 1

    def above(self, offset: int) -> list[tuple[int, int]]:
        """The ranges beyond an offset."""
        return [(max(first, offset + 1), last) for first, last in self.ranges if last > offset]


def encode(base: int, ranges: Ranges, leader_epoch: int, *, limit: int = MAP_CHARS) -> Encoded:
    """Tell in up to ``limit`` characters what is done beyond ``base``; where all does not fit, the lowest ranges.

    The smaller of run lengths and bits, deflated where that helps: ``map=EPOCH,KIND,BASE64``.
    """
    count = len(ranges)
    while count:
        text = _text(base, ranges[:count], leader_epoch)
        if len(text) <= limit:
            return Encoded(text, count)
        count = min(count - 1, int(count * limit / len(text)))
    return Encoded("", 0)


def decode(base: int, text: str) -> DoneMap | None:
    """What a map beside the committed offset ``base`` tells; None where there is none, or none that is sound."""
    if not text.startswith(MARK):
        return None
    try:
        epoch, kind, body = text[len(MARK) :].split(",")
        payload = base64.b64decode(body, altchars=b"-_", validate=True)
        if kind.isupper():
            inflating = zlib.decompressobj(-15)
            payload = inflating.decompress(payload, MAX_RAW)
            if not inflating.eof:
                return None
        steps = _runs_of(payload) if kind in "rR" else _bits_of(payload) if kind in "bB" else []
        ranges = list(_ranges(base, steps))
        return DoneMap(ranges, int(epoch)) if ranges else None
    except (ValueError, zlib.error, binascii.Error):
        return None


def _text(base: int, ranges: Ranges, leader_epoch: int) -> str:
    kind, payload = "r", _runs(base, ranges)
    span = ranges[-1][1] - base + 1
    if span // 8 < len(payload):
        kind, payload = "b", _bits(base, ranges)
    if len(payload) >= LEAST_DEFLATED:
        deflating = zlib.compressobj(6, zlib.DEFLATED, -15)
        deflated = deflating.compress(payload) + deflating.flush()
        if len(deflated) < len(payload):
            kind, payload = kind.upper(), deflated
    return f"{MARK}{leader_epoch},{kind},{base64.b64encode(payload, altchars=b'-_').decode()}"


def _runs(base: int, ranges: Ranges) -> bytes:
    """Lengths in turn: not done, done, not done, …, each in base 128, the high bit for more to come."""
    out, at = bytearray(), base
    for first, last in ranges:
        for length in (first - at, last - first + 1):
            rest = length
            while rest > 0x7F:
                out.append(rest & 0x7F | 0x80)
                rest >>= 7
            out.append(rest)
        at = last + 1
    return bytes(out)


def _runs_of(payload: bytes) -> Iterable[int]:
    value = shift = 0
    for byte in payload:
        value |= (byte & 0x7F) << shift
        shift += 7
        if value > MAX_SPAN or shift > 70:
            raise ValueError("not a length")
        if byte < 0x80:
            yield value
            value = shift = 0
    if shift:
        raise ValueError("cut off")


def _bits(base: int, ranges: Ranges) -> bytes:
    """A bit per offset from ``base`` on, lowest first."""
    digits, at = [], base
    for first, last in ranges:
        digits.append("0" * (first - at) + "1" * (last - first + 1))
        at = last + 1
    return int("".join(digits)[::-1], 2).to_bytes((at - base + 7) // 8, "little")


def _bits_of(payload: bytes) -> Iterable[int]:
    digits = f"{int.from_bytes(payload, 'little'):b}"[::-1]
    at, done = 0, "0"
    while at < len(digits):
        end = digits.find("1" if done == "0" else "0", at)
        end = len(digits) if end < 0 else end
        yield end - at
        at, done = end, "1" if done == "0" else "0"


def _ranges(base: int, lengths: Iterable[int]) -> Iterable[tuple[int, int]]:
    at, is_done = base, False
    for length in lengths:
        if is_done and length:
            yield at, at + length - 1
        at += length
        if at - base > MAX_SPAN:
            raise ValueError("too far")
        is_done = not is_done
