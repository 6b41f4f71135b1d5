"""Dead letters are read in each family of headers, whoever wrote them, and counted by kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.kafka.memory import MemoryMessage
from recado.outcomes.dead_letter import FAMILIES, cause_of, dead_letter
from recado.outcomes.glance import glance_of
from recado.outcomes.history import HEADER_HISTORY, Failure, began, failed
from recado.outcomes.letter import letter_of
from recado.outcomes.letter_kinds import MAX_KINDS, Kinds
from recado.record import Outgoing

SOURCE = MemoryMessage(Outgoing("orders", b"v", id="", key=b"k", headers=[("recado-id", b"an-id")]), 3, 77, 5_000)


def written(family: str, *, ours: bool = True) -> MemoryMessage:
    history = failed(began(SOURCE, "g"), Failure(1_000, "first"), Failure(2_500, "second"))
    try:
        raise ConnectionError("away")
    except ConnectionError as error:
        cause = cause_of(error, "attempt 2 of 2 failed")
    record = dead_letter(SOURCE, history, cause, partition=3, family=family)
    headers = [pair for pair in record.headers if ours or not pair[0].startswith("recado-")]
    return MemoryMessage(Outgoing(record.topic, record.value, id="", key=record.key, headers=headers), 1, 9, 9_000)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ours", [True, False])
def test_each_family_tells_where_a_letter_stood_and_why(family, ours):
    letter = letter_of(written(family, ours=ours))
    assert (letter.topic, letter.partition, letter.offset, letter.timestamp_ms) == ("dlq.g.orders", 1, 9, 9_000)
    assert (letter.source_topic, letter.source_partition, letter.source_offset) == ("orders", 3, 77)
    assert (letter.group, letter.error_class, letter.error_message) == ("g", "ConnectionError", "away")
    assert "ConnectionError: away" in letter.stack
    if ours:
        assert (letter.id, letter.attempts, letter.first_failure_ms, letter.last_failure_ms) == ("an-id", 2, 1000, 2500)
        assert letter.fingerprint.startswith("ConnectionError in ")
        assert [failure.error for failure in letter.failures] == ["first", "second"]
    else:
        assert letter.fingerprint == "ConnectionError"


NAMES = st.sampled_from(
    [
        HEADER_HISTORY,
        "recado-failure",
        "recado-id",
        "__dlq.errors.partition",
        "__dlq.errors.first.failure",
        "__dlq.errors.group",
        "__dlq.errors.exception.message",
        "__dlq.errors.message",
        "kafka_dlt-original-consumer-group",
        "kafka_dlt-exception-message",
        "__connect.errors.connector.name",
        "__connect.errors.offset",
        "kafka_dlt-original-partition",
        "kafka_dlt-original-offset",
        "other",
    ]
)


@given(st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=30))))
def test_no_header_is_an_error_and_a_glance_tells_the_same(headers):
    same(MemoryMessage(Outgoing("dlq.g.t", None, id="", headers=headers), 0, 0, 0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ours", [True, False])
def test_a_glance_tells_the_same_of_each_family(family, ours):
    same(written(family, ours=ours))


def same(message: MemoryMessage) -> None:
    letter, glance = letter_of(message), glance_of(message)
    assert (letter.topic, letter.partition, letter.offset, letter.timestamp_ms, letter.group, letter.fingerprint) == (
        glance.topic, glance.partition, glance.offset, glance.timestamp_ms, glance.group, glance.fingerprint,
    )  # fmt: skip
    assert (letter.error_message or letter.reason) == glance.error


def test_letters_are_counted_by_kind_the_newest_first_in_bounded_memory():
    kinds = Kinds()
    for number in range(MAX_KINDS + 50):
        headers = [("recado-failure", b"%d" % number), ("__dlq.errors.exception.message", b"m%d" % number)]
        message = MemoryMessage(Outgoing("dlq.g.t", None, id="", headers=headers), 0, number, 1_000 + number)
        kinds.add(glance_of(message))
        kinds.add(glance_of(message))
    found = kinds.newest_first()
    assert kinds.seen == 2 * (MAX_KINDS + 50) == sum(kind.count for kind in found)
    assert len(found) == MAX_KINDS + 1
    rest = found[0]
    assert (rest.fingerprint, rest.count, rest.newest, rest.error) == ("others", 100, "dlq.g.t/0/1049", "m1049")
    assert (found[1].fingerprint, found[1].count, found[1].first_ms, found[1].last_ms) == ("999", 2, 1999, 1999)
