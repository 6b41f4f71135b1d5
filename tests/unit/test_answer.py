"""From fates to answers: the status tells the truth, whatever came of each record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.errors import (
    Backpressure,
    DeliveryFailed,
    DeliveryUnknown,
    KafkaUnreachable,
    NotAllowed,
    RecadoError,
    RecordTooLarge,
    UnknownTopic,
)
from recado.gateway.answer import Answer, answer, problem_answer
from recado.gateway.problem import Problem, status_of
from recado.gateway.reader import Shape
from recado.kafka.delivery import Delivery, Position, Summary
from recado.record import Outgoing

Fate = Position | RecadoError | None

#: The contract's table (section 3): what an error is in HTTP.
STATUSES = {
    UnknownTopic("gone"): 404,
    NotAllowed("acl"): 403,
    RecordTooLarge("big"): 413,
    Backpressure("full"): 429,
    DeliveryFailed("no"): 422,
    KafkaUnreachable("away"): 503,
    DeliveryUnknown("?"): 504,
}

PLACE = (2, 41, 1_700_000_000_000)

MANY = [Shape.ARRAY, Shape.LINES, Shape.SUMMARY]

FATES = st.lists(
    st.one_of(st.none(), st.sampled_from(list(STATUSES)), st.tuples(st.integers(0, 9), st.integers(0), st.integers(0))),
    min_size=1,
    max_size=12,
)


def deliver(fates: Sequence[Fate], kind: type[Delivery] = Delivery) -> Delivery:
    records = [Outgoing("orders", b"x", f"id-{index}") for index in range(len(fates))]
    delivery = kind(records, lambda delivery: None)
    for index, fate in enumerate(fates):
        if fate is not None:
            delivery.settle(index, fate)
    return delivery


def say(fates: Sequence[Fate], shape: Shape) -> tuple[Answer, Any]:
    given_answer = answer(deliver(fates, Summary if shape is Shape.SUMMARY else Delivery), shape)
    if shape is Shape.LINES:
        assert given_answer.body.endswith(b"\n")
        return given_answer, [json.loads(line) for line in given_answer.body.splitlines()]
    return given_answer, json.loads(given_answer.body)


def header(given_answer: Answer, name: str) -> str | None:
    return {n.decode(): v.decode() for n, v in given_answer.headers}.get(name)


def test_one_delivered_is_200_with_its_place():
    given_answer, body = say([PLACE], Shape.ONE)
    assert (given_answer.status, header(given_answer, "content-type")) == (200, "application/json")
    assert body == {
        "status": "delivered", "id": "id-0", "topic": "orders", "partition": 2, "offset": 41,
        "timestamp": 1_700_000_000_000,
    }  # fmt: skip


@pytest.mark.parametrize("error", [e for e in STATUSES if not isinstance(e, DeliveryUnknown)], ids=lambda e: e.code)
def test_one_that_failed_is_a_problem_that_keeps_the_id(error):
    given_answer, body = say([error], Shape.ONE)
    assert given_answer.status == STATUSES[error] == status_of(error)
    assert header(given_answer, "content-type") == "application/problem+json"
    assert body["title"]
    assert {k: body[k] for k in ("status", "code", "detail", "id", "topic")} == {
        "status": STATUSES[error], "code": error.code, "detail": str(error), "id": "id-0", "topic": "orders",
    }  # fmt: skip
    assert (header(given_answer, "retry-after") is not None) == (STATUSES[error] in (429, 503))


@pytest.mark.parametrize("fate", [None, DeliveryUnknown("Kafka said nothing")])
def test_one_without_an_answer_is_504_unknown_with_its_id(fate):
    given_answer, body = say([fate], Shape.ONE)
    assert given_answer.status == 504
    assert (body["status"], body["id"]) == ("unknown", "id-0")


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize("error", STATUSES, ids=lambda e: e.code)
def test_many_of_one_fate_have_its_status(error, shape):
    given_answer, body = say([error] * 3, shape)
    assert given_answer.status == STATUSES[error]
    assert (header(given_answer, "retry-after") is not None) == (STATUSES[error] in (429, 503))
    if shape is Shape.SUMMARY:
        word = "unknown" if isinstance(error, DeliveryUnknown) else "failed"
        assert body["status"] == word
        assert body[word] == 3
        assert body["errors"] == [{"code": error.code, "detail": str(error), "records": 3}]


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize(
    ("fates", "status"),
    [
        ([PLACE, PLACE], 200),
        ([PLACE], 200),
        ([None, None], 504),
        ([None, DeliveryUnknown("?")], 504),
        ([PLACE, None], 207),
        ([PLACE, UnknownTopic("x")], 207),
        ([RecordTooLarge("x"), UnknownTopic("x")], 207),
        ([RecordTooLarge("x"), None], 207),
        ([RecordTooLarge("x"), RecordTooLarge("y")], 413),
        ([PLACE, RecordTooLarge("x"), DeliveryUnknown("?")], 207),
    ],
)
def test_many_are_207_as_soon_as_two_fates_differ(fates, status, shape):
    assert say(fates, shape)[0].status == status


@pytest.mark.parametrize(("shape", "media_type"), [(Shape.ARRAY, "json"), (Shape.LINES, "x-ndjson")])
def test_results_stand_in_request_order_in_the_form_of_the_request(shape, media_type):
    given_answer, results = say([PLACE, RecordTooLarge("big"), None, (0, 7, 5)], shape)
    assert header(given_answer, "content-type") == f"application/{media_type}"
    assert [(r["id"], r["status"]) for r in results] == [
        ("id-0", "delivered"), ("id-1", "failed"), ("id-2", "unknown"), ("id-3", "delivered"),
    ]  # fmt: skip
    assert (results[1]["code"], results[1]["detail"]) == ("record-too-large", "big")
    assert "offset" not in results[1]
    assert (results[3]["partition"], results[3]["offset"]) == (0, 7)


def test_a_summary_counts_and_groups_errors():
    fates = [PLACE, RecordTooLarge("big"), RecordTooLarge("big"), RecordTooLarge("bigger"), None, DeliveryUnknown("?")]
    given_answer, body = say(fates, Shape.SUMMARY)
    assert header(given_answer, "preference-applied") == "return=minimal"
    assert {k: body[k] for k in ("status", "records", "delivered", "failed", "unknown")} == {
        "status": "mixed", "records": 6, "delivered": 1, "failed": 3, "unknown": 2,
    }  # fmt: skip
    assert {(e["code"], e["detail"]): e["records"] for e in body["errors"]} == {
        ("record-too-large", "big"): 2, ("record-too-large", "bigger"): 1, ("delivery-unknown", "?"): 1,
    }  # fmt: skip


def test_a_summary_of_a_thousand_different_errors_is_still_short():
    given_answer, body = say([RecordTooLarge(f"record {n}") for n in range(1000)], Shape.SUMMARY)
    assert (given_answer.status, body["failed"], len(body["errors"])) == (413, 1000, 10)


@given(FATES)
def test_a_summary_says_what_the_results_say(fates):
    results, summary = say(fates, Shape.ARRAY), say(fates, Shape.SUMMARY)
    assert results[0].status == summary[0].status
    for word in ("delivered", "failed", "unknown"):
        assert summary[1][word] == sum(result["status"] == word for result in results[1])
    assert (results[0].status == 200) == all(isinstance(fate, tuple) for fate in fates)


@pytest.mark.parametrize("late", [PLACE, RecordTooLarge("big"), DeliveryUnknown("?")])
def test_a_summary_is_true_though_reports_come_while_it_is_made(late):
    class Racing(Summary):
        """A report comes right after each look, at how many are out or at what failed."""

        racing = False

        @property
        def outstanding(self) -> int:
            return self._seen(self._outstanding)

        @outstanding.setter
        def outstanding(self, value: int) -> None:
            self._outstanding = value

        @property
        def failures(self) -> dict[int, RecadoError]:
            return self._seen(dict(self._failures))

        @failures.setter
        def failures(self, value: dict[int, RecadoError]) -> None:
            self._failures = value

        def _seen(self, value: Any) -> Any:
            if self.racing and self._outstanding > 1:
                if isinstance(late, RecadoError):
                    self._failures[self._outstanding] = late
                self._outstanding -= 1
            return value

    delivery = Racing([Outgoing("t", b"", str(n)) for n in range(10)], lambda delivery: None)
    delivery.racing = True
    body = json.loads(answer(delivery, Shape.SUMMARY).body)
    assert body["delivered"] + body["failed"] + body["unknown"] == body["records"] == 10
    done = 10 - delivery._outstanding
    assert 0 <= body["delivered"] <= (done if isinstance(late, tuple) else 0)
    assert 0 <= body["failed"] <= (done if isinstance(late, RecordTooLarge) else 0)


def test_a_refusal_is_a_problem_document():
    problem = Problem(422, "invalid-field", "A field is wrong", 'key: "ñ"', field="key", line=3)
    given_answer = problem_answer(problem)
    assert header(given_answer, "content-type") == "application/problem+json"
    assert json.loads(given_answer.body) == {
        "type": "about:blank", "title": "A field is wrong", "status": 422, "code": "invalid-field",
        "detail": 'key: "ñ"', "field": "key", "line": 3,
    }  # fmt: skip


def test_every_error_of_the_table_has_a_title_of_its_own_and_others_are_500():
    titles = {Problem.of(error).title for error in STATUSES}
    assert len(titles) == len(STATUSES)
    assert status_of(RecadoError("?")) == 500
    again = Problem(413, "x", "X", "x", line=1)
    assert Problem.of(again, index=2).extensions == {"line": 1, "index": 2}
