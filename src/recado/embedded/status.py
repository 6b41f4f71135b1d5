"""What an embedded Kafka looks like at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["BrokerStatus", "Status"]


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """One broker. ``silent``: its process runs but does not answer (it starts, is paused or is stuck)."""

    id: int
    address: str
    state: Literal["answering", "silent", "stopped"]
    pid: int | None
    log: Path


@dataclass(frozen=True, slots=True)
class Status:
    """All brokers; ``version`` is None and ``brokers`` empty when none was ever started in that folder."""

    version: str | None
    bootstrap_servers: str
    brokers: tuple[BrokerStatus, ...]

    @property
    def answering(self) -> bool:
        """Tell whether every broker answers."""
        return bool(self.brokers) and all(broker.state == "answering" for broker in self.brokers)

    @property
    def running(self) -> bool:
        """Tell whether any broker's process runs."""
        return any(broker.state != "stopped" for broker in self.brokers)
