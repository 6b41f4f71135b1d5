"""The delay line on the in-memory twin, by an injected clock: what lands when, and what is committed."""

from __future__ import annotations

import json

import pytest

from recado.errors import DeliveryUnknown, RecadoError
from recado.kafka.delivery import Delivery
from recado.kafka.memory import MemoryKafka
from recado.outcomes import delay_hold
from recado.outcomes.delay import GROUP, HEADER_DELAY, LEVELS, delay, is_delay_topic
from recado.outcomes.delay_line import DelayLine
from recado.outcomes.delay_topics import CONFIG, DelayTopics
from recado.outcomes.group_topics import EXTRA_BYTES
from recado.record import Outgoing, TopicPartition

START_MS = 1_700_000_000_000


class Bench:
    """A twin with a clock, and lines that are turned by hand."""

    def __init__(self, *, partitions: int = 1) -> None:
        self.now_ms = START_MS
        self.kafka = MemoryKafka({"orders": 1}, clock_ms=lambda: self.now_ms)
        self.catalog = self.kafka.topics()
        self.topics = DelayTopics(clients=self.kafka, topics=self.catalog, max_record_bytes=1000)
        for level in LEVELS:
            self.kafka.create_topic(level.topic, partitions)

    def line(self) -> DelayLine:
        return DelayLine(clients=self.kafka, topics=self.topics, catalog=self.catalog, clock_ms=lambda: self.now_ms)

    def send(self, value: str, delay_ms: int, *, topic: str = "orders", key: bytes | None = None, **given) -> None:
        record = Outgoing(topic, value.encode(), value, key, [("recado-id", value.encode())], **given)
        self.kafka.append(delay(record, due_ms=self.now_ms + delay_ms, now_ms=self.now_ms))

    def landed(self, topic: str = "orders") -> list[str]:
        return [message.value().decode() for message in self.kafka.logs[TopicPartition(topic, 0)] if message]

    def waiting(self) -> int:
        """Records in the delay topics that the group has not passed."""
        done = self.kafka.committed(GROUP)
        ends = {where: len(stored) for where, stored in self.kafka.logs.items() if is_delay_topic(where.topic)}
        return sum(end - (done[where].offset if where in done else 0) for where, end in ends.items())

    def committed(self, line: DelayLine) -> bool:
        """Whether the group has passed everything, once the next commit is due."""
        self.pass_ms(200, line)
        return self.waiting() == 0

    def settle(self, *lines: DelayLine) -> None:
        """Turn until nothing more happens at this moment of the clock."""
        quiet = 0
        seen: object = None
        for _ in range(2000):
            for line in lines:
                line.step(0)
            now = (self.waiting(), self.landed(), {w: len(s) for w, s in self.kafka.logs.items()})
            flying = any(line._moves.flying for line in lines)
            quiet = quiet + 1 if now == seen and not flying else 0
            if quiet > 10:
                return
            seen = now

    def pass_ms(self, ms: int, *lines: DelayLine, step_ms: int = 100) -> None:
        for _ in range(0, ms, step_ms):
            self.now_ms += step_ms
            self.settle(*lines)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_records_land_in_the_order_of_their_due_times_and_not_before(bench):
    for ms in (1500, 300, 0, 900):
        bench.send(str(ms), ms)
    line = bench.line()
    bench.settle(line)
    assert bench.landed() == ["0"]
    bench.pass_ms(200, line)
    assert bench.landed() == ["0"]
    bench.pass_ms(100, line)
    assert bench.landed() == ["0", "300"]
    bench.pass_ms(1200, line)
    assert bench.landed() == ["0", "300", "900", "1500"]
    assert bench.committed(line)
    line.close()


def test_what_lands_is_as_it_was_sent_with_the_time_of_landing_or_its_own(bench):
    bench.send("a", 100, key=b"k", partition=0)
    bench.send("b", 100, timestamp_ms=5)
    line = bench.line()
    bench.settle(line)
    bench.pass_ms(100, line)
    a, b = bench.kafka.logs[TopicPartition("orders", 0)]
    assert (a.key(), a.headers(), a.timestamp()[1]) == (b"k", [("recado-id", b"a")], START_MS + 100)
    assert b.timestamp()[1] == 5
    line.close()


def test_a_long_delay_hops_down_the_levels(bench):
    bench.send("x", 45_000)
    assert len(bench.kafka.logs[TopicPartition("recado.delay.30s", 0)]) == 1
    line = bench.line()
    bench.settle(line)
    bench.pass_ms(44_900, line)
    assert bench.landed() == []
    bench.pass_ms(100, line)
    assert bench.landed() == ["x"]
    hops = {level.topic: len(bench.kafka.logs[TopicPartition(level.topic, 0)]) for level in LEVELS}
    assert [hops[f"recado.delay.{name}"] for name in ("30s", "8s", "2s", "2m")] == [1, 1, 3, 0]
    line.close()


def test_records_of_one_key_keep_their_order(bench):
    for number in range(50):
        bench.send(str(number), 9000, key=b"k")
    line = bench.line()
    bench.settle(line)
    bench.pass_ms(9000, line)
    assert bench.landed() == [str(number) for number in range(50)]
    line.close()


def test_an_offset_stays_until_the_next_place_has_the_record(bench):
    bench.send("late", 1500)
    bench.send("soon", 100)
    line = bench.line()
    bench.settle(line)
    bench.pass_ms(200, line)
    assert bench.landed() == ["soon"]
    assert bench.waiting() == 2  # that behind the head is done, and the offset map beside its offset tells so
    line.close()
    again = bench.line()
    bench.settle(again)
    bench.pass_ms(1500, again)
    assert bench.landed() == ["soon", "late"]
    assert bench.committed(again)
    again.close()


def test_what_has_moved_is_committed_at_the_end_though_the_group_refuses_at_first(bench, monkeypatch):
    bench.send("soon", 100)
    line = bench.line()
    bench.settle(line)
    commit, refused = line._consumer.commit, []

    def refuse(offsets, *, wait: bool) -> bool:
        """As a group that rebalances: until its member has polled."""
        if len(refused) < 2:
            refused.append(offsets)
            return False
        return commit(offsets, wait=wait)

    monkeypatch.setattr(line._consumer, "commit", refuse)
    bench.now_ms += 100
    for _ in range(5):
        line.step(0)
    assert bench.landed() == ["soon"]
    bench.send("later", 1000)
    line.close()
    assert len(refused) == 2
    assert bench.waiting() == 1, "what came while it caught up is not passed"
    again = bench.line()
    bench.settle(again)
    bench.pass_ms(1000, again)
    assert bench.landed() == ["soon", "later"]
    again.close()


def test_a_target_that_is_gone_keeps_its_record_and_holds_up_no_other(bench):
    bench.kafka.create_topic("gone")
    bench.send("kept", 100, topic="gone")
    bench.send("goes", 200)
    bench.kafka.drop_topic("gone")
    line = bench.line()
    bench.settle(line)
    bench.pass_ms(30_000, line, step_ms=500)
    assert bench.landed() == ["goes"]
    bench.kafka.create_topic("gone")
    bench.pass_ms(35_000, line, step_ms=500)
    assert bench.landed("gone") == ["kept"]
    assert bench.committed(line)
    line.close()


def test_a_foreign_record_is_passed_over(bench):
    bench.kafka.append(Outgoing("recado.delay.2s", b"junk", ""))
    bench.kafka.append(Outgoing("recado.delay.2s", b"junk", "", headers=[(HEADER_DELAY, b"{")]))
    bench.send("x", 100)
    line = bench.line()
    bench.settle(line)
    bench.pass_ms(100, line)
    assert bench.landed() == ["x"]
    assert bench.committed(line)
    line.close()


def test_what_has_moved_on_is_deleted_and_nothing_else(bench):
    bench.send("done", 100)
    line = bench.line()
    bench.settle(line)
    bench.pass_ms(59_000, line, step_ms=1000)
    bench.send("waits", 10_000)
    bench.pass_ms(2000, line, step_ms=1000)
    assert bench.kafka.logs[TopicPartition("recado.delay.2s", 0)][0] is None
    assert bench.kafka.logs[TopicPartition("recado.delay.8s", 0)][0] is not None
    bench.pass_ms(10_000, line)
    assert bench.landed() == ["done", "waits"]
    line.close()


def test_two_lines_share_the_partitions_and_one_may_leave_or_be_thrown_out():
    bench = Bench(partitions=3)
    first, second = bench.line(), bench.line()
    bench.settle(first, second)
    assert len(first._stays) > 0 < len(second._stays)
    for number in range(60):
        bench.send(str(number), 3000 + number * 50)
    bench.settle(first, second)
    bench.pass_ms(4000, first, second)
    first.close()
    assert first._stays == {}
    bench.pass_ms(1000, second)
    group = bench.kafka.group(GROUP)
    with bench.kafka.changed:
        group.expel(second._consumer)
    bench.pass_ms(6000, second)
    assert sorted(set(bench.landed()), key=int) == [str(number) for number in range(60)]
    assert bench.committed(second)
    second.close()


def test_memory_stays_within_its_budget_and_all_lands(bench, monkeypatch):
    monkeypatch.setattr(delay_hold, "MAX_RECORDS", 50)
    monkeypatch.setattr("recado.outcomes.delay_line.MAX_READ", 10)
    for number in range(500):
        bench.send(str(number), 1000)
    line = bench.line()
    bench.settle(line)
    assert line._hold.records == 50
    bench.pass_ms(1000, line)
    assert bench.landed() == [str(number) for number in range(500)]
    assert line._hold.records == 0
    line.close()


def test_an_outage_delays_and_loses_nothing(bench):
    bench.send("x", 500)
    line = bench.line()
    bench.settle(line)
    bench.kafka.reachable = False
    bench.now_ms += 1000
    for _ in range(20):
        line.step(0)
    bench.kafka.reachable = True
    bench.settle(line)
    assert bench.landed() == ["x"]
    line.close()


def test_an_unknown_fate_starts_the_line_anew_and_the_record_is_not_passed(bench, monkeypatch):
    bench.send("x", 100)
    line = bench.line()
    bench.settle(line)

    def vanish(delivery: Delivery) -> None:
        delivery.settle(0, DeliveryUnknown("timed out"))

    monkeypatch.setattr(line._producer, "send", vanish)
    bench.now_ms += 100
    with pytest.raises(DeliveryUnknown, match="starts anew"):
        line.step(0)
    line.close()
    again = bench.line()
    bench.settle(again)
    assert bench.landed() == ["x"]
    again.close()


def test_without_delay_topics_there_is_nothing_to_do():
    kafka = MemoryKafka({"orders": 1})
    topics = DelayTopics(clients=kafka, topics=kafka.topics(), max_record_bytes=1000)
    line = DelayLine(clients=kafka, topics=topics, catalog=kafka.topics())
    assert line.step(0) is False
    line.close()


def test_delay_topics_keep_everything_and_take_the_largest_record():
    kafka, made = MemoryKafka(), []
    topics = DelayTopics(clients=kafka, topics=kafka.topics(), max_record_bytes=1000, on_made=lambda: made.append(1))
    assert topics.want("recado.delay.8s")
    with pytest.raises(RecadoError, match="being created"):
        topics.check("recado.delay.8s")
    topics.make()
    topics.check("recado.delay.8s")
    assert not topics.want("recado.delay.8s")
    assert topics.there() == ["recado.delay.2s", "recado.delay.8s"]
    config = kafka.configs["recado.delay.8s"]
    assert int(config["max.message.bytes"]) > 1000
    assert config.items() >= CONFIG.items()
    assert made == [1]


@pytest.mark.parametrize(("plain", "source"), [(0, 3_000_000), (3_000_000, 0), (0, 0)])
def test_delay_topics_take_what_a_plain_topic_and_the_source_take(monkeypatch, plain, source):
    kafka = MemoryKafka()
    monkeypatch.setattr(kafka, "takes_bytes", {"": plain, "orders": source}.__getitem__)
    topics = DelayTopics(clients=kafka, topics=kafka.topics(), max_record_bytes=1000)
    assert topics.want("recado.delay.8s", "orders")
    topics.make()
    for topic in ("recado.delay.2s", "recado.delay.8s"):
        assert int(kafka.configs[topic]["max.message.bytes"]) == max(plain, source, 1000) + EXTRA_BYTES


def test_the_header_is_readable_by_people(bench):
    bench.send("x", 100)
    (message,) = bench.kafka.logs[TopicPartition("recado.delay.2s", 0)]
    assert json.loads(dict(message.headers())[HEADER_DELAY]) == {"due_ms": START_MS + 100, "topic": "orders"}
