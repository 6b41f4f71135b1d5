"""The in-memory twin's outages: what is staged there must look like one of a real cluster."""

from __future__ import annotations

import threading

from recado.errors import Backpressure
from recado.kafka.delivery import Delivery
from recado.kafka.memory import MemoryKafka
from recado.record import Outgoing, TopicPartition
from tests.programs import eventually


def records(count: int) -> list[Outgoing]:
    return [Outgoing("orders", b"%d" % number, id="") for number in range(count)]


def test_reports_wait_for_the_end_of_an_outage_and_it_is_told():
    kafka = MemoryKafka({"orders": 1})
    unreachable, done = threading.Event(), threading.Event()
    producer = kafka.producer(on_unreachable=unreachable.set)
    kafka.reachable = False
    delivery = Delivery(records(3), lambda _: done.set())
    producer.send(delivery)
    assert unreachable.wait(10)
    assert (delivery.outstanding, producer.outstanding()) == (3, 3)
    producer.take_over()
    producer.serve()
    assert delivery.outstanding == 3
    producer.hand_back()
    kafka.reachable = True
    assert done.wait(10)
    assert [fate[1] for fate in delivery.fates] == [0, 1, 2]
    assert producer.close(5) == 0


def test_close_in_an_outage_tells_how_many_it_gives_up():
    kafka = MemoryKafka({"orders": 1})
    kafka.reachable = False
    producer = kafka.producer()
    producer.send(Delivery(records(4), lambda _: None))
    assert producer.close(0.01) == 4
    assert kafka.logs[TopicPartition("orders", 0)] == []


def test_a_full_queue_is_reported_and_the_rest_arrives():
    kafka = MemoryKafka({"orders": 1})
    kafka.reachable = False
    producer = kafka.producer(max_records=2)
    delivery = Delivery(records(3), lambda _: None)
    producer.send(delivery)
    kafka.reachable = True
    eventually(lambda: delivery.outstanding == 0)
    assert [type(fate) for fate in delivery.fates] == [tuple, tuple, Backpressure]
    producer.close(5)


def test_nothing_is_committed_in_an_outage():
    kafka = MemoryKafka({"orders": 1})
    consumer = kafka.consumer("group")
    kafka.reachable = False
    assert not consumer.reachable
    assert not kafka.topics().refresh()
    assert kafka.committed("group") == {}
