"""The audit: holds what this worker believes against what Kafka says, on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import structlog

from recado.errors import RecadoError
from recado.kafka.abstract import Consumer, Coordinator
from recado.outcomes.group_topics import is_group_topic
from recado.record import TopicPartition
from recado.telemetry.metrics import WORKER_RECORDS
from recado.worker.handling.delays import Delays
from recado.worker.handling.holdings import Holdings
from recado.worker.handling.pause import Pause
from recado.worker.handling.runner import Runner
from recado.worker.partition.epoch import Epoch
from recado.worker.reporting.health import Reason
from recado.worker.ways.parking import Parking

__all__ = ["Audit"]

log = structlog.get_logger(__name__)

#: Rest between two looks, in seconds: each costs the coordinator and each leader a request.
LOOK_EVERY_S = 5.0

#: A difference that lasts shorter is a rebalance under way, in seconds.
GRACE_S = 15.0

#: A partition that has records, and of which nothing moves for so long, in seconds, stands still.
STALLED_S = 60.0


class _Trouble(NamedTuple):
    """One difference, by its stable code; the partition is None where it is about the member."""

    code: str
    where: TopicPartition | None
    detail: str
    #: How long it must last before it is told, in seconds.
    grace_s: float


class Audit:
    """``reasons`` may be asked from any thread."""

    def __init__(
        self,
        *,
        coordinator: Coordinator,
        consumer: Consumer,
        holdings: Holdings,
        delays: Delays,
        pauses: Mapping[Runner, Pause],
        parking: Parking,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._coordinator = coordinator
        self._consumer = consumer
        self._holdings = holdings
        self._delays = delays
        self._pauses = pauses
        self._parking = parking
        self._clock = clock
        self._since: dict[tuple[str, TopicPartition | None], float] = {}
        self._moved: dict[TopicPartition, tuple[tuple[object, ...], float]] = {}
        self._reasons: list[Reason] = []
        self._ends: dict[TopicPartition, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recado-audit", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a question under way is left alone."""
        self._stopping.set()

    def reasons(self) -> list[Reason]:
        """What has differed for longer than it may; empty where all is well, or Kafka did not answer."""
        return self._reasons

    def ends(self) -> dict[TopicPartition, int]:
        """Up to where (exclusive) each held partition could be read at the last look that Kafka answered."""
        return self._ends

    def look(self) -> None:
        """Compare once. Raises RecadoError where Kafka does not answer."""
        member = self._consumer.member_id
        held = {epoch.where: epoch for epoch in self._holdings.snapshot()}
        owned = self._coordinator.owned(member) if member else set()
        ends = self._ends = self._coordinator.ends(sorted(held)) if held else {}
        self._say_deleted(held)
        now = self._clock()
        found = list(self._differences(held, owned)) if member else []
        found += self._stalled(held, ends, now)
        self._since = {(one.code, one.where): self._since.get((one.code, one.where), now) for one in found}
        lasting = [one for one in found if now - self._since[one.code, one.where] >= one.grace_s]
        told = {(reason["code"], reason.get("topic"), reason.get("partition")) for reason in self._reasons}
        self._reasons = [_reason(one) for one in lasting]
        for reason in self._reasons:
            if (reason["code"], reason.get("topic"), reason.get("partition")) not in told:
                log.error("not as Kafka says", **reason)

    def _say_deleted(self, held: dict[TopicPartition, Epoch]) -> None:
        """Tell of records that Kafka had deleted (retention) before they were read: no offset tells of them later."""
        gaps = {where: found for where, epoch in held.items() if epoch.home == where and (found := epoch.gaps.take())}
        begins = self._coordinator.begins(sorted(gaps)) if gaps else {}
        for where, found in gaps.items():
            for first, end in found:
                if end <= begins.get(where, 0):
                    WORKER_RECORDS.labels(where.topic, "expired").inc(end - first)
                    log.error(
                        "records were deleted before they were read",
                        topic=where.topic,
                        partition=where.partition,
                        first=first,
                        last=end - 1,
                        remedy="the topic's retention is shorter than the worker is behind: lengthen it",
                    )

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self.look()
            except RecadoError as error:  # the loop's own client says so, too
                log.debug("audit got no answer", error=str(error))
                self._since, self._moved, self._reasons = {}, {}, []
        self._coordinator.close()

    def _differences(self, held: dict[TopicPartition, Epoch], owned: set[TopicPartition] | None) -> Iterator[_Trouble]:
        if owned is None:
            detail = "The coordinator does not know this member: it has lost its partitions without hearing of it."
            yield _Trouble("unknown-member", None, detail, GRACE_S)
            return
        for where in sorted(where for where, epoch in held.items() if epoch.home not in owned):
            detail = (
                f"{where.topic}/{where.partition} is handled here, but the coordinator has given it to no one here."
            )
            yield _Trouble("not-owned", where, detail, GRACE_S)
        for where in sorted(where for where in owned - held.keys() if not is_group_topic(where.topic)):
            detail = f"{where.topic}/{where.partition} is this member's by the coordinator, but it is not read here."
            yield _Trouble("not-taken", where, detail, GRACE_S)

    def _stalled(
        self, held: dict[TopicPartition, Epoch], ends: dict[TopicPartition, int], now: float
    ) -> Iterator[_Trouble]:
        moved: dict[TopicPartition, tuple[tuple[object, ...], float]] = {}
        for where, epoch in held.items():
            tracker = epoch.tracker
            state = (epoch, tracker.position(), tracker.last, tracker.pending, self._parking.moves(epoch))
            before, since = self._moved.get(where, (state, now))
            moved[where] = (state, since if before == state else now)
            position, end = tracker.position() or 0, ends.get(where, 0)
            batch = self._holdings.runner(epoch.topic).handler.batch
            if end <= position or epoch.closed or not self._is_idle(epoch):
                moved[where] = (state, now)
            elif now - moved[where][1] >= STALLED_S + (batch[1] if batch else 0):
                place = f"{where.topic}/{where.partition}"
                detail = f"{place} stands still at offset {position} of {end}: nothing is read or handled."
                yield _Trouble("stalled", where, detail, 0.0)
        self._moved = moved

    def _is_idle(self, epoch: Epoch) -> bool:
        """Whether nobody is at work on it, or waits for anything that could explain why it does not move."""
        if len(self._delays) or epoch.claims or self._parking.is_waiting(epoch):
            return False
        runner = self._holdings.runner(epoch.topic)
        pauses = runner in self._pauses and self._pauses[runner].reason
        return not pauses and not runner.executing()


def _reason(trouble: _Trouble) -> Reason:
    reason: Reason = {"code": trouble.code, "detail": trouble.detail}
    if trouble.where is not None:
        reason["topic"], reason["partition"] = trouble.where
    return reason
