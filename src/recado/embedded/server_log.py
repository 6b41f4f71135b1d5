"""The log file of a broker: kept bounded, and read for the lines that explain a failure."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DISK_FULL", "explain", "rotate", "tail"]

#: One older file of at most about this size is kept; a start with its INFO lines takes about 40 KB.
_ROTATE_AT_BYTES = 8 * 1024 * 1024

#: Enough for the last stack trace, and read at once.
_TAIL_BYTES = 64 * 1024

#: What fits a terminal under the sentence that says what failed.
_LINES = 8

#: How both the JVM and the system put it.
DISK_FULL = "No space left on device"

_ALARMS = ("ERROR", "FATAL", "Exception", "Error:", "Could not", "Unrecognized", "OutOfMemory", DISK_FULL)


def rotate(path: Path) -> None:
    """Set a large log aside as ``….1``, before a start; the older one goes."""
    if path.exists() and path.stat().st_size > _ROTATE_AT_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))


def tail(path: Path, *, since_bytes: int = 0) -> list[str]:
    """Return the last lines after a position, at most 64 KB of them; none when the file cannot be read."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(max(since_bytes, size_bytes - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def explain(lines: list[str]) -> list[str]:
    """Return the few lines that say what went wrong: alarms without their stack traces, else the last ones."""
    alarms = [line for line in lines if any(a in line for a in _ALARMS) and not line.startswith(("\t", " "))]
    return (alarms or [line for line in lines if line.strip()])[-_LINES:]
