"""The fate of records that were sent together, filled in by the producer's delivery reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

from recado.errors import DeliveryUnknown, RecadoError
from recado.record import Outgoing

__all__ = ["ACCEPTED", "Delivery", "Fate", "Position", "Summary"]

#: Where a delivered record lies: (partition, offset, timestamp in ms).
Position = tuple[int, int, int]

#: The fate of a record that is safe in the spool, and will be in Kafka.
ACCEPTED: Final = "accepted"

Fate = Position | RecadoError | Literal["accepted"]


_UNKNOWN = DeliveryUnknown()


class Delivery:
    """One request's records and what became of each, in their order.

    ``fates[i]`` is a ``Position`` once all in-sync replicas have record i, the error once it has failed for good, and
    None until then. ``on_complete`` is called once, with the last fate, on the reporting thread.
    Only the reporting thread writes; others may read at any time.
    """

    __slots__ = ("_on_complete", "fates", "outstanding", "records")

    def __init__(self, records: Sequence[Outgoing], on_complete: Callable[[Delivery], None]) -> None:
        self.records = records
        self.fates: list[Fate | None] = [None] * len(records)
        self.outstanding = len(records)
        self._on_complete = on_complete

    def settle(self, index: int, fate: Position | RecadoError) -> None:
        """Write down the fate of one record."""
        self.fates[index] = fate
        self.outstanding -= 1
        if not self.outstanding:
            self.complete()

    def unconfirmed(self) -> list[int]:
        """The records of which nobody knows yet, or can know, whether Kafka has them."""
        return [i for i, fate in enumerate(self.fates) if fate is None or isinstance(fate, DeliveryUnknown)]

    def complete(self) -> None:
        """Tell the owner that no fate is missing any more."""
        self._on_complete(self)


class Summary(Delivery):
    """A delivery that remembers only what failed: many records, one answer (``Prefer: return=minimal``)."""

    __slots__ = ("confirmed", "failures")

    def __init__(self, records: Sequence[Outgoing], on_complete: Callable[[Delivery], None]) -> None:
        super().__init__((), on_complete)
        self.records = records
        self.outstanding = len(records)
        self.failures: dict[int, RecadoError] = {}
        #: One byte for each record, 1 once Kafka has it.
        self.confirmed = bytearray(len(records))

    def settle(self, index: int, fate: Position | RecadoError) -> None:
        """Keep the fate of one record if it failed."""
        if isinstance(fate, RecadoError):
            self.failures[index] = fate
        else:
            self.confirmed[index] = 1
        self.outstanding -= 1
        if not self.outstanding:
            self.complete()

    def undelivered(self) -> list[int]:
        """The records that Kafka does not have, as far as is known now."""
        if not self.outstanding and not self.failures:
            return []
        return [index for index, confirmed in enumerate(self.confirmed) if not confirmed]

    def unconfirmed(self) -> list[int]:
        """The records of which nobody knows yet, or can know, whether Kafka has them."""
        failures = self.failures
        return [i for i in self.undelivered() if isinstance(failures.get(i, _UNKNOWN), DeliveryUnknown)]
