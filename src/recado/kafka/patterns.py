"""Patterns of topic names, as Python writes them and as librdkafka reads them (pure)."""

from __future__ import annotations

__all__ = ["posix"]

#: What Python's classes of characters are in a bracket. Topic names are ASCII and hold no space.
_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " "}


def posix(pattern: str) -> str:
    r"""A pattern for librdkafka, which gives it to regcomp(3) as an extended one: ``\d`` would mean the letter d.

    In a POSIX bracket a backslash is a character of its own, so what it protects there stands alone.
    """
    found: list[str] = []
    inside, at = False, 0
    while at < len(pattern):
        one, following = pattern[at], pattern[at + 1 : at + 2]
        if one == "\\" and following:
            if following.lower() in _CLASSES:
                meant = _CLASSES[following.lower()]
                found.append(meant if inside else f"[{'^' if following.isupper() else ''}{meant}]")
            else:
                found.append(following if inside else one + following)
            at += 2
            continue
        if one == "[" and not inside:
            inside = True
            start = pattern[at + 1 : at + 2] == "^"
            # A bracket that stands first in it is one of its characters.
            first = at + 1 + start
            if pattern[first : first + 1] == "]":
                found.append(pattern[at : first + 1])
                at = first + 1
                continue
        elif one == "]" and inside:
            inside = False
        found.append(one)
        at += 1
    return "".join(found)
