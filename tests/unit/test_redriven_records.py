"""The record that a redrive brings back is the one that died: nothing of its death sticks to it."""

from __future__ import annotations

import pytest

from recado.errors import RecadoError
from recado.kafka.memory import MemoryMessage
from recado.letters.back import back
from recado.outcomes.dead_letter import FAMILIES, cause_of, dead_letter
from recado.outcomes.history import HEADER_HISTORY, Failure, began, failed, history_of
from recado.outcomes.letter import letter_of
from recado.record import Outgoing

OWN = [("traceparent", b"t"), ("__dlq.errors.topic", b"another's"), ("null", None), ("twice", b"1"), ("twice", b"2")]
SOURCE = MemoryMessage(Outgoing("orders", b"v", id="", key=b"k", headers=[*OWN, ("recado-id", b"an-id")]), 3, 77, 5_000)


def died(message: MemoryMessage, family: str) -> MemoryMessage:
    history = failed(history_of(message) or began(message, "g"), Failure(1_000, "x"))
    record = dead_letter(message, history, cause_of(ConnectionError("away"), "given up"), partition=3, family=family)
    return MemoryMessage(record, 3, 9, 9_000)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_its_own_headers_again_however_often_it_died(family):
    message, sizes = SOURCE, set()
    for times in range(1, 4):
        dead = died(message, family)
        sizes.add(len(dead.headers() or ()))
        record = back(letter_of(dead), dead, "g", partitions=4)
        assert record.headers[: len(OWN)] == OWN
        assert [name for name, _ in record.headers[len(OWN) :]] == ["recado-id", HEADER_HISTORY]
        assert (record.topic, record.partition, record.key, record.value, record.id) == (
            "retry.g.orders", 3, b"k", b"v", "an-id",
        )  # fmt: skip
        message = MemoryMessage(record, 3, times, 9_500)
        history = history_of(message)
        assert history is not None
        assert (history.attempts, history.redriven, history.offset, history.dead_letter) == (
            0, times, 77, "dlq.g.orders/3/9",
        )  # fmt: skip
    assert len(sizes) == 1


def test_another_value_takes_the_place_of_its_own():
    dead = died(SOURCE, "kafka")
    record = back(letter_of(dead), dead, "g", partitions=1, value=b"better")
    assert (record.value, record.id, record.partition) == (b"better", "an-id", 0)


def test_a_letter_of_another_program_keeps_all_headers():
    told = {"topic": b"orders", "partition": b"1", "offset": b"5"}
    headers = [("__connect.errors." + name, value) for name, value in told.items()]
    dead = MemoryMessage(Outgoing("dlq.g.orders", b"v", id="", headers=headers), 0, 0, 9_000)
    record = back(letter_of(dead), dead, "g", partitions=2)
    assert record.headers[:3] == headers
    assert (record.topic, record.partition, record.id) == ("retry.g.orders", 1, "orders/1/5")


def test_a_letter_that_tells_nothing_comes_back_as_it_is():
    dead = MemoryMessage(Outgoing("dlq.g.orders", b"v", id="", key=b"k", headers=[("a", b"b")]), 5, 0, 9_000)
    record = back(letter_of(dead), dead, "g", partitions=2)
    assert (record.topic, record.partition, record.value, record.headers) == ("retry.g.orders", 1, b"v", [("a", b"b")])
    with pytest.raises(RecadoError, match="no dead-letter topic of group other"):
        back(letter_of(dead), dead, "other", partitions=2)
