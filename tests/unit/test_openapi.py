"""The description of the HTTP interface: valid, complete, and true of real answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft202012Validator

from recado.errors import Backpressure, DeliveryUnknown, RecordTooLarge
from recado.gateway.api import create_app
from recado.gateway.docs_page import docs_page
from recado.gateway.openapi import openapi
from recado.kafka.abstract import Link
from recado.settings import Settings
from tests.fronts import Answered, FakeKafka, gate

API = json.loads(openapi("flask-topic"))

OPERATIONS = [(path, method, call) for path, item in API["paths"].items() for method, call in item.items()]

PLACE = (0, 1, 1_700_000_000_000)


def nodes(tree: Any, path: str = "#") -> Iterator[tuple[str, Any]]:
    yield path, tree
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from nodes(value, f"{path}/{key}")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from nodes(value, f"{path}/{index}")


def schemas() -> Iterator[tuple[str, Any]]:
    yield from API["components"]["schemas"].items()
    yield from ((path, node["schema"]) for path, node in nodes(API) if isinstance(node, dict) and "schema" in node)


def check(instance: Any, schema: Any) -> None:
    """Validate against a schema of the description, whose references point into it."""
    jsonschema.validate(instance, {**schema, "components": API["components"]}, Draft202012Validator)


# Structure (OpenAPI 3.1.0)


def test_the_frame_is_openapi_3_1():
    assert re.fullmatch(r"3\.1\.\d+", API["openapi"])
    assert API["info"]["title"]
    assert API["info"]["version"]
    assert set(API) <= {"openapi", "info", "servers", "paths", "components", "tags", "security", "webhooks"}
    assert all(path.startswith("/") for path in API["paths"])
    assert all(server["url"] for server in API["servers"])


def test_every_operation_is_well_formed():
    names = [call["operationId"] for _, _, call in OPERATIONS]
    assert len(set(names)) == len(names)
    for path, method, call in OPERATIONS:
        assert method in {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
        assert call["summary"]
        assert call["responses"]
        for status, response in call["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert response["description"]
            assert all(re.fullmatch(r"[\w*+.-]+/[\w*+.-]+", media_type) for media_type in response["content"])
        parameters = [(p["in"], p["name"]) for p in call.get("parameters", ())]
        assert len(set(parameters)) == len(parameters)
        for parameter in call.get("parameters", ()):
            assert parameter["in"] in {"query", "header", "path", "cookie"}
            assert parameter["schema"]
            assert parameter.get("required") is True or parameter["in"] != "path"
        assert {name for where, name in parameters if where == "path"} == set(re.findall(r"{(\w+)}", path))
        if "requestBody" in call:
            assert call["requestBody"]["content"]


def test_every_schema_is_one_and_every_reference_leads_somewhere():
    for _, schema in schemas():
        Draft202012Validator.check_schema(schema)
    used = {node["$ref"] for _, node in nodes(API) if isinstance(node, dict) and "$ref" in node}
    assert used == {f"#/components/schemas/{name}" for name in API["components"]["schemas"]}, "dangling, or unused"


def test_every_example_fits_its_schema():
    found = 0
    for _, node in nodes(API):
        if isinstance(node, dict) and "schema" in node and "example" in node:
            check(node["example"], node["schema"])
            found += 1
    assert found >= 3


# Completeness


def test_every_route_is_described_and_every_description_is_a_route():
    app = create_app(Settings(spool=False), connect=lambda _: Link(FakeKafka(), FakeKafka(), FakeKafka))
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {(path, method) for path, method, _ in OPERATIONS}


def test_every_field_of_a_record_is_described():
    from recado.gateway.envelope import Envelope

    assert set(API["components"]["schemas"]["Record"]["properties"]) == set(Envelope.__struct_fields__)


def test_every_query_parameter_is_described():
    from recado.gateway.reader import RAW_PARAMETERS

    described = {p["name"] for p in API["paths"]["/send/{topic}"]["post"]["parameters"] if p["in"] == "query"}
    assert described == RAW_PARAMETERS


def test_the_description_knows_where_it_is_mounted_and_its_topic():
    mounted = json.loads(openapi("orders", "/kafka"))
    assert mounted["servers"] == [{"url": "/kafka"}]
    assert mounted["components"]["schemas"]["Record"]["properties"]["topic"]["default"] == "orders"
    assert "/kafka/send" in docs_page("orders", "/kafka")


def test_the_page_for_people_tells_every_route_and_needs_nothing_from_elsewhere():
    page = docs_page("flask-topic")
    for path, method, call in OPERATIONS:
        assert f"{method.upper()} {path}" in page
        assert all(status in page for status in call["responses"])
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert "<script>alert" not in docs_page("flask-topic", "/<script>alert(1)</script>")


# Truth: real answers of both fronts


@pytest.fixture(params=["flask", "asgi"])
def http(request):
    with gate(request.param, max_body_bytes=100_000, max_record_bytes=10_000) as opened:
        yield opened


def described(answer: Answered, path: str, method: str = "post") -> None:
    """The answer's status, media type and body are in the description."""
    responses = API["paths"][path][method]["responses"]
    assert str(answer.status) in responses, f"{answer.status} is not described for {path}"
    content = responses[str(answer.status)]["content"]
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in content, f"{answer.status} in {media_type} is not described for {path}"
    schema = content[media_type]["schema"]
    if media_type.endswith("x-ndjson"):
        for line in answer.lines:
            check(line, schema)
    elif media_type.endswith("json"):
        check(answer.json, schema)


FATES = {
    "delivered": lambda number, record: PLACE,
    "failed": lambda number, record: RecordTooLarge("big"),
    "unknown": lambda number, record: DeliveryUnknown("?"),
    "full": lambda number, record: Backpressure("full"),
    "silent": lambda number, record: None,
    "mixed": lambda number, record: RecordTooLarge("big") if number % 2 else PLACE,
}


@pytest.mark.parametrize("fate", FATES)
def test_answers_of_one_record_are_as_described(http, fate):
    http.kafka.fate = FATES[fate]
    described(http.send({"message": 1}, prefer="wait=0" if fate == "silent" else "wait=5"), "/send")
    described(http.request("POST", "/send/other", b"x", prefer="wait=0" if fate == "silent" else ""), "/send/{topic}")


@pytest.mark.parametrize("fate", ["delivered", "unknown", "silent", "mixed", "failed", "full"])
def test_answers_of_many_records_are_as_described(http, fate):
    http.kafka.fate = FATES[fate]
    wait = "wait=0" if fate == "silent" else "wait=5"
    described(http.send([{"message": 1}, {"message": 2}], prefer=wait), "/send")
    described(http.lines(b'{"message":1}\n{"message":2}\n', prefer=wait), "/send")
    described(http.send([{"message": 1}, {"message": 2}], prefer=f"{wait}, return=minimal"), "/send")


def test_refusals_are_as_described(http):
    json_type = {"content_type": "application/json"}
    for answer in (
        http.send(b"{"),
        http.send({"message": 1, "key": 1}),
        http.send([{"message": 1}, {"message": 1, "partition": -1}]),
        http.send({"message": 1, "topic": "__consumer_offsets"}),
        http.send({"message": 1, "topic": "nowhere"}),
        http.send({"message": "x" * 20_000}),
        http.send({"message": "x" * 200_000}),
        http.send({"message": 1}, content_type="text/plain"),
        http.send({"message": 1}, idempotency_key="k k"),
        http.lines(b'{"message":1}\n{"message":\n'),
    ):
        described(answer, "/send")
    described(http.request("POST", "/send/other?partition=x", b"x"), "/send/{topic}")
    described(http.request("POST", "/flush?timeout=x"), "/flush")
    http.kafka.reachable = False
    described(http.send({"message": 1}), "/send")
    described(http.request("POST", "/send/other", b"x", **json_type), "/send/{topic}")


def test_the_other_answers_are_as_described(http):
    described(http.request("POST", "/flush"), "/flush")
    for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"):
        described(http.request("GET", path), path, "get")
    http.kafka.reachable = False
    described(http.request("GET", "/health/ready"), "/health/ready", "get")
    http.kafka.reachable = True
    http.kafka.fate = lambda number, record: None
    http.send({"message": 1}, prefer="wait=0")
    described(http.request("POST", "/flush?timeout=0"), "/flush")


@pytest.mark.parametrize(
    "wrong",
    [{"key": 1}, {"partition": -1}, {"partition": "1"}, {"id": "a b"}, {"headers": {"a": 1}}, {"topic": "a b"},
     {"timestamp": 0}, {"typo": 1}, {"timestamp": 1.5},
     {"deliver_at": 0}, {"delay": "10"}, {"delay": "-1s"}, {"delay": 1}],
)  # fmt: skip
def test_what_the_schema_refuses_the_gateway_refuses(http, wrong):
    record = {"message": "x", **wrong}
    assert http.send(record).status == 422
    with pytest.raises(jsonschema.ValidationError):
        check(record, {"$ref": "#/components/schemas/Record"})


@pytest.mark.parametrize(
    "right",
    [{}, {"key": "k"}, {"partition": 0}, {"id": "a-b"}, {"headers": {"a": ""}}, {"timestamp": 1},
     {"timestamp": "2026-01-02T03:04:05Z"}, {"topic": "other"}, {"delay": "0s"}, {"deliver_at": 1}],
)  # fmt: skip
@pytest.mark.parametrize("message", ["x", "", 1, 1.5, None, True, [], {}])
def test_what_the_schema_takes_the_gateway_takes(http, right, message):
    record = {"message": message, **right}
    check(record, {"$ref": "#/components/schemas/Record"})
    assert http.send(record).status == 200


@pytest.mark.parametrize("name", ["topic", "key", "headers", "partition", "timestamp", "id", "deliver_at", "delay"])
def test_null_for_an_optional_field_is_described(http, name):
    assert http.send({"message": 1, name: None}).status == 200
    check({"message": 1, name: None}, {"$ref": "#/components/schemas/Record"})
