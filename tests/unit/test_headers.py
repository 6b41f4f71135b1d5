"""Headers that confluent_kafka cannot read, in a stand-in for its messages (the real ones: tests/integration)."""

from __future__ import annotations

from recado import Reject, Worker
from recado.kafka.headers import UNREADABLE, headers_of
from recado.kafka.memory import MemoryKafka, MemoryMessage
from recado.record import Outgoing, Record, TopicPartition
from tests.twin import GROUP, member, wait_committed


class Unreadable(MemoryMessage):
    """Fails at the first question for its headers, and would end the process at the second."""

    __slots__ = ("_asked", "_made")

    def __init__(self) -> None:
        super().__init__(Outgoing("orders", b"x", id=""), 0, 0)
        self._asked = False
        self._made = [("a", b"1"), (b"2",)]  # the hole of the second pair is its missing part

    def headers(self):
        if isinstance(self._headers, list):
            return self._headers
        assert not self._asked, "asked twice"
        self._asked = True
        raise SystemError("returned a result with an exception set")

    def set_headers(self, headers):
        self._headers = headers


def test_what_the_client_could_read_is_kept_and_it_is_asked_once():
    message = Unreadable()
    assert headers_of(message) == headers_of(message) == [("a", b"1"), (UNREADABLE, b"2")]


def test_a_record_with_an_unreadable_header_is_handled_and_may_become_a_dead_letter():
    kafka, worker, got = MemoryKafka({"orders": 1}), Worker(), []

    @worker.handler("orders")
    def handle(record: Record):
        got.append(record.headers)
        if record.offset == 0:
            raise Reject("no")

    kafka.logs[TopicPartition("orders", 0)].append(Unreadable())
    kafka.send("orders", "y")
    with member(worker, kafka) as running:
        wait_committed(kafka, 2)
        assert running.end() == 0
    assert got == [(("a", b"1"), (UNREADABLE, b"2")), ()]
    (letter,) = kafka.logs[TopicPartition(f"dlq.{GROUP}.orders", 0)]
    assert letter.headers()[:2] == [("a", b"1"), (UNREADABLE, b"2")]
