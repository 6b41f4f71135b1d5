"""The description of the routes about dead letters."""

from __future__ import annotations

from typing import Any

from recado.gateway.letter_requests import MOST_NAMED, MOST_READ, MOST_TOLD, READ, TOLD
from recado.gateway.openapi_schemas import COUNT, TEXT
from recado.gateway.parse import JSON
from recado.gateway.problem import MEDIA_TYPE
from recado.letters.redrive import MAX_BY, MAX_REASON, MAX_STEP

__all__ = ["letter_paths", "letter_schemas"]

_MOMENT = {"type": ["integer", "string", "null"], "minimum": 1, "description": "ms since 1970, or ISO 8601."}
_FLAG = {"type": "boolean", "default": False}
_GROUP = {"name": "group", "in": "query", "schema": TEXT, "description": "By default `RECADO_GROUP`."}
_ID = {"name": "id", "in": "path", "required": True, "schema": TEXT}

_REFUSALS = {
    "400": "Not JSON, or the body broke off. Nothing was done.",
    "403": "Not switched on (`RECADO_DEAD_LETTERS_API`), or Kafka refuses it.",
    "404": "There is no such letter, redrive or topic.",
    "409": "A redrive of this group runs here, or another program has taken over.",
    "413": "The body is too large.",
    "415": "The body must be `application/json`.",
    "422": "A field is wrong; `field` names it. Nothing was done.",
    "429": "Too much is under way; ask again soon.",
    "500": "Something unexpected; the detail says what.",
    "503": "Kafka is unreachable. What was settled until then is.",
    "504": "The search took too long; the detail says how to narrow it.",
}
_LOOKING = ("403", "404", "422", "429", "500", "503", "504")
_CHANGING = ("400", "403", "404", "409", "413", "415", "422", "429", "500", "503", "504")


def letter_paths() -> dict[str, Any]:
    """The paths."""
    place = [
        {"name": "topic", "in": "path", "required": True, "schema": TEXT},
        {"name": "partition", "in": "path", "required": True, "schema": COUNT},
        {"name": "offset", "in": "path", "required": True, "schema": COUNT},
    ]
    one = "Where it stood, every failed attempt, the stack, headers, key and value."
    return {
        "/dead-letters": {
            "get": _call("listDeadLetters", "Dead letters by kind, and the newest", _listing(), "LetterList", _LOOKING)
        },
        "/dead-letters/{topic}/{partition}/{offset}": {
            "get": _call("deadLetter", "One dead letter", [*place, _GROUP], "DeadLetter", _LOOKING, said=one)
        },
        "/dead-letters/redrive": {
            "post": _call(
                "redrive", "Bring dead letters back to their group", [_GROUP], "LettersMeant", _CHANGING,
                body="RedriveAsked", said="Only counted (`dry_run`).", started=True,
            )
        },
        "/dead-letters/discard": {
            "post": _call(
                "discard", "Give dead letters up for good", [_GROUP], "Discarded", _CHANGING, body="DiscardAsked",
                said="Done, or only counted (`dry_run`). Where `complete` is false, ask again: it goes on.",
            )
        },
        "/dead-letters/redrives": {
            "get": _call("redrives", "Every redrive of a group, the newest first", [_GROUP], "Redrives", _LOOKING)
        },
        "/dead-letters/redrives/{id}": {
            "get": _call("redriveOf", "How far a redrive is", [_ID, _GROUP], "Redrive", _LOOKING)
        },
        "/dead-letters/redrives/{id}/stop": {
            "post": _call("stopRedrive", "Stop a redrive, wherever it runs", [_ID, _GROUP], "Redrive", _CHANGING)
        },
        "/dead-letters/redrives/{id}/resume": {
            "post": _call(
                "resumeRedrive", "Go on with a redrive here", [_ID, _GROUP], "Redrive", _CHANGING,
                body="ResumeAsked", said="All have come back already.", started=True,
            )
        },
    }  # fmt: skip


def letter_schemas() -> dict[str, Any]:
    """The schemas."""
    which = {
        "letters": {
            "type": "array",
            "items": TEXT,
            "maxItems": MOST_NAMED,
            "description": "As TOPIC/PARTITION/OFFSET.",
        },
        "topic": {**TEXT, "description": "Of this source topic."},
        "kind": {**TEXT, "description": "Of this kind, as the list writes it."},
        "key": {"type": ["string", "null"], "description": "With this key."},
        "text": {**TEXT, "description": "With this text in the value or the error."},
        "since": _MOMENT,
        "until": _MOMENT,
        "all": {**_FLAG, "description": "Every letter of the group: without a filter it must be said."},
        "by": {**TEXT, "maxLength": MAX_BY, "description": "Who does this; by default the client's address."},
        "dry_run": {**_FLAG, "description": "Only count them."},
    }
    follow = {"type": "boolean", "default": True, "description": "See what becomes of them."}
    step = {"type": "integer", "minimum": 1, "maximum": MAX_STEP}
    steps = {"oneOf": [{"type": "boolean"}, {"type": "array", "maxItems": 10, "items": step}]}
    kind = _object(
        fingerprint=TEXT, topic=TEXT, count=COUNT, first_ms=_whole(), last_ms=_whole(), newest=TEXT, error=TEXT
    )
    line = _object(timestamp_ms=_whole(), letter=TEXT, fingerprint=TEXT, error=TEXT)
    return {
        "LetterList": _object(
            group=TEXT, total=COUNT, settled=COUNT, read=COUNT, matched=COUNT,
            kinds={"type": "array", "items": kind}, letters={"type": "array", "items": line},
        ),
        "DeadLetter": {
            "type": "object",
            "required": ["topic", "partition", "offset", "settled", "headers", "fingerprint"],
            "properties": {"settled": {"enum": ["redriven", "discarded", None]}, "headers": {"type": "array"}},
        },
        "RedriveAsked": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                **which,
                "rate": {"type": "number", "minimum": 0, "description": "At most so many a second; 0: no limit."},
                "canary": {**steps, "description": "First so many (true: 1, then 10); stop when some are dead again."},
                "value": {"type": ["string", "null"], "description": "For one letter: another value."},
                "value_base64": {"type": ["string", "null"], "description": "Likewise, as base64."},
                "follow": follow,
            },
        },
        "DiscardAsked": {
            "type": "object",
            "additionalProperties": False,
            "required": ["reason"],
            "properties": {**which, "reason": {**TEXT, "maxLength": MAX_REASON}},
        },
        "ResumeAsked": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"follow": follow},
        },
        "LettersMeant": _object(group=TEXT, letters=COUNT),
        "Discarded": {"type": "object", "required": ["group"], "properties": {"discarded": COUNT, "letters": COUNT}},
        "Redrives": _object(group=TEXT, redrives={"type": "array", "items": _ref("Redrive")}),
        "Redrive": _object(
            id=TEXT, at=COUNT, by=TEXT, asked={"type": "object"}, state={"enum": ["running", "stopped", "done"]},
            redriven=COUNT, succeeded=COUNT, dead_again=COUNT, canary={"type": "array", "items": COUNT},
            rate={"type": "number"}, here={"type": "boolean"}, waiting={"type": ["integer", "null"]},
            left={"type": "object", "additionalProperties": COUNT, "description": "Their topic does not exist."},
            ended={"enum": ["done", "dead again", "looked away", "stopped", None]}, error={"type": ["string", "null"]},
        ),
    }  # fmt: skip


def _listing() -> list[dict[str, Any]]:
    def query(name: str, schema: dict[str, Any], said: str) -> dict[str, Any]:
        return {"name": name, "in": "query", "schema": schema, "description": said}

    return [
        _GROUP,
        query("topic", TEXT, "Of this source topic."),
        query("kind", TEXT, "Of this kind."),
        query("key", TEXT, "With this key."),
        query("text", TEXT, "With this text in the value or the error."),
        query("since", TEXT, "That died since then: ms since 1970, or ISO 8601 with an offset."),
        query("until", TEXT, "That died before."),
        query("limit", {**COUNT, "minimum": 1, "maximum": MOST_READ, "default": READ}, "Read so many, the newest."),
        query("letters", {**COUNT, "maximum": MOST_TOLD, "default": TOLD}, "Tell so many one by one."),
    ]


def _call(
    name: str, summary: str, parameters: list[dict[str, Any]], answer: str, refusals: tuple[str, ...],
    *, body: str = "", said: str = "", started: bool = False,
) -> dict[str, Any]:  # fmt: skip
    responses: dict[str, Any] = {"200": _content(said or summary + ".", answer)}
    if started:
        responses["202"] = _content("It has begun; ask how far it is.", "Redrive")
    responses |= {
        status: {"description": _REFUSALS[status], "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}
        for status in refusals
    }
    call = {"operationId": name, "summary": summary, "parameters": parameters, "responses": responses}
    if body:
        call["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(body)}}}
    return call


def _content(said: str, schema: str) -> dict[str, Any]:
    return {"description": said, "content": {JSON: {"schema": _ref(schema)}}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _whole() -> dict[str, Any]:
    return {"type": "integer"}
