"""The topics that were seen last, kept over restarts: a gateway that starts while Kafka is away knows them still."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import structlog

from recado.kafka.abstract import Topics

__all__ = ["RememberedTopics"]

log = structlog.get_logger(__name__)


class RememberedTopics:
    """Keeps ``abstract.Topics``; what was asked for and found is written down. Thread-safe."""

    def __init__(self, topics: Topics, path: Path) -> None:
        self._topics = topics
        self._path = path
        self._remembered = _read(path)
        self._writing = threading.Lock()

    @property
    def reachable(self) -> bool:
        """Whether the cluster answered last time."""
        return self._topics.reachable

    @property
    def is_blank(self) -> bool:
        """Whether no topic is known, not even from before: then nothing can be accepted."""
        return self._topics.is_blank and not self._remembered

    def partitions(self, topic: str) -> int | None:
        """The topic's partition count: as it is, or while no broker answers as it was."""
        count = self._topics.partitions(topic)
        if count is None:
            return None if self._topics.reachable else self._remembered.get(topic)
        if self._remembered.get(topic) != count:
            self._remember(topic, count)
        return count

    def refresh(self) -> bool:
        """Ask the cluster now."""
        return self._topics.refresh()

    def suspect(self) -> None:
        """Look soon whether the cluster still answers."""
        self._topics.suspect()

    def close(self) -> None:
        """Ask the cluster no more."""
        self._topics.close()

    def _remember(self, topic: str, count: int) -> None:
        with self._writing:
            if self._remembered.get(topic) != count:
                self._remembered = {**self._remembered, topic: count}
                self._write()

    def _write(self) -> None:
        written = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            written.write_bytes(msgspec.json.encode(self._remembered))
            written.replace(self._path)
        except OSError as error:  # it only helps a start during an outage
            log.info("topics not remembered", path=str(self._path), error=str(error))


def _read(path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        return {}
