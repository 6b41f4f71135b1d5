"""A worker whose handlers are slow, fail and come back: what `recado torture worker` runs where no other is named."""

from __future__ import annotations

import asyncio
import time

from recado.outcomes import Backoff, Retry
from recado.record import Record
from recado.worker import Worker

__all__ = ["worker"]

worker = Worker()

#: Attempts follow soon: a run of minutes should see many.
OFTEN = Backoff(first_s=0.1, factor=2, cap_s=1, attempts=6)
IN_ORDER = Backoff(first_s=0.1, factor=2, cap_s=1, attempts=6, keep_order=True)


def pause_s(record: Record) -> float:
    """Most records take milliseconds, some a quarter of a second, a few two."""
    turn = record.offset * 7 + record.partition
    return 2.0 if turn % 211 == 0 else 0.25 if turn % 23 == 0 else 0.002


def fail_now_and_then(record: Record) -> None:
    """Some records fail once or twice, one in a thousand for ever; some want to come back by a retry topic."""
    turn = record.offset * 13 + record.partition
    if turn % 131 == 0 and record.attempt == 1:
        raise Retry(delay_s=2.5)
    if turn % 1009 == 0 or (turn % 29 == 0 and record.attempt < 3):
        raise ConnectionError("a handler in trouble")


@worker.handler("torture", concurrency=16, retry=OFTEN)
def handle(record: Record) -> None:
    """In threads."""
    time.sleep(pause_s(record))
    fail_now_and_then(record)


@worker.handler("torture-async", concurrency=32, retry=IN_ORDER)
async def handle_async(record: Record) -> None:
    """In tasks; a key waits for its failed record."""
    await asyncio.sleep(pause_s(record))
    fail_now_and_then(record)
