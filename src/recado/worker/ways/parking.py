"""Parking: keeps a failed key's order across the retry topic; other keys go on (``Backoff(keep_order=True)``).

The failed record goes straight into the retry topic, and its key's later records follow it there: so that partition
holds them in their order, whoever reads it next. A record of the topic itself is handed out only when the retry
partition was read to its end: until then nobody knows which keys are parked.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Sequence

import structlog

from recado.clock import wall_clock_ms
from recado.errors import RecadoError
from recado.kafka.abstract import Message, Topics
from recado.kafka.quiet import Seldom
from recado.outcomes.group_topics import retry_topic
from recado.outcomes.history import History, parked
from recado.record import TopicPartition
from recado.worker.handling.flow import Flow
from recado.worker.handling.holdings import Holdings
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import Returned
from recado.worker.ways.ahead import Ahead
from recado.worker.ways.exits import Exits
from recado.worker.ways.parked_home import Home
from recado.worker.ways.parked_line import Line, Place

__all__ = ["Parking"]

log = structlog.get_logger(__name__)

#: Rest before the next try where the retry topic cannot be made, in seconds.
AGAIN_S = 1.0

#: Rest between two looks at what is not read yet, in seconds: so much comes meanwhile.
LOOK_AGAIN_S = 0.01

#: How long nothing may move, in seconds, before a record goes out of turn: reading on begins when there is room.
STUCK_S = 2.0

#: Records, and the stay that they belong to.
Some = tuple[Epoch, list[Message]]


class Parking:
    """Decides which records of a handler that keeps order its lanes may have.

    Loop thread only, but ``is_waiting`` and ``moves``.
    """

    def __init__(
        self,
        *,
        holdings: Holdings,
        exits: Exits,
        flow: Flow,
        ahead: Ahead,
        topics: Callable[[], Topics],
        clock: Callable[[], float],
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._holdings = holdings
        self._exits = exits
        self._flow = flow
        self._ahead = ahead
        self._topics = topics
        self._clock = clock
        self._clock_ms = clock_ms
        self._ask_at = 0.0
        self._homes: dict[TopicPartition, Home] = {}
        self._seldom = Seldom()

    def is_waiting(self, epoch: Epoch) -> bool:
        """Whether something of a partition waits here for its turn or its time (any thread)."""
        home = self._homes.get(epoch.home)
        return home is not None and home.is_known and bool(home.lines)

    def moves(self, epoch: Epoch) -> int:
        """Changes while what is parked of a partition is being read (any thread)."""
        home = self._homes.get(epoch.home)
        return sum(back.tracker.last for back in list(home.back)) if home is not None else 0

    def admit(self, epoch: Epoch, messages: list[Message]) -> list[Message]:
        """Return what may be handed out now; the rest waits here, or goes to the retry topic."""
        if epoch.home != epoch.where:
            return self._take_back(epoch, messages)
        home = self._home_of(epoch)
        if not home.is_known:
            home.held += messages
            epoch.waits = True
            return []
        return self._divert(home, messages) if home.lines else messages

    def let_pass(self, epoch: Epoch, messages: list[Message]) -> list[Message]:
        """Return which of those that followed a record may still do so, now that it is parked."""
        return messages if epoch.home != epoch.where else self._divert(self._home_of(epoch), messages)

    def park(self, epoch: Epoch, message: Message, history: History) -> None:
        """Let a failed record wait in the retry topic, and its key's later ones behind it."""
        source, key = self._holdings.get(epoch.home), message.key()
        if source is not None and key is not None and (home := self._home_of(source)).comes_back:
            home.lines.setdefault(key, Line()).send(home.place(history))
        self._exits.park(epoch, message, parked(history))

    def keep_history(self, epoch: Epoch, message: Returned, history: History) -> None:
        """A parked record failed again: its attempts shall outlive this process."""
        source = self._holdings.get(epoch.home)
        if source is not None and not epoch.transactional:
            home = self._home_of(source)
            copies, first = home.copies, home.place(history)
            copies[first] = copies.get(first, 0) + 1
            self._exits.add_copy(epoch, message, history)

    def forget_done(self) -> None:
        """Let go of what is done by now; further copies of it are done with it."""
        for home in self._homes.values():
            home.forget_done()

    def due(self) -> tuple[list[Some], float]:
        """What may be handed out by now, and how many seconds until more may be (infinity: nothing waits for time)."""
        found: list[Some] = []
        wait_s = LOOK_AGAIN_S if self._foresee() else math.inf
        for where in list(self._homes):
            epoch = self._holdings.get(where)
            if epoch is None:
                del self._homes[where]
                continue
            home = self._home_of(epoch)
            home.forget_done()
            if not home.is_known and (known := self._is_known(home)):
                home.is_known, messages, home.held = known, home.held, []
                epoch.waits = False
                home.unread.clear()
                if not epoch.closed and (messages := self._divert(home, messages)):
                    found.append((epoch, messages))
            if home.is_known or self._is_foreseen(home):
                before, left_s = len(found), math.inf
                for line in home.lines.values():
                    left_s = min(left_s, self._release(line, found))
                if home.is_known or left_s < math.inf or len(found) > before:
                    home.stuck_at = math.inf
                else:
                    self._make_room(home, found)
                wait_s = min(wait_s, left_s)
        return found, wait_s

    def _is_foreseen(self, home: Home) -> bool:
        """Whether it cannot read on, and knows by their places what it has not read."""
        back = self._back_of(home)
        return any(self._flow.is_resting(epoch) for epoch in back) and self._ahead.look(back)

    def _foresee(self) -> bool:
        """Take in some of what is parked and not read yet; whether there is more."""
        for epoch, message in self._ahead.some():
            home, key = self._homes.get(epoch.home), message.key()
            if home is not None and not home.is_known and key is not None:
                home.foresee(key, home.place(message.history))
        return self._ahead.is_looking

    def _make_room(self, home: Home, found: list[Some]) -> None:
        """Let one go before an earlier one of its key, where all that there is room for waits for what there is not."""
        line = next((line for line in home.lines.values() if line.waiting), None)
        if line is None or any(line.out for line in home.lines.values()):
            home.stuck_at = math.inf
            return
        home.stuck_at = min(home.stuck_at, self._clock())
        if self._clock() - home.stuck_at > STUCK_S:
            home.stuck_at = math.inf
            where = {"topic": home.epoch.topic, "partition": home.epoch.partition}
            log.warning("no room for what is parked: one goes before an earlier one of its key", **where)
            line.sent.clear()
            self._release(line, found)

    def _back_of(self, home: Home) -> list[Epoch]:
        where = home.epoch.where
        return [epoch for epoch in self._holdings.epochs.values() if epoch.home == where != epoch.where]

    def _home_of(self, epoch: Epoch) -> Home:
        home = self._homes.get(epoch.where)
        if home is None or home.epoch.topic_id != epoch.topic_id:  # of another topic: what waits is read again
            home = self._homes[epoch.where] = Home(epoch)
        elif home.epoch is not epoch:  # it began again; what is parked stays so
            home.begin_again(epoch)
        return home

    def _is_known(self, home: Home) -> bool:
        topic, source = retry_topic(home.epoch.group, home.epoch.topic), home.epoch.where
        if self._clock() < self._ask_at:
            return False
        try:
            count = self._exits.partitions(topic, source.topic)
            sources = self._topics().partitions(source.topic)
        except RecadoError as error:
            if self._seldom.now(topic):
                log.warning("no handler runs: the retry topic cannot be made", topic=topic, error=str(error))
            self._ask_at = self._clock() + AGAIN_S
            return False
        if not count or not sources:
            return False
        back = [self._holdings.get(TopicPartition(topic, n)) for n in range(source.partition, count, sources)]
        home.comes_back = bool(back)
        return all(epoch is not None and epoch.tracker.end_was_reached for epoch in back)

    def _divert(self, home: Home, messages: Sequence[Message]) -> list[Message]:
        """Let those through whose key is not parked; the others go where it is."""
        through: list[Message] = []
        epoch = home.epoch
        for message in messages:
            key = message.key()
            line = home.lines.get(key) if key is not None else None
            if line is None:
                through.append(message)
                continue
            offset = message.offset()
            epoch.held_bytes -= len(message)
            if offset in line:  # it got there before a crash
                epoch.tracker.done([offset])
            else:
                line.send(offset)
                self._exits.park(epoch, message, parked(epoch.history_of(message)))
        return through

    def _take_back(self, epoch: Epoch, messages: list[Message]) -> list[Message]:
        source = self._holdings.get(epoch.home)
        if source is None:
            return messages
        home = self._home_of(source)
        home.back.add(epoch)
        return [
            message
            for message in messages
            if not isinstance(message, Returned) or self._may_pass(home, epoch, message, message.history)
        ]

    def _may_pass(self, home: Home, epoch: Epoch, message: Returned, history: History) -> bool:
        """Take a parked record in; whether its key's lane may have it at once."""
        key, first = message.key(), home.place(history)
        if not history.parked or key is None:
            return True
        line = home.line(key)
        place = line.places.get(first) if line is not None else None
        is_first = line is not None and line.is_sent(first)
        copies = 0 if is_first else home.copies.pop(first, 0)
        if copies > 1:
            home.copies[first] = copies - 1
        if place is None and not is_first and (copies or self._is_late(home, history)):
            epoch.tracker.done([message.offset()])
            epoch.held_bytes -= len(message)
            return False
        if line is None:
            line = home.lines[key] = Line()
        if place is not None:
            place.copies.append(message.offset())
            epoch.held_bytes -= len(message)
            if first in line.waiting and history.attempts > place.message.history.attempts:
                place.message.history = history
            return False
        line.places[first] = Place(epoch, message)
        line.has_come(first)
        if line.out and not line.waiting and not history.due_ms and not line.is_missing_before(first):
            line.out.append(first)
            return True
        insort(line.waiting, first)
        return False

    def _is_late(self, home: Home, history: History) -> bool:
        """Whether a record was parked by who did not know that it had lost the partition.

        All that was parked before is known. What was parked since, and not from here, does not count where this stay
        reads the record itself: it was, is or comes to hand in its key's order. Where an earlier stay has committed it,
        it may be its only copy, of which a new leader tells late.
        """
        first, epoch = home.place(history), home.epoch
        if not home.is_known or history.first_failure_ms:
            return False
        return first >= 0 and epoch.reads(first)

    def _release(self, line: Line, found: list[Some]) -> float:
        """Hand out of a line what is due; in the key's lane the others follow the first. Seconds until more is due."""
        while line.waiting:
            first = line.waiting[0]
            place = line.places[first]
            if line.is_missing_before(first):
                return math.inf
            left_ms = place.message.history.due_ms - self._clock_ms()
            if left_ms > 0:
                return left_ms / 1000
            line.waiting.pop(0)
            line.out.append(first)
            found.append((place.epoch, [place.message]))
        return math.inf
