"""The schemas of the HTTP interface's description."""

from __future__ import annotations

from typing import Any

from recado.tracking.where import STATES

__all__ = ["COUNT", "DELAY", "DELIVER_AT", "ID", "TEXT", "TOPIC", "schemas"]

ID = {"type": "string", "pattern": "^[\\x21-\\x7e]{1,200}$", "description": "Default: a new UUIDv7."}
TOPIC = {"type": "string", "pattern": "^[a-zA-Z0-9._-]{1,249}$"}
DELAY = {"type": "string", "pattern": "^[0-9]{1,15}(ms|s|m|h|d)$", "description": "Such as 500ms, 10s or 90m."}
DELIVER_AT = "When the record lands in its topic: ms since 1970, or ISO 8601 with an offset; 30 days ahead at most."
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
_MOMENT = {"type": "string", "format": "date-time", "description": "When a delayed record lands, in UTC."}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _optional(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def schemas(topic: str) -> dict[str, Any]:
    """Every schema by its name; ``topic`` is the default one."""
    return {
        "Record": {
            **_object(
                ["message"],
                message={
                    "description": "A string becomes its UTF-8 bytes, other JSON its compact form, null a tombstone."
                },
                topic=_optional({**TOPIC, "default": topic}),
                key=_optional(TEXT),
                headers=_optional({"type": "object", "additionalProperties": TEXT}),
                partition=_optional(COUNT),
                timestamp={"type": ["integer", "string", "null"], "minimum": 1, "description": "ms, or ISO 8601."},
                id=_optional(ID),
                deliver_at={"type": ["integer", "string", "null"], "minimum": 1, "description": DELIVER_AT},
                delay=_optional(DELAY),
            ),
            "additionalProperties": False,
        },
        **_fates(),
        "Flushed": _object(
            ["status", "delivered", "pending"], status={"const": "flushed"}, delivered=COUNT, pending=COUNT
        ),
        "Whereabouts": _object(
            ["id", "topic", "state", "groups"],
            id=TEXT,
            topic=TEXT,
            partition=_optional(COUNT),
            offset=_optional(COUNT),
            timestamp={"type": ["integer", "null"]},
            state={"enum": [*STATES, "accepted", "unknown"]},
            deliver_at=_optional(COUNT),
            refused=_optional(TEXT),
            groups={"type": "array", "items": _with_group()},
        ),
        "Ready": _object(["status", "reasons"], status=TEXT, reasons={"type": "array", "items": {"type": "object"}}),
        "Problem": _object(
            ["title", "status", "detail", "code"],
            type=TEXT,
            title=TEXT,
            status={"type": "integer"},
            detail=TEXT,
            code=TEXT,
            field=TEXT,
            line=COUNT,
            index=COUNT,
        ),
    }


def _with_group() -> dict[str, Any]:
    """How far one group is with a message."""
    attempt = _object(["at", "error"], at=COUNT, error=TEXT)
    return _object(
        ["group", "state", "attempts"],
        group=TEXT,
        state={"enum": list(STATES)},
        attempts={"type": "array", "items": attempt},
        next_attempt_at=_optional(COUNT),
        dead_letter=_optional(TEXT),
    )


def _fates() -> dict[str, Any]:
    """What became of one record, and of many."""
    place = {"id": TEXT, "topic": TOPIC, "partition": COUNT, "offset": COUNT, "timestamp": COUNT}
    return {
        "Delivered": _object([*place, "status"], status={"const": "delivered"}, **place),
        "Accepted": _object(
            ["status", "id", "topic"],
            status={"const": "accepted"},
            id=TEXT,
            topic=TOPIC,
            deliver_at=_MOMENT,
        ),
        "Result": _object(
            ["status", "id", "topic"],
            status={"enum": ["delivered", "accepted", "failed", "unknown"]},
            **place,
            deliver_at=_MOMENT,
            code=TEXT,
            detail=TEXT,
        ),
        "Summary": _object(
            ["status", "records", "delivered", "accepted", "failed", "unknown"],
            status={"enum": ["delivered", "accepted", "failed", "unknown", "mixed"]},
            **dict.fromkeys(["records", "delivered", "accepted", "failed", "unknown"], COUNT),
            errors={"type": "array", "items": _object(["code", "detail", "records"])},
        ),
    }
