"""``deliver_at`` and ``delay`` in every form of a request."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.gateway.envelope import Outline
from recado.gateway.parse import LineParser, parse_json, parse_raw
from recado.gateway.problem import Problem
from recado.outcomes.delay import MAX_DELAY_MS, Delayed
from recado.record import Outgoing

NOW = 1_700_000_000_123

OUTLINE = Outline("orders", lambda count: ["an-id"] * count, 10_000, now_ms=lambda: NOW)

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def one(**fields) -> Outgoing:
    return parse_json(json.dumps({"message": "x", **fields}).encode(), OUTLINE)[0][0]


def raw(**query) -> Outgoing:
    return parse_raw("orders", b"x", query, [], OUTLINE)


def line(**fields) -> Outgoing:
    parser = LineParser(OUTLINE)
    parser.feed(json.dumps({"message": "x", **fields}).encode())
    return parser.finish()[0]


@given(st.sampled_from(sorted(UNITS)), st.integers(1, 10**6), st.sampled_from([one, raw, line]))
def test_a_delay_is_counted_from_now(unit, number, form):
    ms = number * UNITS[unit]
    if ms > MAX_DELAY_MS:
        with pytest.raises(Problem, match="30 days"):
            form(delay=f"{number}{unit}")
        return
    record = form(delay=f"{number}{unit}")
    assert isinstance(record, Delayed)
    assert (record.target, record.due_ms, record.timestamp_ms) == ("orders", NOW + ms, NOW)


@given(st.integers(1, MAX_DELAY_MS), st.integers(-12, 14))
def test_deliver_at_is_ms_or_iso_8601_with_any_offset(ms, hours):
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=NOW + ms)
    text = moment.astimezone(timezone(timedelta(hours=hours))).isoformat()
    for record in (one(deliver_at=NOW + ms), one(deliver_at=text), raw(deliver_at=text), raw(deliver_at=str(NOW + ms))):
        assert isinstance(record, Delayed)
        assert record.due_ms == NOW + ms


@pytest.mark.parametrize("fields", [{"deliver_at": NOW}, {"deliver_at": 1}, {"deliver_at": "2001-01-01T00:00:00Z"},
                                    {"delay": "0s"}, {"delay": None}, {"deliver_at": None}])  # fmt: skip
def test_what_is_due_goes_to_its_topic(fields):
    assert type(one(**fields)) is Outgoing
    assert one(**fields).topic == "orders"


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "+1s", "1.5s", "1h30m", " 1s", "1s ", "1 s", "1S", "1w", "1e3s",
                                  "\u0661s", "1s\n", "9" * 16 + "ms", "31d", "2592000001ms"])  # fmt: skip
def test_a_malformed_delay_names_the_field(text):
    for form in (one, raw, line):
        with pytest.raises(Problem) as caught:
            form(delay=text)
        assert (caught.value.status, caught.value.extensions["field"]) == (422, "delay")


@pytest.mark.parametrize("moment", ["soon", "2026-01-01T00:00:00", 0, -1, NOW + MAX_DELAY_MS + 1, 2**53])
def test_a_wrong_moment_names_the_field(moment):
    for form in (one, line):
        with pytest.raises(Problem) as caught:
            form(deliver_at=moment)
        assert (caught.value.status, caught.value.extensions["field"]) == (422, "deliver_at")
    with pytest.raises(Problem):
        raw(deliver_at=str(moment))


def test_a_timestamp_that_kafka_would_refuse_at_the_moment_of_delivery_is_refused_now():
    with pytest.raises(Problem) as caught:
        one(delay="1s", timestamp=NOW + 3_602_000)
    assert (caught.value.status, caught.value.extensions["field"]) == (422, "timestamp")
    assert one(delay="1s", timestamp=NOW + 3_600_000)


def test_both_at_once_are_refused():
    with pytest.raises(Problem, match="exclude each other"):
        one(delay="1s", deliver_at=NOW + 5)


def field_of_problem(**fields) -> str | None:
    try:
        one(**fields)
    except Problem as problem:
        return problem.extensions["field"]
    return None


@given(st.text(max_size=12))
def test_any_text_is_a_delay_or_a_problem(text):
    assert field_of_problem(delay=text) in (None, "delay")


@given(st.text(max_size=12) | st.integers())
def test_any_moment_is_one_or_a_problem(moment):
    assert field_of_problem(deliver_at=moment) in (None, "deliver_at")
