"""What became of a record that was sent under a key, and its form on disk (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from recado.kafka.delivery import ACCEPTED, Fate, Position
from recado.outcomes.delay import Delayed
from recado.record import Outgoing

__all__ = ["LAYOUT", "Kept", "decoded", "encoded", "kept_of"]

#: Layout of rows that tell delayed records from others; those of layout 1 do not.
LAYOUT = 2

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(list[list[int]]).decode


class Kept(NamedTuple):
    """One record's answer. Where it was delayed, ``fate`` is a position in a delay topic, which nobody is told."""

    fate: Position | Literal["accepted"]
    #: When it was first due, in milliseconds since the epoch; 0: it was not delayed; None: a row of layout 1.
    due_ms: int | None


def kept_of(record: Outgoing, fate: Fate | None) -> Kept:
    """What to remember of a record that was accepted."""
    return Kept(fate if isinstance(fate, tuple) else ACCEPTED, record.due_ms if isinstance(record, Delayed) else 0)


def encoded(kept: Sequence[Kept]) -> bytes:
    """Integers for each record: its position if it has one, then its due moment if it was delayed."""
    return _encode(
        [[*(one.fate if isinstance(one.fate, tuple) else ()), *([one.due_ms] if one.due_ms else [])] for one in kept]
    )


def decoded(body: bytes, layout: int, count: int) -> list[Kept]:
    """Read what ``encoded`` wrote for ``count`` records. Of bytes that are damaged only one thing is sure: accepted."""
    try:
        found = [_kept(numbers, layout) for numbers in _decode(body)]
    except msgspec.MsgspecError:
        found = []
    return found if len(found) == count else [Kept(ACCEPTED, None)] * count


def _kept(numbers: list[int], layout: int) -> Kept:
    fate: Position | Literal["accepted"] = (numbers[0], numbers[1], numbers[2]) if len(numbers) > 2 else ACCEPTED
    if layout < LAYOUT:
        return Kept(fate, None)
    return Kept(fate, numbers[-1] if len(numbers) in (1, 4) else 0)
