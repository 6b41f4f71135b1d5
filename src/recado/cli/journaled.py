"""Handlers whose calls are written down: around the user's own, so that a torture can judge what they were given."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from recado.kafka.abstract import Message
from recado.torture.worker import Journal, Place
from recado.worker.handling.handlers import Handler
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import Returned, origin_of

__all__ = ["journaled"]


class _Carried(NamedTuple):
    """What a handler is given, on its way through the worker, with where it comes from."""

    argument: Any
    place: Place


def journaled(handler: Handler, journal: Journal) -> Handler:
    """The same handler, with a line in the journal at the beginning and at the end of each of its calls."""

    def carry(message: Message, epoch: Epoch, attempt: int) -> _Carried:
        key = message.key()
        shown = key.hex() or "00" if key is not None else "-"
        origin = origin_of(message)
        place = Place(origin.topic, origin.partition, origin.offset, shown, _attempt(message, attempt))
        return _Carried(handler.payload(message, epoch, attempt), place)

    def call(given: Any) -> Any:
        names = journal.began(_places(given))
        try:
            result = handler.call(_argument(given))
        except BaseException:
            journal.ended(names, ok=False)
            raise
        journal.ended(names, ok=True)
        return result

    async def call_async(given: Any) -> Any:
        names = journal.began(_places(given))
        try:
            result = await handler.call(_argument(given))
        except BaseException:
            journal.ended(names, ok=False)
            raise
        journal.ended(names, ok=True)
        return result

    return dataclasses.replace(handler, payload=carry, call=call_async if handler.is_async else call)


def _attempt(message: Message, attempt: int) -> int:
    return attempt + message.history.attempts if isinstance(message, Returned) else attempt


def _places(given: Any) -> list[Place]:
    return [one.place for one in given] if isinstance(given, list) else [given.place]


def _argument(given: Any) -> Any:
    return [one.argument for one in given] if isinstance(given, list) else given.argument
