"""Flow: how much may be in memory at once, and which partitions rest until there is room again."""

from __future__ import annotations

from collections.abc import Callable

from recado.kafka.abstract import Consumer
from recado.outcomes.offset_map import MAP_CHARS
from recado.outcomes.pauses import Pauses
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.runner import Runner
from recado.worker.partition.epoch import Epoch

__all__ = ["Flow"]

#: Records handed over and not done, all handlers together: two of the largest reads, so that threads never starve.
MAX_RECORDS = 20_000

#: The same in bytes of values. One read may exceed it by what librdkafka fetched ahead (16 MB, see kafka/config.py).
MAX_BYTES = 32_000_000

#: Records done ahead of one that is not: each costs about 100 bytes to remember, and a crash repeats it.
MAX_AHEAD = 100_000

#: The same where only transactions commit: whatever is done ahead must fit into the map, which holds 23,000 bits, and
#: a read may still come on top.
MAX_AHEAD_TRANSACTIONAL = 12_000

#: An offset map that is so full lets its partition rest: what is in hand already may still fill its holes.
MAP_FULL = 0.75

#: Largest read: long enough to share what a read costs, short enough that settling is never far.
MAX_READ = 4_000

#: Reading only begins when so much of the room is free, or reads would be small and many.
LEAST_ROOM = 1 / 8

#: How long a handler may be without room before its partitions rest: pausing throws away what was fetched ahead.
PATIENCE_S = 1.0

#: The same while other handlers wait for the reads, too.
IMPATIENCE_S = 0.1

#: A read while everything rests: only what slips in with a rebalance.
RESTING_READ = 100


class Flow:
    """Keeps the worker within its budgets. A full one first waits, then pauses, and goes on below half of it."""

    def __init__(self, *, consumer: Consumer, holdings: Holdings, clock: Callable[[], float]) -> None:
        self._pauses = Pauses(consumer)
        self._holdings = holdings
        self._clock = clock
        handlers = max(1, len(holdings.runners))
        self._max_records = MAX_RECORDS // handlers
        self._max_bytes = MAX_BYTES // handlers
        self._patience_s = PATIENCE_S if handlers == 1 else IMPATIENCE_S
        #: Since when a handler or a partition has been over its budget.
        self._full_since: dict[Runner | Epoch, float] = {}
        self._resting: set[Runner | Epoch] = set()

    def room(self) -> int:
        """How many records may be read now; 0 while it is worth waiting a little for room."""
        awake = [runner for runner in self._holdings.runners if runner not in self._resting]
        if not awake:
            return RESTING_READ
        records = dict.fromkeys(awake, 0)
        full = False
        for runner, (held, held_bytes) in self._held().items():
            if runner in records:
                records[runner] = held
                full = full or held_bytes >= self._max_bytes
        room = self._max_records - max(records.values())
        return 0 if full or room < self._max_records * LEAST_ROOM else min(room, MAX_READ)

    def adjust(self) -> None:
        """Pause what has been over its budget for too long, resume what has come down to half of it."""
        now = self._clock()
        held = self._held()
        for runner, (records, size) in held.items():
            self._judge(runner, max(records / self._max_records + LEAST_ROOM, size / self._max_bytes), now)
        several = len(self._holdings.epochs) > 1
        for epoch in self._holdings.epochs.values():
            crowd = 2 * epoch.held_records / self._max_records if several else 0.0
            map_load = epoch.tracker.map_chars / (MAP_FULL * MAP_CHARS)
            most = MAX_AHEAD_TRANSACTIONAL if epoch.transactional else MAX_AHEAD
            self._judge(epoch, max(crowd, epoch.tracker.span / most, map_load), now)
        self._pause_and_resume()

    def is_resting(self, epoch: Epoch) -> bool:
        """Whether a partition rests, by itself or with its handler (any thread)."""
        return epoch in self._resting or self._holdings.runner(epoch.topic) in self._resting

    def forget(self, epochs: list[Epoch]) -> None:
        """These are no longer ours."""
        for epoch in epochs:
            self._pauses.forget(epoch.where)
            self._full_since.pop(epoch, None)
            self._resting.discard(epoch)

    def pause_all(self) -> None:
        """Read nothing more (at shutdown)."""
        self._pauses.add(self._holdings.epochs)

    def _held(self) -> dict[Runner, tuple[int, int]]:
        held: dict[Runner, tuple[int, int]] = dict.fromkeys(self._holdings.runners, (0, 0))
        for epoch in self._holdings.epochs.values():
            if not epoch.closed and not epoch.waits:
                runner = self._holdings.runner(epoch.topic)
                records, size = held[runner]
                held[runner] = records + epoch.tracker.pending, size + epoch.held_bytes
        return held

    def _judge(self, what: Runner | Epoch, load: float, now: float) -> None:
        """``load`` 1 is the budget; resting ends below a half."""
        if load >= 1:
            since = self._full_since.setdefault(what, now)
            if now - since >= self._patience_s:
                self._resting.add(what)
        else:
            self._full_since.pop(what, None)
            if load < 0.5:
                self._resting.discard(what)

    def _pause_and_resume(self) -> None:
        wanted = {
            epoch.where
            for epoch in self._holdings.epochs.values()
            if epoch.stop
            or epoch.waits
            or epoch in self._resting
            or self._holdings.runner(epoch.topic) in self._resting
        }
        self._pauses.only(wanted)
