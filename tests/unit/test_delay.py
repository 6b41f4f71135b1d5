"""When delayed records move on: never early, in few hops, and back to what their sender made."""

from __future__ import annotations

from itertools import cycle, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.outcomes.delay import (
    HEADER_DELAY,
    LEVELS,
    LONGEST_PARK,
    MAX_DELAY_MS,
    Step,
    Ticket,
    delay,
    hop,
    is_delay_topic,
    land,
    level_for,
    levels_up_to,
    next_step,
    opened,
    park,
    renew,
    wake_ms,
)
from recado.record import Outgoing

NOW = 1_700_000_000_000

BY_TOPIC = {level.topic: level for level in LEVELS}

#: What a day, each smaller level and the last wait can make of 30 days.
MOST_HOPS = 31 + sum(-(-above.delay_ms // below.delay_ms) for below, above in pairwise(LEVELS))


def record(**given) -> Outgoing:
    return Outgoing("orders", b"x", "id-1", **{"headers": [("recado-id", b"id-1"), ("a", b"b")], **given})


@given(st.integers(1, MAX_DELAY_MS), st.lists(st.integers(0, 30), min_size=1))
def test_it_is_never_early_and_arrives_in_few_hops(remaining_ms, slowness_ms):
    """Every hop takes some ms more than it should, as on a real machine."""
    now, due = NOW, NOW + remaining_ms
    at = delay(record(), due_ms=due, now_ms=now)
    slow = cycle(slowness_ms)
    level, ticket, hops = BY_TOPIC[at.topic], opened(at.headers), 0
    now = wake_ms(ticket, level, now, now) + next(slow)
    while next_step(due, now) is Step.HOP:
        level = BY_TOPIC[hop(ticket, None, b"x", at.headers, now).topic]
        assert level.delay_ms <= due - now
        now = wake_ms(ticket, level, now, now) + next(slow)
        hops += 1
    if next_step(due, now) is Step.WAIT:
        assert 0 < due - now < LEVELS[0].delay_ms
        now = due
    assert next_step(due, now) is Step.LAND
    assert 0 <= now - due <= 30
    assert hops <= MOST_HOPS


@pytest.mark.parametrize(
    ("remaining_ms", "name"),
    [(1, "2s"), (1999, "2s"), (2000, "2s"), (7999, "2s"), (8000, "8s"), (120_000, "2m"), (MAX_DELAY_MS, "1d")],
)
def test_it_takes_the_largest_delay_that_is_not_longer_than_what_remains(remaining_ms, name):
    assert level_for(remaining_ms).topic == f"recado.delay.{name}"


@given(
    st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=9),
    st.lists(st.tuples(st.sampled_from(["a", HEADER_DELAY, "recado-id"]), st.binary(max_size=5)), max_size=4),
    st.integers(-1, 9), st.integers(0, 2**53 - 1),
)  # fmt: skip
def test_what_lands_is_what_was_sent(key, value, headers, partition, timestamp_ms):
    sent = Outgoing("orders", value, "", key, headers, partition, timestamp_ms)
    at = delay(sent, due_ms=NOW + 9000, now_ms=NOW)
    assert (at.topic, at.partition, at.timestamp_ms) == ("recado.delay.8s", -1, NOW)
    assert (at.target, at.target_partition, at.due_ms, at.key, at.value) == (
        "orders",
        partition,
        NOW + 9000,
        key,
        value,
    )
    ticket = opened(at.headers)
    back = land(ticket, at.key, at.value, at.headers)
    assert (back.topic, back.value, back.key, back.headers, back.partition, back.timestamp_ms) == (
        "orders", value, key, headers, partition, timestamp_ms,
    )  # fmt: skip


def test_a_record_that_has_waited_on_disk_goes_where_it_should_now():
    at = delay(record(key=b"k", partition=2), due_ms=NOW + 60_000, now_ms=NOW)
    assert at.topic == "recado.delay.30s"
    later = renew(at, NOW + 50_000)
    assert (later.topic, later.timestamp_ms, later.id, later.key) == ("recado.delay.8s", NOW + 50_000, "id-1", b"k")
    assert later.headers == at.headers
    due = renew(at, NOW + 60_000)
    assert (due.topic, due.partition, due.id) == ("orders", 2, "id-1")
    assert due.headers == record().headers
    assert renew(record(), NOW) == record()


def test_a_record_that_cannot_land_rests_longer_each_time():
    at = delay(record(), due_ms=NOW - 1000, now_ms=NOW)
    headers, rests = at.headers, []
    for tries in range(8):
        parked = park(opened(headers), None, b"x", headers, NOW)
        headers = parked.headers
        assert opened(headers).tries == tries + 1
        assert parked.headers[1:] == at.headers[1:]
        level = BY_TOPIC[parked.topic]
        assert wake_ms(opened(headers), level, NOW, NOW) == NOW + level.delay_ms  # though it was due long ago
        rests.append(level)
    assert rests == [*LEVELS[: LONGEST_PARK + 1], *[LEVELS[LONGEST_PARK]] * 3]


def test_a_stamp_from_a_clock_ahead_does_not_make_it_wait_longer():
    ticket = Ticket(NOW + 60_000, "orders")
    assert wake_ms(ticket, LEVELS[2], NOW + 3_600_000, NOW) == NOW + 30_000
    assert wake_ms(ticket, LEVELS[2], NOW - 10_000, NOW) == NOW + 20_000
    assert wake_ms(Ticket(NOW + 5, "orders"), LEVELS[0], NOW, NOW) == NOW + 5


@pytest.mark.parametrize(
    "headers",
    [None, [], [("a", b"b")], [("a", b"b"), (HEADER_DELAY, b'{"due_ms":1,"topic":"t"}')], [(HEADER_DELAY, None)],
     [(HEADER_DELAY, b"\xff")], [(HEADER_DELAY, b"{}")], [(HEADER_DELAY, b'{"due_ms":-1,"topic":"t"}')],
     [(HEADER_DELAY, b'{"due_ms":1,"topic":"t","partition":-2}')], [(HEADER_DELAY, b'{"due_ms":1,"topic":"__x"}')],
     [(HEADER_DELAY, b'{"due_ms":1,"topic":"recado.delay.2s"}')], [(HEADER_DELAY, b'{"due_ms":1,"topic":"a b"}')],
     [(HEADER_DELAY, b'{"due_ms":1,"topic":"t","tries":-1}')]],
)  # fmt: skip
def test_foreign_tickets_are_none(headers):
    assert opened(headers) is None


def test_a_level_needs_all_below_it():
    assert [level.topic for level in levels_up_to("recado.delay.30s")] == [
        "recado.delay.2s", "recado.delay.8s", "recado.delay.30s",
    ]  # fmt: skip
    assert is_delay_topic("recado.delay.2s")
    assert not is_delay_topic("recado.delayed")
