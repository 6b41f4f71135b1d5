"""A producer that failed for good is replaced: what it held is reported as unknown, what comes next is delivered."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from recado.errors import DeliveryUnknown, KafkaUnreachable
from recado.kafka import producer
from recado.kafka.abstract import Committed, Enlisted
from recado.kafka.config import producer_config
from recado.kafka.delivery import Delivery
from recado.kafka.producer import KafkaProducer
from recado.kafka.transactor import KafkaTransactor
from recado.record import Outgoing, TopicPartition
from recado.settings import Settings
from tests.mock_kafka import MockKafka
from tests.programs import eventually

FATAL = KafkaError(KafkaError._FATAL, "out of sequence", fatal=True)


def _refuse_onlookers(config: dict[str, Any]) -> None:
    """A producer that another test left behind may look by a second client whether Kafka is there: not by ours."""
    if "error_cb" not in config:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))


def _raise_fatal() -> None:
    raise KafkaException(FATAL)


class Client:
    """Holds what is produced until the test confirms, and breaks when it is told to."""

    made: ClassVar[list[Client]] = []

    def __init__(self, config: dict[str, Any], logger: object) -> None:
        _refuse_onlookers(config)
        self._held: list[Callable[..., None]] = []
        self._due: list[Callable[[], None]] = []
        self._broken = False
        Client.made.append(self)

    def __len__(self) -> int:
        return len(self._held) + len(self._due)

    def produce(self, topic: str, value: Any, key: Any, partition: int, *rest: Any) -> None:
        if self._broken:
            raise KafkaException(FATAL)
        self._held.append(rest[0])

    def poll(self, timeout_s: float) -> int:
        threading.Event().wait(0.001)  # as the real one, which gives up the interpreter while it waits
        served = 0
        while self._due:
            served += 1
            self._due.pop(0)()
        return served

    def purge(self) -> None:
        held, self._held = self._held, []
        purged = KafkaError(KafkaError._PURGE_INFLIGHT)
        self._due += [lambda report=report: report(purged, None) for report in held]

    def confirm(self) -> None:
        held, self._held = self._held, []
        self._due += [lambda report=report: report(None, Message()) for report in held]

    def break_down(self) -> None:
        self._broken = True
        self._due.append(_raise_fatal)  # as the real one: ``error_cb`` is told nothing


class Message:
    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


def sent(through: KafkaProducer) -> tuple[Delivery, threading.Event]:
    done = threading.Event()
    delivery = Delivery([Outgoing("orders", b"x", "id")], lambda delivery: done.set())
    through.send(delivery)
    return delivery, done


def test_producer_is_replaced_after_a_fatal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "Client", Client)
    Client.made = []
    with_fatal = KafkaProducer({})
    under_way, told = sent(with_fatal)
    Client.made[0].break_down()
    assert told.wait(20), "what the broken client held must be reported"
    assert isinstance(under_way.fates[0], DeliveryUnknown), "it may be in Kafka, and nobody knows"
    while len(Client.made) < 2 or with_fatal.client is not Client.made[1]:
        threading.Event().wait(0.001)
    later, told = sent(with_fatal)
    Client.made[1].confirm()
    assert told.wait(20)
    assert later.fates == [(0, 7, 1_700_000_000_000)]
    assert with_fatal.close(1) == 0


def test_librdkafka_tells_of_a_fatal_error_as_it_is_believed_to(mock_kafka: MockKafka) -> None:
    real = KafkaProducer(producer_config(Settings(bootstrap_servers=mock_kafka.bootstrap_servers)))
    try:
        first = real.client
        delivery, told = sent(real)
        assert told.wait(20)
        mock_kafka.break_down(first)
        eventually(lambda: real.client is not first)
        delivery, told = sent(real)
        assert told.wait(20)
        assert not isinstance(delivery.fates[0], Exception)
    finally:
        real.close(1)


def test_what_fails_for_good_in_a_transaction_is_told_as_any_other_failure(mock_kafka: MockKafka) -> None:
    """After what it called a repeat and has not, this broker takes nothing more of the producer."""
    settings = Settings(bootstrap_servers=mock_kafka.bootstrap_servers)
    record = Outgoing("orders", b"x", "id", b"k", [], 0)
    member = Consumer({"bootstrap.servers": mock_kafka.bootstrap_servers, "group.id": "g"})
    enlisted = Enlisted({TopicPartition("orders", 0): Committed(1, "")}, member.consumer_group_metadata())
    transactor = KafkaTransactor(settings, "g")
    mock_kafka.call_a_repeat()
    assert [transactor.transact([record], enlisted).committed for _ in range(2)] == [False, False]
    transactor.close()
    member.close()


def test_a_producer_that_cannot_be_replaced_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    class Reluctant(Client):
        def __init__(self, config: dict[str, Any], logger: object) -> None:
            _refuse_onlookers(config)
            tries.append(1)
            if 1 < len(tries) < 4:
                raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "ssl.ca.location failed: No such file"))
            super().__init__(config, logger)

    monkeypatch.setattr(producer, "Client", Reluctant)
    monkeypatch.setattr(producer, "ANEW_S", 0.05)
    Client.made = []
    with_fatal = KafkaProducer({})
    Client.made[0].break_down()
    eventually(lambda: len(tries) > 1)
    refused, told = sent(with_fatal)
    assert told.wait(20), "the report thread goes on meanwhile"
    assert isinstance(refused.fates[0], DeliveryUnknown)
    eventually(lambda: len(Client.made) == 2 and with_fatal.client is Client.made[1])
    later, told = sent(with_fatal)
    Client.made[1].confirm()
    assert told.wait(20)
    assert later.fates == [(0, 7, 1_700_000_000_000)]
    Client.made[1].break_down()
    eventually(lambda: len(Client.made) == 3 and with_fatal.client is Client.made[2])
    assert with_fatal.close(1) == 0


def test_a_closed_producer_lets_its_client_go_and_refuses_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "Client", Client)
    Client.made = []
    closed = KafkaProducer({})
    client = weakref.ref(Client.made.pop())
    assert closed.close(1) == 0
    assert client() is None
    refused, told = sent(closed)
    assert told.wait(20)
    assert isinstance(refused.fates[0], KafkaUnreachable)
    assert closed.outstanding() == 0
    assert closed.close(1) == 0
