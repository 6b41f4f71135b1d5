"""What is asked about dead letters is checked whole before anything happens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recado.gateway.api import create_app
from recado.gateway.letter_requests import (
    LIST_PARAMETERS,
    DiscardAsked,
    RedriveAsked,
    discard_asked,
    list_asked,
    redrive_asked,
)
from recado.gateway.openapi import openapi
from recado.gateway.problem import Problem
from recado.kafka.abstract import Link
from recado.letters.filter import Filter
from recado.settings import Settings
from tests.fronts import FakeKafka

ONE = "dlq.g.orders/0/17"


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_a_redrive_is_read():
    asked = redrive_asked(body(kind="X in y", since=5_000, until="2026-01-02T03:04:05Z", canary=True, rate=10))
    assert asked.filter() == Filter(kind="X in y", since=5_000, until=1_767_323_045_000)
    assert (asked.steps(), asked.rate, asked.new_value(), asked.follow) == ([1, 10], 10, None, True)
    assert redrive_asked(body(letters=["dlq.g.orders/000/0017"])).filter() == Filter(letters=[ONE])
    assert redrive_asked(body(letters=[ONE], value="é")).new_value() == "é".encode()
    assert redrive_asked(body(letters=[ONE], value_base64="/w==")).new_value() == b"\xff"
    assert redrive_asked(body(all=True, canary=[5, 50])).steps() == [5, 50]
    assert discard_asked(body(all=True, reason="test")).filter() == Filter()


@pytest.mark.parametrize(
    ("fields", "field"),
    [({}, "letters"), ({"letters": []}, "letters"), ({"letters": ["nonsense"]}, "letters"),
     ({"letters": [ONE + "/x"]}, "letters"), ({"letters": [ONE] * 10_001}, "letters"), ({"knd": "x"}, "knd"),
     ({"all": True, "rate": -1}, "rate"), ({"all": True, "rate": 1e300}, "rate"),
     ({"all": True, "rate": 1e-300}, "rate"), ({"all": True, "letters": [ONE]}, "all"),
     ({"all": True, "kind": "x"}, "all"), ({"since": 7, "until": 7}, "until"),
     ({"all": True, "canary": [0]}, "canary"), ({"all": True, "canary": [10**20]}, "canary"),
     ({"all": True, "canary": [1, 100_001]}, "canary"), ({"all": True, "by": "x" * 501}, "by"),
     ({"text": "x" * 800_000}, "text"), ({"letters": ["dlq.g." + "x" * 90 + "/0/17"] * 9_000, "key": "k"}, "letters"),
     ({"all": True, "canary": [1] * 11}, "canary"), ({"all": True, "value": "x"}, "value"),
     ({"letters": [ONE, ONE], "value": "x"}, "value"),
     ({"letters": [ONE], "value": "x", "value_base64": ""}, "value_base64"),
     ({"letters": [ONE], "value_base64": "no!"}, "value_base64"), ({"since": "yesterday"}, "since"),
     ({"since": "2026-01-02T03:04:05"}, "since"), ({"until": 0}, "until"), ({"all": 1}, "all")],
)  # fmt: skip
def test_what_is_wrong_is_named(fields, field):
    with pytest.raises(Problem) as refused:
        redrive_asked(body(**fields))
    assert (refused.value.status, refused.value.extensions["field"]) == (422, field)


@pytest.mark.parametrize("fields", [{}, {"reason": " "}, {"reason": "x" * 4_001}])
def test_a_discard_needs_a_reason_that_can_be_noted(fields):
    with pytest.raises(Problem) as refused:
        discard_asked(body(all=True, **fields))
    assert refused.value.extensions["field"] == "reason"


def test_who_discards_is_noted_so_the_name_has_its_limit():
    assert discard_asked(body(all=True, reason="x" * 4_000, by="x" * 500)).by == "x" * 500
    with pytest.raises(Problem) as refused:
        discard_asked(body(all=True, reason="x", by="x" * 501))
    assert refused.value.extensions["field"] == "by"


def test_a_list_is_read():
    asked = list_asked("group=g&key=a+b&text=%C3%A9&since=5&limit=7&letters=0")
    assert (asked.group, asked.limit, asked.letters) == ("g", 7, 0)
    assert asked.wanted == Filter(key="a b", text="é", since=5)
    assert (list_asked("").limit, list_asked("").wanted) == (3_000, Filter())
    for query in (
        "limit=0",
        "limit=100001",
        "letters=1001",
        "limit=x",
        "nothing=1",
        "since=x",
        "limit=1&limit=1",
        "since=7&until=7",
    ):
        with pytest.raises(Problem):
            list_asked(query)


def test_every_field_and_parameter_is_described():
    api = json.loads(openapi("flask-topic"))
    described = api["components"]["schemas"]
    assert set(described["RedriveAsked"]["properties"]) == set(RedriveAsked.__struct_fields__)
    assert set(described["DiscardAsked"]["properties"]) == set(DiscardAsked.__struct_fields__)
    assert {p["name"] for p in api["paths"]["/dead-letters"]["get"]["parameters"]} == LIST_PARAMETERS


CALLS = [("get", "/dead-letters"), ("get", "/dead-letters/dlq.g.t/0/0"), ("post", "/dead-letters/redrive"),
         ("post", "/dead-letters/discard"), ("get", "/dead-letters/redrives"), ("get", "/dead-letters/redrives/1"),
         ("post", "/dead-letters/redrives/1/stop"), ("post", "/dead-letters/redrives/1/resume")]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_nothing_answers_where_it_is_not_switched_on(method, path, tmp_path):
    answer = client(tmp_path, switched_on=False).open(path, method=method.upper(), json={"all": True, "reason": "x"})
    assert (answer.status_code, answer.json["code"]) == (403, "not-switched-on")


@pytest.mark.parametrize("path", [path for method, path in CALLS if method == "post"])
def test_no_page_of_another_site_can_settle_letters(path, tmp_path):
    """What a browser sends across sites without asking first is never ``application/json``."""
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        answer = client(tmp_path).post(path, data=b'{"all":true,"reason":"x"}', content_type=content_type)
        assert (answer.status_code, answer.json["code"]) == (415, "unsupported-media-type")


def test_refusals_before_kafka_is_asked(tmp_path):
    http = client(tmp_path)
    for answer, status in (
        (http.post("/dead-letters/redrive", data=b"{", content_type="application/json"), 400),
        (http.post("/dead-letters/redrive", json={}), 422),
        (http.post("/dead-letters/redrive?group=", json={"all": True}), 422),
        (http.post(f"/dead-letters/redrive?group={'g' * 300}", json={"all": True}), 422),
        (http.post("/dead-letters/discard", json={"all": True, "reason": "x" * 5_000_000}), 413),
        (http.get("/dead-letters?limit=x"), 422),
        (http.get("/dead-letters"), 503),
        (http.post("/dead-letters/redrive", json={"all": True}), 503),
    ):
        assert (answer.status_code, answer.content_type) == (status, "application/problem+json")


def client(folder, *, switched_on: bool = True):
    settings = Settings(
        bootstrap_servers="127.0.0.1:1", data_dir=folder, spool=False, dead_letters_api=switched_on,
    )  # fmt: skip
    return create_app(settings, connect=lambda _: Link(FakeKafka(), FakeKafka(), FakeKafka)).test_client()
