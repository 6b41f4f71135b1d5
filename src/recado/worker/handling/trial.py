"""A trial: one call of a handler without Kafka, and what would come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from recado.kafka.abstract import Message
from recado.outcomes.decide import decide
from recado.outcomes.outcome import Done, Outcome
from recado.record import OUTBOX, Outgoing, Record, Sent, TopicPartition
from recado.worker.handling.handlers import Handler
from recado.worker.handling.outputs import outgoing, returned
from recado.worker.partition.epoch import Epoch

__all__ = ["try_once"]

#: The middle of the jitter: the nominal delay.
NO_JITTER = 0.5


class _GivenMessage:
    """A record in the shape of a consumed message (``abstract.Message``)."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __len__(self) -> int:
        return len(self._record.value or b"")

    def topic(self) -> str:
        return self._record.topic

    def partition(self) -> int:
        return self._record.partition

    def offset(self) -> int:
        return self._record.offset

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes | None:
        return self._record.value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self._record.headers)

    def leader_epoch(self) -> int | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return int(self._record.timestamp_ms >= 0), self._record.timestamp_ms


def try_once(
    handler: Handler,
    records: Sequence[Record],
    *,
    run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run,
) -> Outcome:
    """Decode the records as the handler asks, call it once, and decide as the worker would."""
    sent: list[Sent] = []
    reset = OUTBOX.set(sent)
    try:
        arguments = [_argument(handler, record) for record in records]
        result = handler.call(arguments if handler.batch else arguments[0])
        if handler.is_async:
            result = run_coroutine(result)
        return Done(_as_records(outgoing(_epoch(records[0]), _given(records), sent, returned(result))))
    except KeyboardInterrupt:
        raise  # the person at the keyboard means the test, not the handler
    except BaseException as error:
        return decide(error, attempt=records[0].attempt, policy=handler.policy, chance=NO_JITTER)
    finally:
        OUTBOX.reset(reset)


def _argument(handler: Handler, record: Record) -> Any:
    return handler.payload(_GivenMessage(record), _epoch(record), record.attempt)


def _epoch(record: Record) -> Epoch:
    return Epoch(TopicPartition(record.topic, record.partition), record.group)


def _given(records: Sequence[Record]) -> list[Message]:
    return [_GivenMessage(record) for record in records]


def _as_records(found: Sequence[Outgoing]) -> tuple[Record, ...]:
    """What would be sent, in the shape of records that have no place yet."""
    return tuple(
        Record(out.value, out.topic, timestamp_ms=out.timestamp_ms or -1, key=out.key, headers=tuple(out.headers))
        for out in found
    )
