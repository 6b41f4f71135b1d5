"""Text of somebody else's that is safe to print: it can neither rule a terminal nor break a line."""

from __future__ import annotations

import base64

__all__ = ["printable", "shown"]


def printable(text: str) -> str:
    """The text with control characters and line breaks escaped as Python writes them."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shown(value: bytes) -> str:
    """Bytes for a person: printable text where they are UTF-8, else base64 that says so."""
    try:
        return printable(value.decode())
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()
