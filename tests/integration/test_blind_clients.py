"""Clients that know no broker any more while Kafka answers others: they are replaced, and go on.

A real one gets blind when a lone broker comes back from a pause and answers, for a moment, that there are no brokers.
Here a client is blind because its bootstrap server is one where nobody listens; one that is made later knows better.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from recado.errors import DeliveryUnknown, RecadoError
from recado.kafka import consumer as consumer_module
from recado.kafka.config import consumer_config, producer_config
from recado.kafka.consumer import KafkaConsumer
from recado.kafka.delivery import Delivery
from recado.kafka.producer import KafkaProducer
from recado.kafka.topics import ClusterTopics
from recado.record import Outgoing, TopicPartition
from recado.settings import Settings
from tests.programs import eventually, free_port


@pytest.fixture
def nowhere() -> Settings:
    return Settings(bootstrap_servers=f"127.0.0.1:{free_port()}")


def sent(producer: KafkaProducer, topic: str) -> tuple[Delivery, threading.Event]:
    told = threading.Event()
    delivery = Delivery([Outgoing(topic, b"x", "id")], lambda delivery: told.set())
    producer.send(delivery)
    return delivery, told


def test_a_blind_producer_is_replaced_and_says_that_it_does_not_know(kafka, topic, nowhere):
    config = producer_config(nowhere)
    producer = KafkaProducer(config)
    blind, (stuck, told) = producer.client, sent(producer, name := topic())
    config["bootstrap.servers"] = kafka.bootstrap_servers
    assert told.wait(30)
    assert isinstance(stuck.fates[0], DeliveryUnknown)
    assert producer.client is not blind
    later, told = sent(producer, name)
    assert told.wait(30)
    assert later.fates[0][:2] == (0, 0)
    assert producer.close(10) == 0


def test_a_producer_is_not_replaced_while_kafka_answers_nobody(nowhere):
    producer = KafkaProducer(producer_config(nowhere))
    blind, (_, told) = producer.client, sent(producer, "orders")
    assert not told.wait(6)
    assert producer.client is blind
    assert producer.close(0) == 1


def test_a_blind_catalog_finds_its_topics_again_though_nothing_is_sent(kafka, topic, nowhere):
    config, name = producer_config(nowhere), topic(2)
    producer = KafkaProducer(config)
    topics = ClusterTopics(lambda: producer.client, on_silence=producer.suspect)
    assert not topics.refresh()
    config["bootstrap.servers"] = kafka.bootstrap_servers
    eventually(lambda: topics.reachable)
    assert topics.partitions(name) == 2
    topics.close()
    producer.close(0)


class Member:
    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()

    def on_assign(self, partitions: Any) -> None:
        self.held |= set(partitions)

    def on_revoke(self, partitions: Any) -> None:
        self.held -= set(partitions)

    on_lost = on_revoke

    def on_end(self, partition: TopicPartition, offset: int) -> None: ...
    def on_commit(self, offsets: Any, ok: bool) -> None: ...


def test_a_blind_consumer_is_replaced_and_reads(kafka, topic, nowhere, monkeypatch):
    monkeypatch.setattr(consumer_module, "SILENT_S", 1.0)
    name = topic()
    producer = KafkaProducer(producer_config(Settings(bootstrap_servers=kafka.bootstrap_servers)))
    _, told = sent(producer, name)
    assert told.wait(30)
    producer.close(10)
    config = consumer_config(nowhere, f"g-{uuid.uuid4().hex[:8]}")
    consumer, member = KafkaConsumer(config), Member()
    consumer.subscribe([name], member)
    assert not consumer.consume(10, 0.1)
    config["bootstrap.servers"] = kafka.bootstrap_servers
    assert [message.value() for message in eventually(lambda: consumer.consume(10, 0.1))] == [b"x"]
    assert member.held == {TopicPartition(name, 0)}
    consumer.close()
    assert not member.held


def test_a_consumer_that_cannot_be_replaced_goes_on_as_it_is(kafka, topic, monkeypatch):
    name = topic()
    settings = Settings(bootstrap_servers=kafka.bootstrap_servers)
    consumer, member = KafkaConsumer(consumer_config(settings, f"g-{uuid.uuid4().hex[:8]}")), Member()
    consumer.subscribe([name], member)

    def no_client(*given: Any, **options: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "ssl.ca.location failed: No such file"))

    with monkeypatch.context() as without_file:
        without_file.setattr(consumer_module, "Client", no_client)
        consumer._found_blind()
        assert not consumer.consume(10, 0.1)
    producer = KafkaProducer(producer_config(settings))
    _, told = sent(producer, name)
    assert told.wait(30)
    producer.close(10)
    assert [message.value() for message in eventually(lambda: consumer.consume(10, 0.1))] == [b"x"]
    consumer.close()


class Static:
    """A static member of a group, polled by hand."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        given = {"group.instance.id": "worker-1", "session.timeout.ms": "6000"}
        self.consumer = KafkaConsumer(consumer_config(Settings(bootstrap_servers=bootstrap, kafka=given), group))
        self.member = Member()
        self.consumer.subscribe([topic], self.member)
        self.error: RecadoError | None = None

    def holds(self) -> bool:
        """Poll once; whether it holds a partition and was not fenced."""
        if self.error is None:
            try:
                self.consumer.consume(10, 0.1)
            except RecadoError as error:
                self.error = error
                self.consumer.close()
        return self.error is None and bool(self.member.held)


def test_a_static_member_that_was_fenced_claims_its_identity_where_nobody_has_it(kafka, topic):
    name, group = topic(), f"g-{uuid.uuid4().hex[:8]}"
    first = Static(kafka.bootstrap_servers, group, name)
    eventually(first.holds)
    passing = Static(kafka.bootstrap_servers, group, name)
    eventually(passing.holds)
    passing.consumer.close()
    with capture_logs() as said:
        eventually(lambda: not first.holds())
    assert [one["identity"] for one in said if one["event"].startswith("fenced")] == ["worker-1"]
    eventually(first.holds)
    first.consumer.close()


def test_of_two_static_members_with_one_identity_one_stays(kafka, topic):
    name, group = topic(), f"g-{uuid.uuid4().hex[:8]}"
    both = [Static(kafka.bootstrap_servers, group, name)]
    eventually(both[0].holds)
    both.append(Static(kafka.bootstrap_servers, group, name))

    def is_decided() -> bool:
        holding = [one.holds() for one in both]
        return any(one.error for one in both) and any(holding)

    eventually(is_decided, within_s=60, why=lambda: [one.error for one in both])
    [given_way], [stays] = [one for one in both if one.error], [one for one in both if not one.error]
    assert "fenced" in str(given_way.error)
    assert all(stays.holds() for _ in range(30))
    stays.consumer.close()
