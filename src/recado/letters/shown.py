"""One dead letter as a program reads it."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from recado.kafka.abstract import Message
from recado.kafka.headers import headers_of
from recado.outcomes.letter import letter_of
from recado.outcomes.settled import What

__all__ = ["as_object", "field"]


def as_object(message: Message, settled: What | None = None) -> dict[str, Any]:
    """What it tells, its key, value and headers, and how it is settled (None: it is not)."""
    return {
        **msgspec.to_builtins(letter_of(message)),
        "settled": settled,
        **field("key", message.key()),
        **field("value", message.value()),
        "headers": [{"name": name, **field("value", value)} for name, value in headers_of(message)],
    }


def field(name: str, value: bytes | None) -> dict[str, Any]:
    """Bytes in JSON: text under their name where they are UTF-8, else base64 under ``NAME_base64``."""
    try:
        return {name: None if value is None else value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value or b"").decode()}
