"""How far behind a worker says it is, and how long its records took."""

from __future__ import annotations

import math
import uuid

import pytest
from prometheus_client import REGISTRY

from recado.kafka.abstract import Committed
from recado.kafka.memory import MemoryMessage
from recado.outcomes.history import History
from recado.record import HEADER_ID, Outgoing, TopicPartition
from recado.worker.handling.holdings import Holdings
from recado.worker.partition import done_times
from recado.worker.partition.accepted import accepted_ms, came_ms
from recado.worker.partition.done_times import DoneTimes, note_done
from recado.worker.partition.epoch import Epoch
from recado.worker.partition.returned import Returned
from recado.worker.partition.stamps import MOST, STRIDE, Stamps
from recado.worker.reporting.progress import Progress

ONE = TopicPartition("orders", 0)

#: A moment, in milliseconds since the epoch.
NOW = 1_800_000_000_000


def message(offset: int = 0, *, at_ms: int = NOW, id_ms: int | None = None, id_: bytes = b"") -> MemoryMessage:
    if id_ms is not None:
        id_ = str(uuid.UUID(int=(id_ms << 80) | (7 << 76) | (2 << 62) | 5)).encode()
    headers = [(HEADER_ID, id_)] if id_ else []
    return MemoryMessage(Outgoing("orders", b"x", "", None, headers, timestamp_ms=at_ms), 0, offset)


class Scene:
    """One partition that holds ``end`` records, one a second, the last of them now."""

    def __init__(self, end: int) -> None:
        self.now, self.end = 1000.0, end
        self.holdings = Holdings(group="group", runners=[], find=lambda topic: None, guards={}, homes={}, topic_id=str)
        self.epoch = self.holdings.open(ONE, Committed(0))
        self.progress = Progress(
            holdings=self.holdings,
            ends=lambda: {ONE: self.end},
            clock=lambda: self.now,
            clock_ms=lambda: NOW + round((self.now - 1000) * 1000),
        )

    def deliver(self, first: int, last: int) -> None:
        messages = [message(offset, at_ms=NOW - 1000 * (self.end - 1 - offset)) for offset in range(first, last + 1)]
        self.epoch.tracker.deliver([one.offset() for one in messages])
        self.epoch.stamps.note(messages, NOW)

    def done(self, *offsets: int) -> None:
        self.epoch.tracker.done(list(offsets))

    def after(self, seconds: float) -> tuple[int, float, float]:
        self.now += seconds
        self.progress.look()
        ((_, *behind),) = self.progress.behind()
        return tuple(behind)


def test_what_is_not_done_is_the_lag_whether_it_was_read_or_not():
    scene = Scene(end=100)
    scene.deliver(0, 9)
    assert scene.after(0) == (100, 99.0, 99.0)
    scene.done(*range(10))
    records, oldest_s, _ = scene.after(2)
    assert records == 90
    assert oldest_s == 0.0  # nobody here knows how old the next is; from now on it waits
    assert scene.after(5) == (90, 5.0, 5.0)


def test_what_was_not_read_waits_since_its_turn_came():
    scene = Scene(end=100)
    scene.deliver(0, 9)
    scene.done(*range(10))
    scene.after(1)
    assert scene.after(30) == (90, 30.0, 30.0)
    scene.deliver(10, 19)
    scene.done(*range(10, 20))
    scene.after(1)
    assert scene.after(4) == (80, 4.0, 4.0)


def test_all_done_is_no_lag():
    scene = Scene(end=10)
    scene.deliver(0, 9)
    scene.done(*range(10))
    assert scene.after(50) == (0, 0.0, 0.0)
    assert scene.progress.to_done() == {"orders": 0.0}


def test_one_stuck_record_is_old_but_the_partition_is_not_behind():
    scene = Scene(end=100)
    scene.deliver(0, 20)  # reads as a worker makes them, so that each read leaves a stamp
    for first in range(21, 100, 20):
        scene.deliver(first, min(first + 19, 99))
    scene.done(*range(3), *range(4, 98))
    assert scene.after(0) == (3, 96.0, 2.0)


def test_the_rest_takes_as_long_as_the_present_pace_says():
    scene = Scene(end=1000)
    scene.deliver(0, 999)
    scene.after(0)
    assert scene.progress.to_done() == {}  # too early to tell
    for second in range(10):
        scene.done(*range(10 * second, 10 * second + 10))
        scene.after(1)
    assert scene.progress.to_done() == {"orders": pytest.approx(90.0)}
    for _ in range(100):
        scene.after(1)
    assert scene.progress.to_done() == {"orders": math.inf}


def test_a_partition_that_goes_away_is_told_no_more():
    scene = Scene(end=10)
    scene.deliver(0, 9)
    scene.after(0)
    scene.holdings.fence([scene.epoch])
    scene.now += 1
    scene.progress.look()
    assert list(scene.progress.behind()) == []
    assert scene.progress.to_done() == {}


def test_of_many_records_some_are_remembered_and_never_too_many():
    stamps = Stamps()
    for first in range(0, 1_000_000, 100):
        stamps.note([message(offset, at_ms=NOW + offset) for offset in (first, first + 50)], NOW)
    assert len(stamps._offsets) <= MOST + STRIDE
    assert stamps.at(0) == NOW
    assert 0 <= NOW + 999_950 - stamps.at(999_999) < 2000
    stamps.forget_before(999_000)
    assert len(stamps._offsets) < 100
    assert NOW + 990_000 < stamps.at(999_000) <= NOW + 999_000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (message(at_ms=NOW - 500), NOW - 500),
        (message(at_ms=NOW - 86_400_000, id_ms=NOW - 700), NOW - 700),  # its sender chose an old timestamp
        (message(at_ms=NOW + 3_600_000, id_ms=NOW - 700), NOW - 700),
        (message(at_ms=NOW - 500, id_ms=NOW - 3_600_000), NOW - 500),  # it was delayed and has landed since
        (message(at_ms=NOW - 500, id_ms=NOW + 1_000_000), NOW - 500),  # a clock that is ahead
        (message(at_ms=NOW - 500, id_=b"order-17"), NOW - 500),
        (message(at_ms=NOW - 500, id_=b"z1234567-1234-7234-8234-123456789abc"), NOW - 500),
    ],
)
def test_a_record_was_accepted_when_its_id_or_its_timestamp_says(given, expected):
    assert accepted_ms(given, NOW) == expected


def test_a_retry_was_accepted_when_the_record_came_first_but_waits_only_since_it_landed():
    history = History("group", "orders", 0, 5, NOW - 60_000)
    back = Returned(message(at_ms=NOW - 100), history)
    assert accepted_ms(back, NOW) == NOW - 60_000
    assert came_ms(back, NOW) == NOW - 100


def buckets(topic: str) -> dict[float, float]:
    return {
        bound: REGISTRY.get_sample_value("recado_worker_done_seconds_bucket", {"topic": topic, "le": str(bound)}) or 0.0
        for bound in (0.1, 1.0, 10.0, 60.0, 3600.0)
    }


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch) -> Epoch:
    """A hundred records, one a second, the last of them now."""
    monkeypatch.setattr(done_times, "wall_clock_ms", lambda: NOW)
    epoch = Epoch(TopicPartition(f"counted-{uuid.uuid4().hex}", 0), "group")
    for first in (0, 50):
        epoch.stamps.note(
            [message(offset, at_ms=NOW - 1000 * (99 - offset)) for offset in range(first, first + 50)], NOW
        )
    return epoch


def test_each_record_of_a_run_counts_in_its_bucket(stay):
    done = DoneTimes()
    done.add(stay, 0, 99, 100)
    done.tell()
    assert buckets(stay.topic) == {0.1: 1, 1.0: 2, 10.0: 11, 60.0: 61, 3600.0: 100}
    done.tell()
    assert buckets(stay.topic)[3600.0] == 100


def test_an_old_record_among_new_ones_keeps_its_age(stay):
    done = DoneTimes()
    for offset in range(95, 99):
        done.add(stay, offset, offset, 1)
    done.add(stay, 3, 3, 1)  # it was tried again
    done.add(stay, 95, 98, 1000)
    done.tell()
    assert buckets(stay.topic) == {0.1: 0, 1.0: 251, 10.0: 1004, 60.0: 1004, 3600.0: 1005}


def test_a_retry_counts_from_its_first_acceptance_and_a_clock_that_is_ahead_makes_no_negative_time(stay):
    note_done(stay.topic, [NOW - 10_000, NOW + 5_000, -1])
    assert buckets(stay.topic) == {0.1: 1, 1.0: 1, 10.0: 2, 60.0: 2, 3600.0: 2}
