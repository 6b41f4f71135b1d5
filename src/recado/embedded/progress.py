"""What a long step of the embedded Kafka tells the person who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Progress", "ProgressCallback", "Stage", "silent"]

#: ``check`` jars on disk, ``refused`` (a jar did not match its sum), ``fetch`` jars, ``java`` found,
#: ``format`` storage, ``start`` brokers, ``ready``, ``stop``. A stage may repeat as it advances.
Stage = Literal["check", "refused", "fetch", "java", "format", "start", "ready", "stop"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of the way. ``detail`` is a short text for a person; the numbers are 0 where they make no sense."""

    stage: Stage
    detail: str = ""
    files_done: int = 0
    files_total: int = 0
    size_done_bytes: int = 0
    size_total_bytes: int = 0


#: Called from whichever thread advances, one call at a time; must be quick and must not raise.
ProgressCallback = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Report to nobody."""
