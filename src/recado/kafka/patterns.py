"""Patterns of topic names, as Python writes them and as librdkafka reads them (pure)."""

from __future__ import annotations

import re

from recado.errors import ConfigurationError

__all__ = ["posix"]

#: What Python's classes of characters are in a bracket. Topic names are ASCII and hold no space.
_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " "}

#: Python's ends of a text.
_ENDS = {"A": "^", "Z": "$"}

#: A bracket with what is in it, a protected character, a lazy quantifier (it finds the same names as a greedy one).
_PARTS = re.compile(
    r"\[(?P<not>\^?)(?P<inside>\]?(?:\\.|[^\]])*)\]|\\(?P<protected>.)|(?P<lazy>[*+?}])\?",
    re.DOTALL,
)


def posix(pattern: str) -> str:
    r"""A pattern for librdkafka, which gives it to regcomp(3) as an extended one: ``\d`` would mean the letter d.

    Raises ConfigurationError for what POSIX cannot say.
    """

    def said(part: re.Match[str]) -> str:
        if part["lazy"]:
            return part["lazy"]
        if part["protected"]:
            return _protected(part["protected"])
        return f"[{part['not']}{_inside(part['inside'], pattern)}]"

    return _PARTS.sub(said, pattern)


def _protected(one: str) -> str:
    if one.lower() in _CLASSES:
        return f"[{'^' if one.isupper() else ''}{_CLASSES[one.lower()]}]"
    return _ENDS.get(one, "\\" + one)


def _inside(text: str, pattern: str) -> str:
    """In a POSIX bracket a backslash is a character of its own; there a ``]`` stands first and a ``-`` last."""
    first, last, found = "", "", []
    for one in re.findall(r"\\.|.", text, re.DOTALL):
        bare = one[-1]
        if one in (r"\D", r"\W", r"\S"):
            detail = f"has {one} in brackets, which Kafka's client cannot read"
            raise ConfigurationError(f"the pattern {pattern!r} {detail}.")
        if bare == "]":
            first = "]"
        elif one == r"\-":
            last = "-"
        else:
            found.append(bare if one == bare else _CLASSES.get(bare, bare))
    return first + "".join(found) + last
