"""Copies of failed records: for another attempt, and as dead letters."""

from __future__ import annotations

import pytest

from recado.errors import ConfigurationError
from recado.kafka.memory import MemoryMessage
from recado.outcomes.dead_letter import HEADER_FAILURE, cause_of, dead_letter
from recado.outcomes.delay import opened
from recado.outcomes.group_topics import dead_letter_topic, is_group_topic, retry_topic, source_of
from recado.outcomes.history import HEADER_HISTORY, History, began, failed, failure_of, header_of, history_of
from recado.outcomes.retry import retry_copy, retry_record
from recado.record import Outgoing

NOW = 1_800_000_000_000


def message(*headers: tuple[str, bytes | None], value: bytes | None = b"v") -> MemoryMessage:
    return MemoryMessage(Outgoing("orders", value, "", b"k", list(headers), timestamp_ms=5), 2, 7)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_each_group_and_topic_has_its_topics_and_finds_the_way_back():
    assert retry_topic("g", "orders.eu") == "retry.g.orders.eu"
    assert dead_letter_topic("g", "orders.eu") == "dlq.g.orders.eu"
    assert source_of("retry.g.orders.eu", "g") == "orders.eu"
    assert source_of("retry.h.orders", "g") is None
    assert source_of("retry.g.", "g") is None
    assert [is_group_topic(t) for t in ("retry.g.x", "dlq.g.x", "recado.delay.2s", "retries", "orders")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_groups_whose_names_no_topic_may_have_do_not_share_one():
    names = {retry_topic(group, "orders") for group in ("a b", "a/b", "a_b")}
    assert len(names) == 3
    assert source_of(retry_topic("a b", "orders"), "a b") == "orders"
    assert source_of(retry_topic("a b", "orders"), "a/b") is None


def test_a_name_that_kafka_does_not_allow_is_refused():
    with pytest.raises(ConfigurationError, match="too long together"):
        retry_topic("g" * 100, "t" * 200)


def test_a_history_counts_and_keeps_the_first_failure_and_the_newest_ten():
    history = began(message(), "g")
    assert history == History("g", "orders", 2, 7, 5)
    for number in range(15):
        history = failed(history, failure_of(ValueError(f"{number}" * 300), NOW + number))
    assert (history.attempts, history.first_failure_ms, history.last_failure_ms) == (15, NOW, NOW + 14)
    assert [failure.at_ms for failure in history.failures] == [NOW + number for number in range(5, 15)]
    assert all(len(failure.error) <= 200 for failure in history.failures)
    assert history_of(message(header_of(history))) == history


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[1]", b'{"group":"g","topic":"t","partition":-1,"offset":1}'])
def test_a_history_that_is_none_of_ours_is_none(value):
    assert history_of(message((HEADER_HISTORY, value))) is None


def test_a_retry_copy_is_the_record_with_its_id_and_its_history_and_lands_when_it_is_due():
    history = failed(began(message(), "g"), failure_of(ValueError("x"), NOW), due_ms=NOW + 60_000)
    copy = retry_copy(message(("a", None), ("a", b"2")), history, 1, NOW)
    ticket = opened(copy.headers)
    assert ticket is not None
    assert (ticket.topic, ticket.partition, ticket.due_ms, ticket.timestamp_ms) == (
        "retry.g.orders",
        1,
        NOW + 60_000,
        0,
    )
    assert (copy.value, copy.key, copy.id) == (b"v", b"k", "orders/2/7")
    assert [pair for pair in copy.headers if pair[0] == "a"] == [("a", None), ("a", b"2")]
    again = retry_record(message(("recado-id", b"mine"), header_of(history)), history, 0)
    assert (again.id, again.topic) == ("mine", "retry.g.orders")
    assert [name for name, _ in again.headers] == ["recado-id", HEADER_HISTORY]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("kafka", {"__dlq.errors.topic": b"orders", "__dlq.errors.offset": b"7", "__dlq.errors.delivery.count": b"1"}),
        ("connect", {"__connect.errors.topic": b"orders", "__connect.errors.exception.class.name": b"ValueError"}),
        ("spring", {"kafka_dlt-original-offset": b"\0" * 7 + b"\7", "kafka_dlt-original-partition": b"\0\0\0\2"}),
    ],
)
def test_a_dead_letter_says_why_in_the_family_that_was_asked_for(family, expected):
    error = raised(ValueError("no such customer"))
    history = failed(began(message(), "g"), failure_of(error, NOW))
    letter = dead_letter(message(("own", b"1")), history, cause_of(error, "gave up"), partition=2, family=family)
    headers = dict(letter.headers)
    assert (letter.topic, letter.value, letter.key, letter.partition) == ("dlq.g.orders", b"v", b"k", 2)
    assert headers["own"] == b"1"
    assert expected.items() <= headers.items()
    assert headers[HEADER_FAILURE] == f"ValueError in {__name__}.raised".encode()
    assert history_of(MemoryMessage(letter, 0, 0)) == history


def test_a_trimmed_dead_letter_is_small_and_still_says_who_and_why():
    error = raised(ValueError("x" * 5000))
    history = failed(began(message(), "g"), failure_of(error, NOW))
    letter = dead_letter(message(), history, cause_of(error, "y" * 5000), partition=0, trimmed=True)
    assert sum(len(name) + len(value or b"") for name, value in letter.headers) < 1500
    assert dict(letter.headers)["__dlq.errors.exception.class.name"] == b"ValueError"


def test_a_history_beyond_the_calendar_still_makes_a_dead_letter():
    history = History("g", "t", 0, 7, first_failure_ms=2**62, last_failure_ms=2**62)
    letter = dead_letter(message(), history, cause_of(ValueError("x"), "why"), partition=0)
    assert "__dlq.errors.first.failure" not in dict(letter.headers)
    assert dict(letter.headers)["__dlq.errors.message"] == b"why"
