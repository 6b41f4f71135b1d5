"""The description of the HTTP interface (OpenAPI 3.1), and a page for people that is made of it."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import Any

import msgspec

from recado.gateway.cloudevents import BATCH, STRUCTURED
from recado.gateway.openapi_letters import letter_paths, letter_schemas
from recado.gateway.openapi_schemas import COUNT, DELAY, DELIVER_AT, ID, TEXT, TOPIC, schemas
from recado.gateway.parse import JSON, MAX_RECORDS, NDJSON
from recado.gateway.problem import MEDIA_TYPE

__all__ = ["description", "openapi"]

#: Every status that a route may answer, and what it means; the tables below pick from it.
_MEANINGS = {
    "400": "Not JSON, not UTF-8, a broken encoding, or the body broke off. Nothing was sent.",
    "403": "This topic is not to be written to.",
    "404": "The topic does not exist; the detail says how to create it. Nothing was sent.",
    "408": "The body came too slowly. Nothing was sent.",
    "409": "A request with this key is under way. Nothing was sent.",
    "413": "The body, a record, or the number of records is too large. Nothing was sent, or Kafka refused the record.",
    "415": "A media type or an encoding that recado does not read.",
    "422": "A field is wrong; `field` names it, `line` or `index` tells where. Nothing was sent.",
    "429": "Too much is in flight. Nothing was sent; wait for Retry-After.",
    "503": "The spool is full, or off while no broker answers. Nothing was accepted; wait for Retry-After.",
}


@lru_cache(maxsize=8)
def openapi(topic: str, prefix: str = "") -> bytes:
    """The description as JSON; ``topic`` is the default one, ``prefix`` is where the routes are mounted."""
    return msgspec.json.encode(description(topic, prefix))


def description(topic: str, prefix: str) -> dict[str, Any]:
    """The description as plain values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "recado",
            "version": version("recado"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "A durable HTTP front door for Kafka. A 200 means that all in-sync replicas have it.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": {
            "/send": {"post": _send(topic)},
            "/send/{topic}": {"post": _send_raw(topic)},
            "/flush": {"post": _flush()},
            "/messages/{topic}/{id}": {"get": _message(topic)},
            "/messages/{topic}/{partition}/{offset}": {"get": _message_at(topic)},
            **letter_paths(),
            "/health/live": {"get": _get("live", "Is the process alive?", "Alive.")},
            "/health/ready": {"get": _ready()},
            "/metrics": {"get": _get("metrics", "Prometheus metrics", "The metrics.", "text/plain")},
            "/openapi.json": {"get": _get("openapi", "This description", "OpenAPI 3.1.")},
            "/docs": {"get": _get("docs", "This description for people", "A page.", "text/html")},
        },
        "components": {"schemas": {**schemas(topic), **letter_schemas()}},
    }


def _send(topic: str) -> dict[str, Any]:
    example = {"message": "Hola Kafka", "topic": topic}
    record, records = _ref("Record"), {"type": "array", "items": _ref("Record"), "minItems": 1}
    return {
        "operationId": "send",
        "summary": "Send records that are described in JSON",
        "description": (
            "One JSON object is one record; an array, or NDJSON with one object a line, is many. All are checked "
            "before any is sent. Results come in request order and in the form of the request; with "
            "`Prefer: return=minimal` many records get one summary. Bodies may be gzip or zstd."
        ),
        "parameters": [_PREFER, _KEY, _ENCODING, _TRACE],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"oneOf": [record, {**records, "maxItems": MAX_RECORDS}]}, "example": example},
                NDJSON: {"schema": record, "example": example},
            },
        },
        "responses": _send_responses("400", "403", "404", "408", "409", "413", "415", "422", "429", "503"),
    }


def _send_raw(topic: str) -> dict[str, Any]:
    def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
        return {"name": name, "in": "query", "schema": schema, "description": description}

    return {
        "operationId": "sendRaw",
        "summary": "Send the body as a record, byte for byte",
        "description": (
            "The Content-Type becomes the header `content-type`, each `Recado-Header-NAME: value` the header `name`. "
            "CloudEvents 1.0 in binary, structured and batch mode land by the CloudEvents Kafka binding."
        ),
        "parameters": [
            {"name": "topic", "in": "path", "required": True, "schema": TOPIC, "example": topic},
            query("key", TEXT, "The record's key, as UTF-8."),
            query("partition", COUNT, "One partition; by default the key decides."),
            query("timestamp", TEXT, "Milliseconds since 1970, or ISO 8601 with an offset."),
            query("id", ID, "The record's id; by default a new UUIDv7."),
            query("deliver_at", TEXT, DELIVER_AT),
            query("delay", DELAY, "As in JSON; not together with deliver_at."),
            _PREFER,
            _KEY,
            _ENCODING,
            _TRACE,
        ],
        "requestBody": {
            "content": {
                "*/*": {"schema": {"type": "string", "format": "binary"}},
                STRUCTURED: {"schema": {"type": "object"}},
                BATCH: {"schema": {"type": "array", "items": {"type": "object"}, "minItems": 1}},
            }
        },
        "responses": _send_responses("400", "403", "404", "408", "409", "413", "415", "422", "429", "503"),
    }


def _flush() -> dict[str, Any]:
    timeout = {"type": "number", "minimum": 0, "maximum": 3600, "default": 30}
    return {
        "operationId": "flush",
        "summary": "Wait until everything accepted so far is in Kafka",
        "parameters": [{"name": "timeout", "in": "query", "schema": timeout, "description": "Seconds."}],
        "responses": {
            "200": _content("All of it is there; `delivered` counts since the start.", _ref("Flushed")),
            "422": _problem(_MEANINGS["422"]),
            "504": _problem("Not in time; `pending` says how many records still wait."),
        },
    }


def _message(topic: str) -> dict[str, Any]:
    since = (
        "Where the id is no UUIDv7: when it was sent at the earliest, in ms since 1970 or ISO 8601 with an offset; "
        "a day ago where it is left out."
    )
    return {
        "operationId": "message",
        "summary": "Where is the message with this id?",
        "parameters": [
            {"name": "topic", "in": "path", "required": True, "schema": TOPIC, "example": topic},
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
            {"name": "since", "in": "query", "schema": TEXT, "description": since},
            _GROUP,
        ],
        "responses": _whereabouts(),
    }


def _message_at(topic: str) -> dict[str, Any]:
    return {
        "operationId": "messageAt",
        "summary": "Where is the message that stood first at this offset?",
        "parameters": [
            {"name": "topic", "in": "path", "required": True, "schema": TOPIC, "example": topic},
            {"name": "partition", "in": "path", "required": True, "schema": COUNT},
            {"name": "offset", "in": "path", "required": True, "schema": COUNT},
            _GROUP,
        ],
        "responses": _whereabouts(),
    }


def _whereabouts() -> dict[str, Any]:
    unknown = _content("Nobody knows it (`state` is `unknown`), or there is no such topic.", _ref("Whereabouts"))
    unknown["content"] |= _problem("")["content"]
    return {
        "200": _content("Where it is, and how far each group is with it.", _ref("Whereabouts")),
        "404": unknown,
        "422": _problem(_MEANINGS["422"]),
        "429": _problem("Other searches are under way; ask again soon."),
        "503": _problem("Kafka is unreachable, and it is not in this gateway's spool."),
        "504": _problem("The search took too long; the detail says how to narrow it."),
    }


def _ready() -> dict[str, Any]:
    return {
        "operationId": "ready",
        "summary": "Should requests come here?",
        "responses": {
            "200": _content("Yes.", _ref("Ready")),
            "503": _content("No; `reasons` says why.", _ref("Ready")),
        },
    }


def _get(name: str, summary: str, description: str, media_type: str = JSON) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "object"} if media_type == JSON else TEXT}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": description, "content": content}},
    }


def _send_responses(*refusals: str) -> dict[str, Any]:
    results = {"oneOf": [_ref("Delivered"), {"type": "array", "items": _ref("Result")}, _ref("Summary")]}
    many = {"oneOf": [{"type": "array", "items": _ref("Result")}, _ref("Summary")]}
    accepted = {"oneOf": [_ref("Accepted"), {"type": "array", "items": _ref("Result")}, _ref("Summary")]}
    unknown = {"oneOf": [_ref("Result"), {"type": "array", "items": _ref("Result")}, _ref("Summary")]}
    return {
        "200": _content("All in-sync replicas have every record.", results, NDJSON),
        "202": _content(
            "Not in its topic yet, but safe: on this gateway's disk until Kafka answers, or delayed and in Kafka.",
            accepted,
            NDJSON,
        ),
        "207": _content("Many were sent with different fates: each result carries its own.", many, NDJSON),
        **{status: _refusal(status) for status in refusals},
        "504": _content("Kafka did not confirm in time: it may still arrive.", unknown, NDJSON),
    }


#: What Kafka may refuse record by record: many that all failed so answer with their results.
_BY_KAFKA = frozenset({"403", "404", "413", "422", "429", "503"})


def _refusal(status: str) -> dict[str, Any]:
    response = _problem(_MEANINGS[status])
    if status in _BY_KAFKA:
        many = {"oneOf": [{"type": "array", "items": _ref("Result")}, _ref("Summary")]}
        response["content"] |= {JSON: {"schema": many}, NDJSON: {"schema": _ref("Result")}}
    return response


def _content(description: str, schema: dict[str, Any], *more: str) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": schema}}
    content |= {media_type: {"schema": _ref("Result")} for media_type in more}
    return {"description": description, "content": content}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": TEXT, "description": description}


_PREFER = _header(
    "Prefer",
    "`wait=N`: seconds to wait for Kafka's confirmation. `respond-async`: answer once the records are safe on disk. "
    "`return=minimal`: one summary.",
)
_KEY = _header("Idempotency-Key", "The same answer again for 24 h, one record in Kafka. It becomes the record's id.")
_ENCODING = _header("Content-Encoding", "`gzip` or `zstd`.")
_TRACE = _header("traceparent", "W3C trace context; goes on into the records' headers.")
_GROUP = {"name": "group", "in": "query", "schema": TEXT, "description": "Only how far this group is."}
