"""Transactions: what handlers sent and the offsets of what they were given go into Kafka together, or not at all."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from recado.errors import RecadoError
from recado.kafka.abstract import Committed, Consumer, Enlisted, Transacted, Transactor
from recado.kafka.quiet import Seldom
from recado.outcomes.offset_commits import how_far
from recado.record import Outgoing, TopicPartition
from recado.telemetry.metrics import WORKER_TRANSACTIONS
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.outtray import Flight
from recado.worker.partition.epoch import Epoch

__all__ = ["Settled", "Transactions"]

log = structlog.get_logger(__name__)

#: From the end of one transaction to the beginning of the next, in seconds: each costs the brokers some writes, and
#: readers see what was sent only at its end.
TRANSACT_EVERY_S = 0.1

#: Rest after one that was aborted, in seconds.
AGAIN_S = 0.5

#: How long the end of a stay may wait for its last transaction, in seconds.
LAST_S = 5.0


#: Before it has ended.
_NOTHING = Transacted(False)


class Settled(NamedTuple):
    """A flight that is in Kafka, or never will be: then the error says why, and ``topic`` where it was to go."""

    flight: Flight
    topic: str = ""
    error: RecadoError | None = None


@dataclass(slots=True)
class _Transaction:
    """One on its way: exactly the flights of the offsets that it commits."""

    flights: list[Flight]
    records: list[Outgoing]
    #: Of each record, the flight that it belongs to.
    owners: list[Flight]
    offsets: dict[TopicPartition, tuple[Epoch, Committed]]
    enlisted: Enlisted
    ended: threading.Event = field(default_factory=threading.Event)
    result: Transacted = field(default=_NOTHING)


class Transactions:
    """Commits the partitions of ``exactly_once`` handlers. Loop thread only; one thread of its own talks to Kafka.

    A flight enters a transaction when the loop has counted the records that it comes of, and stays until one with it
    is committed: what was aborted is sent again, and no handler runs again for it.
    """

    def __init__(
        self,
        *,
        consumer: Consumer,
        holdings: Holdings,
        transactor: Callable[[], Transactor],
        clock: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._holdings = holdings
        self._connect = transactor
        self._clock = clock
        self._flights: list[Flight] = []
        self._under_way: _Transaction | None = None
        self._settled: list[Settled] = []
        self._begin_at = 0.0
        self._queue: queue.SimpleQueue[_Transaction | None] = queue.SimpleQueue()
        self._transactor: Transactor | None = None
        self._seldom = Seldom()

    def add(self, flight: Flight) -> None:
        """Take over a flight; ``settle`` tells what came of it."""
        self._flights.append(flight)

    def settle(self) -> list[Settled]:
        """End the transaction that has ended, begin the next when it is time."""
        if self._under_way is not None and self._under_way.ended.is_set():
            self._end(self._under_way)
        if self._under_way is None and self._clock() >= self._begin_at:
            self._begin(self._holdings.epochs.values())
        settled, self._settled = self._settled, []
        return settled

    def commit_rest(self, epochs: Collection[Epoch]) -> bool:
        """Commit all that is done of these, and wait for it; False where it did not come to that in time."""
        deadline = self._clock() + LAST_S
        while True:
            if self._under_way is None:
                self._begin(epochs)
            transaction = self._under_way
            if transaction is None:
                return True
            if not transaction.ended.wait(max(0.0, deadline - self._clock())):
                return False
            self._end(transaction)
            if not transaction.result.committed and self._clock() > deadline - LAST_S / 2:
                return False

    def close(self) -> None:
        """Begin no more; what is open is aborted."""
        self._queue.put(None)
        if self._transactor is not None:
            self._transactor.close()

    def _begin(self, epochs: Iterable[Epoch]) -> None:
        self._drop_fenced()
        mine = [epoch for epoch in epochs if epoch.transactional and not epoch.fenced]
        ready = defaultdict(list)
        for flight in self._flights:
            if len(flight.counted) == len(flight.offsets):
                ready[flight.epoch].append(flight)
        entering: set[Flight] = set()
        offsets: dict[TopicPartition, tuple[Epoch, Committed]] = {}
        for epoch in mine:
            flights, now_at = _fitting(epoch, ready[epoch])
            entering.update(flights)
            if now_at is not None and now_at != epoch.committed:
                offsets[epoch.where] = (epoch, now_at)
        if not offsets:
            return
        flights = [flight for flight in self._flights if flight in entering]  # in the order in which they were handled
        self._under_way = _Transaction(
            flights,
            [record for flight in flights for record in flight.records],
            [flight for flight in flights for _ in flight.records],
            offsets,
            self._consumer.enlist({where: committed for where, (_, committed) in offsets.items()}),
        )
        if self._transactor is None:
            self._transactor = self._connect()
            threading.Thread(
                target=self._serve, args=(self._transactor,), name="recado-transactions", daemon=True
            ).start()
        self._queue.put(self._under_way)

    def _end(self, transaction: _Transaction) -> None:
        self._under_way = None
        result = transaction.result
        self._begin_at = self._clock() + (TRANSACT_EVERY_S if result.committed else AGAIN_S)
        WORKER_TRANSACTIONS.labels("committed" if result.committed else "aborted").inc()
        if result.committed:
            for epoch, committed in transaction.offsets.values():
                epoch.requested = epoch.committed = committed
            self._leave([Settled(flight) for flight in transaction.flights])
            return
        refused = {}
        for index, error in result.refused.items():
            refused[transaction.owners[index]] = Settled(
                transaction.owners[index], transaction.records[index].topic, error
            )
        self._leave(list(refused.values()))
        if not refused and self._seldom.now(result.why):
            log.warning("transaction aborted, it is tried again", why=result.why, again_s=AGAIN_S)

    def _drop_fenced(self) -> None:
        """The next owner of their partitions handles these records, and sends."""
        self._leave([Settled(flight) for flight in self._flights if flight.epoch.fenced])

    def _leave(self, settled: list[Settled]) -> None:
        if settled:
            gone = {one.flight for one in settled}
            self._flights = [flight for flight in self._flights if flight not in gone]
            self._settled += settled

    def _serve(self, transactor: Transactor) -> None:
        while (transaction := self._queue.get()) is not None:
            try:
                transaction.result = transactor.transact(transaction.records, transaction.enlisted)
            finally:
                transaction.ended.set()


def _fitting(epoch: Epoch, flights: list[Flight]) -> tuple[list[Flight], Committed | None]:
    """The flights that may enter, and what is to be committed with them: what no map has room for stays outside."""
    if not flights:
        return [], how_far(epoch)
    tracker = epoch.tracker.with_done([offset for flight in flights for offset in flight.offsets])
    position = tracker.position()
    assert position is not None, "something was delivered"
    committed = Committed(position, tracker.map_text(position))
    if not tracker.left_out:
        return flights, committed
    top = max(tracker.map_top, position - 1)
    return _fitting(epoch, [flight for flight in flights if max(flight.offsets) <= top])
