"""How `recado send` cuts lines, makes records and tells their fates, without a Kafka."""

import io
import itertools
import json
import threading

import pytest

from recado.cli.send import lines
from recado.cli.sending import Maker, Sending
from recado.errors import DeliveryUnknown, NotAllowed
from recado.kafka.delivery import Delivery
from recado.record import HEADER_ID
from tests.command import recado

MAKER = Maker("orders", b"k", [("source", b"shop")], -1)


class Pipe(io.BytesIO):
    """Gives what came in the pieces in which it came."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self._pieces = iter(pieces)

    def read1(self, size: int | None = -1) -> bytes:
        return next(self._pieces, b"")


class Confirming:
    """A producer that settles every record at once: as told, and delivered where nothing is."""

    def __init__(self, fates=(), *, silent=False):
        self._fates = itertools.chain(fates, ((0, offset, 1) for offset in itertools.count()))
        self._silent = silent
        self.sent = []

    def send(self, delivery: Delivery) -> None:
        self.sent += delivery.records
        if not self._silent:
            for index in range(len(delivery.records)):
                delivery.settle(index, next(self._fates))


class Held:
    """A producer that settles nothing until it is released."""

    def __init__(self):
        self._held = []
        self._lock = threading.Lock()

    def send(self, delivery: Delivery) -> None:
        with self._lock:
            self._held.append(delivery)

    def release(self):
        with self._lock:
            for delivery in self._held:
                for index in range(len(delivery.records)):
                    delivery.settle(index, (0, index, 0))


def test_lines_come_as_they_are_typed():
    assert list(lines(Pipe(b"one\n", b"two\nthree\n"), 100)) == [[b"one"], [b"two", b"three"]]


def test_a_pause_is_told_so_that_what_came_can_be_confirmed_meanwhile():
    pauses = iter([True, False, True])
    assert list(lines(Pipe(b"a\n", b"b\n", b"c"), 100, lambda: next(pauses))) == [[b"a"], [], [b"b"], [], [b"c"]]


def test_a_line_may_come_in_pieces_and_the_last_without_its_end():
    assert list(lines(Pipe(b"on", b"e\r", b"\ntw", b"o"), 100)) == [[b"one"], [b"two"]]


def test_an_empty_line_is_an_empty_record_and_no_line_is_none():
    assert list(lines(Pipe(b"\n\r\na\n"), 100)) == [[b"", b"", b"a"]]
    assert list(lines(Pipe(), 100)) == []


def test_of_a_line_without_end_only_enough_is_kept_to_refuse_it():
    ((line,), following) = lines(Pipe(*[b"x" * 1000] * 50, b"\n", b"y\n"), 100)
    assert 100 < len(line) <= 1102
    assert following == [b"y"]


def test_every_record_has_an_id_of_its_own_beside_the_headers_that_were_given():
    first, second = MAKER.records([b"a", b"b"])
    assert first.id != second.id
    assert first.id[14] == "7"  # the version of its UUID
    assert first.headers == [(HEADER_ID, first.id.encode()), ("source", b"shop")]
    assert (first.value, first.key, first.topic, first.partition) == (b"a", b"k", "orders", -1)
    assert MAKER.records([]) == []


def test_the_size_of_a_record_counts_key_and_headers():
    (record,) = MAKER.records([b"abc"])
    whole = len(b"abc" + record.key) + sum(len(name) + len(value) for name, value in record.headers)
    assert MAKER.overhead_bytes + 3 == whole


def test_a_confirmed_record_is_told_by_its_place(capsys):
    with Sending(Confirming([(2, 41, 1)]), wait_s=1, as_json=False) as sending:
        assert sending.add(MAKER.records([b"a"]))
        sending.finish()
    assert "delivered to orders, partition 2, offset 41" in capsys.readouterr().out
    assert sending.tally.places == {2: (1, 41, 41)}


def test_many_are_told_by_their_sum(capsys):
    fates = [(number % 2, number // 2, 1) for number in range(100)]
    with Sending(Confirming(fates), wait_s=1, as_json=False) as sending:
        sending.add(MAKER.records([b"a"] * 60))
        sending.add(MAKER.records([b"a"] * 40))
        sending.finish()
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert sending.tally.sentence("orders").splitlines() == [
        "100 of 100 records delivered to orders",
        "  partition 0: 50 (offsets 0 to 49)",
        "  partition 1: 50 (offsets 0 to 49)",
    ]


def test_json_has_a_line_for_every_record_in_its_order(capsys):
    with Sending(Confirming([(0, 1, 5), NotAllowed("no")]), wait_s=1, as_json=True) as sending:
        records = MAKER.records([b"a", b"b"])
        assert not sending.add(records)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "status": "delivered", "id": records[0].id, "topic": "orders", "partition": 0, "offset": 1, "timestamp": 5,
    }  # fmt: skip
    assert second == {
        "status": "failed", "id": records[1].id, "topic": "orders", "code": "not-allowed", "detail": "no",
    }  # fmt: skip


def test_the_first_failure_ends_it(capsys):
    with Sending(Confirming([NotAllowed("topic orders: no")]), wait_s=1, as_json=False) as sending:
        assert not sending.add(MAKER.records([b"a"]))
    assert "not delivered: topic orders: no" in capsys.readouterr().out
    assert sending.tally.failed == 1


def test_a_record_without_a_report_is_unconfirmed_and_not_called_failed(capsys):
    with Sending(Confirming(silent=True), wait_s=0.05, as_json=True) as sending:
        sending.add(MAKER.records([b"a"]))
        sending.finish()
    assert json.loads(capsys.readouterr().out)["status"] == "unknown"
    assert (sending.tally.unconfirmed, sending.tally.failed) == (1, 0)
    assert "1 unconfirmed" in sending.tally.sentence("orders")


def test_an_unknown_fate_is_unconfirmed(capsys):
    with Sending(Confirming([DeliveryUnknown("timed out")]), wait_s=1, as_json=False) as sending:
        assert not sending.add(MAKER.records([b"a"]))
    assert "not confirmed: timed out" in capsys.readouterr().out


def test_it_waits_while_more_are_under_way_than_can_be_remembered(monkeypatch):
    monkeypatch.setattr("recado.cli.sending.UNDER_WAY", 3)
    producer = Held()
    with Sending(producer, wait_s=30, as_json=False) as sending:
        sending.add(MAKER.records([b"a", b"b"]))
        assert sending.tally.delivered == 0
        release = threading.Timer(0.05, producer.release)
        release.start()
        sending.add(MAKER.records([b"c", b"d"]))
        assert sending.tally.delivered >= 2
        release.join()
        sending.finish()
    assert sending.tally.delivered == 4


@pytest.mark.parametrize("header", ["novalue", "=x", "recado-id=1", "a=b\nc"])
def test_a_header_that_is_wrong_is_a_usage_error_before_kafka_is_asked(header, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = recado("send", "orders", "v", "--header", header, RECADO_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert ran.code == 2
    assert "header" in ran.err
