"""Records whose header names are not UTF-8, written by librdkafka itself, since no Python client writes them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka

from recado.embedded import EmbeddedKafka
from recado.kafka.abstract import Message, PartitionListener
from recado.kafka.config import consumer_config
from recado.kafka.consumer import KafkaConsumer
from recado.kafka.headers import UNREADABLE, headers_of
from recado.settings import Settings
from tests.conftest import TopicFactory

#: What ends the arguments of ``rd_kafka_producev``, and what its others are (rdkafka.h, ``rd_kafka_vtype_t``).
END, TOPIC, VALUE, HEADER = 0, 1, 4, 9

DEADLINE_S = 30.0


class Listener(PartitionListener):
    def on_assign(self, partitions): ...
    def on_revoke(self, partitions): ...
    def on_lost(self, partitions): ...
    def on_end(self, partition, offset): ...
    def on_commit(self, offsets, ok): ...


def send_raw(servers: str, topic: str, headers: Sequence[tuple[bytes, bytes | None]]) -> None:
    """Produce one record with these headers, as they are."""
    folder = Path(confluent_kafka.__file__).parent
    found = [*folder.parent.glob("confluent_kafka.libs/librdkafka*"), *folder.glob(".dylibs/librdkafka*")]
    rdkafka, error = ctypes.CDLL(str(found[0])), ctypes.create_string_buffer(512)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    rdkafka.rd_kafka_conf_new.restype = rdkafka.rd_kafka_new.restype = pointer
    conf = pointer(rdkafka.rd_kafka_conf_new())
    rdkafka.rd_kafka_conf_set(conf, b"bootstrap.servers", servers.encode(), error, size(512))
    client = pointer(rdkafka.rd_kafka_new(0, conf, error, size(512)))
    more = [argument for name, value in headers for argument in (HEADER, name, value, size(len(value or b"")))]
    sent = rdkafka.rd_kafka_producev(client, TOPIC, topic.encode(), VALUE, b"x", size(1), *more, END)
    assert sent == 0
    assert rdkafka.rd_kafka_flush(client, 30_000) == 0
    rdkafka.rd_kafka_destroy(client)


def first_record(servers: str, topic: str) -> Message:
    settings = Settings(bootstrap_servers=servers, kafka_consumer={"auto.offset.reset": "earliest"})
    consumer = KafkaConsumer(consumer_config(settings, f"g-{topic}"))
    consumer.subscribe([topic], Listener())
    try:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for message in consumer.consume(10, 0.2):
                return message
    finally:
        consumer.close()
    raise AssertionError("nothing came")


def test_of_a_header_whose_name_is_not_utf_8_the_value_is_kept(kafka: EmbeddedKafka, topic: TopicFactory):
    name, other = topic(), topic()
    send_raw(kafka.bootstrap_servers, other, [(b"a", b"1")])
    readable = first_record(kafka.bootstrap_servers, other)
    given = [(b"a", b"1"), (b"\xff\xfe", b"2"), ("ñ".encode(), None), (b"\x80", None), (b"a", b"3")]
    send_raw(kafka.bootstrap_servers, name, given)
    message = first_record(kafka.bootstrap_servers, name)
    for _ in range(1_000):
        headers_of(readable)  # Python takes a shorter way where it has gone often
    expected = [("a", b"1"), (UNREADABLE, b"2"), ("ñ", None), (UNREADABLE, None), ("a", b"3")]
    assert headers_of(message) == expected
    assert headers_of(message) == expected
    assert message.headers() == expected


def test_headers_that_the_client_can_read_are_its_own(kafka: EmbeddedKafka, topic: TopicFactory):
    with_some, with_none = topic(), topic()
    send_raw(kafka.bootstrap_servers, with_some, [(b"a", b"1")])
    send_raw(kafka.bootstrap_servers, with_none, [])
    assert headers_of(first_record(kafka.bootstrap_servers, with_some)) == [("a", b"1")]
    assert not headers_of(first_record(kafka.bootstrap_servers, with_none))
