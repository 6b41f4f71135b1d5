"""The out-tray: what handlers want sent, on its way from their threads to the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from recado.clock import wall_clock_ms
from recado.kafka.abstract import Message
from recado.record import Outgoing, Record, Sent
from recado.worker.handling.outputs import outgoing
from recado.worker.handling.run import Run
from recado.worker.partition.accepted import accepted_ms
from recado.worker.partition.epoch import Epoch

__all__ = ["Flight", "Outtray"]


class Flight:
    """The records that one call of a handler sends, and the offsets of those that it was given for."""

    __slots__ = (
        "accepted",
        "attempt",
        "counted",
        "epoch",
        "fingerprint",
        "is_delivered",
        "number",
        "offsets",
        "outcome",
        "records",
        "trimmed",
    )

    def __init__(self, epoch: Epoch, offsets: list[int], attempt: int, records: list[Outgoing]) -> None:
        self.epoch = epoch
        self.offsets = offsets
        self.attempt = attempt
        self.records = records
        #: The offsets that the loop has seen handled, and that wait for the delivery.
        self.counted: list[int] = []
        self.is_delivered = False
        #: Its place in the order in which parked records are sent.
        self.number = 0
        #: What the records of these offsets are when it is delivered; "copied": what they were.
        self.outcome = "done"
        #: When each of these offsets was accepted, in milliseconds since the epoch; empty where nobody will ask.
        self.accepted: list[int] = []
        #: Of a dead letter: what failed and where.
        self.fingerprint = ""
        #: Makes a smaller record to send instead, should this one be too large; None where there is none.
        self.trimmed: Callable[[], Outgoing] | None = None


class Outtray:
    """Flights that the loop has not taken yet. Any thread puts in, the loop takes out."""

    def __init__(self) -> None:
        self.flights: deque[Flight] = deque()
        #: Set by the loop while too much is on its way to Kafka: handlers that send wait.
        self.is_full = False

    def put(
        self, epoch: Epoch, messages: Sequence[Message], attempt: int, sent: list[Sent], back: list[Record]
    ) -> bool:
        """Put in what a call sends, and empty ``sent``; False where it sends nothing.

        Raises HandlerError for what can be sent nowhere. The caller tells the loop that the records are handled only
        afterwards, so the loop never sees them as done without what they send.
        """
        given, sent[:] = list(sent), []
        records = outgoing(epoch, messages, given, back)
        if records:
            flight = Flight(epoch, [message.offset() for message in messages], attempt, records)
            now_ms = wall_clock_ms()
            flight.accepted = [accepted_ms(message, now_ms) for message in messages]
            self.flights.append(flight)
        return bool(records)

    def must_wait(self, run: Run) -> bool:
        """Whether a thread that has sent shall wait a little before it goes on with its run."""
        return self.is_full and not run.halt and not run.epoch.closed
