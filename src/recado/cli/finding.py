"""What one check of `recado doctor` found."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Finding", "ok", "problem", "warning"]


class Finding(NamedTuple):
    """One line: what was checked, how it is, what was seen and, unless it is ok, what to do."""

    check: str
    status: Literal["ok", "warning", "problem"]
    detail: str
    remedy: str = ""


def ok(check: str, detail: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", detail)


def warning(check: str, detail: str, remedy: str) -> Finding:
    """It works, but not as well or as safely as it should."""
    return Finding(check, "warning", detail, remedy)


def problem(check: str, detail: str, remedy: str) -> Finding:
    """It does not work like this."""
    return Finding(check, "problem", detail, remedy)
