"""A broker may call a record a repeat that it has not: a report of success without an offset confirms nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from recado.errors import DeliveryFailed, DeliveryUnknown, RecadoError
from recado.kafka.delivery import Delivery, Summary
from recado.kafka.exclusive import Exclusive
from recado.kafka.producer import KafkaProducer
from recado.kafka.repeats import Repeats
from recado.record import Outgoing
from recado.settings import Settings


def report(offset: int | None, partition: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        topic=lambda: "orders", partition=lambda: partition, offset=lambda: offset, timestamp=lambda: (1, 5)
    )


def test_a_whole_batch_is_in_doubt_where_its_first_record_has_no_offset():
    repeats = Repeats()
    told = [(None, 0), (0, 0), (7, 1), (1, 0), (2, 0), (9, 0), (3, 0)]
    doubted = [repeats.has(report(offset, partition)) for offset, partition in told]
    assert doubted == [True, True, False, True, True, False, False]
    assert [repeats.has(report(offset)) for offset in (0, 1, -1, 0)] == [False, False, True, True]


@pytest.mark.parametrize("kind", [Delivery, Summary])
def test_what_a_broker_calls_a_repeat_is_unknown_and_not_delivered(kind):
    records = [Outgoing("orders", b"x", f"id-{number}", b"k", [], 0) for number in range(3)]
    ended: list[Delivery] = []
    producer = KafkaProducer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    try:
        delivery = kind(records, ended.append)
        told = producer._count if kind is Summary else producer._note
        for index, offset in enumerate((None, 0, 12)):
            told(delivery, index, None, report(offset))
    finally:
        producer.close(0)
    assert ended == [delivery]
    fates = delivery.failures if kind is Summary else dict(enumerate(delivery.fates))
    assert [isinstance(fates.get(index), DeliveryUnknown) for index in range(3)] == [True, True, False]


def test_who_writes_alone_writes_nothing_of_what_a_broker_calls_a_repeat(mock_kafka):
    writer = Exclusive(Settings(bootstrap_servers=mock_kafka.bootstrap_servers), "one")
    some = [Outgoing("orders", b"x", "", b"k", [], 0), Outgoing("orders", b"y", "", b"k", [], 0)]
    writer.write(some)
    mock_kafka.call_a_repeat()
    with pytest.raises(DeliveryFailed, match=r"topic orders for a repeat.* nothing of the transaction was written"):
        writer.write(some)
    with pytest.raises(RecadoError, match="OUT_OF_ORDER_SEQUENCE_NUMBER"):  # it fails for good: told as anything else
        writer.write(some)
