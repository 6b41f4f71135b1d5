"""The in-memory twin's own behaviour: producing, outages, topics (what a consumer sees is in tests/contract)."""

from __future__ import annotations

import threading

import pytest

from recado.errors import Backpressure, DeliveryFailed, RecordTooLarge, UnknownTopic
from recado.kafka.abstract import Committed
from recado.kafka.delivery import Delivery
from recado.kafka.memory import MemoryKafka, MemoryProducer
from recado.record import Outgoing, TopicPartition
from tests.programs import eventually


def send(producer: MemoryProducer, *records: Outgoing) -> Delivery:
    delivery = Delivery(list(records), lambda _: None)
    producer.send(delivery)
    return delivery


def record(topic: str = "orders", value: bytes | None = b"x", **given) -> Outgoing:
    return Outgoing(topic, value, id="", **given)


def test_reports_tell_where_each_record_lies_on_another_thread():
    producer = MemoryKafka({"orders": 1}).producer()
    threads: list[str] = []
    delivery = Delivery([record(), record()], lambda _: threads.append(threading.current_thread().name))
    producer.send(delivery)
    eventually(lambda: threads)
    assert [fate[:2] for fate in delivery.fates] == [(0, 0), (0, 1)]
    assert threads != [threading.current_thread().name]
    assert producer.close(1) == 0


def test_equal_keys_go_to_one_partition_and_a_named_partition_is_obeyed():
    kafka = MemoryKafka({"orders": 8})
    assert len({kafka.append(record(key=b"k"))[0] for _ in range(5)}) == 1
    assert kafka.append(record(partition=6))[0] == 6
    assert len({kafka.append(record())[0] for _ in range(16)}) == 8


@pytest.mark.parametrize(("wrong", "error"), [(record("nowhere"), UnknownTopic), (record(partition=9), DeliveryFailed)])
def test_what_does_not_exist_is_reported(wrong, error):
    delivery = send(MemoryKafka({"orders": 1}).producer(), wrong)
    eventually(lambda: delivery.outstanding == 0)
    assert isinstance(delivery.fates[0], error)


def test_too_large_and_too_many_are_reported_not_raised():
    kafka = MemoryKafka({"orders": 1})
    producer = kafka.producer(max_records=1, max_record_bytes=10)
    kafka.reachable = False
    delivery = send(producer, record(value=b"x" * 11), record())
    kafka.reachable = True
    eventually(lambda: delivery.outstanding == 0)
    assert [type(fate) for fate in delivery.fates] == [RecordTooLarge, Backpressure]


def test_an_outage_holds_records_back_and_ends():
    kafka, cries = MemoryKafka({"orders": 1}), threading.Event()
    producer = kafka.producer(on_unreachable=cries.set)
    kafka.reachable = False
    delivery = send(producer, record())
    assert cries.wait(10)
    assert producer.outstanding() == 1
    assert not kafka.topics().reachable
    assert producer.close(0) == 1
    again = kafka.producer()
    kafka.reachable = True
    other = send(again, record())
    eventually(lambda: other.outstanding == 0)
    assert delivery.outstanding == 1


def test_topics_are_known_at_once():
    kafka = MemoryKafka({"orders": 3})
    topics = kafka.topics()
    assert (topics.partitions("orders"), topics.partitions("other"), topics.names()) == (3, None, ["orders"])
    assert topics.refresh()


def test_a_partition_that_is_not_owned_cannot_be_committed():
    kafka = MemoryKafka({"orders": 1})
    stranger = kafka.consumer("g")
    assert not stranger.commit({TopicPartition("orders", 0): Committed(1)}, wait=True)
    assert kafka.committed("g") == {}
