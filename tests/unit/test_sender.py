"""Sending from Python: what HTTP answers, as values and exceptions."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from recado import Receipt, Sender
from recado.errors import (
    ConfigurationError,
    DeliveryFailed,
    DeliveryUnknown,
    KafkaUnreachable,
    RecadoError,
    UnknownTopic,
)
from recado.gateway.problem import Problem
from recado.kafka.abstract import Link
from recado.settings import Settings
from tests.fronts import FakeClients, FakeKafka
from tests.programs import eventually


@pytest.fixture
def kafka() -> FakeKafka:
    return FakeKafka()


def sender_of(kafka: FakeKafka, folder: Path, **settings: object) -> Sender:
    given = {"data_dir": folder, "wait_s": 5.0, **settings}
    link = Link(kafka, kafka, lambda: kafka)
    chosen = Settings(**given)  # type: ignore[arg-type]  # whatever a test says
    return Sender(chosen, connect=lambda _: link, clients=lambda _: FakeClients(kafka))


@pytest.fixture
def sender(kafka: FakeKafka, tmp_path: Path) -> Iterator[Sender]:
    with sender_of(kafka, tmp_path) as made:
        yield made


def test_receipt_tells_where_the_record_lies(sender: Sender, kafka: FakeKafka) -> None:
    receipt = sender.send("flask-topic", {"n": 1}, key="k1", headers={"a": "1", "b": b"\xff"}, partition=2)
    assert receipt == Receipt("delivered", receipt.id, "flask-topic", 0, 0, 1_700_000_000_000)
    (record,) = kafka.produced
    assert (record.value, record.key, record.partition) == (b'{"n":1}', b"k1", 2)
    assert record.headers == [("recado-id", receipt.id.encode()), ("a", b"1"), ("b", b"\xff")]


@pytest.mark.parametrize(
    ("value", "sent"),
    [(b"\xff", b"\xff"), ("ñ", "ñ".encode()), (None, None), ([1, 2.5, "ñ"], '[1,2.5,"ñ"]'.encode()), (True, b"true")],
)
def test_values_become_bytes_as_over_http(sender: Sender, kafka: FakeKafka, value: object, sent: bytes | None) -> None:
    sender.send("flask-topic", value)
    assert kafka.produced[0].value == sent


def test_timestamp_is_milliseconds_or_an_aware_datetime(sender: Sender, kafka: FakeKafka) -> None:
    sender.send("flask-topic", "x", timestamp=datetime(2026, 1, 2, tzinfo=UTC))
    sender.send("flask-topic", "x", timestamp=5)
    assert [record.timestamp_ms for record in kafka.produced] == [1_767_312_000_000, 5]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": "\ud800"}, "value"),
        ({"value": object()}, "value"),
        ({"key": "\ud800"}, "key"),
        ({"partition": -1}, "partition"),
        ({"partition": 3}, "partition"),
        ({"timestamp": 0}, "timestamp"),
        ({"timestamp": datetime(2026, 1, 1)}, "timestamp"),  # the point
        ({"headers": {"a": "\r\n"}}, "headers.a"),
        ({"headers": {"recado-id": "x"}}, "headers.recado-id"),
        ({"id": "a b"}, "id"),
        ({"wait_s": -1}, "wait_s"),
        ({"topic": "no topic"}, "topic"),
        ({"value": b"x" * 1_048_577}, "message"),
    ],
)
def test_wrong_arguments_name_their_field_and_nothing_is_sent(
    sender: Sender, kafka: FakeKafka, options: dict[str, object], field: str
) -> None:
    with pytest.raises(Problem) as told:
        sender.send(**{"topic": "flask-topic", "value": "x", **options})  # type: ignore[arg-type]
    assert told.value.extensions["field"] == field
    assert kafka.produced == []


def test_errors_are_those_of_http(sender: Sender, kafka: FakeKafka) -> None:
    with pytest.raises(RecadoError, match="does not exist") as told:
        sender.send("missing", "x")
    assert told.value.code == UnknownTopic.code
    kafka.fate = lambda number, record: UnknownTopic("gone meanwhile")
    with pytest.raises(UnknownTopic):
        sender.send("flask-topic", "x")


def test_without_a_spool_an_outage_and_silence_are_exceptions(kafka: FakeKafka, tmp_path: Path) -> None:
    with sender_of(kafka, tmp_path, spool=False) as sender:
        kafka.fate = lambda number, record: None
        with pytest.raises(DeliveryUnknown):
            sender.send("flask-topic", "x", wait_s=0.01)
        kafka.speak()
        kafka.reachable = False
        with pytest.raises(RecadoError) as told:
            sender.send("flask-topic", "x")
        assert told.value.code == KafkaUnreachable.code


def test_with_a_spool_they_are_accepted_and_delivered_later(sender: Sender, kafka: FakeKafka) -> None:
    assert sender.send("flask-topic", "1").status == "delivered"
    kafka.fate = lambda number, record: None
    kafka.reachable = False
    assert sender.send("flask-topic", "2").status == "accepted"
    assert sender.send("flask-topic", "3", respond_async=True).status == "accepted"
    with pytest.raises(DeliveryUnknown, match="2 records still wait"):
        sender.flush(0.01)
    kafka.reachable = True
    eventually(lambda: len(kafka.silent) == 2, within_s=20, why="the spool was not forwarded")
    kafka.speak()
    assert sender.flush(20) == 3
    assert [record.value for record in kafka.produced] == [b"1", b"2", b"3"]


def test_flush_tells_what_kafka_refused_after_it_was_accepted(sender: Sender, kafka: FakeKafka) -> None:
    kafka.fate = lambda number, record: DeliveryFailed("no")
    assert sender.send("flask-topic", "x", respond_async=True).status == "accepted"
    with pytest.raises(DeliveryFailed, match="refused 1 records for good"):
        sender.flush(20)


def test_a_closed_sender_says_so_and_sends_nothing(kafka: FakeKafka, tmp_path: Path) -> None:
    sender = sender_of(kafka, tmp_path)
    sender.send("flask-topic", "x")
    sender.close()
    with capture_logs() as logs:
        sender.close()
        with pytest.raises(ConfigurationError, match="This Sender is closed"):
            sender.send("flask-topic", "y")
        with pytest.raises(ConfigurationError, match="This Sender is closed"):
            asyncio.run(sender.send_async("flask-topic", "y"))
        with pytest.raises(ConfigurationError, match="This Sender is closed"):
            sender.flush()
    assert logs == []
    assert len(kafka.produced) == 1


def test_close_waits_for_what_asyncio_programs_sent_before(kafka: FakeKafka, tmp_path: Path) -> None:
    sender = sender_of(kafka, tmp_path)

    async def scenario() -> list[Receipt]:
        sent = [asyncio.create_task(sender.send_async("flask-topic", "x")) for _ in range(300)]
        await asyncio.sleep(0)
        await asyncio.to_thread(sender.close)
        return await asyncio.gather(*sent)

    assert {receipt.status for receipt in asyncio.run(scenario())} == {"delivered"}


def test_a_closed_sender_is_let_go(kafka: FakeKafka, tmp_path: Path) -> None:
    sender = sender_of(kafka, tmp_path)
    sender.send("flask-topic", "x")
    gateway = weakref.ref(sender._gateway)
    sender.close()
    del sender
    gc.collect()
    assert gateway() is None


def test_a_record_with_an_own_id_is_sent_once(sender: Sender, kafka: FakeKafka) -> None:
    first = sender.send("flask-topic", "x", id="order-7")
    assert sender.send("flask-topic", "x", id="order-7") == first
    assert len(kafka.produced) == 1


def test_asyncio_programs_send_many_side_by_side(sender: Sender, kafka: FakeKafka) -> None:
    async def scenario() -> list[Receipt]:
        return await asyncio.gather(*(sender.send_async("flask-topic", str(n)) for n in range(200)))

    receipts = asyncio.run(scenario())
    assert {receipt.status for receipt in receipts} == {"delivered"}
    assert len(kafka.produced) == 200


def test_threads_share_one_sender(sender: Sender, kafka: FakeKafka) -> None:
    threads = [threading.Thread(target=lambda: [sender.send("flask-topic", "x") for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(kafka.produced) == 400


def test_a_fork_sends_by_itself(kafka: FakeKafka, tmp_path: Path) -> None:
    with sender_of(kafka, tmp_path) as sender:
        sender.send("flask-topic", "parent")
        child = os.fork()
        if not child:
            receipt = sender.send("flask-topic", "child")
            os._exit(0 if receipt.status == "delivered" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sender.send("flask-topic", "parent again").status == "delivered"
        assert (tmp_path / "spool" / "spool-2.db").exists(), "the child has a spool of its own"


def test_a_delayed_record_is_accepted_once_and_one_that_is_due_delivered(sender: Sender, kafka: FakeKafka) -> None:
    for _ in range(2):
        assert sender.send("flask-topic", "x", id="late", delay="1m") == Receipt("accepted", "late", "flask-topic")
        due = sender.send("flask-topic", "x", id="due", deliver_at=5)
        assert due == Receipt("delivered", "due", "flask-topic", 0, 1, 1_700_000_000_000)
    assert [record.id for record in kafka.produced] == ["late", "due"]
